//! What kubectl shows of fleets and game servers, by the real definitions of their engines.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::site::{Site, by_name};
use crate::world::World;

/// For a change of an object, on a busy machine.
const SHOWN: Duration = Duration::from_secs(20);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("games::fleets_are_listed_and_selected", fleets),
        world.shared("games::a_watch_follows_a_fleet", watched_fleet),
        world.shared("games::servers_are_listed_and_selected", servers),
        world.shared("games::a_watch_follows_a_server", watched_server),
    ]
}

/// The cells of the row of this name.
fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|cells| cells.contains(&name)).unwrap_or_default()
}

async fn fleets(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let table = kubectl.run(["get", "gamefleets", "-A"]).await?.ok()?;
    let heading = "NAMESPACE NAME ENGINE DESIRED READY ALLOCATED PLAYERS CAPACITY STATE";
    ensure!(table.lines().next().unwrap_or_default().split_whitespace().eq(heading.split(' ')), "{table}");
    let arena = ["games-us", "local.agones.arena-us", "agones", "6", "4", "2", "19", "96", "Ready"];
    ensure!(row(&table, "local.agones.arena-us") == arena, "{table}");
    let survival = ["games-eu", "local.kruise.survival", "kruise", "3", "1", "1"];
    ensure!(row(&table, "local.kruise.survival").starts_with(&survival), "{table}");
    ensure!(!table.contains("arena-us-b8d4c"), "a set is told by its fleet:\n{table}");

    let wide = kubectl.run(["get", "gfl", "-A", "-o", "wide"]).await?.ok()?;
    let more = "RESERVED WITHDRAWN UNHEALTHY MISSING SINCE KIND REASON MESSAGE CLUSTER";
    let headings: Vec<_> = wide.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(headings.ends_with(&more.split(' ').collect::<Vec<_>>()), "{wide}");

    let select = "status.engine=kruise,status.cluster=local";
    let args = ["get", "gfl", "-n", "games-eu", "-o", "json", "--field-selector", select];
    let list: Value = serde_json::from_str(&kubectl.run(args).await?.ok()?)?;
    let key = ("games-eu".to_owned(), "local.kruise.survival".to_owned());
    ensure!(by_name(&list).keys().eq([&key]), "{list:#}");
    ensure!(by_name(&list)[&key]["metadata"]["labels"]["gatehouse.dev/tenant"] == "arena", "{list:#}");
    let refused = ["get", "gfl", "-A", "--field-selector", "status.colour=red"];
    ensure!(kubectl.run(refused).await?.failed()?.contains("status.colour"));
    Ok(())
}

fn fleet(namespace: &str, ready: u32, allocated: u32) -> Value {
    let containers = json!([{"name": "game", "image": "example.com/game:1"}]);
    json!({
        "apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"namespace": namespace, "name": "duel"},
        "spec": {"replicas": 3, "template": {"spec": {
            "ports": [{"name": "default", "containerPort": 7654}], "template": {"spec": {"containers": containers}},
        }}},
        "status": {"replicas": 3, "readyReplicas": ready, "allocatedReplicas": allocated, "reservedReplicas": 0,
            "counters": {"players": {"count": allocated * 2, "capacity": 12}}},
    })
}

/// A server of the fleet.
fn server(namespace: &str, state: &str) -> Value {
    let containers = json!([{"name": "game", "image": "example.com/game:1"}]);
    let set = json!({"apiVersion": "agones.dev/v1", "kind": "GameServerSet", "name": "duel-x", "controller": true,
        "uid": "5d0f9a52-6a0e-4d5e-9f7e-2b5a7d1c0e01"});
    json!({
        "apiVersion": "agones.dev/v1", "kind": "GameServer",
        "metadata": {
            "namespace": namespace, "name": "duel-x-1", "ownerReferences": [set],
            "labels": {"agones.dev/fleet": "duel", "agones.dev/gameserverset": "duel-x"},
        },
        "spec": {
            "ports": [{"name": "default", "containerPort": 7654, "portPolicy": "Dynamic"}],
            "template": {"spec": {"containers": containers}},
        },
        "status": {"state": state, "address": "192.0.2.11", "nodeName": "node-1",
            "ports": [{"name": "default", "port": 7101}], "counters": {"players": {"count": 2, "capacity": 4}}},
    })
}

async fn watched_fleet(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "games-watch-fleet";
    site.apply([fleet(namespace, 3, 0), server(namespace, "Ready")]).await?;
    let kubectl = site.kubectl()?;
    let columns = "custom-columns=READY:.status.ready,IN-USE:.status.allocated,PLAYERS:.status.players,\
                   FAILED:.status.unhealthy,STATE:.status.state";
    let mut watch = kubectl.watch(["get", "gfl", "-n", namespace, "-w", "--no-headers", "-o", columns])?;
    let shows = |cells: &'static str| move |line: &str| line.split_whitespace().eq(cells.split(' '));
    watch.line_where(Duration::from_secs(30), shows("3 0 0 0 Ready")).await?;
    site.apply([fleet(namespace, 1, 1)]).await?;
    watch.line_where(SHOWN, shows("1 1 2 0 Progressing")).await?;
    site.apply([fleet(namespace, 2, 1)]).await?;
    watch.line_where(SHOWN, shows("2 1 2 0 Ready")).await?;
    Ok(())
}

async fn servers(site: Arc<Site>) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let table = kubectl.run(["get", "gameinstances", "-A"]).await?.ok()?;
    let heading = "NAMESPACE NAME FLEET STATE PHASE ADDRESS PLAYERS UPTIME";
    ensure!(table.lines().next().unwrap_or_default().split_whitespace().eq(heading.split(' ')), "{table}");
    let name = "local.agones.arena-us-b8d4c-h6rvs";
    let expected = ["games-us", name, "arena-us", "Ready", "Allocated", "192.0.2.14:7104", "12"];
    ensure!(row(&table, name).starts_with(&expected), "{table}");
    let name = "local.pteronimbus.community-creative";
    ensure!(row(&table, name)[..5] == ["games-us", name, "Ready", "Running", "7"], "{table}");
    ensure!(row(&table, "local.kruise.survival-1").contains(&"192.0.2.21:30101"), "{table}");

    let wide = kubectl.run(["get", "gin", "-A", "-o", "wide"]).await?.ok()?;
    let more = "ENGINE CAPACITY PORTS NODE SINCE MESSAGE CLUSTER";
    let headings: Vec<_> = wide.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(headings.ends_with(&more.split(' ').collect::<Vec<_>>()), "{wide}");

    let select = "status.fleet=arena-eu,status.phase=Allocated,status.engine=agones";
    let args = ["get", "gin", "-A", "-o", "json", "--field-selector", select];
    let list: Value = serde_json::from_str(&kubectl.run(args).await?.ok()?)?;
    let key = ("games-eu".to_owned(), "local.agones.arena-eu-x7k2p-9m2fz".to_owned());
    ensure!(by_name(&list).keys().eq([&key]), "{list:#}");
    let ports = json!([{"name": "default", "port": 7102}]);
    ensure!(by_name(&list)[&key]["status"]["ports"] == ports, "{list:#}");
    Ok(())
}

async fn watched_server(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "games-watch-server";
    site.apply([server(namespace, "Scheduled")]).await?;
    let kubectl = site.kubectl()?;
    let columns = "custom-columns=FLEET:.status.fleet,STATE:.status.state,PHASE:.status.phase,\
                   AT:.status.address,PORT:.status.ports[0].port,PLAYERS:.status.players";
    let mut watch = kubectl.watch(["get", "gin", "-n", namespace, "-w", "--no-headers", "-o", columns])?;
    let shows = |cells: &'static str| move |line: &str| line.split_whitespace().eq(cells.split(' '));
    let first = shows("duel Progressing Scheduled 192.0.2.11 7101 2");
    watch.line_where(Duration::from_secs(30), first).await?;
    for (phase, cells) in [
        ("Ready", "duel Ready Ready 192.0.2.11 7101 2"),
        ("Allocated", "duel Ready Allocated 192.0.2.11 7101 2"),
    ] {
        site.apply([server(namespace, phase)]).await?;
        watch.line_where(SHOWN, shows(cells)).await?;
    }
    let delete = ["delete", "gameservers.agones.dev", "duel-x-1", "-n", namespace];
    kubectl.run(delete).await?.ok()?;
    let gone = ["wait", "--for=delete", "gin/local.agones.duel-x-1", "-n", namespace, "--timeout=20s"];
    kubectl.run(gone).await?.ok()?;
    Ok(())
}
