//! Game servers that are being deleted: they count until they are gone, and Agones replaces no more of them than there is
//! room for.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::flux::permit;
use crate::gate::{Gate, KNOWN, fleet, game_server, merge};
use crate::gate_owners::{
    COLLECTOR, CONTROLLER, as_user, create, exceeded, made, owned, patch, path, set, uid_of,
};
use crate::gate_quotas::used;
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_going::servers_deleted_again_and_again_stay_within_the_limit", loops),
        world.guarded("gate_going::a_state_that_is_written_back_makes_no_room", states),
        world.guarded("gate_going::a_surge_is_made_beside_a_full_quota", surge),
        world.guarded("gate_going::nobody_but_agones_lets_go_of_a_server_before_its_pod", finalizers),
        world.guarded("gate_going::room_for_players_counts_once_it_is_made", players),
    ]
}

const KEEPER: &str = "agones.dev/controller";
const TERMINATING: &str = "game servers that are terminating count until they are gone";

/// Agones with a Fleet of a tenant's, and the set that it has made of it.
struct Agones {
    gate: Arc<Gate>,
    caller: Caller,
    namespace: &'static str,
    set: String,
    uid: String,
}

impl Agones {
    async fn new(
        gate: Arc<Gate>,
        namespace: &'static str,
        replicas: i64,
        hard: Value,
    ) -> anyhow::Result<Self> {
        gate.namespace(namespace).await?;
        gate.quota(namespace, hard, &fleet(namespace, "big", 99)).await?;
        gate.put(&fleet(namespace, "f", replicas)).await?;
        let caller = as_user(&gate, CONTROLLER).await?;
        let agones = Self { gate, caller, namespace, set: String::new(), uid: String::new() };
        let (set, uid) = agones.make_set("f-1", replicas).await?;
        Ok(Self { set, uid, ..agones })
    }

    async fn make_set(&self, name: &str, replicas: i64) -> anyhow::Result<(String, String)> {
        let fleet = uid_of(&self.gate, self.namespace, "fleets", "f").await?;
        let set = owned(set(self.namespace, name, replicas), "Fleet", "f", &fleet);
        made(&create(&self.caller, "gameserversets", &set).await?)?;
        let uid = uid_of(&self.gate, self.namespace, "gameserversets", name).await?;
        Ok((name.to_owned(), uid))
    }

    /// A server as Agones makes it, which may take an hour to end.
    fn server(&self, name: &str) -> Value {
        let mut server = owned(game_server(self.namespace, name), "GameServerSet", &self.set, &self.uid);
        server["metadata"]["finalizers"] = json!([KEEPER]);
        merge(&mut server["spec"]["template"]["spec"], json!({"terminationGracePeriodSeconds": 3600}));
        server
    }

    async fn make(&self, name: &str) -> anyhow::Result<Answer> {
        create(&self.caller, "gameservers", &self.server(name)).await
    }

    fn place(&self, name: &str) -> String {
        format!("{}/{name}", path(self.namespace, "gameservers"))
    }

    async fn delete(&self, name: &str) -> anyhow::Result<()> {
        made(&self.gate.caller.send(&Method::DELETE, &self.place(name), &[]).await?)
    }

    /// Its pod has ended.
    async fn let_go(&self, name: &str) -> anyhow::Result<()> {
        made(&patch(&self.caller, &self.place(name), &json!({"metadata": {"finalizers": null}})).await?)
    }

    async fn used(&self, number: &str) -> anyhow::Result<()> {
        used(&self.gate, self.namespace, "gameservers", number).await
    }

    async fn number(&self) -> anyhow::Result<usize> {
        let list = self.gate.get(&path(self.namespace, "gameservers")).await?;
        Ok(list["items"].as_array().context("a list")?.len())
    }
}

fn refused_for_going(answer: &Answer, what: &str) -> anyhow::Result<()> {
    exceeded(answer, what)?;
    ensure!(answer.body["message"].to_string().contains(TERMINATING), "{what}: {answer:#?}");
    Ok(())
}

async fn loops(gate: Arc<Gate>) -> anyhow::Result<()> {
    let agones = Agones::new(gate, "gate-going-loops", 2, json!({"gameservers": "4"})).await?;
    for name in ["a0", "a1"] {
        made(&agones.make(name).await?)?;
    }
    agones.used("2").await?;
    for name in ["a0", "a1"] {
        agones.delete(name).await?;
    }
    agones.used("4").await?;
    // A shorter grace period frees nothing.
    let shorter = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}});
    made(&patch(&agones.gate.caller, &agones.place("a0"), &shorter).await?)?;
    for name in ["b0", "b1"] {
        made(&agones.make(name).await?)?;
    }
    agones.used("4").await?;
    for round in 0..3 {
        for name in ["b0", "b1"] {
            agones.delete(name).await?;
        }
        agones.used("6").await?;
        for name in 0..2 {
            refused_for_going(&agones.make(&format!("c{round}-{name}")).await?, "a replacement")?;
        }
        ensure!(agones.number().await? == 4);
    }
    let own = game_server(agones.namespace, "own");
    refused_for_going(&create(&agones.gate.caller, "gameservers", &own).await?, "the tenant's own")?;
    for name in ["a0", "a1"] {
        agones.let_go(name).await?;
    }
    agones.used("4").await?;
    for name in ["d0", "d1"] {
        made(&agones.make(name).await?)?;
    }
    // Scaled down and up again while four are there.
    refused_for_going(&agones.make("d2").await?, "one more")?;
    ensure!(agones.number().await? == 4);
    Ok(())
}

async fn states(gate: Arc<Gate>) -> anyhow::Result<()> {
    let agones = Agones::new(gate, "gate-going-states", 3, json!({"gameservers": "3"})).await?;
    for name in ["a0", "a1", "a2"] {
        made(&agones.make(name).await?)?;
    }
    let state = async |name: &str, state: &str| {
        let body = json!({"status": {"state": state}});
        made(&patch(&agones.gate.caller, &agones.place(name), &body).await?)
    };
    for name in ["a0", "a1", "a2"] {
        state(name, "Shutdown").await?;
    }
    exceeded(&agones.make("b0").await?, "while they say that they shut down")?;
    for name in ["a0", "a1", "a2"] {
        state(name, "Allocated").await?;
    }
    exceeded(&agones.make("b0").await?, "by what Agones saw before")?;
    agones.used("3").await
}

async fn surge(gate: Arc<Gate>) -> anyhow::Result<()> {
    let agones = Agones::new(gate, "gate-going-surge", 2, json!({"gameservers": "2"})).await?;
    for name in ["a0", "a1"] {
        made(&agones.make(name).await?)?;
    }
    let (set, uid) = agones.make_set("f-2", 1).await?;
    let agones = Agones { set, uid, ..agones };
    made(&agones.make("b0").await?)?;
    agones.used("3").await?;
    // One of the old set is going: what the new one asks for waits for it.
    agones.delete("a0").await?;
    agones.used("4").await?;
    refused_for_going(&agones.make("b1").await?, "beside one that is going")?;
    agones.let_go("a0").await?;
    let set = format!("{}/f-2", path(agones.namespace, "gameserversets"));
    made(&patch(&agones.caller, &set, &json!({"spec": {"replicas": 2}})).await?)?;
    let set = format!("{}/f-1", path(agones.namespace, "gameserversets"));
    made(&patch(&agones.caller, &set, &json!({"spec": {"replicas": 1}})).await?)?;
    agones.used("3").await?;
    made(&agones.make("b1").await?)
}

async fn finalizers(gate: Arc<Gate>) -> anyhow::Result<()> {
    let hard = json!({"gameservers": "4", "requests.cpu": "8"});
    let agones = Agones::new(gate, "gate-going-finalizers", 2, hard).await?;
    let (gate, user) = (&agones.gate, "gate-going-tenant");
    permit(gate, agones.namespace, user, &["*"]).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    for name in ["a", "b"] {
        made(&agones.make(name).await?)?;
    }
    let kept = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
    let patched = async |name: &str, body: Value| {
        let body = body.to_string();
        kubectl.run(["patch", "gameserver", name, "-n", agones.namespace, "--type=merge", "-p", &body]).await
    };
    let refused = async |name: &str| -> anyhow::Result<()> {
        for finalizers in [&[][..], &["example.com/mine"]] {
            let printed = patched(name, kept(finalizers)).await?.failed()?;
            let expected =
                "metadata.finalizers: Forbidden: agones.dev/controller keeps the game server until its pod";
            ensure!(printed.contains(expected), "{printed}");
        }
        Ok(())
    };
    refused("a").await?;
    let dev = json!({"metadata": {"annotations": {"agones.dev/dev-address": "192.0.2.1"}}});
    let printed = patched("a", dev).await?.failed()?;
    ensure!(
        printed.contains("metadata.annotations[agones.dev/dev-address]: Forbidden: Agones would not wait"),
        "{printed}"
    );
    patched("a", kept(&[KEEPER, "example.com/mine"])).await?.ok()?;
    kubectl.run(["delete", "gameserver", "a", "-n", agones.namespace, "--wait=false"]).await?.ok()?;
    refused("a").await?;
    // One's own goes, also from one that is being deleted; what it takes up stays.
    patched("a", kept(&[KEEPER])).await?.ok()?;
    let smaller = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "game", "image": "game:1", "resources": {"requests": {"cpu": "1m", "memory": "512Mi"}}}]}}}});
    let printed = patched("a", smaller).await?.failed()?;
    ensure!(printed.contains("a game server keeps the requests.cpu"), "{printed}");
    agones.let_go("a").await?;
    // What the collector does for `kubectl delete --cascade=foreground`.
    let foreground = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"});
    let body = foreground.to_string().into_bytes();
    let answer = gate.caller.write(&Method::DELETE, &agones.place("b"), "application/json", body).await?;
    made(&answer)?;
    let collector = as_user(gate, COLLECTOR).await?;
    made(&patch(&collector, &agones.place("b"), &kept(&[KEEPER])).await?)?;
    // An administrator, where Agones is gone.
    made(&patch(&gate.caller, &agones.place("b"), &kept(&[])).await?)?;
    let is_gone = gate.caller.get(&agones.place("b")).await?;
    ensure!(is_gone.code == StatusCode::NOT_FOUND, "{is_gone:#?}");
    // Before Agones 1.41 its finalizer had another name.
    let mut old = agones.server("old");
    old["metadata"]["finalizers"] = json!(["agones.dev"]);
    made(&create(&agones.caller, "gameservers", &old).await?)?;
    let printed = patched("old", kept(&[])).await?.failed()?;
    ensure!(printed.contains("Forbidden: agones.dev keeps"), "{printed}");
    Ok(())
}

async fn players(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-going-players";
    gate.namespace(namespace).await?;
    let with = |name: &str| {
        let mut server = game_server(namespace, name);
        merge(&mut server["spec"], json!({"lists": {"players": {"capacity": 10, "values": []}}}));
        server
    };
    let mut big = with("big");
    big["spec"]["lists"]["players"]["capacity"] = json!(99);
    gate.quota(namespace, json!({"players": "40"}), &big).await?;
    gate.put(&with("a")).await?;
    used(&gate, namespace, "players", "10").await?;
    let place = format!("{}/a", path(namespace, "gameservers"));
    // As the SDK's sidecar does, with an account of the tenant's namespace.
    let grown = json!({"status": {"lists": {"players": {"capacity": 35, "values": []}}}});
    made(&patch(&gate.caller, &place, &grown).await?)?;
    used(&gate, namespace, "players", "35").await?;
    exceeded(&create(&gate.caller, "gameservers", &with("b")).await?, "no room is left")?;
    gate.becomes(&place, KNOWN, |server| server["status"]["lists"]["players"]["capacity"] == 35).await?;
    Ok(())
}
