//! A property test of `mynamespaces`: whatever happens to rights, rows, replicas and connections, every client is
//! shown only what its user may see, and ends with exactly that.
//!
//! The authorizer knows the true rights at once. Replicas observe bindings late, each at its own time; rows they observe
//! at once, since lagging behind in these is the model of the watch cache. `GATEHOUSE_LONG=1` runs many more cases.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::{
    my_namespaces::{MINE, Replica, Truth, names, pass},
    *,
};
use crate::callers::testing::{bind, hear};

const USERS: [&str; 3] = ["jane", "joe", "zoe"];
const ROWS: [&str; 3] = ["a", "b", "c"];
/// How long after it was taken away a right may show, and a margin for a review and the events on their way.
const STALE: Duration = Duration::from_secs(12);

#[derive(Debug, Clone)]
enum Step {
    /// A user gets or loses the right in a namespace, or with the last number everywhere.
    Right(usize, usize, bool),
    /// A row changes or, with no state, is deleted.
    Row(usize, Option<u8>),
    /// A replica observes all bindings.
    Observe(usize),
    /// A replica lists all bindings again.
    Relist(usize),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// A replica restarts.
    Restart(usize),
    /// A client lists at a replica.
    List(usize, usize),
    /// A client watches at a replica, from its version.
    Watch(usize, usize),
    /// A client reads what there is.
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, what) = (0..USERS.len(), 0..=ROWS.len());
    let times = vec![10, 300, 1_000, 5_000, 20_000, 70_000, 200_000];
    prop_oneof![
        6 => (who.clone(), what, any::<bool>()).prop_map(|(who, what, on)| Step::Right(who, what, on)),
        3 => (0..ROWS.len(), prop::option::weighted(0.7, 0..4_u8)).prop_map(|(row, state)| Step::Row(row, state)),
        5 => (0..2_usize).prop_map(Step::Observe),
        1 => (0..2_usize).prop_map(Step::Relist),
        4 => prop::sample::select(times).prop_map(Step::Pass),
        1 => (0..2_usize).prop_map(Step::Restart),
        2 => (who.clone(), 0..2_usize).prop_map(|(who, at)| Step::List(who, at)),
        5 => (who.clone(), 0..2_usize).prop_map(|(who, at)| Step::Watch(who, at)),
        5 => who.prop_map(Step::Read),
    ]
}

#[derive(Default)]
struct Client {
    version: Option<u64>,
    rows: BTreeMap<String, String>,
    watch: Option<Stream>,
}

struct World {
    epoch: Instant,
    truth: Truth,
    /// When each right was taken away last.
    lost: HashMap<(String, String), Instant>,
    rows: BTreeMap<&'static str, String>,
    replicas: Vec<Replica>,
    /// What each replica has observed of the bindings.
    observed: Vec<Vec<(String, String)>>,
    /// Numbers of replicas are never used again.
    started: u8,
    /// One for each user.
    clients: Vec<Client>,
}

impl World {
    fn new() -> Self {
        let (epoch, truth) = (Instant::now(), Truth::default());
        let replicas = [0, 1].map(|number| Replica::begun(number, &ROWS, &truth, epoch));
        Self {
            epoch,
            truth,
            lost: HashMap::new(),
            rows: ROWS.iter().map(|row| (*row, "Ready".to_owned())).collect(),
            replicas: replicas.into(),
            observed: vec![Vec::new(); 2],
            started: 2,
            clients: USERS.iter().map(|_| Client::default()).collect(),
        }
    }

    async fn act(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Right(who, what, on) => {
                let namespace = ROWS.get(what).copied().unwrap_or_default();
                self.truth.set(namespace, USERS[who], on);
                if !on {
                    self.lost.insert((namespace.to_owned(), USERS[who].to_owned()), Instant::now());
                }
            }
            Step::Row(row, state) => {
                match state {
                    Some(state) => drop(self.rows.insert(ROWS[row], format!("s{state}"))),
                    None => drop(self.rows.remove(ROWS[row])),
                }
                for replica in &self.replicas {
                    publish(replica, ROWS[row], self.rows.get(ROWS[row]));
                }
            }
            Step::Observe(at) => self.observe(at),
            Step::Relist(at) => {
                self.observed[at] = self.truth.pairs();
                let pairs = self.truth.pairs();
                let pairs: Vec<_> = pairs.iter().map(|(one, other)| (&**one, &**other)).collect();
                crate::callers::testing::list(&self.replicas[at].callers, &pairs);
            }
            Step::Pass(time) => self.pass(Duration::from_millis(time)).await?,
            Step::Restart(at) => {
                for client in &mut self.clients {
                    client.watch = None;
                }
                let rows: Vec<_> = self.rows.keys().copied().collect();
                let replica = Replica::begun(self.started % 16, &rows, &self.truth, self.epoch);
                for (row, state) in &self.rows {
                    publish(&replica, row, Some(state));
                }
                (self.replicas[at], self.observed[at]) = (replica, self.truth.pairs());
                self.started += 1;
            }
            Step::List(who, at) => self.list(who, at).await?,
            Step::Watch(who, at) => self.watch(who, at).await?,
            Step::Read(who) => self.read(who, Duration::from_millis(20)).await?,
        }
        Ok(())
    }

    /// Takes in every binding that has changed.
    fn observe(&mut self, at: usize) {
        let (now, before) = (self.truth.pairs(), &self.observed[at]);
        let callers = &self.replicas[at].callers;
        for (namespace, user) in before.iter().filter(|pair| !now.contains(pair)) {
            bind(callers, namespace, user, false);
        }
        for (namespace, user) in now.iter().filter(|pair| !before.contains(pair)) {
            bind(callers, namespace, user, true);
        }
        self.observed[at] = now;
    }

    /// Bindings are observed after twenty seconds at the latest, or the replica would not be ready.
    async fn pass(&mut self, mut time: Duration) -> Result<(), TestCaseError> {
        while !time.is_zero() {
            let part = time.min(Duration::from_secs(4));
            time -= part;
            tokio::time::sleep(part).await;
            for who in 0..USERS.len() {
                self.read(who, Duration::from_millis(20)).await?;
            }
            if time.as_secs() % 20 < 4 {
                (0..2).for_each(|at| self.observe(at));
            }
            self.replicas.iter().for_each(|replica| hear(&replica.callers));
        }
        Ok(())
    }

    /// Whether a user was allowed to see a row not long ago.
    fn may_show(&self, row: &str, user: &str) -> bool {
        let lately = |namespace: &str| {
            let lost = self.lost.get(&(namespace.to_owned(), user.to_owned()));
            lost.is_some_and(|lost| lost.elapsed() < STALE)
        };
        self.truth.allows(row, user) || lately(row) || lately("")
    }

    async fn list(&mut self, who: usize, at: usize) -> Result<(), TestCaseError> {
        let list = self.replicas[at].list(USERS[who], &[]).await;
        for name in names(&list) {
            prop_assert!(self.may_show(&name, USERS[who]), "{} is shown {name}", USERS[who]);
        }
        let items = list["items"].as_array().unwrap().iter();
        let rows = items.map(|item| (text(item, "/metadata/name"), text(item, "/status/state"))).collect();
        self.clients[who] = Client { version: Some(version_of(&list)), rows, watch: None };
        Ok(())
    }

    async fn watch(&mut self, who: usize, at: usize) -> Result<(), TestCaseError> {
        if self.clients[who].version.is_none() {
            self.list(who, at).await?;
        }
        let version = self.clients[who].version.expect("listed").to_string();
        let parameters = [("resourceVersion", &*version), ("allowWatchBookmarks", "true")];
        self.clients[who].watch = Some(self.replicas[at].watch(USERS[who], &parameters).await);
        Ok(())
    }

    /// Reads until nothing comes for a while.
    async fn read(&mut self, who: usize, patience: Duration) -> Result<(), TestCaseError> {
        let Some(mut watch) = self.clients[who].watch.take() else { return Ok(()) };
        while let Ok(event) = timeout(patience, watch.next()).await {
            let Some(event) = event else { return Ok(()) };
            let (object, kind) = (&event["object"], event["type"].as_str().unwrap());
            if kind == "ERROR" {
                self.clients[who].version = None;
                return Ok(());
            }
            let name = text(object, "/metadata/name");
            let may_show = self.may_show(&name, USERS[who]);
            let client = &mut self.clients[who];
            client.version = Some(version_of(object));
            match kind {
                "BOOKMARK" => {}
                "DELETED" => drop(client.rows.remove(&name)),
                _ => {
                    prop_assert!(may_show, "{} is sent {event}", USERS[who]);
                    client.rows.insert(name, text(object, "/status/state"));
                }
            }
        }
        self.clients[who].watch = Some(watch);
        Ok(())
    }

    /// Everything is observed, every client gets time, and one whose watch has ended goes on.
    async fn settle(&mut self) -> Result<(), TestCaseError> {
        for round in 0..6 {
            (0..2).for_each(|at| self.observe(at));
            for who in 0..USERS.len() {
                if self.clients[who].watch.is_none() {
                    self.watch(who, (who + round) % 2).await?;
                }
                self.read(who, Duration::from_millis(500)).await?;
            }
            self.pass(Duration::from_secs(16)).await?;
        }
        pass(&[&self.replicas[0], &self.replicas[1]], Duration::from_secs(1)).await;
        for (who, user) in USERS.iter().enumerate() {
            let visible = self.rows.iter().filter(|(row, _)| self.truth.allows(row, user));
            let visible: BTreeMap<_, _> =
                visible.map(|(row, state)| ((*row).to_owned(), state.clone())).collect();
            prop_assert_eq!(&self.clients[who].rows, &visible, "{}", user);
            for replica in &self.replicas {
                let listed = names(&replica.list(user, &[]).await);
                prop_assert_eq!(listed, visible.keys().cloned().collect::<Vec<_>>(), "{} at {}", user, MINE);
            }
        }
        Ok(())
    }
}

fn publish(replica: &Replica, row: &str, state: Option<&String>) {
    if let Some(state) = state {
        replica.put(row, state);
    } else {
        let key = RowKey { namespace: "".into(), name: row.into() };
        replica.server.cache.publish([Update::Delete(key)]);
    }
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn cases() -> ProptestConfig {
    let cases = if std::env::var_os("GATEHOUSE_LONG").is_some() { 6_400 } else { 48 };
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_client_ends_with_what_its_user_may_see(steps in prop::collection::vec(step(), 1..60)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.act(step).await?;
            }
            world.settle().await
        })?;
    }
}
