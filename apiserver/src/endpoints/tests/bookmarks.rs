//! Tests of bookmarks: when they are sent, and that a watch can resume from their version.

use serde_json::json;

use super::*;

const STREAMING: [(&str, &str); 3] = [
    ("sendInitialEvents", "true"),
    ("resourceVersionMatch", "NotOlderThan"),
    ("allowWatchBookmarks", "true"),
];

fn ends_initial_events(event: &Value) -> bool {
    event.pointer("/object/metadata/annotations/k8s.io~1initial-events-end") == Some(&json!("true"))
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_one_annotated_bookmark_at_its_version() {
    let server = Server::with(&["a/x", "b/x"]);
    let version = server.version();
    let mut watch = server.watch(&STREAMING).await;
    assert_eq!(watch.take(2).await, ["ADDED a/x Ready", "ADDED b/x Ready"]);
    let bookmark = watch.next().await.unwrap();
    assert_eq!(reported(&bookmark), "BOOKMARK");
    assert!(ends_initial_events(&bookmark), "{bookmark}");
    assert_eq!(version_of(&bookmark["object"]), version);
    assert_eq!(bookmark["object"]["kind"], "FluxSummary");
    for _ in 0..3 {
        server.put("a/x", "Failed");
        server.put("a/x", "Ready");
        let mut next = watch.next().await.unwrap();
        while next["type"] != "BOOKMARK" {
            next = watch.next().await.unwrap();
        }
        assert!(!ends_initial_events(&next), "exactly once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_of_nothing_is_a_bookmark() {
    let server = Server::with(&[]);
    let mut watch = server.watch(&STREAMING).await;
    let bookmark = watch.next().await.unwrap();
    assert!(ends_initial_events(&bookmark));
    assert_eq!(version_of(&bookmark["object"]), server.version());
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_sends_only_what_is_selected() {
    let server = Server::with(&["a/x", "b/x"]);
    server.put("b/y", "Failed");
    let parameters = [&STREAMING[..], &[("labelSelector", "state=Ready")]].concat();
    let mut watch = server.watch_as(&within("b"), &parameters, "application/json").await;
    assert_eq!(watch.take(1).await, ["ADDED b/x Ready"]);
    assert_eq!(version_of(&watch.next().await.unwrap()["object"]), server.version());
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_waits_for_the_version_it_must_not_be_older_than() {
    let server = Server::with(&["a/x"]);
    let soon = (server.version() + 1).to_string();
    let parameters = [&STREAMING[..], &[("resourceVersion", &soon)]].concat();
    let (mut watch, ()) = tokio::join!(server.watch(&parameters), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.put("a/y", "Ready");
    });
    assert_eq!(watch.take(3).await, ["ADDED a/x Ready", "ADDED a/y Ready", "BOOKMARK"]);
}

#[tokio::test(start_paused = true)]
async fn changes_during_the_initial_events_come_after_their_bookmark() {
    let server = Server::with(&["a/x", "b/x"]);
    let version = server.version();
    let mut watch = server.watch(&STREAMING).await;
    server.put("a/x", "Failed");
    server.delete("b/x");
    let events = watch.take(3).await;
    assert_eq!(events, ["ADDED a/x Ready", "ADDED b/x Ready", "BOOKMARK"]);
    assert_eq!(watch.take(2).await, ["MODIFIED a/x Failed", "DELETED b/x Ready"]);
    let from = version.to_string();
    let resumed = server.watch(&[("resourceVersion", &from)]).await.take(2).await;
    assert_eq!(resumed, ["MODIFIED a/x Failed", "DELETED b/x Ready"], "the bookmark's version is right");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_at_least_each_minute_and_only_if_allowed() {
    let server = Server::with(&["a/x"]);
    let from = server.version().to_string();
    let mut watch = server.watch(&[("resourceVersion", &from), ("allowWatchBookmarks", "true")]).await;
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(reported(&watch.next().await.unwrap()), "BOOKMARK");
        assert!(start.elapsed() <= Duration::from_mins(1), "{:?}", start.elapsed());
    }
    let silent = server.watch(&[("resourceVersion", &from), ("timeoutSeconds", "600")]).await;
    assert_eq!(silent.rest().await.0, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_moves_past_changes_that_were_not_selected() {
    let server = Server::with(&["a/x"]);
    let from = server.version().to_string();
    let parameters =
        [("resourceVersion", &*from), ("allowWatchBookmarks", "true"), ("fieldSelector", "metadata.name=y")];
    let mut watch = server.watch(&parameters).await;
    let version = server.put("a/x", "Failed");
    let bookmark = watch.next().await.unwrap();
    assert_eq!((reported(&bookmark).as_str(), version_of(&bookmark["object"])), ("BOOKMARK", version));
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_the_old_kind_gets_no_annotated_bookmark_it_did_not_ask_for() {
    let server = Server::with(&["a/x"]);
    let mut watch = server.watch(&[("timeoutSeconds", "300")]).await;
    assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    assert_eq!(watch.rest().await.0, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_has_the_shape_of_what_is_watched() {
    let server = Server::with(&[]);
    for (accept, kind, api_version) in [
        ("application/json", "FluxSummary", "view.gatehouse.dev/v1alpha1"),
        (METADATA, "PartialObjectMetadata", "meta.k8s.io/v1"),
        (TABLE, "Table", "meta.k8s.io/v1"),
        (TABLE_BETA, "Table", "meta.k8s.io/v1beta1"),
    ] {
        let mut watch = server.watch_as(SUMMARIES, &STREAMING, accept).await;
        let bookmark = watch.next().await.unwrap();
        let object = &bookmark["object"];
        assert_eq!((&object["kind"], &object["apiVersion"]), (&json!(kind), &json!(api_version)));
        assert_eq!(version_of(object), server.version(), "{accept}");
        if kind == "Table" {
            let inner = &object["rows"][0]["object"];
            let mut partial = bookmark.clone();
            partial["object"] = inner.clone();
            assert!(ends_initial_events(&partial), "kubectl looks for it in the row's object");
            let cells = object["rows"][0]["cells"].as_array().unwrap().len();
            assert_eq!(cells, object["columnDefinitions"].as_array().unwrap().len());
        } else {
            assert!(ends_initial_events(&bookmark), "{accept}");
        }
    }
}
