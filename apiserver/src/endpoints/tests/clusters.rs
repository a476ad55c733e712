//! Tests that rows of a remote cluster are shown to those only who may get its clusterhealth.

use std::{collections::BTreeSet, time::SystemTime};

use gatehouse_fake_api::Reviews;
use gatehouse_inventory::Str;
use gatehouse_serving::authz::DelegatedAuthorizer;
use proptest::{prelude::*, test_runner::TestCaseError};

use super::*;
use crate::{
    clock::ClockReading,
    clusters::{Registry, access::ClusterAccess},
};

const CLUSTERS: [&str; 3] = ["local", "eu", "us"];
const REMOTE: [&str; 2] = ["eu", "us"];
/// After this time a right that was given or taken is in force everywhere.
const IN_FORCE: Duration = Duration::from_secs(16);

/// A replica of a hub with the remote clusters `eu` and `us`, and a row of each cluster in the namespace `a`.
struct Hub {
    server: Server,
    registry: Arc<Registry>,
}

impl Hub {
    fn new(number: u8, reviews: &kube::Client) -> Self {
        let begin = Instant::now();
        let year = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let time = move || {
            let passed = Instant::now() - begin;
            ClockReading { wall: year + passed, passed }
        };
        let clock = Clock::new(number).with_time(time);
        clock.vouch(true);
        let cache = Arc::new(testing::cache_by(clock));
        cache.publish([Update::Apply(row("a/local", "Ready"))]);
        cache.publish_remote(REMOTE.map(|name| Update::Apply(row(&format!("a/{name}"), "Ready"))));
        cache.mark_synced();
        let registry = Arc::new(Registry::new("local".into()));
        registry.set(names(&REMOTE));
        let endpoints = Endpoints::new([Arc::clone(&cache)], view_metrics())
            .with_clusters(Some(ClusterAccess::new(Arc::clone(&registry))));
        let metrics = Arc::new(RequestMetrics::new(&[]));
        let authorizer = DelegatedAuthorizer::new(reviews.clone(), DelegatedAuthorizer::DEADLINE, metrics);
        let server = Server { authorizer: Arc::new(authorizer.into()), ..Server::over(endpoints, cache) };
        Self { server, registry }
    }

    fn put(&self, place: &str, state: &str) {
        let update = [Update::Apply(row(place, state))];
        if place.ends_with("/local") {
            self.server.cache.publish(update);
        } else {
            self.server.cache.publish_remote(update);
        }
    }

    fn delete(&self, place: &str) {
        let update = [Update::Delete(key(place))];
        if place.ends_with("/local") {
            self.server.cache.publish(update);
        } else {
            self.server.cache.publish_remote(update);
        }
    }

    async fn listed(&self) -> Vec<String> {
        places(&self.server.get(SUMMARIES).await)
    }
}

fn names(names: &[&str]) -> BTreeSet<Str> {
    names.iter().map(|name| Str::from(*name)).collect()
}

/// A hub of two replicas, for a user who may get these clusterhealths.
fn hub(allowed: &[&str]) -> ([Hub; 2], Arc<Reviews>) {
    let (reviews, client) = Reviews::new();
    reviews.allow_named("clusterhealths", allowed);
    ([Hub::new(1, &client), Hub::new(2, &client)], reviews)
}

#[tokio::test(start_paused = true)]
async fn lists_gets_and_tables_show_the_clusters_that_the_user_may_get() {
    for (allowed, shown) in [
        (&[][..], &["a/local"][..]),
        (&["eu"], &["a/eu", "a/local"]),
        (&["eu", "us", "else"], &["a/eu", "a/local", "a/us"]),
    ] {
        let ([hub, _], _) = hub(allowed);
        assert_eq!(hub.listed().await, shown);
        assert_eq!(places(&hub.server.get(&within("a")).await), shown);
        let table = hub.server.get_as(SUMMARIES, TABLE).await;
        assert_eq!(table["rows"].as_array().unwrap().len(), shown.len());
        for cluster in CLUSTERS {
            let uri = format!("{}/{cluster}", within("a"));
            if shown.contains(&&*format!("a/{cluster}")) {
                hub.server.get(&uri).await;
            } else {
                let (code, reason, message) = hub.server.refuses(&uri).await;
                let unknown = format!("fluxsummaries.view.gatehouse.dev {cluster:?} not found");
                assert_eq!((code, &*reason, message), (404, "NotFound", unknown), "as if there were none");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_count_and_continue_with_what_is_shown() {
    let ([hub, _], _) = hub(&["us"]);
    let first = hub.server.get(&all(&[("limit", "1")])).await;
    assert_eq!(places(&first), ["a/local"]);
    assert!(first["metadata"].get("remainingItemCount").is_none(), "a selector applies");
    let token = first["metadata"]["continue"].as_str().unwrap();
    assert_eq!(places(&hub.server.get(&all(&[("limit", "1"), ("continue", token)])).await), ["a/us"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_hears_nothing_of_a_cluster_that_the_user_may_not_get() {
    let ([hub, _], _) = hub(&["us"]);
    let mut watch = hub.server.watch(&[]).await;
    assert_eq!(watch.take(2).await, ["ADDED a/local Ready", "ADDED a/us Ready"]);
    hub.put("a/eu", "Failed");
    hub.delete("a/eu");
    hub.put("b/eu", "Ready");
    hub.put("a/us", "Failed");
    assert_eq!(watch.take(1).await, ["MODIFIED a/us Failed"]);
    hub.delete("a/us");
    assert_eq!(watch.take(1).await, ["DELETED a/us Failed"]);
    assert!(watch.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_410_when_a_right_is_taken_or_given() {
    for (then, within) in [(&["us"][..], 10), (&["eu", "us"][..], 16)] {
        let ([hub, _], reviews) = hub(&["eu"]);
        let mut watch = hub.server.watch(&[]).await;
        assert_eq!(watch.take(2).await, ["ADDED a/eu Ready", "ADDED a/local Ready"]);
        assert!(timeout(Duration::from_mins(2), watch.next()).await.is_err(), "as long as it is there");
        reviews.allow_named("clusterhealths", then);
        let (events, lasted) = watch.rest().await;
        assert_eq!(events, ["ERROR 410"]);
        assert!(lasted <= Duration::from_secs(within), "{then:?}: {lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_ends_the_watches_of_those_who_may_see_it() {
    for (allowed, is_told) in [(&["eu"][..], false), (&["eu", "asia"], true)] {
        let ([hub, _], _) = hub(allowed);
        let mut watch = hub.server.watch(&[]).await;
        assert_eq!(watch.take(2).await, ["ADDED a/eu Ready", "ADDED a/local Ready"]);
        hub.registry.set(names(&["asia", "eu", "us"]));
        hub.put("a/asia", "Ready");
        if is_told {
            assert_eq!(watch.rest().await.0, ["ERROR 410"]);
        } else {
            assert!(timeout(Duration::from_mins(2), watch.next()).await.is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_goes_is_deleted_on_open_watches() {
    let ([hub, _], _) = hub(&["eu"]);
    let mut watch = hub.server.watch(&[]).await;
    assert_eq!(watch.take(2).await, ["ADDED a/eu Ready", "ADDED a/local Ready"]);
    hub.registry.set(names(&["us"]));
    hub.delete("a/eu");
    assert_eq!(watch.take(1).await, ["DELETED a/eu Ready"]);
    assert!(timeout(Duration::from_mins(2), watch.next()).await.is_err());
}

/// The words of the error that a watch begins with, if it does.
async fn complaint(hub: &Hub, version: &str) -> Option<String> {
    let mut watch = hub.server.watch(&[("resourceVersion", version)]).await;
    let event = watch.next().await.expect("an event");
    event["object"]["message"].as_str().map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn who_sees_a_remote_cluster_lists_again_at_another_replica() {
    let ([one, other], _) = hub(&["eu"]);
    tokio::time::advance(Duration::from_mins(5)).await;
    other.put("a/local", "Failed");
    one.put("a/local", "Stalled");
    let from = version_of(&one.server.get(SUMMARIES).await).to_string();
    assert!(complaint(&other, &from).await.expect("410").contains("another replica's"));
    // The same for a cluster that was removed there, and not here yet.
    other.registry.set(names(&["us"]));
    other.delete("a/eu");
    assert!(complaint(&other, &from).await.expect("410").contains("another replica's"));
}

#[tokio::test(start_paused = true)]
async fn who_sees_none_goes_on_at_another_replica_and_hears_of_none() {
    let ([one, other], _) = hub(&[]);
    tokio::time::advance(Duration::from_mins(5)).await;
    other.put("a/eu", "Failed");
    other.delete("a/us");
    other.delete("a/never-known-eu");
    other.put("a/local", "Failed");
    one.put("a/local", "Stalled");
    let from = version_of(&one.server.get(SUMMARIES).await).to_string();
    let mut watch = other.server.watch(&[("resourceVersion", &*from)]).await;
    assert_eq!(watch.take(1).await, ["MODIFIED a/local Failed"]);
    assert!(watch.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_the_request_fails_instead_of_showing_less() {
    let ([hub, _], reviews) = hub(&["eu"]);
    reviews.reach(false);
    assert_eq!(hub.server.refuses(SUMMARIES).await.0, 500);
}

#[tokio::test(start_paused = true)]
async fn without_remote_clusters_nothing_is_asked() {
    let ([hub, _], reviews) = hub(&[]);
    hub.registry.set(BTreeSet::new());
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(hub.listed().await, ["a/local"], "rows of clusters that are not registered are nobody's");
    assert_eq!(reviews.asked(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, usize, bool),
    Delete(usize, usize),
    Allow(Vec<usize>),
    Register(Vec<usize>),
    List(usize),
    Page(usize),
    Watch(usize),
    Resume(usize),
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::sample::subsequence(vec![1, 2], 0..=2);
    prop_oneof![
        4 => (0..2_usize, 0..3_usize, any::<bool>()).prop_map(|(at, of, ready)| Step::Put(at, of, ready)),
        2 => (0..2_usize, 0..3_usize).prop_map(|(at, of)| Step::Delete(at, of)),
        2 => some().prop_map(Step::Allow),
        1 => some().prop_map(Step::Register),
        2 => (0..2_usize).prop_map(Step::List),
        2 => (0..2_usize).prop_map(Step::Page),
        3 => (0..2_usize).prop_map(Step::Watch),
        3 => (0..2_usize).prop_map(Step::Resume),
        4 => Just(Step::Read),
    ]
}

/// The clusters of places.
fn clusters(places: &[String]) -> BTreeSet<String> {
    places.iter().filter_map(|place| Some(place.split_once('/')?.1.to_owned())).collect()
}

/// What a user was told, and whether that was allowed.
async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (hubs, reviews) = hub(&[]);
    let mut allowed: Vec<&str> = vec!["local"];
    let mut versions = vec!["1".to_owned()];
    let mut tokens: Vec<String> = Vec::new();
    let mut watches: Vec<Stream> = Vec::new();
    let ensure = |told: &[String], allowed: &[&str]| {
        let told = clusters(told);
        prop_assert!(told.iter().all(|name| allowed.contains(&&**name)), "{told:?}, allowed: {allowed:?}");
        Ok(())
    };
    for step in steps {
        match step {
            Step::Put(at, of, is_ready) => {
                let state = if is_ready { "Ready" } else { "Failed" };
                hubs[at].put(&format!("a/{}", CLUSTERS[of]), state);
            }
            Step::Delete(at, of) => hubs[at].delete(&format!("a/{}", CLUSTERS[of])),
            Step::Allow(some) => {
                let some: Vec<_> = some.into_iter().map(|of| CLUSTERS[of]).collect();
                reviews.allow_named("clusterhealths", &some);
                allowed = some.into_iter().chain(["local"]).collect();
                tokio::time::advance(IN_FORCE).await;
            }
            Step::Register(some) => {
                let some: Vec<_> = some.into_iter().map(|of| CLUSTERS[of]).collect();
                for hub in &hubs {
                    hub.registry.set(names(&some));
                }
            }
            Step::List(at) => {
                let list = hubs[at].server.get(SUMMARIES).await;
                ensure(&places(&list), &allowed)?;
                versions.push(version_of(&list).to_string());
            }
            Step::Page(at) => {
                let token = tokens.pop().unwrap_or_default();
                let uri = all(&[("limit", "1"), ("continue", &*token)]);
                let Ok(page) = hubs[at].server.send(Method::GET, &uri, "application/json").await else {
                    continue;
                };
                let page: Value = serde_json::from_slice(&read(page).await).expect("JSON");
                ensure(&places(&page), &allowed)?;
                tokens.extend(page["metadata"]["continue"].as_str().map(str::to_owned));
            }
            Step::Watch(at) => watches.push(hubs[at].server.watch(&[]).await),
            Step::Resume(at) => {
                let version = versions.last().expect("one").clone();
                watches.push(hubs[at].server.watch(&[("resourceVersion", &*version)]).await);
            }
            Step::Read => {
                let mut open = Vec::new();
                for mut watch in watches.drain(..) {
                    let mut told = Vec::new();
                    let is_open = loop {
                        match timeout(Duration::from_millis(600), watch.next()).await {
                            Ok(Some(event)) => told.push(reported(&event)),
                            Ok(None) => break false,
                            Err(_) => break true,
                        }
                    };
                    let told: Vec<_> =
                        told.iter().filter_map(|event| event.split(' ').nth(1).map(str::to_owned)).collect();
                    ensure(&told, &allowed)?;
                    if is_open {
                        open.push(watch);
                    }
                }
                watches = open;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// No sequence of lists, pages, watches, resumes, changes of rights and of replicas shows a row of a
    /// cluster that the user may not see.
    #[test]
    fn nobody_is_ever_shown_what_they_may_not_see(steps in prop::collection::vec(step(), 1..60)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(play(steps))?;
    }
}
