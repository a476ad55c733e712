//! Tests of `mynamespaces`: each user sees the rows of the namespaces in which he may list fluxsummaries. Clients that
//! resume are in `my_versions`.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use serde_json::json;

use super::*;
use crate::{
    callers::{
        Callers, Limits,
        testing::{self as callers_testing, ask_about, bind, draft, hear},
    },
    clock::ClockReading,
};
use gatehouse_fake_api::Reviews;
use gatehouse_serving::authz::{Access, DelegatedAuthorizer};
use tokio::sync::watch::Sender;

pub(super) const MINE: &str = "/apis/view.gatehouse.dev/v1alpha1/mynamespaces";

/// Who may list fluxsummaries where, by namespace and user; without a namespace everywhere.
#[derive(Clone, Default)]
pub(super) struct Truth(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Truth {
    pub(super) fn set(&self, namespace: &str, user: &str, allowed: bool) {
        let pair = (namespace.to_owned(), user.to_owned());
        let mut all = self.0.lock().unwrap();
        if allowed {
            all.insert(pair)
        } else {
            all.remove(&pair)
        };
    }

    pub(super) fn allows(&self, namespace: &str, user: &str) -> bool {
        let all = self.0.lock().unwrap();
        let has = |namespace: &str| all.contains(&(namespace.to_owned(), user.to_owned()));
        has("") || has(namespace)
    }

    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().iter().cloned().collect()
    }

    fn decides(&self, spec: &Value) -> bool {
        let (user, asked) = (spec["user"].as_str().unwrap(), &spec["resourceAttributes"]);
        match (asked["resource"].as_str().unwrap(), asked["verb"].as_str().unwrap()) {
            ("mynamespaces", _) => true,
            ("fluxsummaries", "list") => self.allows(asked["namespace"].as_str().unwrap_or_default(), user),
            other => panic!("nobody asks about {other:?}"),
        }
    }
}

/// A replica, its users, and the cluster that judges them.
pub(super) struct Replica {
    pub(super) server: Server,
    pub(super) callers: Arc<Callers>,
    pub(super) cluster: Arc<Reviews>,
    pub(super) metrics: Arc<ViewMetrics>,
}

impl Replica {
    /// One that has just started, and knows all bindings.
    pub(super) fn new(number: u8, rows: &[&str], truth: &Truth) -> Self {
        Self::begun(number, rows, truth, Instant::now())
    }

    /// The same where `epoch` is the beginning of the test, for a replica that starts later than others.
    pub(super) fn begun(number: u8, rows: &[&str], truth: &Truth, epoch: Instant) -> Self {
        Self::limited(number, rows, truth, epoch, Limits::default())
    }

    /// The same, which keeps no more about users than this.
    pub(super) fn limited(number: u8, rows: &[&str], truth: &Truth, epoch: Instant, limits: Limits) -> Self {
        let year = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let begin = Instant::now();
        let clock = Clock::new(number).with_time(move || {
            let now = Instant::now();
            ClockReading { wall: year + (now - epoch), passed: now - begin }
        });
        clock.vouch(true);
        let cache = callers_testing::cache_by(clock, rows);
        let decided = truth.clone();
        let (cluster, client) = Reviews::deciding(move |spec| decided.decides(spec));
        let metrics = Arc::new(RequestMetrics::new(&[]));
        let authorizer = DelegatedAuthorizer::new(client, DelegatedAuthorizer::DEADLINE, metrics);
        let authorizer = Arc::new(authorizer.into());
        let (access, metrics) = (Access::new(Arc::clone(&authorizer)), view_metrics());
        let callers = Callers::new(access, Arc::clone(&cache), Some(Sender::new(None)), limits, &metrics);
        let pairs = truth.pairs();
        let pairs: Vec<_> = pairs.iter().map(|(namespace, user)| (&**namespace, &**user)).collect();
        callers_testing::list(&callers, &pairs);
        let endpoints =
            Endpoints::new([Arc::clone(&cache)], Arc::clone(&metrics)).with_callers(Arc::clone(&callers));
        let server = Server { authorizer, ..Server::over(endpoints, cache) };
        Self { server, callers, cluster, metrics }
    }

    pub(super) fn act_as(&self, user: &str) {
        let user = UserInfo { name: user.to_owned(), ..UserInfo::default() };
        *self.server.user.lock().unwrap() = user;
    }

    pub(super) async fn list(&self, user: &str, parameters: &[(&str, &str)]) -> Value {
        self.act_as(user);
        self.server.get(&with(MINE, parameters)).await
    }

    pub(super) async fn names(&self, user: &str) -> Vec<String> {
        names(&self.list(user, &[]).await)
    }

    pub(super) async fn watch(&self, user: &str, parameters: &[(&str, &str)]) -> Stream {
        self.act_as(user);
        self.server.watch_as(MINE, parameters, "application/json").await
    }

    pub(super) async fn watch_from(&self, user: &str, version: u64) -> Stream {
        self.watch(user, &[("resourceVersion", &version.to_string())]).await
    }

    pub(super) async fn code(&self, user: &str, path: &str) -> u16 {
        self.act_as(user);
        match self.server.send(Method::GET, path, "application/json").await {
            Ok(response) => response.status().as_u16(),
            Err(error) => error.code().as_u16(),
        }
    }

    pub(super) fn put(&self, name: &str, state: &str) {
        self.server.cache.publish([Update::Apply(draft(name, state))]);
    }
}

/// Grants or takes away a right, and lets a replica observe its binding.
pub(super) fn change(truth: &Truth, replica: &Replica, namespace: &str, user: &str, allowed: bool) {
    truth.set(namespace, user, allowed);
    bind(&replica.callers, namespace, user, allowed);
}

pub(super) fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

/// Lets time pass while the watches of RBAC are heard from.
pub(super) async fn pass(replicas: &[&Replica], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for replica in replicas {
            hear(&replica.callers);
        }
        tokio::time::sleep(Duration::from_secs(5).min(end - Instant::now())).await;
    }
    for replica in replicas {
        hear(&replica.callers);
    }
}

/// The next events as `TYPE name`.
pub(super) async fn take(watch: &mut Stream, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = timeout(Duration::from_secs(10), watch.next()).await;
        let event = event.unwrap_or_else(|_| panic!("nothing follows {events:?}")).expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        events.push(format!("{} {name}", event["type"].as_str().expect("a type")).trim_end().to_owned());
    }
    events
}

pub(super) const ROWS: [&str; 4] = ["a", "b", "c", "d"];

#[tokio::test(start_paused = true)]
async fn everybody_sees_his_own_rows() {
    let truth = Truth::default();
    for (namespace, user) in [("a", "jane"), ("c", "jane"), ("missing", "jane"), ("", "root"), ("b", "joe")] {
        truth.set(namespace, user, true);
    }
    let replica = Replica::new(1, &ROWS, &truth);
    assert_eq!(replica.names("jane").await, ["a", "c"]);
    assert_eq!(replica.names("joe").await, ["b"]);
    assert_eq!(replica.names("root").await, ROWS);
    assert_eq!(replica.names("nobody").await, Vec::<String>::new());
    let asked = replica.cluster.asked();
    for _ in 0..10 {
        assert_eq!(replica.names("jane").await, ["a", "c"]);
    }
    assert_eq!(replica.cluster.asked(), asked, "a list asks nothing that is known");

    let selected = replica.list("jane", &[("fieldSelector", "metadata.name=a")]).await;
    assert_eq!(names(&selected), ["a"]);
    let selected = replica.list("jane", &[("fieldSelector", "metadata.name=b")]).await;
    assert_eq!(names(&selected), Vec::<String>::new(), "a selector shows no more");
    let page = replica.list("jane", &[("limit", "1")]).await;
    assert_eq!((names(&page), &page["metadata"]["remainingItemCount"]), (vec!["a".to_owned()], &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_row_is_read_by_name_where_it_is_seen_and_does_not_exist_elsewhere() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    assert_eq!(replica.code("jane", &format!("{MINE}/a")).await, 200);
    for name in ["b", "missing"] {
        assert_eq!(replica.code("jane", &format!("{MINE}/{name}")).await, 404, "{name}");
    }
    // Another authorizer than RBAC allows it.
    truth.set("b", "jane", true);
    assert_eq!(replica.code("jane", &format!("{MINE}/b")).await, 200);
    assert_eq!(replica.names("jane").await, ["a"], "nothing says where to ask");
    let mut watch = replica.watch("jane", &[]).await;
    assert_eq!(take(&mut watch, 1).await, ["ADDED a"]);
    for namespace in ["b", "c"] {
        ask_about(&replica.callers, namespace, "jane");
    }
    assert_eq!(take(&mut watch, 1).await, ["ADDED b"], "a label does, and grants nothing by that");
    assert_eq!(replica.names("jane").await, ["a", "b"]);
    truth.set("b", "jane", false);
    pass(&[&replica], Duration::from_secs(11)).await;
    assert_eq!(take(&mut watch, 1).await, ["DELETED b"]);
}

#[tokio::test(start_paused = true)]
async fn what_another_authorizer_denies_is_not_shown_and_what_it_allows_everywhere_is() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    bind(&replica.callers, "b", "jane", true);
    assert_eq!(replica.names("jane").await, ["a"]);
    truth.set("", "jane", true);
    pass(&[&replica], Duration::from_secs(11)).await;
    assert_eq!(replica.names("jane").await, ROWS);
}

#[tokio::test(start_paused = true)]
async fn rows_come_and_go_with_the_rights_under_an_open_watch() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    let mut watch = replica.watch("jane", &[]).await;
    let mut other = replica.watch("joe", &[]).await;
    assert_eq!(take(&mut watch, 1).await, ["ADDED a"]);
    let began = Instant::now();
    change(&truth, &replica, "b", "jane", true);
    assert_eq!(take(&mut watch, 1).await, ["ADDED b"]);
    change(&truth, &replica, "a", "jane", false);
    assert_eq!(take(&mut watch, 1).await, ["DELETED a"]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    replica.put("a", "Failed");
    replica.put("b", "Failed");
    assert_eq!(take(&mut watch, 1).await, ["MODIFIED b"], "and nothing of a");
    change(&truth, &replica, "", "jane", true);
    assert_eq!(take(&mut watch, 3).await, ["ADDED a", "ADDED c", "ADDED d"]);
    change(&truth, &replica, "", "jane", false);
    assert_eq!(take(&mut watch, 3).await, ["DELETED a", "DELETED c", "DELETED d"]);
    change(&truth, &replica, "new", "jane", true);
    assert!(watch.is_quiet().await, "there is no such row");
    replica.put("new", "Ready");
    assert_eq!(take(&mut watch, 1).await, ["ADDED new"]);
    assert!(other.is_quiet().await, "nobody else is told");
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_selection_is_told_of_rights_to_what_it_selects() {
    let truth = Truth::default();
    let replica = Replica::new(1, &ROWS, &truth);
    let mut watch = replica.watch("jane", &[("fieldSelector", "metadata.name=b")]).await;
    for namespace in ["a", "b"] {
        change(&truth, &replica, namespace, "jane", true);
    }
    assert_eq!(take(&mut watch, 1).await, ["ADDED b"]);
    change(&truth, &replica, "a", "jane", false);
    change(&truth, &replica, "b", "jane", false);
    assert_eq!(take(&mut watch, 1).await, ["DELETED b"]);
    assert!(watch.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_another_authorizer_takes_away_is_lost_within_ten_seconds() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    let mut watch = replica.watch("jane", &[]).await;
    assert_eq!(take(&mut watch, 1).await, ["ADDED a"]);
    pass(&[&replica], Duration::from_secs(55)).await;
    truth.set("a", "jane", false);
    let began = Instant::now();
    assert_eq!(take(&mut watch, 1).await, ["DELETED a"]);
    assert!(began.elapsed() <= Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_is_down_fails_lists_and_ends_watches() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    let mut watch = replica.watch("jane", &[]).await;
    assert_eq!(take(&mut watch, 1).await, ["ADDED a"]);
    replica.cluster.reach(false);
    assert_eq!(replica.code("joe", MINE).await, 503);
    assert_eq!(replica.code("joe", &format!("{MINE}/a")).await, 503);
    assert_eq!(replica.code("joe", &format!("{MINE}?watch=true")).await, 503);
    pass(&[&replica], Duration::from_secs(11)).await;
    assert_eq!(replica.code("jane", MINE).await, 503, "her rights were known ten seconds ago");
    let began = Instant::now();
    let ended = async { while watch.next().await.is_some_and(|event| event["type"] != "ERROR") {} };
    let heard = [&replica];
    tokio::select! {
        () = ended => {}
        () = pass(&heard, Duration::from_mins(2)) => panic!("it goes on"),
    }
    assert!(began.elapsed() < Duration::from_secs(70), "{:?}", began.elapsed());
    replica.cluster.reach(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    hear(&replica.callers);
    assert_eq!(replica.names("jane").await, ["a"]);
    let mut watch = replica.watch("jane", &[]).await;
    assert_eq!(take(&mut watch, 1).await, ["ADDED a"]);
    assert!(watch.is_quiet().await, "it does not end again");
}

#[tokio::test(start_paused = true)]
async fn bindings_that_cannot_be_read_fail_lists_and_end_watches() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    let mut watch = replica.watch("jane", &[]).await;
    assert_eq!(take(&mut watch, 1).await, ["ADDED a"]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(replica.code("jane", MINE).await, 503);
    assert_eq!(take(&mut watch, 1).await, ["ERROR"]);
    assert_eq!(replica.code("jane", &format!("{MINE}/a")).await, 200, "a name needs no index");
}

#[tokio::test(start_paused = true)]
async fn a_table_has_its_columns_once_and_a_streamed_list_its_end() {
    let truth = Truth::default();
    let replica = Replica::new(1, &ROWS, &truth);
    replica.act_as("jane");
    let list = [
        ("sendInitialEvents", "true"),
        ("resourceVersionMatch", "NotOlderThan"),
        ("allowWatchBookmarks", "true"),
    ];
    let mut watch = replica.server.watch_as(MINE, &list, TABLE).await;
    let end = watch.next().await.expect("a bookmark");
    assert_eq!(end["type"], "BOOKMARK");
    assert!(end["object"]["columnDefinitions"].is_array());
    change(&truth, &replica, "a", "jane", true);
    let added = watch.next().await.expect("an event");
    assert!(added["type"] == "ADDED" && added["object"]["columnDefinitions"].is_null(), "{added}");
    let mut watch = replica.server.watch_as(MINE, &[("sendInitialEvents", "false"), list[1]], TABLE).await;
    change(&truth, &replica, "b", "jane", true);
    let added = watch.next().await.expect("an event");
    assert!(added["object"]["columnDefinitions"].is_array(), "{added}");
    let bookmark = timeout(Duration::from_secs(1), watch.next()).await;
    assert!(bookmark.is_err());
}

/// Fifty users with a right to each of twenty rows.
fn crowd() -> (Vec<String>, Replica) {
    let truth = Truth::default();
    let users: Vec<_> = (0..50).map(|n| format!("user-{n}")).collect();
    let rows: Vec<_> = (0..20).map(|n| format!("n-{n}")).collect();
    for (user, row) in users.iter().flat_map(|user| rows.iter().map(move |row| (user, row))) {
        truth.set(row, user, true);
    }
    let rows: Vec<_> = rows.iter().map(String::as_str).collect();
    (users, Replica::new(1, &rows, &truth))
}

#[tokio::test(start_paused = true)]
async fn open_watches_ask_no_more_than_they_may() {
    let (users, replica) = crowd();
    let mut watches = Vec::new();
    for user in &users {
        let mut watch = replica.watch(user, &[]).await;
        take(&mut watch, 20).await;
        watches.push(watch);
    }
    let reading = futures::future::join_all(watches.iter_mut().map(Stream::next));
    let asked = replica.cluster.asked();
    let (minutes, heard) = (5, [&replica]);
    tokio::select! {
        _ = reading => panic!("nothing happens"),
        () = pass(&heard, Duration::from_mins(minutes)) => {}
    }
    let asked = u64::try_from(replica.cluster.asked() - asked).unwrap();
    // Some more for the watches' own authorization, which is renewed every 7 s at most.
    let own = 50 * minutes * 60 / 7;
    assert!(asked <= own + 30 * minutes * 60, "{asked}, of which {own} are their own");
    assert!(asked >= 10 * minutes * 60, "they are renewed: {asked}");
}

#[tokio::test(start_paused = true)]
async fn lists_of_many_users_ask_no_more_than_they_may() {
    let (users, replica) = crowd();
    let mut asked = 0;
    let rounds = 60_u64;
    for round in 0..rounds {
        for user in &users {
            assert_eq!(replica.names(user).await.len(), 20);
        }
        if round == 0 {
            asked = replica.cluster.asked();
        }
        pass(&[&replica], Duration::from_secs(5)).await;
    }
    let asked = u64::try_from(replica.cluster.asked() - asked).unwrap();
    // Each may list, which is known for ten seconds.
    let own = 50 * rounds / 2;
    assert!(asked <= own + 30 * rounds * 5, "{asked}, of which {own} are of the requests themselves");
    assert!(asked >= 10 * rounds * 5, "they are renewed: {asked}");
}
