//! Tests of `resourceVersion` and `resourceVersionMatch` in lists and gets.

use serde_json::json;

use super::*;

/// The difference of versions that are about an hour apart.
pub(super) const FUTURE: u64 = 3_600_000_000 << 4;

async fn list(server: &Server, version: &str, matching: &str) -> Value {
    server.get(&all(&[("resourceVersion", version), ("resourceVersionMatch", matching)])).await
}

#[tokio::test(start_paused = true)]
async fn unset_and_zero_are_what_is_there_now() {
    let server = Server::with(&["a/x"]);
    server.put("a/y", "Ready");
    for version in ["", "0"] {
        let list = server.get(&all(&[("resourceVersion", version)])).await;
        assert_eq!((places(&list).len(), version_of(&list)), (2, server.version()), "{version:?}");
    }
    assert_eq!(version_of(&list(&server, "0", "NotOlderThan").await), server.version());
}

#[tokio::test(start_paused = true)]
async fn an_older_version_is_a_lower_bound_unless_it_is_to_be_exact() {
    let server = Server::with(&["a/x"]);
    let before = server.put("a/y", "Ready");
    server.delete("a/x");
    let now = server.put("a/y", "Failed");
    for matching in ["", "NotOlderThan"] {
        let list = list(&server, &before.to_string(), matching).await;
        assert_eq!((places(&list), version_of(&list)), (vec!["a/y".to_owned()], now), "{matching:?}");
    }
    let exact = [("resourceVersion", &*before.to_string()), ("resourceVersionMatch", "Exact")];
    // Without `resourceVersionMatch`, the version of a first page is exact ("legacy exact match" in
    // Kubernetes).
    let legacy = [exact[0], ("limit", "10")];
    for parameters in [exact, legacy] {
        let list = server.get(&all(&parameters)).await;
        assert_eq!((places(&list), version_of(&list)), (vec!["a/x".into(), "a/y".into()], before));
        assert_eq!(list["items"][1]["status"]["state"], "Ready");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exact_version_that_was_forgotten_returns_410() {
    let server = Server::with(&["a/x"]);
    let before = server.version();
    server.flood();
    let parameters = [("resourceVersion", &*before.to_string()), ("resourceVersionMatch", "Exact")];
    let (code, reason, _) = server.refuses(&all(&parameters)).await;
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    let lower_bound = server.get(&all(&parameters[..1])).await;
    assert_eq!(version_of(&lower_bound), server.version(), "as a lower bound it is long reached");
}

#[tokio::test(start_paused = true)]
async fn a_version_from_the_future_is_waited_for_three_seconds() {
    let server = Server::with(&["a/x"]);
    let future = (server.version() + FUTURE).to_string();
    for uri in [
        all(&[("resourceVersion", &future)]),
        all(&[("resourceVersion", &future), ("resourceVersionMatch", "Exact")]),
        with(&format!("{}/x", within("a")), &[("resourceVersion", &future)]),
    ] {
        let start = Instant::now();
        let error = server.refusal(&uri).await;
        assert_eq!(start.elapsed().as_secs(), 3, "{uri}");
        let status = error.status();
        assert_eq!((&status["code"], &status["reason"]), (&json!(504), &json!("Timeout")));
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
        assert_eq!(error.into_response().headers()[header::RETRY_AFTER], "1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_arrives_meanwhile_ends_the_wait() {
    let server = Server::with(&["a/x"]);
    // A microsecond is sixteen version numbers, so the next change gets a later version than this one.
    let soon = (server.version() + 1).to_string();
    let uri = all(&[("resourceVersion", &soon)]);
    let start = Instant::now();
    let (list, ()) = tokio::join!(server.get(&uri), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.put("a/y", "Ready");
    });
    assert_eq!(places(&list), ["a/x", "a/y"]);
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_get_answers_with_what_is_there_now() {
    let server = Server::with(&["a/x"]);
    let before = server.version();
    let now = server.put("a/x", "Failed");
    for version in [String::new(), "0".into(), before.to_string(), now.to_string()] {
        let uri = with(&format!("{}/x", within("a")), &[("resourceVersion", &version)]);
        let object = server.get(&uri).await;
        assert_eq!((version_of(&object), &object["status"]["state"]), (now, &json!("Failed")), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn versions_are_decimal_and_exact_as_floating_point_numbers() {
    let server = Server::with(&["a/x"]);
    let list = server.get(SUMMARIES).await;
    let text = list["metadata"]["resourceVersion"].as_str().unwrap();
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0'), "{text}");
    assert!(version_of(&list) < 1 << 53);
}
