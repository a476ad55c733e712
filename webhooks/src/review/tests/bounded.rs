//! Tests that responses are small for any request, and that large ones are limited until they have been sent.

use super::*;

/// The largest response, other than a patch that restores an object.
const SMALL: usize = 256 << 10;

async fn sent(answer: Answer) -> Vec<u8> {
    answer.into_response("u").into_body().collect().await.expect("infallible").to_bytes().to_vec()
}

#[tokio::test]
async fn what_breaks_a_rule_in_many_places_is_answered_in_few_words() {
    let site = Site::new(&[("a", json!({"rules": {"crossNamespaceRefs": "Forbid"}}))]);
    let many = vec![json!({"name": "a".repeat(2000), "namespace": "other"}); 1000];
    let review = create(&json!({"dependsOn": many})).to_string();
    let request = Request::parse(review.as_bytes()).expect("a review");
    let until = tokio::time::Instant::now() + Duration::from_mins(1);
    let answer = site.reviews.answer(Webhook::Validate, &request, peer(1), until).await;
    let sent = sent(answer).await;
    assert!(sent.len() < SMALL, "{}", sent.len());
    let answer: Value = serde_json::from_slice(&sent).expect("JSON");
    let status = &answer["response"]["status"];
    assert_eq!(status["details"]["causes"].as_array().map(Vec::len), Some(33), "{status}");
    let last = &status["details"]["causes"][32];
    assert_eq!(last["message"], "is broken by more fields than are named");
}

#[tokio::test]
async fn an_error_does_not_repeat_megabytes() {
    let review = |field: &str, value: &str| {
        let mut review = create(&json!({}));
        *review.pointer_mut(field).expect("there") = json!(value);
        review.to_string()
    };
    let long = "x".repeat(MAX_BODY - 4096);
    for field in ["/request/dryRun", "/request/userInfo", "/request/kind"] {
        let review = review(field, &long);
        let Err(Unreadable::Refused { uid, why }) = Request::parse(review.as_bytes()) else {
            panic!("{field} is refused")
        };
        let sent = Answer::refused(why).into_response(&uid).into_body().collect().await.expect("infallible");
        assert!(sent.to_bytes().len() < SMALL, "{field}");
    }
    let site = Site::new(&[("a", json!({"rules": {"prune": "Required"}}))]);
    let mut labelled = create(&json!({"prune": true}));
    labelled["request"]["object"]["metadata"]["labels"] = json!({long: 1});
    let answer = site.validate(&labelled).await;
    assert_eq!(answer["allowed"], false);
    assert!(answer.to_string().len() < SMALL);
}

/// Any client that reaches the port can request such patches and not read them.
#[tokio::test]
async fn patches_that_restore_objects_are_bounded_until_they_have_been_sent() {
    let always = json!([{"name": "always", "schedule": "0 0 * * *", "duration": "24h"}]);
    let site = Site::new(&[("a", json!({"rules": {"freezes": always}}))]);
    let spec = |path: &str| json!({"path": path, "patches": [{"patch": "x".repeat(1 << 20)}]});
    let mut review = update(&spec("a"), &spec("b"));
    let (old, new) = (review["request"]["oldObject"].clone(), review["request"]["object"].clone());
    review["request"]["userInfo"] =
        json!({"username": "system:serviceaccount:flux-system:kustomize-controller", "groups": []});
    let review = review.to_string();
    let request = Request::parse(review.as_bytes()).expect("a review");
    let until = tokio::time::Instant::now() + Duration::from_mins(5);
    let ask = async |peer: Holder| site.reviews.answer(Webhook::Mutate, &request, peer, until).await;

    let mut unread = Vec::new();
    loop {
        let answer = ask(peer(1)).await;
        if answer.outcome() != "patched" {
            break;
        }
        unread.push(answer.into_response("u"));
        assert!(unread.len() < 16, "there is no limit");
    }
    assert!(!unread.is_empty());
    // Other clients have separate room, and a sent response releases its room.
    let answer: Value = serde_json::from_slice(&sent(ask(peer(2)).await).await).expect("JSON");
    let patch: ByteString = serde_json::from_value(answer["response"]["patch"].clone()).expect("a patch");
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).expect("a patch");
    let mut becomes = new;
    json_patch::patch(&mut becomes, &patch).expect("applies");
    assert!(becomes == old, "{patch}");
    sent_body(unread.pop().expect("one")).await;
    assert_eq!(ask(peer(1)).await.outcome(), "patched");
    drop(unread);
    assert_eq!(site.reviews.restoring.free(), RESTORING);
}

async fn sent_body(response: Response<Body>) {
    response.into_body().collect().await.expect("infallible");
}
