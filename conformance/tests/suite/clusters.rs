//! A hub and a remote cluster: two control planes, and a Gatehouse of its own for the first. The second is reached
//! through a relay, and is seen by those only who may get its clusterhealth.

mod clock;
mod credentials;
mod misbehaving;
mod relayed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, StreamExt};
use gatehouse_apiservice::registration::clusters as rights;
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::{Gatehouse, Options};
use gatehouse_conformance::load::Manifest;
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::{crds, load, progress, spokes};
use http::StatusCode;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::DeleteParams;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::my_namespaces as mine;
use crate::relay::Relay;
use crate::site::{API, Site, kustomization};
use crate::world::{World, settles};

/// The Secrets are listed every five seconds, and a silent cluster is asked again after two minutes at the latest.
const SOON: Duration = Duration::from_secs(30);
const BACK: Duration = Duration::from_secs(150);
/// Longer than any list here takes, even beside a cluster that hangs.
const PROMPT: Duration = Duration::from_secs(2);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("clusters::a_remote_cluster_is_shown_to_those_who_may_and_harms_nobody", hub_and_spoke),
        // With a hub of its own: both register a cluster of one name.
        world.apart("clusters::another_credential_cuts_no_watch_and_loses_no_row", credentials::replaced),
        world.apart("clusters::a_wrong_clock_moves_no_version_and_hides_no_row", clock::wrong),
        world.apart(
            "clusters::one_that_gains_and_loses_a_gatehouse_changes_its_mode",
            relayed::gained_and_lost,
        ),
        world.apart("clusters::one_that_misbehaves_affects_its_own_rows_alone", misbehaving::alone),
    ]
}

/// The hub's own Gatehouse, and the remote cluster.
struct Hub {
    // Dropped before what they use.
    gatehouse: Gatehouse,
    admin: Caller,
    /// Who may read all views, apart from clusterhealths.
    user: Caller,
    relay: Relay,
    spoke: ControlPlane,
    site: Arc<Site>,
}

const READER: &str = "reads-every-namespace";

async fn hub_and_spoke(site: Arc<Site>) -> anyhow::Result<()> {
    let hub = Hub::start(site).await?;
    shown_to_those_who_may(&hub).await?;
    own_namespaces(&hub).await?;
    refused(&hub).await?;
    hushed(&hub).await?;
    removed_and_registered_again(&hub).await
}

impl Hub {
    async fn start(site: Arc<Site>) -> anyhow::Result<Self> {
        let objects =
            [kustomization("shop", "web", Err("no such path")), kustomization("team-b", "far", Ok(()))];
        let mut manifests = crds::only(&["kustomizations.kustomize.toolkit.fluxcd.io"])?;
        manifests.extend(objects.map(|object| Manifest { origin: "(trial)".to_owned(), object }));
        let spoke = spokes::start(manifests).await?;
        let port = spoke.url().rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
        let relay = Relay::to(port.context("a URL with a port")?).await?;
        relay.mend();

        site.apply(spokes::prerequisites()).await?;
        let rule = json!({
            "apiGroups": ["view.gatehouse.dev"], "verbs": ["get", "list", "watch"],
            "resources": ["fluxresources", "fluxresources/tree", "fluxsummaries", "problems"],
        });
        site.apply(cluster_role(READER, &rule)).await?;
        let options =
            Options { name: Some("hub".to_owned()), flags: vec![spokes::flag()], ..site.options.clone() };
        let gatehouse = Gatehouse::start(&site.control_plane, &options).await?;
        let caller = async |user: &str, group: Option<&str>| {
            Caller::of_kubeconfig(&gatehouse.kubeconfig_for(&site.control_plane, user, group)?).await
        };
        let admin = caller("root", Some("system:masters")).await?;
        let user = caller(READER, None).await?;
        Ok(Self { gatehouse, admin, user, relay, spoke, site })
    }

    /// A kubeconfig for the remote cluster.
    fn kubeconfig(&self) -> anyhow::Result<Value> {
        let mut kubeconfig = spokes::kubeconfig(&self.spoke)?;
        kubeconfig["clusters"][0]["cluster"]["server"] = self.relay.url().into();
        Ok(kubeconfig)
    }

    async fn register(&self, name: &str, kubeconfig: &Value) -> anyhow::Result<()> {
        self.site.apply([spokes::secret(name, kubeconfig)]).await
    }

    async fn unregister(&self, name: &str) -> anyhow::Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.site.client.clone(), rights::NAMESPACE);
        secrets.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The names of the rows of the remote cluster that a user sees.
    async fn seen(&self, user: &Caller) -> anyhow::Result<Vec<String>> {
        let list = user.get(&format!("{API}/fluxresources")).await?.ok()?;
        let names = list["items"].as_array().into_iter().flatten();
        let names = names.filter_map(|item| item["metadata"]["name"].as_str());
        Ok(names.filter(|name| name.starts_with("eu.")).map(str::to_owned).collect())
    }

    async fn sees(&self, what: &str, user: &Caller, within: Duration, names: &[&str]) -> anyhow::Result<()> {
        settles(what, within, || self.seen(user), |seen| seen == names).await?;
        Ok(())
    }

    /// The status and the reason of a condition of a cluster.
    async fn condition(&self, cluster: &str, kind: &str) -> anyhow::Result<(String, String)> {
        let answer = self.admin.get(&format!("{API}/clusterhealths/{cluster}")).await?;
        if answer.code == StatusCode::NOT_FOUND {
            return Ok(Default::default());
        }
        let health = answer.ok()?;
        let conditions = health["status"]["conditions"].as_array().into_iter().flatten();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind);
        let text = |field: &str| found.and_then(|found| found[field].as_str()).unwrap_or_default().to_owned();
        Ok((text("status"), text("reason")))
    }

    async fn has(
        &self,
        cluster: &str,
        kind: &str,
        wanted: (&str, &str),
        within: Duration,
    ) -> anyhow::Result<()> {
        let what = format!("{cluster} is {kind}={wanted:?}");
        let is_so = |(status, reason): &(String, String)| (&**status, &**reason) == wanted;
        settles(what, within, || self.condition(cluster, kind), is_so).await?;
        Ok(())
    }

    async fn is_ready(&self) -> anyhow::Result<bool> {
        Ok(self.admin.get("/readyz").await?.code == StatusCode::OK)
    }
}

const ALL: [&str; 2] = ["eu.kustomization.web", "eu.kustomization.far"];

async fn shown_to_those_who_may(hub: &Hub) -> anyhow::Result<()> {
    hub.register("eu", &hub.kubeconfig()?).await?;
    hub.sees("an administrator sees the cluster", &hub.admin, SOON, &ALL).await?;
    hub.has("eu", "Registered", ("True", "Accepted"), SOON).await?;
    hub.has("eu", "Authenticated", ("True", "CredentialAccepted"), SOON).await?;
    ensure!(hub.seen(&hub.user).await?.is_empty(), "who may list fluxresources does not see it by that");
    let row = format!("{API}/namespaces/shop/fluxresources/{}", ALL[0]);
    for path in [row.clone(), format!("{row}/tree")] {
        hub.user.get(&path).await?.refused(404, "NotFound")?;
        hub.admin.get(&path).await?.ok()?;
    }
    let problems = hub.admin.get(&format!("{API}/namespaces/shop/problems")).await?.ok()?;
    ensure!(problems["items"][0]["metadata"]["name"] == ALL[0], "{problems:#}");

    let rule = json!({
        "apiGroups": ["view.gatehouse.dev"], "resources": ["clusterhealths"], "resourceNames": ["eu"],
        "verbs": ["get"],
    });
    let binding = "sees-eu";
    let mut objects = cluster_role(binding, &rule);
    objects[1]["subjects"][0]["name"] = READER.into();
    hub.site.apply(objects).await?;
    hub.sees("the right shows the cluster", &hub.user, SOON, &ALL).await?;
    hub.user.get(&row).await?.ok()?;
    let bindings: Api<ClusterRoleBinding> = Api::all(hub.site.client.clone());
    bindings.delete(binding, &DeleteParams::default()).await?;
    hub.sees("without the right it is gone", &hub.user, SOON, &[]).await
}

/// `mynamespaces` has a row for each namespace and cluster: of the namespaces that a user is bound in here, in the
/// clusters that he may see.
async fn own_namespaces(hub: &Hub) -> anyhow::Result<()> {
    let tenant = "owns-team-b";
    let tenants =
        Caller::of_kubeconfig(&hub.gatehouse.kubeconfig_for(&hub.site.control_plane, tenant, None)?).await?;
    let seen = async || {
        let list = tenants.get(&format!("{API}/mynamespaces")).await?.ok()?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let text =
            |item: &Value, pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Ok(items
            .iter()
            .filter_map(|item| Some((text(item, "/metadata/name")?, text(item, "/status/cluster")?)))
            .collect::<Vec<_>>())
    };
    let row = |name: &str, cluster: &str| (name.to_owned(), cluster.to_owned());
    let own = row("team-b", "local");
    settles("nobody has no namespace", SOON, &seen, Vec::is_empty).await?;
    hub.site.apply([mine::role(tenant, None, &[])]).await?;
    hub.site
        .apply([mine::binding(tenant, Some("team-b"), ("ClusterRole", tenant), ("User", tenant))])
        .await?;
    settles("the namespace of the hub is seen", SOON, &seen, |rows| *rows == [own.clone()]).await?;
    for name in ["team-b.eu", "shop.eu"] {
        tenants.get(&format!("{API}/mynamespaces/{name}")).await?.refused(404, "NotFound")?;
    }
    let query = "watch=true&timeoutSeconds=60&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                 &allowWatchBookmarks=true";
    let request = http::Request::get(format!("{API}/mynamespaces?{query}")).body(Vec::new())?;
    let mut watch = tenants.client.request_stream(request).await?.lines();

    let mut objects = cluster_role(
        "owns-team-b-sees-eu",
        &json!({
            "apiGroups": ["view.gatehouse.dev"], "resources": ["clusterhealths"], "resourceNames": ["eu"],
            "verbs": ["get"],
        }),
    );
    objects[1]["subjects"][0]["name"] = tenant.into();
    hub.site.apply(objects).await?;
    let both = [own.clone(), row("team-b.eu", "eu")];
    settles("and that of the remote cluster", SOON, &seen, |rows| *rows == both).await?;
    tenants.get(&format!("{API}/mynamespaces/team-b.eu")).await?.ok()?;
    tenants.get(&format!("{API}/mynamespaces/shop.eu")).await?.refused(404, "NotFound")?;
    // Which clusters are shown is fixed when a watch is opened.
    let mut told = Vec::new();
    while let Some(line) = tokio::time::timeout(patience(SOON), watch.next()).await.context("it goes on")? {
        let event: Value = serde_json::from_str(&line?)?;
        told.push(event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        if event["type"] == "ERROR" {
            ensure!(event["object"]["code"] == 410, "{event:#}");
            break;
        }
    }
    ensure!(!told.iter().any(|name| name.contains('.')), "rows of another cluster: {told:?}");

    mine::delete(&hub.site, "clusterrolebinding", "owns-team-b-sees-eu", None).await?;
    settles("without the right to the cluster", SOON, &seen, |rows| *rows == [own.clone()]).await?;
    tenants.get(&format!("{API}/mynamespaces/team-b.eu")).await?.refused(404, "NotFound")?;
    mine::delete(&hub.site, "rolebinding", tenant, Some("team-b")).await?;
    settles("without any right", SOON, &seen, Vec::is_empty).await?;
    Ok(())
}

async fn refused(hub: &Hub) -> anyhow::Result<()> {
    let mut runs = hub.kubeconfig()?;
    runs["users"][0]["user"]["exec"] =
        json!({"command": "true", "apiVersion": "client.authentication.k8s.io/v1"});
    hub.register("runs", &runs).await?;
    hub.has("runs", "Registered", ("False", "InvalidKubeconfig"), SOON).await?;
    hub.register("twice", &hub.kubeconfig()?).await?;
    hub.has("twice", "Registered", ("False", "SameCluster"), SOON).await?;
    older(hub).await?;
    // By another address: only the cluster itself can tell who it is.
    let port = hub.site.control_plane.url().rsplit(':').next().and_then(|port| port.parse().ok());
    let detour = Relay::to(port.context("a URL with a port")?).await?;
    detour.mend();
    let mut own = spokes::kubeconfig(&hub.site.control_plane)?;
    own["clusters"][0]["cluster"]["server"] = detour.url().into();
    hub.register("loop", &own).await?;
    hub.has("loop", "Registered", ("False", "TheHub"), SOON).await?;
    for name in ["runs", "twice", "loop"] {
        hub.unregister(name).await?;
    }
    hub.has("loop", "Registered", ("", ""), SOON).await
}

/// Two registrations by different addresses for one cluster: the older one gets it, though the younger one was observed
/// first.
async fn older(hub: &Hub) -> anyhow::Result<()> {
    let spoke = spokes::start(crds::only(&["kustomizations.kustomize.toolkit.fluxcd.io"])?).await?;
    let manifest = Manifest { origin: "(trial)".to_owned(), object: kustomization("team-b", "one", Ok(())) };
    load::apply(&spoke.client().await?, vec![manifest]).await?;
    let port =
        spoke.url().rsplit(':').next().and_then(|port| port.parse().ok()).context("a URL with a port")?;
    let [first, second] = [Relay::to(port).await?, Relay::to(port).await?];
    let by = |relay: &Relay| {
        let mut kubeconfig = spokes::kubeconfig(&spoke)?;
        kubeconfig["clusters"][0]["cluster"]["server"] = relay.url().into();
        anyhow::Ok(kubeconfig)
    };
    let rows = async |name: &str| {
        let list = hub.admin.get(&format!("{API}/fluxresources?fieldSelector=status.cluster={name}")).await?;
        anyhow::Ok(list.ok()?["items"].as_array().map_or(0, Vec::len))
    };
    // The first is cut. Times of creation are in seconds.
    hub.register("old", &by(&first)?).await?;
    hub.has("old", "Reachable", ("False", "Silent"), SOON).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    second.mend();
    hub.register("young", &by(&second)?).await?;
    settles("the younger one is observed", SOON, async || rows("young").await, |rows| *rows == 1).await?;
    first.mend();
    settles("the older one takes over", BACK, async || rows("old").await, |rows| *rows == 1).await?;
    hub.has("young", "Registered", ("False", "SameCluster"), SOON).await?;
    ensure!(rows("young").await? == 0, "rows are shown twice");
    hub.unregister("old").await?;
    settles("then the younger one has it", BACK, async || rows("young").await, |rows| *rows == 1).await?;
    hub.has("young", "Registered", ("True", "Accepted"), SOON).await?;
    hub.unregister("young").await
}

/// The remote cluster accepts connections, and never answers.
async fn hushed(hub: &Hub) -> anyhow::Result<()> {
    hub.relay.cut();
    // Until the open connections have noticed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    hub.relay.hush();
    let began = Instant::now();
    hub.has("eu", "Reachable", ("False", "Silent"), SOON).await?;
    progress::say(format_args!("silence was told after {:.1} s", began.elapsed().as_secs_f32()));
    hub.site.apply([kustomization("team-b", "near", Ok(()))]).await?;
    let near = format!("{API}/namespaces/team-b/fluxresources/local.kustomization.near");
    let told = async || Ok(hub.user.get(&near).await?.code);
    settles("a change of the hub is told", PROMPT, told, |code| *code == StatusCode::OK).await?;
    hub.has("eu", "Fresh", ("False", "ClusterSilent"), Duration::from_mins(1)).await?;
    let asked = Instant::now();
    ensure!(hub.seen(&hub.admin).await? == ALL, "what is known is shown");
    ensure!(asked.elapsed() < PROMPT, "a list took {:?}", asked.elapsed());
    ensure!(hub.is_ready().await?, "the hub stays ready");
    hub.relay.mend();
    hub.has("eu", "Reachable", ("True", "Answers"), BACK).await?;
    hub.has("eu", "Fresh", ("True", "Observed"), BACK).await
}

async fn removed_and_registered_again(hub: &Hub) -> anyhow::Result<()> {
    hub.unregister("eu").await?;
    hub.sees("its rows are gone", &hub.admin, SOON, &[]).await?;
    ensure!(hub.condition("eu", "Registered").await?.0.is_empty(), "its own, too");
    hub.register("eu", &hub.kubeconfig()?).await?;
    hub.sees("it is shown again", &hub.admin, SOON, &ALL).await?;
    ensure!(hub.gatehouse.process().is_some() && hub.is_ready().await?);
    Ok(())
}

/// A ClusterRole with one rule, bound to the user of its name.
pub(crate) fn cluster_role(name: &str, rule: &Value) -> [Value; 2] {
    spokes::cluster_role(name, name, rule)
}
