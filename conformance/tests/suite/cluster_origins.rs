//! Clusters that objects of other tools register: Cluster API, Argo CD and ClusterProfiles. One remote cluster is
//! registered by each of them in turn, at run time, with a Gatehouse that follows all.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::clusters as rights;
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::{Gatehouse, Options};
use gatehouse_conformance::spokes;
use http::StatusCode;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::clusters::cluster_role;
use crate::site::{API, Site};
use crate::world::{World, settles};

/// The objects are listed every five seconds.
const SOON: Duration = Duration::from_secs(30);
const CAPI: &str = "origin-capi";
const ARGOCD: &str = "origin-argocd";
const FLEET: &str = "origin-fleet";
const SECRETS: &str = "origin-fleet-secrets";
const NAME: &str = "origins-eu";
/// May do everything with the views of the hub.
const ACTS: &str = "acts-by-origins";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.shared("clusters::objects_of_other_tools_register_clusters", every_origin)]
}

struct Hub {
    // Dropped before what it uses.
    _gatehouse: Gatehouse,
    admin: Caller,
    acts: Caller,
    spoke: ControlPlane,
    site: Arc<Site>,
}

async fn every_origin(site: Arc<Site>) -> anyhow::Result<()> {
    let hub = Hub::start(site).await?;
    by_cluster_api(&hub).await?;
    by_argo_cd(&hub).await?;
    by_cluster_profile(&hub).await
}

impl Hub {
    async fn start(site: Arc<Site>) -> anyhow::Result<Self> {
        let spoke = spokes::start(Vec::new()).await?;
        let mut objects: Vec<Value> = rights::cluster_api_rights(CAPI).into();
        objects.extend(rights::argocd_rights(ARGOCD));
        objects.extend(rights::profile_rights(&[FLEET.to_owned()], SECRETS));
        site.apply(objects).await?;
        let flags = [
            format!("--cluster-api-namespaces={CAPI}"),
            format!("--argocd-cluster-namespaces={ARGOCD}"),
            format!("--cluster-profile-namespaces={FLEET}"),
            format!("--cluster-profile-secrets-namespace={SECRETS}"),
            "--enable-actions".to_owned(),
        ];
        let options =
            Options { name: Some("origins".to_owned()), flags: flags.into(), ..site.options.clone() };
        // ClusterProfiles are not installed yet.
        let gatehouse = Gatehouse::start(&site.control_plane, &options).await?;
        let root = gatehouse.kubeconfig_for(&site.control_plane, "root", Some("system:masters"))?;
        let admin = Caller::of_kubeconfig(&root).await?;
        let sees = json!({"apiGroups": ["view.gatehouse.dev"], "resources": ["*"], "verbs": ["*"]});
        site.apply(cluster_role(ACTS, &sees)).await?;
        let acts = gatehouse.kubeconfig_for(&site.control_plane, ACTS, None)?;
        let acts = Caller::of_kubeconfig(&acts).await?;
        Ok(Self { _gatehouse: gatehouse, admin, acts, spoke, site })
    }

    async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let request = http::Request::delete(path).body(Vec::new())?;
        self.site.client.request::<Value>(request).await?;
        Ok(())
    }

    /// The row of the cluster becomes one of this origin with this condition; returns it.
    async fn becomes(&self, origin: &str, kind: &str, wanted: (&str, &str)) -> anyhow::Result<Value> {
        let ask = async || {
            let answer = self.admin.get(&format!("{API}/clusterhealths/{NAME}")).await?;
            if answer.code == StatusCode::NOT_FOUND { Ok(Value::Null) } else { answer.ok() }
        };
        let is_so = |row: &Value| {
            let conditions = row["status"]["conditions"].as_array().into_iter().flatten();
            let mut found = conditions.into_iter().filter(|condition| condition["type"] == kind);
            row["status"]["origin"] == origin
                && found.any(|one| one["status"] == wanted.0 && one["reason"] == wanted.1)
        };
        settles(format!("{origin} is {kind}={wanted:?}"), SOON, ask, is_so).await
    }

    async fn is_reached(&self, origin: &str) -> anyhow::Result<()> {
        self.becomes(origin, "Authenticated", ("True", "CredentialAccepted")).await?;
        self.becomes(origin, "Registered", ("True", "Accepted")).await?;
        Ok(())
    }

    /// Actions are refused unless the object that registers the cluster has the annotation.
    async fn allows_actions_once(&self, origin: &str, object: Value) -> anyhow::Result<()> {
        let path = format!("{API}/namespaces/default/fluxresources/{NAME}.kustomization.web/reconcile");
        let ask = async || self.acts.post(&path, &json!({})).await;
        let is_closed = |answer: &Answer| {
            let message = answer.body["message"].as_str().unwrap_or_default();
            answer.code == StatusCode::FORBIDDEN
                && message.contains(origin)
                && message.contains("gatehouse.dev/allow-actions: \"true\"")
        };
        settles(format!("{origin} allows no actions"), SOON, ask, is_closed).await?;
        for (value, is_open) in [("yes", false), ("true", true), ("false", false)] {
            let mut annotated = object.clone();
            annotated["metadata"]["annotations"] = json!({"gatehouse.dev/allow-actions": value});
            self.site.apply([annotated]).await?;
            // It is looked for, and the cluster has no Kustomizations.
            let is_found_missing = |answer: &Answer| answer.code == StatusCode::NOT_FOUND;
            let decided =
                |answer: &Answer| if is_open { is_found_missing(answer) } else { is_closed(answer) };
            settles(format!("{origin} says {value}"), SOON, ask, decided).await?;
        }
        self.site.apply([object]).await?;
        Ok(())
    }

    async fn is_refused(&self, origin: &str, reason: &str, message: &str) -> anyhow::Result<()> {
        let row = self.becomes(origin, "Registered", ("False", reason)).await?;
        ensure!(row["status"]["conditions"].to_string().contains(message), "{message}: {row:#}");
        Ok(())
    }

    async fn is_warned(&self, warning: &str) -> anyhow::Result<()> {
        let ask = async || self.admin.get(&format!("{API}/clusterhealths/{NAME}")).await?.ok();
        let warned = |row: &Value| row["status"]["warnings"].to_string().contains(warning);
        settles(warning, SOON, ask, warned).await?;
        Ok(())
    }
}

fn secret(namespace: &str, name: &str, kind: &str, labels: &Value, data: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(ByteString(value.as_bytes().to_vec()))))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
    })
}

fn of_cluster_api(name: &str, kubeconfig: &str) -> Value {
    let labels = json!({"cluster.x-k8s.io/cluster-name": NAME});
    secret(CAPI, name, "cluster.x-k8s.io/secret", &labels, &[("value", kubeconfig)])
}

async fn by_cluster_api(hub: &Hub) -> anyhow::Result<()> {
    let (name, origin) = (format!("{NAME}-kubeconfig"), format!("Secret {CAPI}/{NAME}-kubeconfig"));
    let mut wrong = spokes::kubeconfig(&hub.spoke)?;
    let other = hub.site.control_plane.client_ca().certificate_pem().as_bytes().to_vec();
    wrong["clusters"][0]["cluster"]["certificate-authority-data"] = json!(ByteString(other));
    // What stands beside it is none of Gatehouse's business.
    let authority = of_cluster_api(&format!("{NAME}-ca"), "not a kubeconfig");
    hub.site.apply([authority, of_cluster_api(&name, &wrong.to_string())]).await?;
    hub.becomes(&origin, "Reachable", ("False", "Silent")).await?;
    let right = spokes::kubeconfig(&hub.spoke)?.to_string();
    hub.site.apply([of_cluster_api(&name, &right)]).await?;
    hub.is_reached(&origin).await?;
    hub.allows_actions_once(&origin, of_cluster_api(&name, &right)).await
}

fn of_argo_cd(name: &str, server: &str, config: &Value) -> Value {
    let labels = json!({"argocd.argoproj.io/secret-type": "cluster"});
    let config = config.to_string();
    let data = [("name", name), ("server", server), ("config", &config)];
    secret(ARGOCD, &format!("cluster-{name}"), "Opaque", &labels, &data)
}

async fn by_argo_cd(hub: &Hub) -> anyhow::Result<()> {
    let kubeconfig = spokes::kubeconfig(&hub.spoke)?;
    let (cluster, user) = (&kubeconfig["clusters"][0]["cluster"], &kubeconfig["users"][0]["user"]);
    let server = cluster["server"].as_str().unwrap_or_default();
    let mut config = json!({"tlsClientConfig": {
        "insecure": false, "caData": cluster["certificate-authority-data"],
        "certData": user["client-certificate-data"], "keyData": user["client-key-data"],
    }});
    let in_cluster = of_argo_cd("in-cluster", "https://kubernetes.default.svc", &json!({}));
    hub.site.apply([in_cluster, of_argo_cd(NAME, server, &config)]).await?;
    // The older one keeps the name until it is gone.
    hub.is_warned(&format!("Secret {ARGOCD}/cluster-{NAME}: data[name]: is taken by Secret {CAPI}/")).await?;
    hub.delete(&format!("/api/v1/namespaces/{CAPI}/secrets/{NAME}-kubeconfig")).await?;
    let origin = format!("Secret {ARGOCD}/cluster-{NAME}");
    hub.is_reached(&origin).await?;
    hub.allows_actions_once(&origin, of_argo_cd(NAME, server, &config)).await?;
    let none = hub.admin.get(&format!("{API}/clusterhealths/in-cluster")).await?;
    ensure!(none.code == StatusCode::NOT_FOUND, "the hub is skipped: {none:?}");
    config["tlsClientConfig"]["insecure"] = true.into();
    hub.site.apply([of_argo_cd(NAME, server, &config)]).await?;
    let field = "data[config].tlsClientConfig.insecure: would trust any server";
    hub.is_refused(&origin, "InvalidClusterSecret", field).await?;
    hub.delete(&format!("/api/v1/namespaces/{ARGOCD}/secrets/cluster-{NAME}")).await
}

/// As much of the definition as Gatehouse reads.
fn definition() -> Value {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "clusterprofiles.multicluster.x-k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": "multicluster.x-k8s.io", "scope": "Namespaced",
            "names": {"kind": "ClusterProfile", "plural": "clusterprofiles", "singular": "clusterprofile"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}},
            }],
        },
    })
}

fn profile(provider: &str, cluster: &Value, extension: &Value) -> Value {
    let mut cluster = cluster.clone();
    cluster["extensions"] = json!([{"name": "client.authentication.k8s.io/exec", "extension": extension}]);
    json!({
        "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ClusterProfile",
        "metadata": {"namespace": FLEET, "name": NAME},
        "spec": {"displayName": NAME, "clusterManager": {"name": "trial"}},
        "status": {"accessProviders": [{"name": provider, "cluster": cluster}]},
    })
}

async fn by_cluster_profile(hub: &Hub) -> anyhow::Result<()> {
    let origin = format!("ClusterProfile {FLEET}/{NAME}");
    let kubeconfig = spokes::kubeconfig(&hub.spoke)?;
    let cluster = json!({
        "server": kubeconfig["clusters"][0]["cluster"]["server"],
        "certificate-authority-data": kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"],
    });
    let of_kubeconfig = json!({"name": "eu-kubeconfig", "key": "config"});
    let provider = "kubeconfig-secretreader";
    hub.site.apply([definition(), profile(provider, &cluster, &of_kubeconfig)]).await?;
    let missing = format!("Secret {SECRETS}/eu-kubeconfig: does not exist");
    hub.is_refused(&origin, "InvalidClusterProfile", &missing).await?;
    let text = kubeconfig.to_string();
    hub.site.apply([secret(SECRETS, "eu-kubeconfig", "Opaque", &json!({}), &[("config", &text)])]).await?;
    hub.is_reached(&origin).await?;
    hub.allows_actions_once(&origin, profile(provider, &cluster, &of_kubeconfig)).await?;

    let elsewhere = json!({"name": "eu-kubeconfig", "key": "config", "namespace": "kube-system"});
    hub.site.apply([profile(provider, &cluster, &elsewhere)]).await?;
    let field = format!("extension.namespace: only Secrets of namespace {SECRETS} are read");
    hub.is_refused(&origin, "InvalidClusterProfile", &field).await?;

    let accounts: Api<ServiceAccount> = Api::namespaced(hub.spoke.client().await?, "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "hub"}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(2_592_000), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let parameters = PostParams::default();
    let answer = accounts.create_token_request("hub", &parameters, &request).await?;
    let token = answer.status.unwrap_or_default().token.context("a token")?;
    let of_token = json!({"clusterName": "eu-token"});
    hub.site
        .apply([
            secret(SECRETS, "eu-token", "Opaque", &json!({}), &[("token", &token)]),
            profile("secretreader", &cluster, &of_token),
        ])
        .await?;
    hub.is_reached(&origin).await?;
    hub.delete(&format!("/apis/multicluster.x-k8s.io/v1alpha1/namespaces/{FLEET}/clusterprofiles/{NAME}"))
        .await?;
    let row = async || Ok(hub.admin.get(&format!("{API}/clusterhealths/{NAME}")).await?.code);
    settles("the row is gone", SOON, row, |code| *code == StatusCode::NOT_FOUND).await?;
    Ok(())
}
