//! Tests of `limit` and `continue`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const FIVE: [&str; 5] = ["a/1", "a/2", "b/1", "b/2", "c/1"];

/// The continue token of a page, if there is more.
fn token(page: &Value) -> Option<String> {
    page["metadata"].get("continue").map(|token| token.as_str().expect("text").to_owned())
}

async fn page(server: &Server, path: &str, limit: &str, after: &str) -> Value {
    server.get(&with(path, &[("limit", limit), ("continue", after)])).await
}

#[tokio::test(start_paused = true)]
async fn pages_follow_each_other_and_tell_how_much_is_left() {
    let server = Server::with(&FIVE);
    let first = page(&server, SUMMARIES, "2", "").await;
    assert_eq!(places(&first), ["a/1", "a/2"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let second = page(&server, SUMMARIES, "2", &token(&first).unwrap()).await;
    assert_eq!(places(&second), ["b/1", "b/2"]);
    assert_eq!(second["metadata"]["remainingItemCount"], 1);
    let third = page(&server, SUMMARIES, "2", &token(&second).unwrap()).await;
    assert_eq!(places(&third), ["c/1"]);
    assert_eq!(third["metadata"], json!({ "resourceVersion": version_of(&first).to_string() }));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_holds_the_rest_exactly_is_the_last() {
    let server = Server::with(&FIVE);
    assert_eq!(token(&page(&server, SUMMARIES, "5", "").await), None);
    assert_eq!(token(&page(&server, SUMMARIES, "500", "").await), None);
    assert_eq!(token(&page(&server, &within("b"), "2", "").await), None, "other namespaces are no rest");
}

#[tokio::test(start_paused = true)]
async fn a_table_is_paged_in_its_own_metadata() {
    let server = Server::with(&FIVE);
    let table = server.get_as(&all(&[("limit", "3")]), TABLE).await;
    assert_eq!(table["rows"].as_array().unwrap().len(), 3);
    assert_eq!(table["metadata"]["remainingItemCount"], 2);
    let rest = server.get_as(&all(&[("continue", &token(&table).unwrap())]), TABLE).await;
    assert_eq!(rest["rows"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_under_a_selector_is_not_counted() {
    let server = Server::with(&FIVE);
    for selector in [("labelSelector", "state=Ready"), ("fieldSelector", "status.state=Ready")] {
        let list = server.get(&all(&[selector, ("limit", "2")])).await;
        assert!(list["metadata"].get("remainingItemCount").is_none(), "{selector:?}");
        assert!(token(&list).is_some());
    }
    let list = server.get(&with(&within("a"), &[("limit", "1")])).await;
    assert_eq!(list["metadata"]["remainingItemCount"], 1, "a namespace is no selector");
}

#[tokio::test(start_paused = true)]
async fn later_pages_are_of_the_first_one_s_version_whatever_happens() {
    let server = Server::with(&FIVE);
    let first = page(&server, SUMMARIES, "2", "").await;
    server.delete("b/1");
    server.put("b/2", "Failed");
    server.put("b/3", "Ready");
    let rest = page(&server, SUMMARIES, "0", &token(&first).unwrap()).await;
    assert_eq!(places(&rest), ["b/1", "b/2", "c/1"]);
    assert_eq!(rest["items"][1]["status"]["state"], "Ready");
    assert_eq!(version_of(&rest), version_of(&first));
    assert_eq!(places(&server.get(SUMMARIES).await), ["a/1", "a/2", "b/2", "b/3", "c/1"]);
}

#[tokio::test(start_paused = true)]
async fn the_object_a_page_ended_at_may_be_gone() {
    let server = Server::with(&FIVE);
    let first = page(&server, SUMMARIES, "2", "").await;
    server.delete("a/2");
    assert_eq!(places(&page(&server, SUMMARIES, "2", &token(&first).unwrap()).await), ["b/1", "b/2"]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_returns_410_with_one_that_goes_on_inconsistently() {
    let server = Server::with(&FIVE);
    let first = page(&server, SUMMARIES, "2", "").await;
    server.put("b/3", "Ready");
    server.flood();
    let status =
        server.refusal(&all(&[("limit", "2"), ("continue", &token(&first).unwrap())])).await.status();
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));
    let fresh = token(&status).expect("a token to go on with");
    let second = page(&server, SUMMARIES, "2", &fresh).await;
    assert_eq!(places(&second), ["b/1", "b/2"], "after the same object, of what is there now");
    assert_eq!(version_of(&second), server.version());
    let third = page(&server, SUMMARIES, "2", &token(&second).unwrap()).await;
    assert_eq!(places(&third), ["b/3", "c/1"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_replica_s_future_has_expired() {
    let server = Server::with(&FIVE);
    let future = ContinueToken::from_the_future(&server);
    let status = server.refusal(&all(&[("continue", &future)])).await.status();
    assert_eq!(status["reason"], "Expired");
    assert_eq!(places(&page(&server, SUMMARIES, "0", &token(&status).unwrap()).await), ["b/1", "b/2", "c/1"]);
}

struct ContinueToken;

impl ContinueToken {
    fn from_the_future(server: &Server) -> String {
        let token = crate::options::ContinueToken {
            version: Some(crate::options::ResourceVersion(server.version() + 16)),
            namespace: "a".into(),
            name: "2".into(),
        };
        token.encode()
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_for_the_namespace_it_was_made_in() {
    let server = Server::with(&FIVE);
    let in_a = token(&page(&server, &within("a"), "1", "").await).unwrap();
    assert_eq!(places(&page(&server, &within("a"), "1", &in_a).await), ["a/2"]);
    let (code, _, message) = server.refuses(&with(&within("b"), &[("continue", &in_a)])).await;
    assert_eq!(code, 400, "{message}");
    assert!(message.starts_with("continue key is not valid"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_token_and_a_version_do_not_go_together() {
    let server = Server::with(&FIVE);
    let token = token(&page(&server, SUMMARIES, "1", "").await).unwrap();
    let version = server.version().to_string();
    assert_eq!(server.refuses(&all(&[("continue", &token), ("resourceVersion", &version)])).await.0, 400);
    let matched = [("continue", &*token), ("resourceVersionMatch", "NotOlderThan")];
    assert_eq!(server.refuses(&all(&matched)).await.0, 422);
    let any = server.get(&all(&[("continue", &token), ("resourceVersion", "0")])).await;
    assert_eq!(places(&any).len(), 4);
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, bool),
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..12_usize, any::<bool>()).prop_map(|(n, failed)| Step::Put(n, failed)),
        (0..12_usize).prop_map(Step::Delete),
    ]
}

fn place(n: usize) -> String {
    format!("{}/{n:02}", ["a", "b", "c"][n / 4])
}

fn act(server: &Server, step: &Step) {
    match step {
        Step::Put(n, failed) => server.put(&place(*n), if *failed { "Failed" } else { "Ready" }),
        Step::Delete(n) => server.delete(&place(*n)),
    };
}

proptest! {
    /// Holds for any changes between two pages.
    #[test]
    fn pages_together_are_the_list_of_one_version(
        start in prop::collection::vec(step(), 0..20),
        between in prop::collection::vec(prop::collection::vec(step(), 0..4), 12),
        limit in 1..5_usize,
        namespace in prop::option::of(prop::sample::select(vec!["a", "b", "c"])),
        selector in prop::sample::select(vec!["", "state=Ready", "state notin (Ready)"]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let server = Server::with(&[]);
            for step in &start {
 act(&server, step);
}
            let path = namespace.map_or_else(|| SUMMARIES.to_owned(), within);
            let whole = server.get(&with(&path, &[("labelSelector", selector)])).await;
            let limit_text = limit.to_string();
            let mut after = String::new();
            let mut items = Vec::new();
            for changes in between {
                let parameters =
                    [("labelSelector", selector), ("limit", &*limit_text), ("continue", &*after)];
                let page = server.get(&with(&path, &parameters)).await;
                prop_assert_eq!(version_of(&page), version_of(&whole));
                let found = page["items"].as_array().unwrap();
                prop_assert!(found.len() <= limit);
                items.extend(found.iter().cloned());
                match token(&page) {
                    Some(token) => after = token,
                    None => break,
                }
                for step in &changes {
 act(&server, step);
}
            }
            let by_place: BTreeMap<_, _> =
                places(&json!({ "items": items })).into_iter().zip(items.iter()).collect();
            prop_assert_eq!(by_place.len(), items.len(), "each object exactly once");
            prop_assert_eq!(&Value::Array(items), &whole["items"]);
            Ok(())
        })?;
    }
}
