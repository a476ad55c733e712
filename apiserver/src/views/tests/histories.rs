//! Tests of the rows of `fluxhistories`, and of what `fluxresources` show of the history.

use gatehouse_inventory::{
    EntryId, HistoryEntry,
    HistoryResult::{Failed, Succeeded},
    State,
};
use serde_json::json;

use super::{
    records::{Builder, entry, key, kustomization, object},
    *,
};

/// The Kustomization `shop`, which fails since its second revision.
fn shop() -> Builder {
    kustomization("apps", "shop").state(State::Failed, 600).history([
        entry(3, "main@sha1:3", Failed, [300, 60]),
        entry(2, "main@sha1:2", Failed, [600, 400]),
        entry(1, "main@sha1:1", Succeeded, [7_200, 700]),
    ])
}

const NEWEST: &str = "apps/local.kustomization.shop.000000000003";
const SECOND: &str = "apps/local.kustomization.shop.000000000002";
const GOOD: &str = "apps/local.kustomization.shop.000000000001";

#[test]
fn each_entry_of_a_history_has_a_row() {
    let release = HistoryEntry {
        id: EntryId::release(4),
        revision: Some("shop@1.2.3".into()),
        reason: "deployed".into(),
        action: Some("upgrade".into()),
        took: None,
        times: None,
        ..entry(0, "", Succeeded, [90, 90])
    };
    let helm = object(kind("HelmRelease"), "apps", "shop").history([release]);
    let world = World::with([shop().build(), helm.build(), kustomization("apps", "none").build()]);
    let names = world.names(HISTORIES);
    assert_eq!(names, ["apps/local.helmrelease.shop.v4", GOOD, SECOND, NEWEST]);
    let columns = ["Object", "Revision", "Result", "Action", "First", "Last", "Took", "Times"];
    let cells = |row: &str| columns.map(|column| world.cell(HISTORIES, row, column));
    let expected = json!(["Kustomization/shop", "main@sha1:2", "Failed", "", "10m", "6m40s", "2.418s", "7"]);
    assert_eq!(cells(SECOND).to_vec(), expected.as_array().unwrap().clone());
    let expected = json!(["HelmRelease/shop", "shop@1.2.3", "Succeeded", "upgrade", "90s", "90s", "", ""]);
    assert_eq!(cells(&names[0]).to_vec(), expected.as_array().unwrap().clone());
    let flags = |row: &str| {
        let status = world.status_of(HISTORIES, row);
        ["current", "firstFailure"].map(|flag| status[flag].as_bool().unwrap())
    };
    assert_eq!([NEWEST, SECOND, GOOD].map(flags), [[true, false], [false, true], [false, false]]);
    let mut row = world.object(HISTORIES, SECOND);
    row["metadata"]["resourceVersion"] = "…".into();
    insta::assert_json_snapshot!("history", row);
}

#[test]
fn resources_tell_since_which_revision_they_fail() {
    let mut world = World::with([shop().build()]);
    let row = "apps/local.kustomization.shop";
    let cells = |world: &World| {
        ["Last-Good", "Good-Since", "Failed-Revision"].map(|column| world.cell(RESOURCES, row, column))
    };
    assert_eq!(cells(&world), [json!("main@sha1:1"), json!("120m"), json!("main@sha1:2")]);
    assert_eq!(world.status_of(RESOURCES, row)["failedSince"], "2026-02-28T23:50:00Z");
    world.apply(shop().state(State::Ready, 5).build());
    assert_eq!(world.cell(RESOURCES, row, "Failed-Revision"), "", "it fails no longer");
    assert_eq!(world.status_of(HISTORIES, SECOND)["firstFailure"], false);
}

#[test]
fn rows_follow_the_history() {
    let mut world = World::with([shop().build()]);
    let before = world.versions(HISTORIES);
    world.apply(shop().state(State::Failed, 1).build());
    assert_eq!(world.changed_since(HISTORIES, &before), [""; 0], "the history is the same");
    let fixed = kustomization("apps", "shop")
        .history([entry(4, "main@sha1:4", Succeeded, [5, 5]), entry(3, "main@sha1:3", Failed, [300, 60])]);
    world.apply(fixed.build());
    let newest = "apps/local.kustomization.shop.000000000004";
    assert_eq!(world.names(HISTORIES), [NEWEST, newest]);
    assert_eq!(world.changed_since(HISTORIES, &before), [NEWEST, newest], "one is not the newest any more");
    world.apply(kustomization("apps", "shop").build());
    assert_eq!(world.names(HISTORIES), [""; 0]);
    world.apply(shop().build());
    world.delete(&key(kind("Kustomization"), "apps", "shop"));
    assert_eq!(world.names(HISTORIES), [""; 0]);
}

#[test]
fn the_rows_of_a_full_history_take_little_memory() {
    let objects = (0..200).map(|n| {
        let entries = (0..5).map(|at| {
            let revision = format!("main@sha1:{:040x}", n * 8 + at);
            entry(n * 8 + at, &revision, Succeeded, [7_200, 700])
        });
        kustomization(&format!("team-{}", n % 10), &format!("app-{n}")).history(entries).build()
    });
    let world = World::with(objects);
    let (rows, bytes, _) = world.cache(HISTORIES).size();
    assert_eq!(rows, 1_000);
    let each = bytes / rows;
    println!("{each} bytes for each row of fluxhistories");
    assert!(each <= 420, "{each}");
}
