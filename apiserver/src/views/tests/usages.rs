//! Tests of the rows of `tenantusages`.

use gatehouse_inventory::State;
use serde_json::json;

use super::{
    records::{key, quota},
    *,
};

const ROW: &str = "/arena";

fn cell(world: &World, column: &str) -> Value {
    world.cell(USAGES, ROW, column)
}

/// The cells `Tightest` and `Used` of a quota with these limits: name, used, hard.
fn reported(limits: &[(&str, Option<&str>, &str)]) -> [String; 2] {
    let world = World::with([quota("arena", limits).build()]);
    ["Tightest", "Used"].map(|column| cell(&world, column).as_str().unwrap().to_owned())
}

fn within(limits: &[(&str, Option<&str>, &str)]) -> [String; 3] {
    let world = World::with([quota("arena", limits).build()]);
    let conditions = world.status_of(USAGES, ROW)["conditions"].take();
    ["status", "reason", "message"].map(|field| conditions[1][field].as_str().unwrap().to_owned())
}

#[test]
fn the_tightest_limit_comes_first_whatever_its_unit() {
    let limits = [
        ("gameservers", Some("78"), "80"),
        ("players", Some("1200"), "2000"),
        ("requests.cpu", Some("63500m"), "64"),
        ("requests.memory", Some("128Gi"), "256Gi"),
    ];
    let [tightest, used] = reported(&limits);
    assert_eq!(tightest, "requests.cpu 63500m/64 (99%)", "rounded down");
    assert_eq!(
        used,
        "requests.cpu 63500m/64, gameservers 78/80, players 1200/2000, requests.memory 128Gi/256Gi"
    );
}

#[test]
fn groups_are_left_out_of_cells_where_names_are_told_apart_without_them() {
    let limits = [
        ("count/fleets.agones.dev", Some("3"), "4"),
        ("count/gameservers.agones.dev", Some("1"), "4"),
        ("count/gameservers.pteronimbus.io", Some("0"), "4"),
    ];
    let [tightest, used] = reported(&limits);
    assert_eq!(tightest, "count/fleets 3/4 (75%)");
    assert_eq!(
        used,
        "count/fleets 3/4, count/gameservers.agones.dev 1/4, count/gameservers.pteronimbus.io 0/4"
    );
}

#[test]
fn ratios_are_compared_exactly() {
    let large = [
        ("a", Some("9007199254740992"), "9007199254740994"),
        ("b", Some("9007199254740993"), "9007199254740994"),
    ];
    assert_eq!(reported(&large)[0], "b 9007199254740993/9007199254740994 (99%)");
    let same = [("b", Some("1"), "3"), ("a", Some("2"), "6")];
    assert_eq!(reported(&same)[0], "a 2/6 (33%)", "the name decides between equals");
}

#[test]
fn a_limit_of_zero_is_full_with_nothing_and_beyond_all_others_with_anything() {
    assert_eq!(reported(&[("a", Some("99"), "100"), ("b", Some("0"), "0")])[0], "b 0/0");
    assert_eq!(reported(&[("a", Some("101"), "100"), ("b", Some("0"), "0")])[0], "a 101/100 (101%)");
    assert_eq!(reported(&[("a", Some("500"), "100"), ("b", Some("1"), "0")])[0], "b 1/0");
    assert_eq!(within(&[("b", Some("0"), "0")])[0], "True");
    assert_eq!(within(&[("b", Some("1"), "0")]), ["False", "Overcommitted", "b 1/0"]);
}

#[test]
fn what_is_unknown_or_no_quantity_comes_last_and_is_never_zero() {
    let [tightest, used] = reported(&[
        ("a", None, "10"),
        ("b", Some("many"), "10"),
        ("c", Some("1"), "lots"),
        ("d", Some("1"), "10"),
    ]);
    assert_eq!(tightest, "d 1/10 (10%)");
    assert_eq!(used, "d 1/10, a ?/10, b many/10, c 1/lots");
    assert_eq!(within(&[("a", None, "10"), ("d", Some("1"), "10")]), ["Unknown", "UsageUnknown", "a ?/10"]);
    assert_eq!(
        within(&[("a", None, "10"), ("d", Some("11"), "10")])[0],
        "False",
        "what is known is told first"
    );
    assert_eq!(reported(&[("a", None, "10")])[0], "", "nothing is known to be tight");
}

#[test]
fn huge_and_negative_quantities_do_no_harm() {
    let huge = "9223372036854775807E";
    reported(&[
        ("a", Some(huge), huge),
        ("b", Some("1"), huge),
        ("c", Some(huge), "1"),
        ("d", Some("-5"), "-1"),
    ]);
    assert_eq!(reported(&[("a", Some("-5"), "10")])[0], "a -5/10 (0%)");
}

#[test]
fn the_tightest_limit_s_name_can_be_selected_by() {
    let world = World::with([quota("arena", &[("players", Some("9"), "10")]).build()]);
    assert_eq!(world.status_of(USAGES, ROW)["tightest"], "players");
    let snapshot = world.cache(USAGES).snapshot();
    let row = snapshot.rows.iter().next().unwrap();
    assert_eq!(row.fields(), ["players".into()]);
}

#[test]
fn what_was_refused_reserved_and_exceeded_is_told() {
    let world = World::with([quota("arena", &[("gameservers", Some("82"), "80")])
        .reserved("gameservers", "1")
        .overcommit("gameservers", "2")
        .denied(3, NOW - 300, "exceeded quota: arena")
        .build()]);
    let columns =
        ["Denied", "Namespaces", "Reserved", "Overcommit", "Enforcement", "Last-Denial", "Ready", "Fresh"];
    let expected = json!([3, 2, "gameservers 1", "gameservers 2", "Deny", "5m", "True", "True"]);
    assert_eq!(json!(columns.map(|column| cell(&world, column))), expected);
    assert_eq!(world.status_of(USAGES, ROW)["lastDenial"]["message"], "exceeded quota: arena");
}

#[test]
fn a_quota_s_own_readiness_is_told() {
    let limits = [("players", Some("9"), "10")];
    let ready = |state: State| {
        let world = World::with([quota("arena", &limits).state(state, 30).build()]);
        world.condition(USAGES, ROW, "Ready")
    };
    assert_eq!(ready(State::Ready), ("True".into(), "ReadyReason".into(), NOW - 30));
    assert_eq!(ready(State::Failed).0, "False");
    assert_eq!(ready(State::Pending).0, "Unknown", "no status yet");
}

#[test]
fn an_object_that_could_not_be_read_has_a_row_that_says_so() {
    let mut record = quota("arena", &[]).state(State::Unknown, 1).build();
    record.detail = gatehouse_inventory::Detail::None;
    let world = World::with([record]);
    assert_eq!(world.condition(USAGES, ROW, "Ready").0, "Unknown");
    assert_eq!(world.condition(USAGES, ROW, "WithinLimits").0, "Unknown");
    assert_eq!((cell(&world, "Enforcement"), cell(&world, "Namespaces")), (json!("Unknown"), Value::Null));
}

#[test]
fn rows_come_and_go_with_the_quotas_and_turn_when_limits_are_reached() {
    let mut world = World::with([quota("arena", &[("players", Some("9"), "10")]).build()]);
    world.now += 99;
    world.apply(quota("arena", &[("players", Some("11"), "10")]).build());
    assert_eq!(
        world.condition(USAGES, ROW, "WithinLimits"),
        ("False".into(), "Overcommitted".into(), NOW + 100)
    );
    world.now += 99;
    world.apply(quota("arena", &[("players", Some("12"), "10")]).build());
    assert_eq!(world.condition(USAGES, ROW, "WithinLimits").2, NOW + 100, "since then");
    world.apply(quota("league", &[("players", Some("1"), "10")]).build());
    assert_eq!(world.names(USAGES), ["/arena", "/league"]);
    world.delete(&key(kind("TenantQuota"), "", "arena"));
    assert_eq!(world.names(USAGES), ["/league"]);
}

#[test]
fn the_quotas_of_another_cluster_are_told_there() {
    let mut world = World::of(&["local", "edge"]);
    for cluster in [LOCAL, ClusterId(1)] {
        for (id, _) in CATALOGUE.kinds() {
            world.inventory.apply(cluster, Event::Kind(id, KindStatus::Absent), NOW);
        }
    }
    let record = Box::new(quota("arena", &[("players", Some("9"), "10")]).build());
    world.inventory.apply(ClusterId(1), Event::Apply(record), NOW);
    world.update();
    assert!(world.cache(USAGES).is_synced());
    assert_eq!(world.names(USAGES), [""; 0]);
}

#[test]
fn quotas_that_may_not_be_read_are_a_warning_of_the_cluster_s() {
    let mut world = World::with([]);
    world.status(kind("TenantQuota"), KindStatus::Forbidden { message: "no".into() });
    let warnings = world.status_of(HEALTHS, "/local")["warnings"].take();
    assert_eq!(warnings, json!(["tenantquotas may not be read: their usage is unknown"]));
    assert_eq!(world.cell(HEALTHS, "/local", "Health"), "Healthy");
}

/// A Kustomization as its controller writes it, whose Ready condition says so.
fn tried(name: &str, status: &str, message: &str) -> Record {
    let kind = kind("Kustomization");
    let object = json!({
        "metadata": {"name": name, "namespace": "games", "generation": 1},
        "status": {"observedGeneration": 1, "conditions": [
            {"type": "Ready", "status": status, "reason": "ReconciliationFailed", "message": message},
        ]},
    });
    CATALOGUE.observe(kind, &object.to_string(), &Interner::default(), NOW).expect("an object")
}

#[test]
fn what_a_quota_holds_back_is_counted_until_it_is_let_go() {
    let denied = |name: &str| {
        format!(
            "{}: admission webhook \"quotas.policy.gatehouse.dev\" denied the request: fleets.agones.dev \"{name}\" is \
             forbidden: exceeded quota: arena, requested: players=1, used: players=10, limited: players=10",
            "Fleet/games/lobby dry-run failed (Forbidden)".repeat(20),
        )
    };
    let mut world = World::with([quota("arena", &[("players", Some("10"), "10")]).build()]);
    world.apply(tried("a", "False", &denied("a")));
    world.apply(tried("b", "False", &denied("b")));
    assert_eq!(cell(&world, "Held-Back"), 2);
    let by = json!([{"kind": "TenantQuota", "name": "arena"}]);
    let row = "games/local.kustomization.a";
    assert_eq!(world.status_of(RESOURCES, row)["deniedBy"], by, "beyond what is kept of the message");
    assert_eq!(world.cell(RESOURCES, row, "Denied-By"), "TenantQuota/arena");
    // Tried again, it is held back until it is seen to be let go.
    world.apply(tried("a", "Unknown", "Reconciliation in progress"));
    assert_eq!((cell(&world, "Held-Back"), &world.status_of(RESOURCES, row)["deniedBy"]), (json!(2), &by));
    world.apply(tried("a", "True", "Applied revision: 2"));
    assert_eq!(
        (cell(&world, "Held-Back"), &world.status_of(RESOURCES, row)["deniedBy"]),
        (json!(1), &Value::Null)
    );
    world.delete(&key(kind("Kustomization"), "games", "b"));
    assert_eq!(cell(&world, "Held-Back"), 0);
}

#[test]
fn a_tenant_usage_is_told_in_full() {
    let limits = [("gameservers", Some("78"), "80"), ("players", None, "2000")];
    let world = World::with([quota("arena", &limits).denied(3, NOW - 300, "exceeded quota: arena").build()]);
    let mut object = world.object(USAGES, ROW);
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("usage", object);
}
