//! Tests of how watches start, which events they send, and how they end.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_watch_without_a_version_starts_with_what_is_there() {
    let server = Server::with(&["a/x", "b/x"]);
    for version in ["", "0"] {
        let mut watch = server.watch(&[("resourceVersion", version)]).await;
        assert_eq!(watch.take(2).await, ["ADDED a/x Ready", "ADDED b/x Ready"], "{version:?}");
        assert!(watch.is_quiet().await);
        server.put("a/x", "Failed");
        assert_eq!(watch.take(1).await, ["MODIFIED a/x Failed"]);
        server.put("a/x", "Ready");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_declines_initial_events_starts_now() {
    let server = Server::with(&["a/x"]);
    server.put("a/x", "Failed");
    for version in ["", "0"] {
        let parameters = [
            ("resourceVersion", version),
            ("sendInitialEvents", "false"),
            ("resourceVersionMatch", "NotOlderThan"),
        ];
        let mut watch = server.watch(&parameters).await;
        assert!(watch.is_quiet().await, "{version:?}");
        server.put("a/y", "Ready");
        assert_eq!(watch.take(1).await, ["ADDED a/y Ready"]);
        server.delete("a/y");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_list_s_version_misses_nothing() {
    let server = Server::with(&["a/x", "a/y"]);
    let list = server.get(SUMMARIES).await;
    let versions = [server.put("a/z", "Ready"), server.put("a/x", "Failed"), server.delete("a/y")];
    let from = version_of(&list).to_string();
    let mut watch = server.watch(&[("resourceVersion", &from)]).await;
    for (expected, version) in
        ["ADDED a/z Ready", "MODIFIED a/x Failed", "DELETED a/y Ready"].iter().zip(versions)
    {
        let event = watch.next().await.unwrap();
        assert_eq!((reported(&event).as_str(), version_of(&event["object"])), (*expected, version));
    }
    server.put("a/y", "Ready");
    assert_eq!(watch.take(1).await, ["ADDED a/y Ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_is_told_as_it_last_was_at_the_version_of_its_end() {
    let server = Server::with(&["a/x"]);
    let last = server.put("a/x", "Stalled");
    let mut watch = server.watch(&[("resourceVersion", &last.to_string())]).await;
    let end = server.delete("a/x");
    let event = watch.next().await.unwrap();
    assert_eq!(reported(&event), "DELETED a/x Stalled");
    assert_eq!(version_of(&event["object"]), end);
    assert!(end > last);
    assert_eq!(event["object"]["metadata"]["labels"]["state"], "Stalled", "whole, not only its name");
}

#[tokio::test(start_paused = true)]
async fn a_version_from_the_future_is_waited_for_and_then_told_by_an_event_with_410() {
    let server = Server::with(&["a/x"]);
    let start = tokio::time::Instant::now();
    let future = server.version() + super::versions::FUTURE;
    let mut watch = server.watch(&[("resourceVersion", &future.to_string())]).await;
    let event = watch.next().await.unwrap();
    assert_eq!((reported(&event).as_str(), start.elapsed().as_secs()), ("ERROR 410", 3));
    let message = event["object"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too large resource version: {future}")), "{message}");
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_forgotten_is_told_by_an_event_with_410() {
    let server = Server::with(&["a/x"]);
    let from = server.version().to_string();
    server.flood();
    for version in [&from, "1"] {
        let mut watch = server.watch(&[("resourceVersion", version)]).await;
        let event = watch.next().await.unwrap();
        assert_eq!(reported(&event), "ERROR 410");
        assert_eq!(event["object"]["reason"], "Expired");
        let message = event["object"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("too old resource version: {version}")), "{message}");
        assert!(watch.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_stops_matching_is_deleted_and_one_that_starts_is_added() {
    for selector in [("labelSelector", "state=Failed"), ("fieldSelector", "status.state=Failed")] {
        let server = Server::with(&["a/x"]);
        let mut watch = server.watch(&[selector]).await;
        let mut expected = vec![
            ("ADDED a/x Failed", server.put("a/x", "Failed")),
            ("DELETED a/x Failed", server.put("a/x", "Ready")),
        ];
        server.put("a/x", "Progressing");
        server.delete("a/x");
        server.put("a/y", "Ready");
        expected.push(("ADDED a/y Failed", server.put("a/y", "Failed")));
        expected.push(("DELETED a/y Failed", server.delete("a/y")));
        for (expected, version) in expected {
            let event = watch.next().await.unwrap();
            assert_eq!(reported(&event), expected, "{selector:?}");
            assert_eq!(version_of(&event["object"]), version, "the version of the change");
        }
        assert!(watch.is_quiet().await, "{selector:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_one_name_tells_of_nothing_else() {
    let server = Server::with(&["a/x", "a/y", "b/x"]);
    let parameters = [("fieldSelector", "metadata.name=x")];
    let mut watch = server.watch_as(&within("a"), &parameters, "application/json").await;
    assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    server.put("a/y", "Failed");
    server.put("b/x", "Failed");
    server.put("a/x", "Failed");
    server.delete("a/x");
    assert_eq!(watch.take(2).await, ["MODIFIED a/x Failed", "DELETED a/x Failed"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_namespace_tells_of_nothing_else() {
    let server = Server::with(&["a/x", "b/x"]);
    let mut watch = server.watch_as(&within("b"), &[], "application/json").await;
    server.put("a/x", "Failed");
    server.put("b/y", "Ready");
    assert_eq!(watch.take(2).await, ["ADDED b/x Ready", "ADDED b/y Ready"]);
    assert!(watch.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_cleanly_at_its_timeout() {
    let server = Server::with(&["a/x"]);
    let (events, lasted) = server.watch(&[("timeoutSeconds", "7")]).await.rest().await;
    assert_eq!((events, lasted.as_secs()), (vec!["ADDED a/x Ready".to_owned()], 7));
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_at_its_timeout_however_busy_it_is() {
    let server = Server::with(&["a/x"]);
    let mut watch = server.watch(&[("timeoutSeconds", "5")]).await;
    let start = Instant::now();
    for n in 0.. {
        server.put("a/x", if n % 2 == 0 { "Failed" } else { "Ready" });
        if watch.next().await.is_none() {
            break;
        }
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(start.elapsed() < Duration::from_secs(7), "there is always one more change to send");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_a_timeout_lasts_between_half_an_hour_and_an_hour() {
    let server = Server::with(&[]);
    let (_, lasted) = server.watch(&[]).await.rest().await;
    assert!((1800..=3600).contains(&lasted.as_secs()), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_ends_its_watches() {
    let server = Server::with(&["a/x"]);
    let mut idle = server.watch(&[]).await;
    assert_eq!(idle.take(1).await, ["ADDED a/x Ready"]);
    let unread = server.watch(&[]).await;
    server.stop.cancel();
    assert_eq!(idle.next().await, None);
    let (_, lasted) = unread.rest().await;
    assert_eq!(lasted, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_busy_watch_ends_with_the_server_too() {
    let server = Server::with(&["a/x"]);
    let mut watch = server.watch(&[]).await;
    assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    server.stop.cancel();
    server.put("a/x", "Failed");
    let mut more = 0;
    while watch.next().await.is_some() {
        more += 1;
        server.put("a/x", if more % 2 == 0 { "Failed" } else { "Ready" });
        assert!(more < 10, "there is always one more change to send");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_falls_behind_is_told_410_and_let_go() {
    let server = Server::with(&["a/x"]);
    let mut slow = server.watch(&[]).await;
    assert_eq!(slow.take(1).await, ["ADDED a/x Ready"]);
    server.flood();
    let event = slow.next().await.unwrap();
    assert_eq!(reported(&event), "ERROR 410");
    assert_eq!(event["object"]["kind"], "Status");
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(slow.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_does_not_read_holds_nothing_but_a_place_in_the_log() {
    let server = Server::with(&["a/x"]);
    let mut slow = server.watch(&[]).await;
    assert_eq!(slow.take(1).await, ["ADDED a/x Ready"]);
    let mut big = row("a/x", "Failed");
    big.status = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20)).into();
    server.cache.publish([Update::Apply(big)]);
    let row = Arc::downgrade(server.cache.snapshot().rows.get(&key("a/x")).expect("a row"));
    server.flood();
    server.delete("a/x");
    server.flood();
    assert_eq!(row.strong_count(), 0, "the watch does not keep what it has not sent");
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn every_watcher_is_told_the_same_bytes() {
    let server = Server::with(&[]);
    let mut watches = Vec::new();
    for _ in 0..50 {
        watches.push(server.watch(&[]).await);
    }
    server.put("a/x", "Ready");
    server.put("a/x", "Failed");
    for watch in &mut watches {
        assert_eq!(watch.take(2).await, ["ADDED a/x Ready", "MODIFIED a/x Failed"]);
    }
}
