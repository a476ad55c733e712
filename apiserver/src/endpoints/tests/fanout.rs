//! Tests of feeds: which watch gets which events, and how many of them are encoded.

use proptest::prelude::*;

use super::*;
use crate::endpoints::watch::SIZE;

impl Server {
    /// How many events have been encoded so far.
    fn encoded_count(&self) -> usize {
        self.endpoints.caches["fluxsummaries"].feeds.encoded_count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_written_once_for_all_watchers_of_a_representation() {
    let server = Server::with(&["a/x"]);
    let mut watchers = Vec::new();
    for accept in ["application/json", METADATA, TABLE] {
        for n in 0..50 {
            // Half of the watches have a selection of their own.
            let path = if n % 2 == 0 { SUMMARIES.to_owned() } else { within("a") };
            let selector = format!("state!=of-{}", n / 10);
            let mut watch = server.watch_as(&path, &[("labelSelector", &selector)], accept).await;
            watch.next().await.expect("the row there is");
            watchers.push(watch);
        }
    }
    assert_eq!(server.encoded_count(), 0, "what is there at first is no change");
    for (changes, state) in [(1, "Failed"), (2, "Ready")] {
        server.put("a/x", state);
        for watch in &mut watchers {
            assert_eq!(watch.next().await.expect("an event")["type"], "MODIFIED");
        }
        // A Table is encoded again if its ages refer to another second.
        assert!((3 * changes..=4 * changes).contains(&server.encoded_count()), "{}", server.encoded_count());
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_written_once_for_those_who_read_it_late_and_in_pieces() {
    let server = Server::with(&["a/x"]);
    let from = server.version().to_string();
    let mut watchers = Vec::new();
    for _ in 0..20 {
        watchers.push(server.watch(&[("resourceVersion", &from)]).await);
    }
    let changes = 1_000;
    for n in 0..changes {
        server.put("a/x", if n % 2 == 0 { "Failed" } else { "Ready" });
    }
    for watch in &mut watchers {
        assert_eq!(watch.take(changes).await.len(), changes);
    }
    assert_eq!(server.encoded_count(), changes);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_of_a_quiet_namespace_is_not_left_behind_by_others() {
    let server = Server::with(&["a/x", "b/y"]);
    let mut watch = server.watch_as(&within("a"), &[], "application/json").await;
    assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    let reader = tokio::spawn(async move { watch.next().await.map(|event| reported(&event)) });
    // Several times the capacity of the log, and longer than any feed or log keeps an event.
    for n in 0..40_000_u32 {
        server.put("b/y", if n % 2 == 0 { "Failed" } else { "Ready" });
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    server.put("a/x", "Failed");
    assert_eq!(reader.await.expect("read").as_deref(), Some("MODIFIED a/x Failed"));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_stops_reading_holds_nobody_up_and_is_cut() {
    let server = Server::with(&["a/x"]);
    let (mut slow, mut quick) = (server.watch(&[]).await, server.watch(&[]).await);
    for watch in [&mut slow, &mut quick] {
        assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    }
    for n in 0..=20_u8 {
        let mut big = row("flood/local", "Ready");
        big.status = format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(1 << 20)).into();
        server.cache.publish([Update::Apply(big)]);
        assert!(quick.next().await.is_some_and(|event| event["type"] != "ERROR"));
    }
    assert_eq!(reported(&slow.next().await.expect("an event")), "ERROR 410");
    assert!(slow.next().await.is_none());
    server.put("a/x", "Failed");
    assert_eq!(quick.take(1).await, ["MODIFIED a/x Failed"]);
}

#[tokio::test(start_paused = true)]
async fn forgotten_feeds_are_cleared_away() {
    let server = Server::with(&["a/x"]);
    let feeds = &server.endpoints.caches["fluxsummaries"].feeds;
    for n in 0..1_000 {
        drop(server.watch(&[("labelSelector", &format!("n={n}"))]).await);
    }
    assert!(feeds.len() <= 65, "{}", feeds.len());
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_holds_little_more_than_a_position() {
    let server = Server::with(&["a/x"]);
    let from = server.version().to_string();
    let watches = [server.watch(&[("resourceVersion", &from)]).await, server.watch(&[]).await];
    let feeds = &server.endpoints.caches["fluxsummaries"].feeds;
    assert_eq!((watches.len(), feeds.len()), (2, 1), "the selection, its feed and its style are shared");
    const { assert!(SIZE < 1 << 10) };
}

/// What happens between reads.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    /// A watch reads all events that are there.
    Read(usize),
    /// A watch starts with one of the selections.
    Begin(usize),
    /// The feeds drop all events.
    Pass,
}

const STATES: [&str; 3] = ["Ready", "Failed", "Progressing"];
const SELECTORS: [&str; 4] = ["", "state=Failed", "state!=Ready", "state in (Ready,Failed)"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 0..3_u8).prop_map(|(name, state)| Step::Put(name, state)),
        1 => (0..6_u8).prop_map(Step::Delete),
        3 => (0..8_usize).prop_map(Step::Read),
        2 => (0..4_usize).prop_map(Step::Begin),
        1 => Just(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A feed gives each watch, whenever it starts and reads, the events that reading the log itself would
    /// give.
    #[test]
    fn feeds_say_what_the_log_says(steps in prop::collection::vec(step(), 1..120)) {
        let server = Server::with(&["a/0"]);
        let feeds = &server.endpoints.caches["fluxsummaries"].feeds;
        let select = |at: usize| Selection {
            namespace: None,
            labels: gatehouse_apiservice::labels::Selector::parse(SELECTORS[at]).unwrap(),
            fields: FieldSelector::default(),
            clusters: Clusters::default(),
        };
        // For each watch: its position, its feed, and what it got. The expectation comes from a feed that it
        // does not share.
        let mut watchers = Vec::new();
        let style = (negotiate::Representation::Object, crate::options::IncludeObject::default());
        for step in steps {
            match step {
                Step::Put(name, state) => {
                    server.put(&format!("a/{name}"), STATES[usize::from(state)]);
                }
                Step::Delete(name) => {
                    server.delete(&format!("a/{name}"));
                }
                Step::Begin(at) => {
                    let feed = feeds.feed(select(at), style.0, style.1);
                    watchers.push((at, server.version(), server.version(), feed, Vec::new()));
                }
                Step::Read(at) => {
                    let count = watchers.len().max(1);
                    if let Some((_, _, position, feed, reported)) = watchers.get_mut(at % count) {
                        let batch = feed.after(*position).unwrap();
                        *position = batch.position;
                        reported.extend(batch.events);
                    }
                }
                Step::Pass => watchers.iter().for_each(|(_, _, _, feed, _)| feed.expire_events()),
            }
        }
        for (at, began, mut position, feed, mut reported) in watchers {
            loop {
                let batch = feed.after(position).unwrap();
                if batch.position == position { break }
                position = batch.position;
                reported.extend(batch.events);
            }
            let alone = fanout::Feeds::new(Arc::clone(&server.cache)).feed(select(at), style.0, style.1);
            let mut expected = Vec::new();
            let mut from = began;
            loop {
                let batch = alone.read_unshared(from).unwrap();
                if batch.position == from { break }
                from = batch.position;
                expected.extend(batch.events);
            }
            prop_assert_eq!(reported, expected);
            prop_assert_eq!(position, from);
        }
    }
}
