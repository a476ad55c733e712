//! What Gatehouse registers and repairs itself: its registration with no more than the permissions of its accounts, and
//! corrections after changes by others.

use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::{SECRET, USER, api_service_name, webhook_account, webhooks};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::wait_until_available;
use gatehouse_conformance::helm::{Helm, NAMESPACE, Values};
use gatehouse_conformance::install::{Egress, Installation};
use gatehouse_conformance::load::Manifest;
use gatehouse_conformance::{crds, load, progress};
use http::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::world::{World, settles};

/// Far longer than the interval of the leader's checks and a correction.
const MENDED: Duration = Duration::from_mins(2);
/// Far longer than a rotation with lifetimes of seconds takes.
const ROTATED: Duration = Duration::from_mins(2);
/// Longer than the interval of the leader's checks.
const LOOKED: Duration = Duration::from_secs(35);

/// Values that the user sets for the webhooks, which must be in recreated configurations too.
const TIMEOUT: &str = "webhooks.timeoutSeconds=7";
const EXCLUDED: &str = "webhooks.excludedNamespaces={cert-manager,edge}";

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart(
            "self_management::what_is_removed_or_overwritten_is_mended_and_what_is_installed_left_alone",
            || installed([TIMEOUT, EXCLUDED].map(str::to_owned), mends),
        ),
        world.apart("self_management::authorities_follow_each_other_and_everything_trusts_them", || {
            let flags = "--ca-lifetime=60s,--certificate-lifetime=18s,--rotation-overlap=3s";
            let args = |component: &str| format!("{component}.extraArgs={{{flags}}}");
            installed(["apiserver", "webhooks"].map(args), rotates)
        }),
    ]
}

/// An installation under test.
struct Kept {
    installation: Installation,
    control_plane: ControlPlane,
    /// The rendered manifests.
    manifests: Vec<Manifest>,
    admin: Caller,
}

/// Installs the chart with two replicas of each component and these values, runs a trial, and stops everything.
async fn installed(
    values: [String; 2],
    trial: impl AsyncFnOnce(&mut Kept) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let egress = Egress::start()?;
    let options = Options { api_server_flags: vec![egress.flag()], ..Options::default() };
    let control_plane = ControlPlane::start(&options).await?;
    let client = control_plane.client().await?;
    load::apply(&client, crds::policy()).await?;
    let values = Values::default().and(values);
    let manifests = Helm::find().await?.objects(&values).await?;
    let installation = Installation::install(&control_plane, &egress, manifests.clone()).await?;
    let admin = Caller::of_kubeconfig(control_plane.kubeconfig()).await?;
    let mut kept = Kept { installation, control_plane, manifests, admin };
    trial(&mut kept).await?;
    let Kept { installation, control_plane, admin, .. } = kept;
    installation.end().await?;
    after(&admin).await?;
    control_plane.stop().await
}

/// After the processes have ended, all objects still exist, and the Leases are released.
async fn after(admin: &Caller) -> anyhow::Result<()> {
    for path in paths() {
        admin.get(&path).await?.ok()?;
    }
    let leases = admin.get(&leases()).await?.ok()?;
    for lease in leases["items"].as_array().context("items")? {
        ensure!(lease["spec"]["holderIdentity"] == "", "not given back: {lease:#}");
    }
    Ok(())
}

fn leases() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")
}

fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
}

fn api_service() -> String {
    format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", api_service_name())
}

fn configuration(kind: &str) -> String {
    format!("{CONFIGURATIONS}/{kind}webhookconfigurations/{}", webhooks::NAME)
}

/// The paths of the APIService and the webhook configurations.
fn paths() -> [String; 3] {
    [api_service(), configuration("mutating"), configuration("validating")]
}

/// All caBundles of an object.
fn bundles(object: &Value) -> Vec<&str> {
    let webhooks = object["webhooks"].as_array().into_iter().flatten();
    let configs = webhooks.map(|webhook| &webhook["clientConfig"]).chain(object.get("spec"));
    configs.map(|config| config["caBundle"].as_str().unwrap_or_default()).collect()
}

impl Kept {
    async fn read(&self, path: &str) -> anyhow::Result<Value> {
        self.admin.get(path).await?.ok()
    }

    /// The CA bundle in the Secret that belongs to an object.
    async fn published(&self, path: &str) -> anyhow::Result<String> {
        let name = if path == api_service() { SECRET } else { webhook_account::SECRET };
        let secret = self.read(&secret(name)).await?;
        Ok(secret["data"]["ca.crt"].as_str().context("ca.crt")?.to_owned())
    }

    /// Waits until all caBundles of an object are correct.
    async fn is_right(&self, path: &str) -> anyhow::Result<Value> {
        let published = self.published(path).await?;
        let read = async || Ok(self.admin.get(path).await?.body);
        let is_right = |object: &Value| {
            let found = bundles(object);
            !found.is_empty() && found.iter().all(|bundle| *bundle == published)
        };
        settles(format_args!("{path} is right"), MENDED, read, is_right).await
    }

    async fn patch(&self, path: &str, manager: &str, body: &Value, kind: &str) -> anyhow::Result<Answer> {
        let force = if kind == APPLY { "&force=true" } else { "" };
        let path = format!("{path}?fieldManager={manager}{force}");
        self.admin.write(&Method::PATCH, &path, kind, body.to_string().into_bytes()).await
    }

    /// Views are listed, and the webhooks deny an invalid quota.
    async fn works(&self) -> anyhow::Result<()> {
        let client = self.control_plane.client().await?;
        wait_until_available(&client).await?;
        let list = async || self.admin.get("/apis/view.gatehouse.dev/v1alpha1/clusterhealths").await;
        settles("views are listed", MENDED, list, |answer| answer.code.is_success()).await?;
        let quota = json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
            "metadata": {"name": "makes-no-sense"},
            "spec": {"namespaceSelector": {}, "hard": {"players": "-1"}},
        });
        let path = "/apis/policy.gatehouse.dev/v1alpha1/tenantquotas?dryRun=All";
        let ask = async || self.admin.post(path, &quota).await;
        settles("a quota is judged", MENDED, ask, |answer| answer.body.to_string().contains("hard[players]"))
            .await?;
        Ok(())
    }
}

async fn mends(kept: &mut Kept) -> anyhow::Result<()> {
    kept.works().await?;
    numbers(kept).await?;
    least(kept).await?;
    for path in paths() {
        left_alone(kept, &path).await.with_context(|| path.clone())?;
        overwritten(kept, &path).await.with_context(|| path.clone())?;
        removed(kept, &path).await.with_context(|| path.clone())?;
    }
    secret_removed(kept).await?;
    kept.works().await
}

/// Each replica of the API server has a different number.
async fn numbers(kept: &Kept) -> anyhow::Result<()> {
    let leases = kept.read(&leases()).await?;
    let items = leases["items"].as_array().context("items")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_numbers = items
        .iter()
        .filter(|lease| text(&lease["metadata"]["name"]).starts_with("gatehouse-apiserver-replica-"));
    let mut holders: Vec<_> = of_numbers.map(|lease| text(&lease["spec"]["holderIdentity"])).collect();
    holders.sort_unstable();
    holders.dedup();
    ensure!(holders.len() == 2 && holders.iter().all(|holder| !holder.is_empty()), "{leases:#}");
    Ok(())
}

/// The accounts may write only their own objects, which their roles name.
async fn least(kept: &Kept) -> anyhow::Result<()> {
    let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}});
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "other"}});
    for user in [USER, webhook_account::USER] {
        let own = Caller::of_kubeconfig(&kept.control_plane.kubeconfig_for(user, None)?).await?;
        let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
        let apply = async |path: String, object: &Value| {
            let path = format!("{path}?fieldManager=gatehouse");
            own.write(&Method::PATCH, &path, APPLY, object.to_string().into_bytes()).await
        };
        for answer in [
            own.get(&secrets).await?,
            own.get(&format!("{secrets}/other")).await?,
            own.post(&secrets, &other).await?,
            own.post(&leases(), &lease).await?,
            own.get("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies").await?,
            apply(secret("other"), &other).await?,
            apply(format!("{}/other", leases()), &lease).await?,
            apply(api_service().replace("view", "other"), &other).await?,
            own.send(&Method::DELETE, &api_service(), &[]).await?,
            own.send(&Method::DELETE, &configuration("validating"), &[]).await?,
        ] {
            answer.refused(403, "Forbidden").context(user)?;
        }
    }
    Ok(())
}

/// The user may apply the manifests repeatedly and change the fields in them, and Gatehouse leaves these alone.
async fn left_alone(kept: &Kept, path: &str) -> anyhow::Result<()> {
    kept.is_right(path).await?;
    let kind_and_name = |object: &Value| (object["kind"].clone(), object["metadata"]["name"].clone());
    let live = kept.read(path).await?;
    let manifest = kept.manifests.iter().find(|one| kind_and_name(&one.object) == kind_and_name(&live));
    let mut manifest = manifest.context("rendered")?.object.clone();
    if let Some(webhook) = manifest.pointer_mut("/webhooks/0") {
        webhook["timeoutSeconds"] = json!(9);
    }
    let manager = "kustomize-controller";
    kept.patch(path, manager, &manifest, APPLY).await?.ok()?;
    let before = kept.is_right(path).await?;
    kept.patch(path, manager, &manifest, APPLY).await?.ok()?;
    tokio::time::sleep(LOOKED).await;
    let after = kept.read(path).await?;
    let spec = |object: &Value| (object["spec"].clone(), object["webhooks"].clone());
    ensure!(spec(&before) == spec(&after), "{before:#} became {after:#}");
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    // The aggregator may write the status of an APIService at any time.
    let is_quiet = version(&before) == version(&after) || path == api_service();
    ensure!(is_quiet, "{before:#} became {after:#}");
    if after["webhooks"].is_array() {
        ensure!(after["webhooks"][0]["timeoutSeconds"] == 9, "{after:#}");
    }
    ensure!(after["metadata"].get("ownerReferences").is_none(), "{after:#}");
    Ok(())
}

/// Gatehouse corrects the caBundles that somebody has changed, and nothing else.
async fn overwritten(kept: &Kept, path: &str) -> anyhow::Result<()> {
    // The text "wrong" in base64.
    let wrong = "d3Jvbmc=";
    let mut live = kept.read(path).await?;
    let changed = if let Some(webhooks) = live["webhooks"].as_array_mut() {
        for webhook in webhooks.iter_mut() {
            webhook["clientConfig"]["caBundle"] = json!(wrong);
        }
        json!({"webhooks": webhooks})
    } else {
        json!({"spec": {"caBundle": wrong}})
    };
    kept.patch(path, "kubectl-edit", &changed, MERGE).await?.ok()?;
    kept.is_right(path).await.map(drop)
}

/// Gatehouse recreates a deleted object, with an owner reference to the ClusterRole of the installation.
async fn removed(kept: &Kept, path: &str) -> anyhow::Result<()> {
    let before = kept.read(path).await?;
    kept.admin.send(&Method::DELETE, path, &[]).await?.ok()?;
    let read = async || Ok(kept.admin.get(path).await?.body);
    let is_back = |object: &Value| {
        let uid = &object["metadata"]["uid"];
        uid.is_string() && *uid != before["metadata"]["uid"]
    };
    settles("it is back", MENDED, read, is_back).await?;
    let after = kept.is_right(path).await?;
    let owner = &after["metadata"]["ownerReferences"][0];
    ensure!(owner["kind"] == "ClusterRole", "{after:#}");
    let name = owner["name"].as_str().unwrap_or_default();
    let role = kept.read(&format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}")).await?;
    ensure!(owner["uid"] == role["metadata"]["uid"], "{after:#}");
    // As it was installed, without later changes by the user.
    let mut expected = (before["spec"].clone(), before["webhooks"].clone());
    if let Some(webhook) = expected.1.get_mut(0) {
        webhook["timeoutSeconds"] = json!(7);
        let excluded = &webhook["namespaceSelector"]["matchExpressions"][0]["values"];
        ensure!(*excluded == json!([NAMESPACE, "kube-system", "cert-manager", "edge"]), "{before:#}");
    }
    ensure!(
        (&after["spec"], &after["webhooks"]) == (&expected.0, &expected.1),
        "{before:#} became {after:#}"
    );
    // If nothing is wrong, nothing is written.
    tokio::time::sleep(LOOKED).await;
    let later = kept.read(path).await?;
    ensure!(later["metadata"]["managedFields"][0] == after["metadata"]["managedFields"][0], "{later:#}");
    Ok(())
}

/// The replicas write the deleted Secrets again, with the same content.
async fn secret_removed(kept: &Kept) -> anyhow::Result<()> {
    for name in [SECRET, webhook_account::SECRET] {
        let path = secret(name);
        let before = kept.read(&path).await?;
        kept.admin.send(&Method::DELETE, &path, &[]).await?.ok()?;
        let read = async || Ok(kept.admin.get(&path).await?.body);
        let is_back = |secret: &Value| secret["data"]["ca.crt"].is_string();
        let after = settles("the Secret is back", MENDED, read, is_back).await?;
        ensure!(before["data"] == after["data"], "{name} holds something else");
    }
    Ok(())
}

async fn rotates(kept: &mut Kept) -> anyhow::Result<()> {
    tokio::try_join!(rotated(kept, SECRET), rotated(kept, webhook_account::SECRET))?;
    kept.works().await
}

/// Waits until one authority has replaced another, in the right order.
async fn rotated(kept: &Kept, name: &str) -> anyhow::Result<()> {
    let read = async || Ok(kept.read(&secret(name)).await?["data"].take());
    let reads = async |what, is_wanted: &dyn Fn(&Value) -> bool| {
        settles(format_args!("{name}: {what}"), ROTATED, read, |data| is_wanted(data)).await
    };
    let first = reads("nothing is on the way", &|data| {
        data["current-ca.crt"].is_string()
            && data.get("next-ca.crt").or(data.get("previous-ca.crt")).is_none()
    });
    let first = first.await?;
    ensure!(first["current-ca.crt"] == first["ca.crt"], "{name} trusts more than one");
    let both = reads("the next one is trusted too", &|data| data["next-ca.crt"].is_string()).await?;
    ensure!(both["current-ca.crt"] == first["current-ca.crt"], "{name}: not in order");
    ensure!(both["ca.crt"] != first["ca.crt"], "{name} does not trust the next one");
    for path in paths().iter().filter(|path| (**path == api_service()) == (name == SECRET)) {
        kept.is_right(path).await?;
    }
    let switched = reads("it is used", &|data| data["previous-ca.crt"].is_string()).await?;
    ensure!(switched["current-ca.crt"] == both["next-ca.crt"], "{name}: not in order");
    ensure!(switched["ca.crt"] == both["ca.crt"], "{name}: what is trusted changed with what is used");
    let over = reads("the first one is gone", &|data| data.get("previous-ca.crt").is_none()).await?;
    ensure!(over["ca.crt"] == switched["current-ca.crt"], "{name} trusts more than one");
    progress::say(format_args!("self_management: an authority has followed another in Secret/{name}"));
    Ok(())
}
