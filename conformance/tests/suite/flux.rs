//! Imitates the requests of kustomize-controller: its account, its field manager, a dry run before each write, and the
//! removal of fields that other managers own. It follows fluxcd/pkg's `ssa`.

use anyhow::{Context, ensure};
use gatehouse_conformance::kubectl::{Kubectl, Output};
use serde_json::{Map, Value, json};

use crate::gate::{Gate, with_file};

/// The field manager.
const MANAGER: &str = "kustomize-controller";

/// The service account.
pub(crate) const ACCOUNT: &str = "system:serviceaccount:flux-system:kustomize-controller";

/// kustomize-controller, with its own account or a tenant's.
pub(crate) struct KustomizeController {
    kubectl: Kubectl,
}

impl KustomizeController {
    /// Grants the account all permissions in the namespaces.
    pub(crate) async fn new(gate: &Gate, account: &str, namespaces: &[&str]) -> anyhow::Result<Self> {
        for namespace in namespaces {
            permit(gate, namespace, account, &["*"]).await?;
        }
        Ok(Self { kubectl: gate.site.kubectl_as(account)? })
    }

    /// The result of a dry run of an object.
    pub(crate) async fn dry_run(&self, object: &Value) -> anyhow::Result<Value> {
        let more = ["--dry-run=server", "-o", "json", "--show-managed-fields"];
        let output = self.send(std::slice::from_ref(object), &more).await?;
        Ok(serde_json::from_str(&output.ok()?)?)
    }

    /// Reconciles objects: a dry run of each, then an apply of those that are new or have drifted. Returns the names of
    /// the latter.
    pub(crate) async fn reconcile(
        &self,
        gate: &Gate,
        objects: &[(&str, Value)],
    ) -> anyhow::Result<Vec<String>> {
        let mut drifting = Vec::new();
        for (path, object) in objects {
            let after = self.dry_run(object).await?;
            let before = gate.caller.get(path).await?;
            let is_new = before.code == http::StatusCode::NOT_FOUND;
            let is_cleaned = !is_new && self.take_over(&before.ok()?, object).await?;
            if is_new || is_cleaned || drifts(&gate.get(path).await?, &after) {
                drifting.push(object.clone());
            }
        }
        if !drifting.is_empty() {
            self.send(&drifting, &[]).await?.ok()?;
        }
        Ok(drifting
            .iter()
            .map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// Takes ownership of the fields that kubectl owns, so that the next apply removes those that are not in Git.
    async fn take_over(&self, before: &Value, object: &Value) -> anyhow::Result<bool> {
        let entries = before["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let is_kubectls = |entry: &Value| {
            entry["manager"].as_str().is_some_and(|manager| manager.starts_with("kubectl"))
                && entry.get("subresource").is_none()
        };
        if !entries.iter().any(is_kubectls) {
            return Ok(false);
        }
        let is_own = |entry: &Value| entry["manager"] == MANAGER && entry["operation"] == "Apply";
        let mut own =
            json!({"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {}});
        own["apiVersion"] = object["apiVersion"].clone();
        own["time"] = json!("2026-01-01T00:00:00Z");
        let mut kept = Vec::new();
        for entry in entries {
            if is_own(&entry) || is_kubectls(&entry) {
                unite(&mut own["fieldsV1"], &entry["fieldsV1"]);
            } else {
                kept.push(entry);
            }
        }
        kept.push(own);
        let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": kept}]).to_string();
        let kind = object["kind"].as_str().context("a kind")?;
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let manager = format!("--field-manager={MANAGER}");
        let args =
            ["patch", kind, text("name"), "-n", text("namespace"), "--type=json", &manager, "-p", &patch];
        self.kubectl.run(args).await?.ok()?;
        Ok(true)
    }

    /// Writes the status of an object.
    pub(crate) async fn report(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        status: &Value,
    ) -> anyhow::Result<()> {
        let (patch, manager) =
            (json!({"status": status}).to_string(), format!("--field-manager=gotk-{MANAGER}"));
        let args = [
            "patch",
            kind,
            name,
            "-n",
            namespace,
            "--subresource=status",
            "--type=merge",
            &manager,
            "-p",
            &patch,
        ];
        self.kubectl.run(args).await?.ok()?;
        Ok(())
    }

    /// Deletes an object, as pruning does.
    pub(crate) async fn prune(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Output> {
        self.kubectl.run(["delete", kind, name, "-n", namespace, "--wait=false"]).await
    }

    async fn send(&self, objects: &[Value], more: &[&str]) -> anyhow::Result<Output> {
        let manager = format!("--field-manager={MANAGER}");
        let command = ["apply", "--server-side", "--force-conflicts", &manager];
        with_file(&self.kubectl, &command, objects, more).await
    }
}

/// Whether kustomize-controller would apply: labels, annotations or any field outside of metadata and status differ.
pub(crate) fn drifts(before: &Value, after: &Value) -> bool {
    let declared = |object: &Value| {
        let mut object = object.clone();
        let metadata = object["metadata"].take();
        if let Some(fields) = object.as_object_mut() {
            fields.shift_remove("metadata");
            fields.shift_remove("status");
        }
        let field = |name: &str| metadata[name].as_object().cloned().unwrap_or_default();
        (field("labels"), field("annotations"), object)
    };
    declared(before) != declared(after)
}

/// Grants a user these verbs on all resources in a namespace.
pub(crate) async fn permit(gate: &Gate, namespace: &str, user: &str, verbs: &[&str]) -> anyhow::Result<()> {
    ensure!(!user.is_empty(), "nobody");
    let named = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": user});
    let metadata = json!({"name": user, "namespace": namespace});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": verbs}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": named("Role"), "subjects": [named("User")],
    });
    gate.site.apply([role, binding]).await
}

fn unite(into: &mut Value, fields: &Value) {
    for (name, below) in fields.as_object().into_iter().flatten() {
        let known = into.as_object_mut().map(|into| into.entry(name).or_insert_with(|| Map::new().into()));
        if let Some(known) = known {
            unite(known, below);
        }
    }
}
