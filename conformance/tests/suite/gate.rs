//! Shared by the trials of admission: the site with two registered replicas of the webhooks, and helpers for kubectl.
//!
//! Trials run concurrently, each with its own namespaces, policies and quotas.

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

/// The label that selects the namespaces of trials. Its value is the name of the namespace.
pub(crate) const LABEL: &str = "gate";

/// Until all replicas have observed a change, on a busy machine.
pub(crate) const KNOWN: Duration = Duration::from_secs(30);

pub(crate) const AGONES: &str = "/apis/agones.dev/v1";
pub(crate) const KUSTOMIZE: &str = "/apis/kustomize.toolkit.fluxcd.io/v1";
pub(crate) const POLICY: &str = "/apis/policy.gatehouse.dev/v1alpha1";

const REPLICAS: usize = 2;

/// The site with registered webhooks.
pub(crate) struct Gate {
    pub(crate) site: Arc<Site>,
    /// A direct client of each replica.
    pub(crate) replicas: Vec<Caller>,
    /// A client of an administrator.
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

    /// Creates a namespace with the label. Returns once it is observed.
    pub(crate) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let labels = json!({LABEL: name});
        self.site
            .apply([json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})])
            .await
    }

    /// Creates or replaces an object as an administrator.
    pub(crate) async fn put(&self, object: &Value) -> anyhow::Result<()> {
        self.site.apply([object.clone()]).await
    }

    /// Creates a policy for one namespace. Returns once all replicas enforce it: `refused` is an object that it denies.
    pub(crate) async fn policy(&self, namespace: &str, spec: Value, refused: &Value) -> anyhow::Result<()> {
        self.put(&policy(namespace, spec)).await?;
        self.until_refused("/validate", namespace, refused).await
    }

    /// Creates a quota for one namespace. Returns once all replicas enforce it: `refused` is an object that exceeds it,
    /// of a kind that counts towards nothing else.
    pub(crate) async fn quota(&self, namespace: &str, hard: Value, refused: &Value) -> anyhow::Result<()> {
        self.put(&quota(namespace, hard)).await?;
        self.until_refused("/quota", namespace, refused).await
    }

    /// Waits until each replica denies the creation of an object, in a dry run, which reserves nothing.
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

    /// Waits until an object satisfies a condition.
    pub(crate) async fn becomes(
        &self,
        path: &str,
        within: Duration,
        wanted: impl FnMut(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        settles(path, within, || self.get(path), wanted).await
    }

    /// Deletes an object, if it exists.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.caller.send(&Method::DELETE, path, &[]).await?;
        anyhow::ensure!(answer.code.is_success() || answer.code == StatusCode::NOT_FOUND, "{answer:#?}");
        Ok(())
    }

    /// The sum of a counter over all replicas and all series that have these labels.
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

/// A policy for one namespace, with the same name.
pub(crate) fn policy(namespace: &str, mut spec: Value) -> Value {
    spec["namespaceSelector"] = json!({"matchLabels": {LABEL: namespace}});
    json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
        "metadata": {"name": namespace}, "spec": spec,
    })
}

/// A quota for one namespace, with the same name.
pub(crate) fn quota(namespace: &str, hard: impl Into<Value>) -> Value {
    let hard = hard.into();
    json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
        "metadata": {"name": namespace},
        "spec": {"namespaceSelector": {"matchLabels": {LABEL: namespace}}, "hard": hard},
    })
}

/// A Kustomization that violates no rule of these trials, with these fields in its spec.
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

/// A Fleet whose servers request half a core and 512 Mi each.
pub(crate) fn fleet(namespace: &str, name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": replicas, "template": {"spec": game()}},
    })
}

/// A GameServer with the spec of the Fleet's servers.
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

/// Merges fields into an object; null removes a field.
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

/// The dry-run review of a creation.
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

/// The plural of a kind in lower case, by a rule that holds for the kinds of these trials.
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

/// How kubectl applies objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Both ways to apply.
pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Runs `kubectl apply` on objects, with more arguments.
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

/// Runs a kubectl command with `-f` and these objects.
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
