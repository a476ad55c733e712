//! Tests of the rows of `appliedtenantquotas`.

use serde_json::json;

use super::{
    records::{key, namespace, quota},
    *,
};

const LIMITS: [(&str, Option<&str>, &str); 3] =
    [("gameservers", Some("78"), "80"), ("players", None, "2000"), ("requests.memory", Some("3Gi"), "2Gi")];

#[test]
fn a_row_tells_what_is_left_and_what_this_namespace_uses() {
    let record = quota("arena", &LIMITS)
        .reserved("gameservers", "1")
        .share("eu", &[Some("70"), None, Some("512Mi")], &[(NOW - 300, "exceeded quota: arena")])
        .share("us", &[Some("8"), None, None], &[]);
    let world = World::with([record.build()]);
    assert_eq!(world.names(APPLIED), ["eu/arena", "us/arena"]);
    let cells = |place: &str| {
        ["Tightest", "Left", "Used-Here", "Last-Denial", "Reserved"]
            .map(|column| world.cell(APPLIED, place, column))
    };
    assert_eq!(
        json!(cells("eu/arena")),
        json!([
            "requests.memory 3Gi/2Gi (150%)",
            "requests.memory 0, gameservers 1, players ?",
            "requests.memory 512Mi, gameservers 70, players ?",
            "5m",
            "gameservers 1",
        ])
    );
    assert_eq!(cells("us/arena")[2], "requests.memory 0, gameservers 8, players ?");
    assert_eq!(cells("us/arena")[3], "", "nothing was denied there");
    assert_eq!(world.condition(APPLIED, "us/arena", "WithinLimits").0, "False");
}

#[test]
fn no_row_names_another_namespace() {
    let record = quota("arena", &LIMITS)
        .share("eu", &[Some("70"), None, None], &[(NOW, "exceeded quota: arena")])
        .share("secret", &[Some("8"), None, None], &[(NOW, "in secret")])
        .denied(2, NOW, "in secret");
    let world = World::with([record.build()]);
    let row = world.object(APPLIED, "eu/arena").to_string();
    assert!(!row.contains("secret"), "{row}");
}

#[test]
fn rows_follow_the_namespaces_of_their_quota() {
    let used = [Some("1"), None, None];
    let mut world = World::with([quota("arena", &LIMITS).share("eu", &used, &[]).build()]);
    world.apply(quota("arena", &LIMITS).share("us", &used, &[]).share("asia", &used, &[]).build());
    assert_eq!(world.names(APPLIED), ["asia/arena", "us/arena"]);
    world.apply(quota("league", &LIMITS).share("us", &used, &[]).build());
    world.apply(namespace("us", Some("team-a")));
    let tenant = |world: &World, place: &str| {
        world.object(APPLIED, place)["metadata"]["labels"]["gatehouse.dev/tenant"].take()
    };
    assert_eq!(["us/arena", "us/league"].map(|place| tenant(&world, place)), ["team-a", "team-a"]);
    assert_eq!(tenant(&world, "asia/arena"), Value::Null, "its namespace has none");
    let before = world.versions(APPLIED);
    world.delete(&key(kind("TenantQuota"), "", "arena"));
    assert_eq!(world.names(APPLIED), ["us/league"]);
    assert_eq!(world.changed_since(APPLIED, &before), [""; 0], "the other's row did not change");
    // Nothing of what is gone is kept.
    world.apply(namespace("asia", Some("team-b")));
    assert_eq!(world.names(APPLIED), ["us/league"]);
}

#[test]
fn a_quota_without_counted_namespaces_has_no_rows() {
    let mut record = quota("arena", &LIMITS).share("eu", &[None, None, None], &[]).build();
    let world = World::with([record.clone()]);
    assert_eq!(world.cell(APPLIED, "eu/arena", "Used-Here"), "requests.memory 0, gameservers 0, players ?");
    record.detail = gatehouse_inventory::Detail::None;
    assert_eq!(World::with([record]).names(APPLIED), [""; 0]);
}

#[test]
fn an_applied_tenant_quota_is_told_in_full() {
    let record = quota("arena", &LIMITS)
        .share("eu", &[Some("70"), None, Some("512Mi")], &[(NOW - 300, "exceeded quota: arena")])
        .build();
    let mut object = World::with([record]).object(APPLIED, "eu/arena");
    object["metadata"]["resourceVersion"] = json!("VERSION");
    insta::assert_json_snapshot!("applied", object);
}
