//! What the trials of admission share: the site, two replicas of the webhooks registered with it, and kubectl at work.
//!
//! Trials run side by side, in namespaces, with policies and with quotas of their own.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gatehouse_conformance::kubectl::{Kubectl, Output};
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::site::Site;
use crate::world::settles;

/// What trials' namespaces are selected by; its value is the namespace's name.
pub(crate) const LABEL: &str = "gate";

/// Until a change is known to everybody whom it concerns; the machine may be busy.
pub(crate) const KNOWN: Duration = Duration::from_secs(30);

pub(crate) const AGONES: &str = "/apis/agones.dev/v1";
pub(crate) const KUSTOMIZE: &str = "/apis/kustomize.toolkit.fluxcd.io/v1";
pub(crate) const POLICY: &str = "/apis/policy.gatehouse.dev/v1alpha1";

const REPLICAS: usize = 2;

/// The site with admission in force.
pub(crate) struct Gate {
    pub(crate) site: Arc<Site>,
    /// Each replica, past kube-apiserver.
    pub(crate) replicas: Vec<Caller>,
    /// An administrator.
    pub(crate) caller: Caller,
}

impl Gate {
    pub(crate) async fn new(site: Arc<Site>) -> anyhow::Result<(Self, Webhooks)> {
        let control_plane = &site.control_plane;
        webhooks::prepare(control_plane).await?;
        let settings = Settings { executable: site.options.executable.clone(), ..Settings::default() };
        let webhooks = Webhooks::start(control_plane, REPLICAS, &settings).await?;
        webhooks.register(control_plane).await?;
        let mut replicas = Vec::new();
        for number in 0..webhooks.len() {
            let replica = webhooks.replica(number);
            let kubeconfig = replica.kubeconfig_for(control_plane, "gate", Some("system:masters"))?;
            replicas.push(Caller::of_kubeconfig(&kubeconfig).await?);
        }
        let caller = site.caller().await?;
        Ok((Self { site, replicas, caller }, webhooks))
    }

    /// kubectl of an administrator.
    pub(crate) fn kubectl(&self) -> anyhow::Result<Kubectl> {
        self.site.kubectl()
    }

    /// Makes a namespace that trials' selectors find; it is observed when this returns.
    pub(crate) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let labels = json!({LABEL: name});
        self.site
            .apply([json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})])
            .await
    }

    /// Writes an object as an administrator: creates it, or replaces what is there.
    pub(crate) async fn put(&self, object: &Value) -> anyhow::Result<()> {
        self.site.apply([object.clone()]).await
    }

    /// A policy for one namespace, in force when this returns: `refused` is an object that it refuses.
    pub(crate) async fn policy(&self, namespace: &str, spec: Value, refused: &Value) -> anyhow::Result<()> {
        self.put(&policy(namespace, spec)).await?;
        self.until_refused("/validate", namespace, refused).await
    }

    /// A quota for one namespace, in force when this returns: `refused` is an object that there is no room for, of a
    /// kind that counts nothing else.
    pub(crate) async fn quota(&self, namespace: &str, hard: Value, refused: &Value) -> anyhow::Result<()> {
        self.put(&quota(namespace, hard)).await?;
        self.until_refused("/quota", namespace, refused).await
    }

    /// Waits until each replica refuses to have an object created; as a dry-run, so that nothing is reserved.
    pub(crate) async fn until_refused(
        &self,
        path: &str,
        namespace: &str,
        object: &Value,
    ) -> anyhow::Result<()> {
        let review = creation(namespace, object);
        for replica in &self.replicas {
            let ask = || replica.post(path, &review);
            let what = format!("{path} refuses {object}");
            settles(what, KNOWN, ask, |answer| answer.body["response"]["status"]["code"] == 403).await?;
        }
        Ok(())
    }

    /// Waits until each replica admits the creation of an object.
    pub(crate) async fn until_admitted(
        &self,
        path: &str,
        namespace: &str,
        object: &Value,
    ) -> anyhow::Result<()> {
        let review = creation(namespace, object);
        for replica in &self.replicas {
            let ask = || replica.post(path, &review);
            settles("it is admitted", KNOWN, ask, |answer| answer.body["response"]["allowed"] == true)
                .await?;
        }
        Ok(())
    }

    /// Reads an object.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.caller.get(path).await?.ok()
    }

    /// Waits until an object is as wanted.
    pub(crate) async fn becomes(
        &self,
        path: &str,
        within: Duration,
        wanted: impl FnMut(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        settles(path, within, || self.get(path), wanted).await
    }

    /// Removes an object, if it is there.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.caller.send(&Method::DELETE, path, &[]).await?;
        anyhow::ensure!(answer.code.is_success() || answer.code == StatusCode::NOT_FOUND, "{answer:#?}");
        Ok(())
    }

    /// What the metrics of all replicas say of a counter, added up: of the lines that have all of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for replica in &self.replicas {
            let request = http::Request::get("/metrics").body(Vec::new())?;
            let text = replica.client.request_text(request).await?;
            for line in
                text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')))
            {
                let wanted =
                    labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")));
                let (_, value) = line.rsplit_once(' ').context("a value")?;
                sum += if wanted { value.parse()? } else { 0.0 };
            }
        }
        Ok(sum)
    }
}

/// A policy named after the one namespace that it is for.
pub(crate) fn policy(namespace: &str, mut spec: Value) -> Value {
    spec["namespaceSelector"] = json!({"matchLabels": {LABEL: namespace}});
    json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
        "metadata": {"name": namespace}, "spec": spec,
    })
}

/// A quota named after the one namespace that it is for.
pub(crate) fn quota(namespace: &str, hard: impl Into<Value>) -> Value {
    let hard = hard.into();
    json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
        "metadata": {"name": namespace},
        "spec": {"namespaceSelector": {"matchLabels": {LABEL: namespace}}, "hard": hard},
    })
}

/// A Kustomization that no rule of these trials finds fault with, with some fields of its spec as given.
pub(crate) fn kustomization(namespace: &str, name: &str, fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "interval": "10m", "prune": true, "path": "./", "timeout": "3m",
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        },
    });
    merge(&mut object["spec"], fields);
    object
}

/// A Fleet whose servers each ask for half a core and 512 Mi.
pub(crate) fn fleet(namespace: &str, name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": replicas, "template": {"spec": game()}},
    })
}

/// A GameServer, as a Fleet's.
pub(crate) fn game_server(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "agones.dev/v1", "kind": "GameServer",
        "metadata": {"namespace": namespace, "name": name}, "spec": game(),
    })
}

fn game() -> Value {
    let requests = json!({"cpu": "500m", "memory": "512Mi"});
    let container = json!({"name": "game", "image": "game:1", "resources": {"requests": requests}});
    json!({
        "ports": [{"name": "default", "portPolicy": "Dynamic", "containerPort": 7654}],
        "template": {"spec": {"containers": [container]}},
    })
}

pub(crate) fn config_map(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}})
}

/// Puts fields of one object into another; null takes a field out.
pub(crate) fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { return };
    for (name, value) in fields {
        match value {
            Value::Null => drop(into.as_object_mut().and_then(|into| into.shift_remove(&name))),
            Value::Object(_) if into[&name].is_object() => merge(&mut into[&name], value),
            value => into[&name] = value,
        }
    }
}

/// The review of a creation, as a dry-run by somebody.
pub(crate) fn creation(namespace: &str, object: &Value) -> Value {
    let (group, version) = split(object["apiVersion"].as_str().unwrap_or_default());
    let kind = object["kind"].as_str().unwrap_or_default();
    let resource = plural(kind);
    let mut object = object.clone();
    object["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000001");
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "00000000-0000-4000-8000-000000000000",
            "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": resource},
            "requestKind": {"group": group, "version": version, "kind": kind},
            "requestResource": {"group": group, "version": version, "resource": resource},
            "name": object["metadata"]["name"], "namespace": namespace, "operation": "CREATE",
            "userInfo": {"username": "somebody", "groups": ["system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": true,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

/// As English has it, mostly; it does for the kinds of these trials.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    }
}

fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// How kubectl applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Both ways to apply.
pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// `kubectl apply` of objects, with further arguments.
pub(crate) async fn apply(
    kubectl: &Kubectl,
    side: Side,
    objects: &[Value],
    more: &[&str],
) -> anyhow::Result<Output> {
    with_file(
        kubectl,
        if side == Side::Server { &["apply", "--server-side"] } else { &["apply"] },
        objects,
        more,
    )
    .await
}

/// A command of kubectl that takes `-f`.
pub(crate) async fn with_file(
    kubectl: &Kubectl,
    command: &[&str],
    objects: &[Value],
    more: &[&str],
) -> anyhow::Result<Output> {
    let mut file = tempfile::Builder::new().prefix("gatehouse-").suffix(".json").tempfile()?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    file.write_all(list.to_string().as_bytes())?;
    let path = file.path().to_str().context("a path")?;
    let file = ["-f", path];
    kubectl.run(command.iter().chain(&file).chain(more)).await
}
