//! Tests of clients that move between replicas.

use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::clock::{ClockReading, is_vouched, twin};

/// Two replicas with the same rows. Both have been up for some minutes.
async fn two(places: &[&str]) -> [Server; 2] {
    let both = [1, 2].map(|number| replica(number, places, Duration::ZERO));
    tokio::time::advance(Duration::from_mins(5)).await;
    both
}

/// A replica that has just started, at a time that is `set` later by its clock.
fn replica(number: u8, places: &[&str], set: Duration) -> Server {
    let begin = Instant::now();
    let year = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let time = move || {
        let passed = Instant::now() - begin;
        ClockReading { wall: year + set + passed, passed }
    };
    let clock = Clock::new(number).with_time(time);
    clock.vouch(true);
    let cache = Arc::new(testing::cache_by(clock));
    cache.publish(places.iter().map(|place| Update::Apply(row(place, "Ready"))));
    cache.mark_synced();
    Server::over(Endpoints::new([Arc::clone(&cache)], view_metrics()), cache)
}

impl Server {
    async fn watch_from(&self, version: u64, parameters: &[(&str, &str)]) -> Stream {
        let version = version.to_string();
        self.watch(&[&[("resourceVersion", &*version)], parameters].concat()).await
    }

    async fn listed(&self) -> u64 {
        version_of(&self.get(SUMMARIES).await)
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_replica_did_not_know_yet_another_tells() {
    let [a, b] = two(&["a/x", "a/y", "a/z"]).await;
    b.put("a/x", "Failed");
    b.delete("a/y");
    b.put("a/new", "Ready");
    tokio::time::advance(Duration::from_secs(10)).await;
    a.put("a/z", "Failed");
    let from = a.listed().await;
    let mut watch = b.watch_from(from, &[]).await;
    let expected = ["MODIFIED a/x Failed", "DELETED a/y Ready", "ADDED a/new Ready"];
    assert_eq!(watch.take(3).await, expected);
    b.put("a/z", "Failed");
    assert_eq!(watch.take(1).await, ["MODIFIED a/z Failed"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_again_that_has_long_been_known() {
    let [a, b] = two(&["a/x"]).await;
    for server in [&a, &b] {
        server.put("a/x", "Failed");
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    a.put("a/y", "Ready");
    b.put("a/y", "Ready");
    let mut watch = b.watch_from(a.listed().await, &[]).await;
    assert_eq!(watch.take(1).await, ["ADDED a/y Ready"]);
    assert!(watch.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_made_again_and_says_the_same_may_have_said_something_else_elsewhere() {
    let [a, b] = two(&["a/x"]).await;
    let from = a.put("a/x", "Failed");
    b.put("a/x", "Ready");
    b.delete("a/came-and-went");
    let mut watch = b.watch_from(from, &[]).await;
    assert_eq!(watch.take(1).await, ["MODIFIED a/x Ready"]);
    let event = watch.next().await.unwrap();
    assert_eq!(reported(&event), "DELETED a/came-and-went");
    let name = event["object"]["metadata"]["name"].as_str();
    assert_eq!((&event["object"]["kind"], name), (&json!("FluxSummary"), Some("came-and-went")));
    let own = b.version();
    let mut watch = b.watch_from(own, &[]).await;
    b.put("a/x", "Ready");
    assert!(watch.is_quiet().await, "who was told here has nothing to catch up with");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_known_late_is_told_until_all_is_known_that_was_known_elsewhere() {
    let [a, b] = two(&["a/x"]).await;
    let from = a.put("a/x", "Failed");
    let mut watch = b.watch_from(from, &[("allowWatchBookmarks", "true")]).await;
    tokio::time::advance(Duration::from_secs(20)).await;
    // The row failed and recovered within one batch here.
    b.put("a/x", "Ready");
    let event = watch.next().await.unwrap();
    assert_eq!(reported(&event), "MODIFIED a/x Ready");
    assert!(version_of(&event["object"]).is_multiple_of(2), "the client may lack more yet");
    let bookmark = timeout(Duration::from_secs(15), watch.next()).await.unwrap().unwrap();
    assert_eq!(reported(&bookmark), "BOOKMARK");
    let reached = version_of(&bookmark["object"]);
    assert!(reached > from && twin(reached) != reached, "from here on it has what this replica has");
    b.put("a/x", "Ready");
    assert!(watch.is_quiet().await);
    let mut own = b.watch_from(reached, &[]).await;
    b.put("a/x", "Stalled");
    assert_eq!(watch.take(1).await, ["MODIFIED a/x Stalled"]);
    assert_eq!(own.take(1).await, ["MODIFIED a/x Stalled"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_cut_while_it_catches_up_goes_on_anywhere() {
    let [a, b] = two(&["a/x", "a/y", "a/z"]).await;
    let places = ["a/x", "a/y", "a/z"];
    for (n, place) in places.iter().enumerate() {
        // The other replica changes the rows in the reverse order.
        a.put(places[2 - n], "Failed");
        b.put(place, "Failed");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let stale = replica(3, &places, Duration::from_secs(303));
    tokio::time::advance(Duration::from_mins(2)).await;
    stale.put("a/y", "Progressing");
    let from = stale.version();
    for place in places {
        a.put(place, "Stalled");
        b.put(place, "Stalled");
    }
    let mut watch = a.watch_from(from, &[]).await;
    let cut = watch.next().await.unwrap();
    assert_eq!(reported(&cut), "MODIFIED a/x Stalled");
    let rest = b.watch_from(version_of(&cut["object"]), &[]).await.take(3).await;
    assert_eq!(rest, ["MODIFIED a/x Stalled", "MODIFIED a/y Stalled", "MODIFIED a/z Stalled"]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_does_not_match_is_gone_and_shows_no_more_than_its_name() {
    let [a, b] = two(&["a/x", "b/x"]).await;
    let from = a.put("a/x", "Failed");
    b.put("a/x", "Progressing");
    b.put("b/x", "Progressing");
    for accept in ["application/json", TABLE] {
        let version = from.to_string();
        let parameters = [("labelSelector", "state=Failed"), ("resourceVersion", &*version)];
        let mut watch = b.watch_as(&within("a"), &parameters, accept).await;
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "DELETED");
        let text = if accept == TABLE { &event["object"]["rows"] } else { &event }.to_string();
        assert!(!text.contains("Progressing") && !text.contains("gatehouse.dev/cluster"), "{text}");
        let object = if accept == TABLE { &event["object"]["rows"][0]["object"] } else { &event["object"] };
        assert_eq!(object["metadata"]["name"], "x");
        assert!(watch.is_quiet().await, "of other namespaces nothing is told");
    }
    let named = [("fieldSelector", "metadata.name=y,status.state=Ready")];
    assert!(b.watch_from(from, &named).await.is_quiet().await, "nor of other names");
}

#[tokio::test(start_paused = true)]
async fn a_version_from_before_a_restart_has_expired() {
    let before = replica(1, &["a/x"], Duration::ZERO);
    tokio::time::advance(Duration::from_mins(5)).await;
    let from = before.put("a/x", "Failed");
    tokio::time::advance(Duration::from_mins(1)).await;
    let after = replica(1, &["a/x"], Duration::from_mins(6));
    let events = after.watch_from(from, &[]).await.rest().await.0;
    assert_eq!(events, ["ERROR 410"], "never a gap");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_missed_by_a_list_is_told_to_nobody_from_elsewhere() {
    let [a, b] = two(&["a/x"]).await;
    let (from, own) = (a.put("a/x", "Failed"), b.version());
    let mut catching_up = b.watch_from(from, &[]).await;
    assert!(catching_up.is_quiet().await);
    b.cache.record_gap();
    assert_eq!(catching_up.take(1).await, ["ERROR 410"]);
    assert_eq!(b.watch_from(from, &[]).await.take(1).await, ["ERROR 410"]);
    let mut follower = b.watch_from(own, &[]).await;
    b.put("a/x", "Stalled");
    assert_eq!(follower.take(1).await, ["MODIFIED a/x Stalled"], "who was told here misses nothing");
    tokio::time::advance(Duration::from_mins(2)).await;
    let mut later = b.watch_from(a.put("a/x", "Ready"), &[]).await;
    assert!(later.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_not_vouched_for_is_good_only_where_it_was_made() {
    let [a, b] = two(&["a/x"]).await;
    a.cache.clock().vouch(false);
    let from = a.put("a/x", "Failed");
    assert!(!is_vouched(from));
    assert_eq!(b.watch_from(from, &[]).await.take(1).await, ["ERROR 410"]);
    let mut own = a.watch_from(from, &[]).await;
    a.cache.clock().vouch(true);
    a.cache.advance();
    assert!(a.listed().await > from && is_vouched(a.listed().await), "though nothing has changed");
    a.put("a/x", "Ready");
    assert_eq!(own.take(1).await, ["MODIFIED a/x Ready"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_a_version_of_a_clock_that_is_ahead_is_later_all_the_same() {
    let a = replica(1, &["a/x"], Duration::from_secs(10));
    let b = replica(2, &["a/x"], Duration::ZERO);
    tokio::time::advance(Duration::from_mins(5)).await;
    let ahead = a.put("a/x", "Failed");
    let mut watch = b.watch_from(ahead, &[]).await;
    b.put("a/x", "Failed");
    let event = watch.next().await.unwrap();
    assert_eq!(reported(&event), "MODIFIED a/x Failed");
    assert!(version_of(&event["object"]) > ahead && b.version() > ahead);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_replica_serves_a_later_version_of_another_after_a_second() {
    let [a, b] = two(&["a/x"]).await;
    a.put("a/x", "Failed");
    let seen = a.put("a/x", "Ready").to_string();
    let start = Instant::now();
    let list = b.get(&all(&[("resourceVersion", &seen)])).await;
    assert!(version_of(&list) > seen.parse().unwrap() && start.elapsed().as_secs() == 1);
    let mut watch = b.watch_from(version_of(&list), &[]).await;
    b.put("a/x", "Stalled");
    assert_eq!(watch.take(1).await, ["MODIFIED a/x Stalled"], "what was listed is watched");
    let start = Instant::now();
    b.get(&all(&[("resourceVersion", &seen)])).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_exact_version_is_that_of_the_replica_that_told_it() {
    let [a, b] = two(&["a/x"]).await;
    let reported = a.put("a/x", "Failed").to_string();
    b.put("a/x", "Failed");
    let exact = [("resourceVersion", &*reported), ("resourceVersionMatch", "Exact")];
    assert_eq!(a.get(&all(&exact)).await["items"][0]["status"]["state"], "Failed");
    let (code, reason, _) = b.refuses(&all(&exact)).await;
    assert_eq!((code, reason.as_str()), (410, "Expired"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_gone_on_with_elsewhere_is_given_a_token_that_works_there() {
    let [a, b] = two(&["a/1", "a/2", "a/3"]).await;
    let first = a.get(&all(&[("limit", "1")])).await;
    let token = |page: &Value| page["metadata"]["continue"].as_str().unwrap().to_owned();
    b.put("a/4", "Ready");
    let status = b.refusal(&all(&[("limit", "1"), ("continue", &token(&first))])).await.status();
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));
    let rest = b.get(&all(&[("continue", &token(&status))])).await;
    assert_eq!(
        (places(&rest), version_of(&rest)),
        (vec!["a/2".into(), "a/3".into(), "a/4".into()], b.version())
    );
}
