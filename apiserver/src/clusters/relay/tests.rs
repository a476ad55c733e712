//! Tests of rows that another Gatehouse has rendered, from the views of that to the views here.

use gatehouse_inventory::{
    Event, GameNumbers, HistoryResult, Interner, Liveness, Mode, Record, State, source::Raw,
};
use serde_json::Value;

use super::{row::VIEWS, *};
use crate::{
    engine,
    views::tests::{
        APPLIED, HEALTHS, MINE, RESOURCES, USAGES, World,
        records::{entry, game, key, kustomization, namespace, quota},
        registered::{EU, registration},
    },
};

/// Objects with a row in every view that both ways to observe a cluster have.
fn records() -> Vec<Record> {
    let once = entry(1, "main@sha1:1", HistoryResult::Succeeded, [60, 60]);
    let numbers = GameNumbers { fleets: 1, desired: 3, ..GameNumbers::default() };
    vec![
        namespace("apps", Some("team-a")),
        kustomization("apps", "web").state(State::Failed, 5).build(),
        kustomization("apps", "api").depends_on(&["apps/web"]).history([once]).build(),
        game("Fleet.agones", "apps", "arena", numbers).build(),
        game("GameServer.agones", "apps", "arena-1", GameNumbers::default())
            .of_fleet("Fleet.agones", "arena")
            .build(),
    ]
}

impl World {
    fn sent(&mut self, event: Event) {
        engine::apply(&mut self.inventory, &mut self.views, (EU, event), self.now);
    }

    fn sent_of(&mut self, view: usize, notice: RowNotice) {
        self.sent(Event::Aside(Box::new(RemoteRows { view, notice })));
    }

    /// Lists all views of a Gatehouse.
    fn relays(&mut self, spoke: &World) {
        for (view, known) in VIEWS.iter().enumerate() {
            self.sent_of(view, RowNotice::Failing(false));
            self.sent_of(view, RowNotice::Restart);
            for place in spoke.names(known.resource.plural) {
                let object = spoke.object(known.resource.plural, &place);
                self.sent_of(view, RowNotice::Apply(row(view, &object)));
            }
            self.sent_of(view, RowNotice::Synced);
        }
        self.shows();
    }

    /// What a round of the engine does after its events, and its tick.
    fn shows(&mut self) {
        self.views.flush();
        self.update();
        self.inventory.tick(self.now);
        self.views.tick(&self.inventory, self.now);
        self.update();
    }

    /// A hub whose cluster `eu` is observed through its Gatehouse.
    fn hub(spoke: &World) -> Self {
        let mut world = Self::with([]);
        world.sent(registration(None));
        world.hear(EU);
        world.sent(Event::Mode(Mode::Views));
        world.relays(spoke);
        world
    }

    /// All rows of `eu`, without their versions.
    fn rows(&self, plural: &str) -> Vec<Value> {
        let rows = self.names(plural).into_iter().map(|place| self.object(plural, &place));
        let of_eu = rows.filter(|row| row["metadata"]["labels"]["gatehouse.dev/cluster"] == "eu");
        let without = |mut row: Value| {
            row["metadata"]["resourceVersion"].take();
            row
        };
        of_eu.map(without).collect()
    }
}

fn row(view: usize, object: &Value) -> crate::views::RemoteRow {
    let raw: Raw = serde_json::from_str(&object.to_string()).unwrap();
    let key = VIEWS[view].key(&raw, "local", "eu").unwrap();
    VIEWS[view].row(raw.json(), key, "local", &"eu".into(), &Interner::default()).unwrap().unwrap()
}

fn view(plural: &str) -> usize {
    VIEWS.iter().position(|view| view.resource.plural == plural).unwrap()
}

#[test]
fn every_row_is_that_of_direct_mode() {
    let mut direct = World::with([]);
    direct.register(records());
    let hub = World::hub(&World::with(records()));
    for known in &VIEWS {
        let plural = known.resource.plural;
        if plural != HEALTHS {
            assert_eq!(hub.rows(plural), direct.rows(plural), "{plural}");
        }
    }
    let [row, other] = [&hub, &direct].map(|world| world.status_of(HEALTHS, "/eu"));
    for field in ["health", "layers", "problems", "reason", "version", "origin", "credentialExpiresTime"] {
        assert_eq!(row[field], other[field], "{field}");
    }
    assert_eq!((&row["mode"], &other["mode"]), (&"views".into(), &"direct".into()));
    assert_eq!(hub.names(MINE), ["/apps.eu"]);
}

#[test]
fn quotas_have_the_name_of_their_cluster_and_those_of_the_hub_come_first() {
    let limits = [("gameservers", Some("7"), "8")];
    let of_both = |name: &str| quota(name, &limits).share("apps", &[Some("7")], &[]).build();
    let spoke = World::with([of_both("arena"), of_both("taken")]);
    let mut hub = World::with([of_both("eu.taken")]);
    hub.sent(registration(None));
    hub.hear(EU);
    hub.sent(Event::Mode(Mode::Views));
    hub.relays(&spoke);
    assert_eq!(hub.names(USAGES), ["/eu.arena", "/eu.taken"]);
    assert_eq!(hub.names(APPLIED), ["apps/eu.arena", "apps/eu.taken"]);
    assert_eq!(hub.status_of(USAGES, "/eu.taken")["cluster"], "local");
    assert_eq!(hub.status_of(APPLIED, "apps/eu.arena")["cluster"], "eu");
    hub.sent(Event::Removed);
    hub.shows();
    assert_eq!(
        (hub.names(USAGES), hub.names(APPLIED)),
        (vec!["/eu.taken".into()], vec!["apps/eu.taken".into()])
    );
}

#[test]
fn a_change_of_mode_changes_no_row_that_both_have() {
    let mut hub = World::with([]);
    hub.register(records());
    let versions = |hub: &World| VIEWS.each_ref().map(|view| hub.versions(view.resource.plural));
    let before = versions(&hub);
    hub.sent(Event::Mode(Mode::Views));
    hub.shows();
    let is_same = |now: &[Vec<(String, u64)>], before: &[Vec<(String, u64)>]| {
        // The row of the cluster says how it is observed.
        now.iter().zip(before).enumerate().all(|(at, (now, before))| now == before || at == view(HEALTHS))
    };
    assert!(is_same(&versions(&hub), &before), "nothing is deleted before there is something else");

    // Meanwhile an object was deleted, and one created.
    let mut now = records();
    now[2] = kustomization("apps", "new").build();
    hub.relays(&World::with(now.clone()));
    let names = ["apps/eu.kustomization.new", "apps/eu.kustomization.web"];
    assert_eq!(hub.names(RESOURCES), names);
    let shown = versions(&hub);
    let find =
        |rows: &[Vec<(String, u64)>]| rows[view(RESOURCES)].iter().find(|row| row.0 == names[1]).cloned();
    assert_eq!(find(&shown), find(&before), "it did not change");

    hub.sent(Event::Mode(Mode::Direct));
    hub.shows();
    assert_eq!(hub.names(RESOURCES), names, "its objects are not listed yet");
    hub.register(now);
    hub.shows();
    assert!(is_same(&versions(&hub), &shown));
    hub.remote(Event::Delete(key(crate::views::tests::kind("Kustomization"), "apps", "new")));
    hub.shows();
    assert_eq!(hub.names(RESOURCES), names[1..], "they give the rows again");
}

#[test]
fn a_relist_deletes_what_is_gone_and_a_removed_cluster_leaves_nothing() {
    let mut hub = World::hub(&World::with(records()));
    hub.relays(&World::with(records().split_off(3)));
    assert_eq!(hub.names(RESOURCES), [""; 0]);
    hub.relays(&World::with(records()));
    let names = hub.names(RESOURCES);
    assert_eq!(names.len(), 2);
    // A list that does not end deletes nothing.
    hub.sent_of(view(RESOURCES), RowNotice::Restart);
    hub.shows();
    assert_eq!(hub.names(RESOURCES), names);
    hub.sent(Event::Removed);
    hub.shows();
    for known in &VIEWS {
        assert_eq!(hub.rows(known.resource.plural), [Value::Null; 0], "{}", known.resource.plural);
    }
    hub.sent_of(view(RESOURCES), RowNotice::Synced);
    hub.sent(registration(None));
    hub.shows();
    assert_eq!(hub.rows(RESOURCES), [Value::Null; 0]);
}

#[test]
fn rows_of_a_silent_cluster_are_stale_until_it_answers() {
    let spoke = World::with(records());
    let mut hub = World::hub(&spoke);
    let fresh = |hub: &World| {
        let (status, reason, _) = hub.condition(RESOURCES, "apps/eu.kustomization.web", "Fresh");
        (status, reason)
    };
    let said = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    assert_eq!(fresh(&hub), said("True", "Observed"));
    hub.now += 60;
    hub.sent(Event::Liveness(Liveness::Silent { message: "no route to host".into() }));
    hub.shows();
    assert_eq!(fresh(&hub), said("False", "ClusterSilent"));
    assert_eq!(hub.cell(HEALTHS, "/eu", "Fresh"), "False");
    // A row that arrives all the same is not known to be current.
    let object = spoke.object(RESOURCES, "apps/local.kustomization.web");
    hub.sent_of(view(RESOURCES), RowNotice::Apply(row(view(RESOURCES), &object)));
    hub.shows();
    assert_eq!(fresh(&hub), said("False", "ClusterSilent"));
    hub.hear(EU);
    hub.shows();
    assert_eq!(fresh(&hub), said("True", "Observed"));

    hub.sent_of(view(RESOURCES), RowNotice::Failing(true));
    hub.now += 31;
    hub.hear(EU);
    hub.shows();
    assert_eq!(fresh(&hub), said("False", "WatchFailing"));
    hub.sent_of(view(RESOURCES), RowNotice::Failing(false));
    hub.shows();
    assert_eq!(fresh(&hub), said("True", "Observed"));
}

#[test]
fn what_is_missing_stands_in_the_row_of_the_cluster() {
    let mut hub = World::hub(&World::with(records()));
    hub.sent(Event::Lacks(vec!["gamefleets: its Gatehouse has no such view".into()]));
    hub.shows();
    let row = hub.status_of(HEALTHS, "/eu");
    assert_eq!(row["warnings"][0], "gamefleets: its Gatehouse has no such view");
    assert_eq!(hub.object(HEALTHS, "/eu")["metadata"]["name"], "eu");
}
