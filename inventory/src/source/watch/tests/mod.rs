//! Watches against a scripted API server. Only the back-off takes real time: a second for a failure.

mod fake;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use self::fake::{Fake, Reply, app, bookmark, event, expired, list, status};
use super::*;
use crate::{
    ClusterId, Interner,
    catalogue::{Catalogue, KindId},
};

struct Running {
    fake: Fake,
    events: mpsc::Receiver<(ClusterId, Event)>,
    kustomization: KindId,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn run(minor: &'static str, replies: Vec<Reply>) -> Running {
    let fake = Fake::start(minor, replies).await;
    let client = fake.client();
    let (events, kustomization, stop, task) = run_with(client);
    Running { fake, events, kustomization, stop, task }
}

type Parts = (mpsc::Receiver<(ClusterId, Event)>, KindId, CancellationToken, JoinHandle<()>);

fn run_with(client: Client) -> Parts {
    run_by(watch::channel(Some(client)).1)
}

fn run_by(clients: watch::Receiver<Option<Client>>) -> Parts {
    let catalogue = Arc::new(Catalogue::builtin());
    let kustomization = catalogue.find("kustomize.toolkit.fluxcd.io", "Kustomization").unwrap();
    let (sender, events) = mpsc::channel(64);
    let sink = Sink::new(catalogue, Arc::new(Interner::default()), ClusterId(0), sender);
    let settings = WatchSettings {
        discovery_interval: Duration::from_millis(300),
        heartbeat: Duration::from_millis(500),
        page_size: 2,
        absence: Duration::ZERO,
        ..WatchSettings::default()
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(Watch::with_clients(clients, settings).run(sink, stop.clone()));
    (events, kustomization, stop, task)
}

async fn next(events: &mut mpsc::Receiver<(ClusterId, Event)>) -> Event {
    timeout(Duration::from_mins(1), events.recv()).await.unwrap().unwrap().1
}

impl Running {
    /// The next `count` events about Kustomizations, as text.
    async fn events_seen(&mut self, count: usize) -> Vec<String> {
        let mut events_seen = Vec::new();
        while events_seen.len() < count {
            let of = self.kustomization;
            match next(&mut self.events).await {
                Event::Kind(kind, KindStatus::Served { version }) if kind == of => {
                    events_seen.push(format!("served {version}"));
                }
                Event::Kind(kind, KindStatus::Absent) if kind == of => events_seen.push("absent".into()),
                Event::Kind(kind, KindStatus::Forbidden { message }) if kind == of => {
                    events_seen.push(format!("forbidden {message}"));
                }
                Event::Kind(kind, KindStatus::Failing { message }) if kind == of => {
                    events_seen.push(format!("failing {message}"));
                }
                Event::Restart(kind) if kind == of => events_seen.push("restart".into()),
                Event::Synced(kind) if kind == of => events_seen.push("synced".into()),
                Event::Apply(record) if record.key.kind == of => {
                    events_seen.push(format!("apply {}/{}", record.key.namespace, record.key.name));
                }
                Event::Delete(key) if key.kind == of => {
                    events_seen.push(format!("delete {}/{}", key.namespace, key.name));
                }
                Event::Undecodable(kind, _) if kind == Some(of) => events_seen.push("undecodable".into()),
                _ => {}
            }
        }
        events_seen
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn another_client_goes_on_from_the_version_that_was_reached() {
    let first = vec![
        Reply::Body(200, list(&[app("a", "1")], "10", "")),
        Reply::Open(vec![event("MODIFIED", app("a", "11"))]),
    ];
    let fake = Fake::start("33", first).await;
    let (clients, receiver) = watch::channel(Some(fake.client()));
    let (events, kustomization, stop, task) = run_by(receiver);
    let mut run = Running { fake, events, kustomization, stop, task };
    assert_eq!(run.events_seen(5).await, ["served v1", "restart", "apply apps/a", "synced", "apply apps/a"]);

    let second = Fake::start("33", vec![Reply::Open(vec![event("DELETED", app("a", "12"))])]).await;
    clients.send_replace(None);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((run.fake.asked().len(), second.asked().len()), (2, 0), "nothing is requested meanwhile");
    clients.send_replace(Some(second.client()));
    assert_eq!(run.events_seen(1).await, ["delete apps/a"], "nothing is listed again");
    assert!(second.asked()[0].ends_with("resourceVersion=11"), "{:?}", second.asked());
    run.stop().await;
}

#[tokio::test]
async fn pages_then_a_watch_and_anew_when_its_version_is_gone() {
    let mut run = run(
        "33",
        vec![
            Reply::Body(200, list(&[app("a", "1"), app("b", "2")], "", "more")),
            Reply::Body(200, list(&[app("c", "3")], "10", "")),
            Reply::Events(vec![event("MODIFIED", app("a", "11")), event("DELETED", app("b", "12"))]),
            Reply::Events(vec![event("ADDED", app("d", "13")), expired()]),
            Reply::Body(200, list(&[app("a", "11"), app("d", "13")], "20", "")),
            Reply::Open(vec![event("ADDED", app("e", "21"))]),
        ],
    )
    .await;
    let events_seen = run.events_seen(12).await;
    assert_eq!(
        events_seen,
        [
            "served v1",
            "restart",
            "apply apps/a",
            "apply apps/b",
            "apply apps/c",
            "synced",
            "apply apps/a",
            "delete apps/b",
            // Neither the end of a watch nor an expired resourceVersion is an event: the known objects stay.
            "apply apps/d",
            "restart",
            "apply apps/a",
            "apply apps/d",
        ]
    );
    assert_eq!(run.events_seen(2).await, ["synced", "apply apps/e"]);
    let asked = run.fake.asked();
    assert!(asked[0].contains("limit=2") && !asked[0].contains("continue"), "{asked:?}");
    assert!(asked[1].contains("continue=more"), "{asked:?}");
    assert!(asked[2].contains("watch=true") && asked[2].ends_with("resourceVersion=10"), "{asked:?}");
    assert!(asked[3].ends_with("resourceVersion=12"), "{asked:?}");
    assert!(asked[5].ends_with("resourceVersion=20"), "{asked:?}");
    assert!(asked.iter().all(|query| !query.contains("sendInitialEvents")), "{asked:?}");
    run.stop().await;
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark_and_goes_on_as_a_watch() {
    let mut run = run(
        "36+",
        vec![
            Reply::Events(vec![
                event("ADDED", app("a", "5")),
                event("ADDED", app("b", "3")),
                bookmark("9"),
                event("DELETED", app("a", "10")),
            ]),
            // The resourceVersion is refused when the watch is opened.
            status(410, "gone"),
            Reply::Open(vec![event("ADDED", app("b", "3")), bookmark("30")]),
        ],
    )
    .await;
    let events_seen = run.events_seen(9).await;
    assert_eq!(
        events_seen,
        [
            "served v1",
            "restart",
            "apply apps/a",
            "apply apps/b",
            "synced",
            "delete apps/a",
            "restart",
            "apply apps/b",
            "synced"
        ]
    );
    let asked = run.fake.asked();
    assert!(asked[0].contains("sendInitialEvents=true"), "{asked:?}");
    assert!(!asked[1].contains("sendInitialEvents") && asked[1].ends_with("resourceVersion=10"), "{asked:?}");
    run.stop().await;
}

/// Sends the notices as text.
struct Teller(mpsc::UnboundedSender<String>);

impl Observer for Teller {
    async fn observe(&mut self, notice: WatchNotice<'_>) {
        let text = match notice {
            WatchNotice::Status(KindStatus::Served { version }) => format!("served {version}"),
            WatchNotice::Apply(raw) => format!("apply {}/{} {}", raw.namespace(), raw.name(), raw.uid()),
            WatchNotice::Delete(raw) => format!("delete {}/{} {}", raw.namespace(), raw.name(), raw.uid()),
            WatchNotice::Reached(version) => format!("reached {version}"),
            notice @ (WatchNotice::Status(_) | WatchNotice::Restart | WatchNotice::Synced) => {
                format!("{notice:?}")
            }
        };
        self.0.send(text).unwrap();
    }
}

async fn follow_metadata(fake: &Fake, count: usize) -> Vec<String> {
    let settings = WatchSettings { page_size: 2, ..WatchSettings::default() };
    let upstream = Upstream::new(fake.client(), settings);
    let (sender, mut events_seen) = mpsc::unbounded_channel();
    let wanted =
        Wanted { group: "kustomize.toolkit.fluxcd.io".into(), plural: "kustomizations".into(), kind: None };
    let following = upstream.follow(wanted, Content::Metadata, Teller(sender));
    let mut all = Vec::new();
    let receive = async {
        while all.len() < count {
            all.push(events_seen.recv().await.unwrap());
        }
    };
    tokio::select! {
        () = receive => {}
        () = following => panic!("it goes on for ever"),
        () = upstream.run(|_| std::future::ready(())) => panic!("it goes on for ever"),
        () = tokio::time::sleep(Duration::from_mins(1)) => panic!("too late: {events_seen:?}"),
    }
    all
}

#[tokio::test]
async fn any_resource_is_followed_by_its_metadata_and_says_how_far_it_came() {
    let replies = vec![
        Reply::Body(200, list(&[app("a", "1"), app("b", "2")], "9", "more")),
        Reply::Body(200, list(&[], "10", "")),
        Reply::Open(vec![event("DELETED", app("b", "12")), bookmark("15")]),
    ];
    let fake = Fake::start("33", replies).await;
    let events_seen = follow_metadata(&fake, 9).await;
    assert_eq!(
        events_seen,
        [
            "served v1",
            "Restart",
            "apply apps/a a",
            "apply apps/b b",
            "Synced",
            "reached 10",
            "delete apps/b b",
            "reached 12",
            "reached 15"
        ]
    );
    assert_eq!(
        fake.accepted(),
        [
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        ]
    );
}

#[tokio::test]
async fn of_a_streaming_list_only_its_end_says_how_far_it_came() {
    let events = vec![event("ADDED", app("a", "5")), event("ADDED", app("b", "3")), bookmark("9")];
    let fake = Fake::start("36", vec![Reply::Open(events)]).await;
    let events_seen = follow_metadata(&fake, 6).await;
    assert_eq!(
        events_seen,
        ["served v1", "Restart", "apply apps/a a", "apply apps/b b", "Synced", "reached 9"]
    );
}

/// There are some eighty kinds for each of two hundred clusters.
#[tokio::test]
async fn a_kind_that_is_not_served_costs_little() {
    let fake = Fake::start("36", Vec::new()).await;
    let upstream = Upstream::new(fake.client(), WatchSettings::default());
    let (sender, _receiver) = mpsc::unbounded_channel();
    let wanted = Wanted { group: String::new(), plural: "pods".to_owned(), kind: None };
    let following = upstream.follow(wanted, Content::Whole, Teller(sender));
    assert!(size_of_val(&following) < 2048, "{} bytes", size_of_val(&following));
}

#[tokio::test]
async fn a_server_that_refuses_streaming_is_listed_by_pages() {
    let replies = vec![
        status(422, "sendInitialEvents is forbidden"),
        Reply::Body(200, list(&[app("a", "1")], "10", "")),
        Reply::Open(vec![]),
    ];
    let mut run = run("36", replies).await;
    assert_eq!(run.events_seen(4).await, ["served v1", "restart", "apply apps/a", "synced"]);
    run.stop().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_named_stalls_nothing() {
    let odd = json!({"metadata": {"name": {"not": "a name"}, "resourceVersion": "2"}});
    let replies = vec![
        Reply::Body(200, list(&[odd.clone(), app("a", "1")], "10", "")),
        Reply::Open(vec![event("ADDED", odd), event("ADDED", app("b", "11"))]),
    ];
    let mut run = run("30", replies).await;
    let events_seen = run.events_seen(7).await;
    assert_eq!(
        events_seen,
        ["served v1", "restart", "undecodable", "apply apps/a", "synced", "undecodable", "apply apps/b"]
    );
    run.stop().await;
}

#[tokio::test]
async fn failing_is_told_and_so_is_recovery_without_a_new_list() {
    let replies = vec![
        status(500, "etcd is down"),
        Reply::Body(200, list(&[app("a", "1")], "10", "")),
        status(500, "etcd is down again"),
        // The watch opens and sends nothing, so only the open watch shows that the kind works again.
        Reply::Open(vec![]),
    ];
    let mut run = run("30", replies).await;
    assert_eq!(
        run.events_seen(7).await,
        [
            "failing etcd is down",
            "served v1",
            "restart",
            "apply apps/a",
            "synced",
            "failing etcd is down again",
            "served v1"
        ]
    );
    run.stop().await;
}

#[tokio::test]
async fn a_server_that_has_gone_back_is_listed_anew() {
    let mut run = run(
        "30",
        vec![
            Reply::Body(200, list(&[app("a", "1"), app("b", "2")], "10", "")),
            Reply::Events(vec![event("MODIFIED", app("a", "11"))]),
            Reply::Events(vec![event("MODIFIED", app("a", "12"))]),
        ],
    )
    .await;
    let events_seen =
        ["served v1", "restart", "apply apps/a", "apply apps/b", "synced", "apply apps/a", "apply apps/a"];
    assert_eq!(run.events_seen(7).await, events_seen, "an end alone is no reason");
    // etcd was restored from a backup: a watch from 12 would be silent until 12 is reached again.
    run.fake.go_back_to(11);
    run.fake.script(Reply::Body(200, list(&[app("b", "2")], "11", "")));
    run.fake.script(Reply::Open(vec![event("ADDED", app("c", "12"))]));
    assert_eq!(run.events_seen(4).await, ["restart", "apply apps/b", "synced", "apply apps/c"]);
    assert!(run.fake.asked().last().is_some_and(|query| query.ends_with("resourceVersion=11")));
    run.stop().await;
}

#[tokio::test]
async fn missing_rights_are_told_for_the_kind_alone() {
    let mut run = run("30", vec![status(403, "may not list kustomizations")]).await;
    assert_eq!(run.events_seen(1).await, ["forbidden may not list kustomizations"]);
    // Another kind, and the cluster itself, work.
    let (mut alive, mut nodes) = (false, false);
    while !(alive && nodes) {
        match next(&mut run.events).await {
            Event::Liveness(Liveness::Alive { version, .. }) => alive = version.as_deref() == Some("v1.30.0"),
            Event::Synced(_) => nodes = true,
            Event::Kind(_, KindStatus::Failing { message }) => panic!("{message}"),
            _ => {}
        }
    }
    run.stop().await;
}

#[tokio::test]
async fn a_server_that_answers_again_is_asked_at_once() {
    let mut run = run("30", vec![status(403, "not now")]).await;
    assert_eq!(run.events_seen(1).await, ["forbidden not now"]);
    run.fake.script(Reply::Body(200, list(&[app("a", "1")], "10", "")));
    run.fake.script(Reply::Open(vec![]));
    run.fake.fall_ill(true);
    while !matches!(next(&mut run.events).await, Event::Liveness(Liveness::Silent { .. })) {}
    run.fake.fall_ill(false);
    // Otherwise it would retry after half a minute.
    let events_seen = timeout(Duration::from_secs(10), run.events_seen(4)).await.unwrap();
    assert_eq!(events_seen, ["served v1", "restart", "apply apps/a", "synced"]);
    run.stop().await;
}

#[tokio::test]
async fn a_kind_that_goes_takes_its_rows_along_and_may_come_back() {
    let replies = vec![Reply::Body(200, list(&[app("a", "1")], "10", "")), Reply::Open(vec![])];
    let mut run = run("30", replies).await;
    assert_eq!(run.events_seen(4).await, ["served v1", "restart", "apply apps/a", "synced"]);
    run.fake.serve_kustomizations(false);
    assert_eq!(run.events_seen(3).await, ["restart", "synced", "absent"]);
    run.fake.script(Reply::Body(200, list(&[app("b", "20")], "21", "")));
    run.fake.script(Reply::Open(vec![]));
    run.fake.serve_kustomizations(true);
    assert_eq!(run.events_seen(4).await, ["served v1", "restart", "apply apps/b", "synced"]);
    run.stop().await;
}

#[tokio::test]
async fn kinds_that_are_not_served_are_told_absent_once() {
    let mut run = run("30", vec![]).await;
    run.fake.serve_kustomizations(false);
    let events_seen = run.events_seen(3).await;
    assert_eq!(events_seen, ["restart", "synced", "absent"]);
    run.stop().await;
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_is_silent_and_stops_at_once() {
    // Bound and closed, so that nothing listens on it.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let (mut events, _, stop, task) = run_with(Client::try_from(config).unwrap());
    let Event::Liveness(Liveness::Silent { message }) = next(&mut events).await else { panic!("not silent") };
    assert!(message.contains("refused"), "{message}");
    stop.cancel();
    timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}
