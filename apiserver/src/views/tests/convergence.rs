//! Properties: the rows depend only on the current objects, not on the order of events that led to them.

use gatehouse_inventory::{
    Application, Culprit, Detail, GameNumbers, GameServer, HistoryResult, Layer, PartialSum, Role, State,
};
use proptest::prelude::*;

use super::{
    records::{entry, key, namespace, node, object, quota},
    trees::tree_of,
    *,
};

/// An event. There are few objects, so that events often concern the same ones.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are forty of them")]
enum Happening {
    Apply {
        kind: usize,
        place: usize,
        state: usize,
        outcome: usize,
        depends_on: Vec<(usize, usize)>,
        source: Option<(usize, usize)>,
        chart: Option<usize>,
        makes: Vec<(usize, usize)>,
        waits_for: Option<u8>,
        words: usize,
        owner: Option<(usize, usize)>,
        manager: Option<(usize, usize)>,
        uses: Vec<(usize, usize)>,
        applied: Vec<usize>,
        history: Vec<(u64, bool)>,
    },
    Delete {
        kind: usize,
        place: usize,
    },
    Tenant {
        namespace: usize,
        tenant: Option<u8>,
    },
    Node {
        name: usize,
        version: u8,
        state: usize,
    },
    Status {
        kind: usize,
        status: u8,
    },
    Relist {
        kind: usize,
    },
    Update,
    Round {
        steps: usize,
        rows: usize,
    },
}

/// Kinds that depend on each other and are sources of each other; the first [`FLUX`] are Flux's.
const KINDS: [&str; 16] = [
    "Kustomization",
    "HelmRelease",
    "HelmChart",
    "HelmRepository",
    "Deployment",
    "Fleet.agones",
    "GameServer.agones",
    "GameServer.game.kruise",
    "GameServerSet.game.kruise",
    "TenantQuota",
    "Pod",
    "ExternalSecret",
    "SecretStore",
    "Application",
    "Job",
    "AppProject",
];
/// How many of [`KINDS`] are Flux's.
const FLUX: usize = 4;
/// Reasons and messages that the search for the root cause evaluates.
const WORDS: [(&str, &str); 7] = [
    ("ArtifactFailed", "not found"),
    ("SourceNotReady", "does not have an artifact"),
    ("BuildFailed", "no such file"),
    ("DependencyNotReady", "dependency is not ready according to readyExpr eval"),
    ("Progressing", ""),
    ("HealthCheckFailed", "timeout waiting for: [Deployment/apps/a status: 'InProgress']"),
    ("Degraded", ""),
];
const PLACES: [(&str, &str); 4] = [("apps", "a"), ("apps", "b"), ("infra", "a"), ("infra", "c")];
const NAMESPACES: [&str; 3] = ["apps", "infra", "kube-system"];

fn happening() -> impl Strategy<Value = Happening> {
    let (kind, place, state) = (0..KINDS.len(), 0..PLACES.len(), 0..State::ALL.len());
    let other = || (0..FLUX, 0..PLACES.len());
    let any = || (0..KINDS.len(), 0..PLACES.len());
    prop_oneof![
        8 => (
            kind.clone(), place.clone(), state.clone(), state.clone(),
            prop::collection::vec(other(), 0..3), prop::option::of(other()),
            prop::option::weighted(0.2, 0..PLACES.len()), prop::collection::vec(other(), 0..2),
            prop::option::of(0..3_u8), 0..WORDS.len(),
            (prop::option::of(any()), prop::option::of(other()), prop::collection::vec(any(), 0..3),
                prop::collection::vec(0..4_usize, 0..3), prop::collection::vec((0..4_u64, prop::bool::ANY), 0..4)),
        ).prop_map(|(kind, place, state, outcome, depends_on, source, chart, makes, waits_for, words, below)| {
            let (owner, manager, uses, applied, history) = below;
            Happening::Apply {
                kind, place, state, outcome, depends_on, source, chart, makes, waits_for, words, owner, manager, uses,
                applied, history,
            }
        }),
        3 => (kind.clone(), place).prop_map(|(kind, place)| Happening::Delete { kind, place }),
        1 => (0..NAMESPACES.len(), prop::option::of(0..2_u8))
            .prop_map(|(namespace, tenant)| Happening::Tenant { namespace, tenant }),
        1 => (0..2_usize, 0..2_u8, state)
            .prop_map(|(name, version, state)| Happening::Node { name, version, state }),
        2 => (kind.clone(), 0..4_u8).prop_map(|(kind, status)| Happening::Status { kind, status }),
        1 => kind.prop_map(|kind| Happening::Relist { kind }),
        4 => Just(Happening::Update),
        4 => (0..20_usize, 0..4_usize).prop_map(|(steps, rows)| Happening::Round { steps, rows }),
    ]
}

fn id(at: usize) -> gatehouse_inventory::catalogue::KindId {
    kind(KINDS[at])
}

fn place_key((kind, place): (usize, usize)) -> ObjectKey {
    let (namespace, name) = PLACES[place];
    let namespaced = CATALOGUE.kind(id(kind)).namespaced;
    key(id(kind), if namespaced { namespace } else { "" }, name)
}

/// A resource of an Application that has failed.
fn culprit(place: usize) -> Culprit {
    let kind = KINDS.iter().position(|kind| *kind == "Deployment").expect("one of them");
    Culprit {
        kind: "Deployment".into(),
        namespace: "apps".into(),
        name: "a".into(),
        reason: "Degraded".into(),
        message: "".into(),
        object: Some(place_key((kind, place % PLACES.len()))),
    }
}

/// The detail that only some kinds have, with numbers derived from the arguments.
fn detail(kind: usize, state: usize, outcome: usize, reports: bool) -> Option<Detail> {
    let number = |at: usize| i64::try_from(at).unwrap();
    if let Some(game) = CATALOGUE.kind(id(kind)).game {
        let numbers = GameNumbers {
            fleets: number(outcome % 2),
            desired: number(outcome),
            ready: number(state) - 1,
            missing: number(outcome / 2),
            players: PartialSum::new(reports.then_some(number(state))),
            ..GameNumbers::default()
        };
        let fleet = super::kind(["Fleet.agones", "GameServerSet.game.kruise"][state % 2]);
        return Some(match game.role {
            Role::Group => Detail::Game(Box::new(numbers)),
            Role::Server => Detail::GameServer(Box::new(GameServer {
                numbers: reports.then(|| Box::new(numbers)),
                fleet: Some((fleet, PLACES[outcome % PLACES.len()].1.into())),
                ..GameServer::default()
            })),
        });
    }
    if CATALOGUE.kind(id(kind)).is_application() {
        let words = |words: [&str; 4], at: usize| words[at % 4].into();
        return Some(Detail::Application(Box::new(Application {
            sync: words(["Synced", "OutOfSync", "Unknown", ""], state),
            health: words(["Healthy", "Degraded", "Missing", "?"], outcome),
            drifted: u32::from(reports),
            culprit: state.is_multiple_of(3).then(|| Box::new(culprit(outcome))),
            ..Application::default()
        })));
    }
    CATALOGUE.kind(id(kind)).is_tenant_quota().then(|| {
        let used = reports.then(|| state.to_string());
        quota("", &[("players", used.as_deref(), &outcome.to_string()), ("a", Some("1"), "7")])
            .share(NAMESPACES[state % 2], &[None, Some("1")], &[])
            .build()
            .detail
    })
}

fn record(happening: &Happening) -> Option<Record> {
    match happening {
        Happening::Apply {
            kind,
            place,
            state,
            outcome,
            depends_on,
            source,
            chart,
            makes,
            waits_for,
            words,
            owner,
            manager,
            uses,
            applied,
            history,
        } => {
            let since = i64::try_from(state * 10 + place).unwrap();
            let place = place_key((*kind, *place));
            let mut builder =
                object(place.kind, &place.namespace, &place.name).state(State::ALL[*state], since);
            if matches!(State::ALL[*state], State::Progressing | State::Suspended) {
                builder = builder.last_outcome(State::ALL[*outcome]);
            }
            // Two of them are objects that there may be.
            let ids = applied.iter().map(|n| match n {
                0 => "apps_a_apps_Deployment".to_owned(),
                1 => "apps_b_argoproj.io_Application".to_owned(),
                n => format!("apps_a{n}_apps_Deployment"),
            });
            let ids: Vec<_> = ids.collect();
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            if *kind < FLUX {
                let references =
                    depends_on.iter().map(|other| gatehouse_inventory::Reference::Known(place_key(*other)));
                builder = builder.depends_on_any(references.collect());
                if let Some(source) = source {
                    builder = builder.source(place_key(*source));
                }
                let makes = makes.iter().map(|made| place_key(*made)).collect();
                builder = builder.links(chart.map(|place| place_key((2, place))), makes, *waits_for);
                builder = builder.words(WORDS[*words].0, WORDS[*words].1);
                if *words == 2 {
                    builder = builder.elsewhere();
                }
                let entries = history.iter().map(|(id, succeeded)| {
                    let result = if *succeeded { HistoryResult::Succeeded } else { HistoryResult::Failed };
                    entry(*id, &format!("r{id}"), result, [since, 1])
                });
                builder = builder.history(entries);
                builder = builder.applied(&ids);
            }
            // Circles of owners, managers and uses are among them.
            builder = owner.map_or(builder.clone(), |owner| builder.owned_by(place_key(owner)));
            builder = manager.map_or(builder.clone(), |manager| builder.managed_by(place_key(manager)));
            if KINDS[*kind] == "Application" {
                builder = builder.words(WORDS[*words].0, WORDS[*words].1);
                builder = builder.uses(uses.iter().map(|used| place_key(*used))).applied(&ids);
            } else if *kind >= FLUX && !uses.is_empty() {
                builder = builder.uses(uses.iter().map(|used| place_key(*used)));
            }
            let mut record = builder.build();
            if let Some(mut detail) = detail(*kind, *state, *outcome, source.is_some()) {
                if let (Detail::Application(application), Detail::Linked(links)) =
                    (&mut detail, &record.detail)
                {
                    application.links = Some(links.clone());
                    let project = key(super::kind("AppProject"), &record.key.namespace, "a");
                    application.project_object = Some(project);
                }
                record.detail = detail;
            }
            Some(record)
        }
        Happening::Tenant { namespace: at, tenant } => {
            let tenant = tenant.map(|tenant| format!("team-{tenant}"));
            Some(namespace(NAMESPACES[*at], tenant.as_deref()))
        }
        Happening::Node { name, version, state } => {
            let node = node(&format!("n{name}"), &format!("v1.3{version}.0"));
            Some(node.state(State::ALL[*state], 5).build())
        }
        _ => None,
    }
}

/// Changes the status of a kind, with the events that a source would send.
fn status(world: &mut World, kind: gatehouse_inventory::catalogue::KindId, status: u8) {
    let message = "so it is";
    match status {
        0 => {
            world.event(Event::Restart(kind));
            world.event(Event::Synced(kind));
            world.event(Event::Kind(kind, KindStatus::Absent));
        }
        1 => world.event(Event::Kind(kind, KindStatus::Forbidden { message: message.into() })),
        2 => world.event(Event::Kind(kind, KindStatus::Failing { message: message.into() })),
        _ => world.event(Event::Kind(kind, KindStatus::Served { version: "v1".into() })),
    }
}

fn happen(world: &mut World, happening: &Happening) {
    world.now += 1;
    world.hear(LOCAL);
    if let Some(record) = record(happening) {
        world.event(Event::Apply(Box::new(record)));
        return;
    }
    match happening {
        Happening::Delete { kind, place } => world.event(Event::Delete(place_key((*kind, *place)))),
        Happening::Status { kind, status: to } => status(world, id(*kind), *to),
        Happening::Relist { kind } => {
            let known =
                world.inventory.cluster(LOCAL).records().filter(|record| record.key.kind == id(*kind));
            let known: Vec<_> = known.cloned().collect();
            world.event(Event::Restart(id(*kind)));
            world.events(known.into_iter().map(|record| Event::Apply(Box::new(record))));
            world.event(Event::Synced(id(*kind)));
        }
        Happening::Update => drop(world.update()),
        Happening::Round { steps, rows } => world.round(*steps, *rows),
        _ => {}
    }
}

/// The content of all rows without their versions and the times at which changes were observed.
fn rows(world: &World) -> Vec<(String, Value, Vec<Value>)> {
    let mut all = Vec::new();
    for cache in world.views.caches() {
        for row in cache.snapshot().rows.iter() {
            let mut object = object_of(cache.resource, row);
            object["metadata"]["resourceVersion"].take();
            object["status"]["lastObservedTime"].take();
            for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
                condition["lastTransitionTime"].take();
            }
            all.push((format!("{} {:?}", cache.resource.plural, row.key()), object, cells(row, NOW)));
        }
    }
    all
}

/// A new process with the objects of this inventory.
fn restarted(world: &World) -> World {
    let mut fresh = World::of(&["local"]);
    fresh.now = world.now;
    fresh.hear(LOCAL);
    let cluster = world.inventory.cluster(LOCAL);
    for (kind, _) in CATALOGUE.kinds() {
        let status = cluster.kind_status(kind).expect("every kind was told of").clone();
        fresh.event(Event::Restart(kind));
        fresh.event(Event::Kind(kind, status));
    }
    for record in cluster.records() {
        let mut record = record.clone();
        // No use here changes a verdict, so that the own one is that which followed from earlier ones.
        let links = match &mut record.detail {
            Detail::Linked(links) => Some(links),
            Detail::Application(application) => application.links.as_mut(),
            _ => None,
        };
        if let Some(links) = links {
            links.own = record.verdict.clone();
        }
        fresh.event(Event::Apply(Box::new(record)));
    }
    for (kind, _) in CATALOGUE.kinds() {
        if cluster.is_settled(kind) {
            fresh.event(Event::Synced(kind));
        }
    }
    fresh.update();
    fresh
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn rows_kept_up_change_by_change_are_those_rendered_from_scratch(
        happenings in prop::collection::vec(happening(), 1..40)
    ) {
        let mut world = World::with([]);
        for happening in &happenings {
            happen(&mut world, happening);
        }
        world.update();
        // A kind that is still being listed would keep the new process from syncing.
        for at in 0..KINDS.len() {
            if !world.inventory.cluster(LOCAL).is_settled(id(at)) {
                happen(&mut world, &Happening::Relist { kind: at });
            }
        }
        world.update();
        let fresh = restarted(&world);
        prop_assert!(fresh.cache(HEALTHS).is_synced());
        let (live, scratch) = (rows(&world), rows(&fresh));
        prop_assert_eq!(live.len(), scratch.len());
        for (live, scratch) in live.into_iter().zip(scratch) {
            prop_assert_eq!(live, scratch);
        }
        for place in world.names(RESOURCES) {
            let [live, scratch] = [&world, &fresh].map(|world| tree_of(world, &place));
            prop_assert!(live.is_some());
            prop_assert_eq!(live, scratch, "{}", place);
        }
    }

    #[test]
    fn counts_add_up_however_things_changed(happenings in prop::collection::vec(happening(), 1..40)) {
        let mut world = World::with([]);
        for happening in &happenings {
            happen(&mut world, happening);
        }
        world.update();
        let cluster = world.inventory.cluster(LOCAL);
        let flux = cluster.records().filter(|record| CATALOGUE.kind(record.key.kind).is_flux()).count();
        let summed: u64 = world.names(SUMMARIES).iter()
            .map(|place| world.status_of(SUMMARIES, place)["total"].as_u64().unwrap()).sum();
        prop_assert_eq!(u64::try_from(flux).unwrap(), summed);
        prop_assert_eq!(world.names(RESOURCES).len(), flux);
        let counted = cluster.layer(Layer::Flux).counts().total();
        prop_assert_eq!(u64::from(counted), summed);

        let games = |record: &&Record| CATALOGUE.kind(record.key.kind).game.is_some();
        let games: Vec<_> = cluster.records().filter(games).collect();
        let rows: Vec<_> = world.names(GAMES).iter().map(|place| world.status_of(GAMES, place)).collect();
        let kinds = rows.iter().flat_map(|row| row["kinds"].as_array().unwrap());
        let objects: u64 = kinds.map(|kind| kind["total"].as_u64().unwrap()).sum();
        prop_assert_eq!(u64::try_from(games.len()).unwrap(), objects);
        let desired: i64 = games.iter().filter_map(|record| record.game()).map(|game| game.desired).sum();
        prop_assert_eq!(desired, rows.iter().map(|row| row["desired"].as_i64().unwrap()).sum::<i64>());
        let players = games.iter().filter_map(|record| record.game()?.players.get()).sum::<i64>();
        prop_assert_eq!(players, rows.iter().filter_map(|row| row["players"].as_i64()).sum::<i64>());
    }
}
