//! Tests of remote clusters: what their rows are, what they say of the registration, and that they go.

use gatehouse_inventory::{HistoryResult, Mode, Refusal, Registration, State};
use serde_json::json;

use super::{
    applications::application,
    records::{entry, game, key, kustomization},
    *,
};

pub(crate) const EU: ClusterId = ClusterId(1);
const VIEWS: [&str; 11] = [
    SUMMARIES,
    RESOURCES,
    DEPENDENCIES,
    HISTORIES,
    HEALTHS,
    GAMES,
    PROBLEMS,
    FLEETS,
    INSTANCES,
    ARGO,
    APPLICATIONS,
];

pub(crate) fn registration(refused: Option<Refusal>) -> Event {
    Event::Registered(Box::new(Registration {
        name: "eu".into(),
        origin: "Secret gatehouse-clusters/eu".into(),
        refused,
        expires: Some(NOW + 3_600),
        mode: Mode::Direct,
    }))
}

impl World {
    /// Applies an event of the cluster `eu`.
    pub(crate) fn remote(&mut self, event: Event) {
        self.inventory.apply(EU, event, self.now);
    }

    /// Registers the cluster `eu`, which answers, and has these records.
    pub(crate) fn register(&mut self, records: impl IntoIterator<Item = Record>) {
        self.remote(registration(None));
        self.hear(EU);
        for (kind, _) in CATALOGUE.kinds() {
            self.remote(Event::Kind(kind, KindStatus::Served { version: "v1".into() }));
            self.remote(Event::Restart(kind));
        }
        for record in records {
            self.remote(Event::Apply(Box::new(record)));
        }
        for (kind, _) in CATALOGUE.kinds() {
            self.remote(Event::Synced(kind));
        }
        self.update();
    }
}

fn failed(name: &str) -> Record {
    kustomization("apps", name).state(State::Failed, 5).build()
}

fn eu(names: Vec<String>) -> Vec<String> {
    names
        .into_iter()
        .filter(|name| name.split('/').nth(1).is_some_and(|name| name.starts_with("eu")))
        .collect()
}

#[test]
fn a_remote_cluster_has_rows_of_its_own_until_it_is_removed() {
    let mut world = World::with([kustomization("apps", "web").build()]);
    let before = VIEWS.map(|view| world.versions(view));
    let once = entry(1, "main@sha1:1", HistoryResult::Succeeded, [60, 60]);
    let numbers = gatehouse_inventory::GameNumbers { fleets: 1, ..Default::default() };
    world.register([
        failed("web"),
        kustomization("apps", "api").depends_on(&["apps/web"]).history([once]).build(),
        game("Fleet.agones", "apps", "arena", numbers).build(),
        game("GameServer.agones", "apps", "arena-1", gatehouse_inventory::GameNumbers::default())
            .of_fleet("Fleet.agones", "arena")
            .build(),
        application("shop", |_| {}).build(),
    ]);
    for view in VIEWS {
        assert!(!eu(world.names(view)).is_empty(), "{view}");
    }
    assert_eq!(eu(world.names(SUMMARIES)), ["apps/eu"]);
    assert_eq!(eu(world.names(RESOURCES)), ["apps/eu.kustomization.api", "apps/eu.kustomization.web"]);
    assert_eq!(
        world.object(RESOURCES, "apps/eu.kustomization.web")["metadata"]["labels"]["gatehouse.dev/cluster"],
        "eu"
    );
    assert_ne!(
        world.object(RESOURCES, "apps/eu.kustomization.web")["metadata"]["uid"],
        world.object(RESOURCES, "apps/local.kustomization.web")["metadata"]["uid"],
    );
    assert_eq!(eu(world.names(PROBLEMS)), ["apps/eu.kustomization.web"]);
    assert_eq!(eu(world.names(HISTORIES)), ["apps/eu.kustomization.api.000000000001"]);
    let local = |world: &World| {
        VIEWS.map(|view| {
            world.versions(view).into_iter().filter(|(name, _)| !name.contains("eu")).collect::<Vec<_>>()
        })
    };
    assert_eq!(local(&world), before, "no other row is touched");

    world.remote(Event::Removed);
    world.update();
    for view in VIEWS {
        assert_eq!(eu(world.names(view)), [""; 0], "{view}");
    }
    world.remote(Event::Apply(Box::new(failed("late"))));
    world.update();
    assert_eq!(local(&world), before);
    world.pass(100);
    assert_eq!(eu(world.names(RESOURCES)), [""; 0], "what a stopped source says is ignored");
}

#[test]
fn a_cluster_that_is_registered_again_shows_what_there_is_now() {
    let mut world = World::with([]);
    world.register([failed("web"), failed("api")]);
    // Both in one round of the engine.
    world.remote(Event::Removed);
    world.register([kustomization("apps", "web").build()]);
    assert_eq!(eu(world.names(RESOURCES)), ["apps/eu.kustomization.web"]);
    assert_eq!(world.cell(RESOURCES, "apps/eu.kustomization.web", "State"), "Ready");
    assert_eq!(eu(world.names(PROBLEMS)), [""; 0]);
    assert_eq!(world.cell(HEALTHS, "/eu", "Health"), "Healthy");
}

#[test]
fn a_silent_cluster_keeps_its_rows_and_says_since_when() {
    let mut world = World::with([]);
    world.register([failed("web")]);
    assert_eq!(world.cell(HEALTHS, "/eu", "Last-Heard"), "");
    world.now += 60;
    world.remote(Event::Liveness(Liveness::Silent { message: "no route to host".into() }));
    world.pass(0);
    assert_eq!(world.cell(HEALTHS, "/eu", "Reachable"), "False");
    assert_eq!(world.cell(HEALTHS, "/eu", "Fresh"), "False");
    assert_eq!(world.cell(HEALTHS, "/eu", "Last-Heard"), "60s");
    assert_eq!(world.condition(HEALTHS, "/eu", "Authenticated").0, "Unknown");
    assert_eq!(eu(world.names(RESOURCES)), ["apps/eu.kustomization.web"]);
    assert_eq!(world.condition(RESOURCES, "apps/eu.kustomization.web", "Fresh").0, "False");
    world.delete(&key(kind("Kustomization"), "apps", "none"));
    assert_eq!(
        world.cell(HEALTHS, "/local", "Fresh"),
        "False",
        "nobody has heard from it either, in this test"
    );
}

#[test]
fn a_refused_credential_is_not_taken_for_silence() {
    let mut world = World::with([]);
    world.register([]);
    world.remote(Event::Liveness(Liveness::Unauthenticated { message: "Unauthorized".into() }));
    world.update();
    assert_eq!(world.cell(HEALTHS, "/eu", "Reachable"), "True");
    let (status, reason, _) = world.condition(HEALTHS, "/eu", "Authenticated");
    assert_eq!((&*status, &*reason), ("False", "CredentialRefused"));
    assert_eq!(world.cell(HEALTHS, "/eu", "Health"), "Unknown");
    assert_eq!(world.cell(HEALTHS, "/eu", "Reason"), "credential refused: Unauthorized");
}

#[test]
fn a_refused_registration_names_the_field() {
    let mut world = World::with([]);
    let message = "users[0].user.exec: would run a program";
    world.remote(registration(Some(Refusal { reason: "InvalidKubeconfig".into(), message: message.into() })));
    world.remote(Event::Ignored(vec!["Secret x/y: metadata.labels: is taken".into()]));
    world.update();
    let (status, reason, since) = world.condition(HEALTHS, "/eu", "Registered");
    assert_eq!((&*status, &*reason, since), ("False", "InvalidKubeconfig", NOW));
    let row = world.status_of(HEALTHS, "/eu");
    assert_eq!(row["reason"], format!("refused: {message}"));
    assert_eq!((&row["health"], &row["mode"]), (&json!("Unknown"), &Value::Null));
    assert_eq!(row["origin"], "Secret gatehouse-clusters/eu");
    assert_eq!(row["credentialExpiresTime"], "2026-03-01T01:00:00Z");
    assert_eq!(row["warnings"], json!(["ignored: Secret x/y: metadata.labels: is taken"]));
    assert_eq!(world.cell(HEALTHS, "/eu", "Reachable"), "Unknown", "nobody asked");
    let local = world.status_of(HEALTHS, "/local");
    assert_eq!((&local["origin"], &local["mode"]), (&Value::Null, &Value::Null));
}
