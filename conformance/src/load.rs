//! Loads manifests into a cluster: CRDs first, then namespaces, then all other objects in parallel. Objects
//! are created by server-side apply, and their status through the status subresource if there is one.
//!
//! All manifests are tried; the error at the end lists those that failed. A namespace that objects name but
//! no manifest defines is created.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiResource, Scope};
use serde_json::{Value, json};

/// The owner of the applied fields.
const FIELD_MANAGER: &str = "gatehouse-conformance";

/// Concurrent requests: enough to keep a small control plane busy.
const PARALLEL: usize = 16;

/// kube-apiserver serves a CRD a moment after it has accepted it; a minute is enough on a busy machine.
const DEFINITION_ATTEMPTS: u32 = 600;
const DEFINITION_PAUSE: Duration = Duration::from_millis(100);

/// An object and its origin.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file, for error messages.
    pub origin: String,
    /// The object; never a List.
    pub object: Value,
}

impl Manifest {
    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.text("/kind")
    }

    fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    fn type_key(&self) -> (String, String) {
        (self.text("/apiVersion").to_owned(), self.kind().to_owned())
    }

    fn describe(&self) -> String {
        format!("{}: {} {}", self.origin, self.kind(), self.name())
    }
}

/// All objects in the `.yaml`, `.yml` and `.json` files of a folder and its subfolders, in the order of their
/// paths.
pub fn read_folder(folder: &Path) -> anyhow::Result<Vec<Manifest>> {
    let mut files = Vec::new();
    collect_files(folder, &mut files)?;
    files.sort();
    let mut manifests = Vec::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        manifests.extend(parse(&file.display().to_string(), &text)?);
    }
    Ok(manifests)
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot_read = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(cannot_read)? {
        let path = entry.with_context(cannot_read)?.path();
        if path.is_dir() {
            collect_files(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|one| extension == *one))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// The objects of a file in YAML, which includes JSON. Lists are flattened, and empty documents are skipped.
pub fn parse(origin: &str, text: &str) -> anyhow::Result<Vec<Manifest>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow!("{origin} is not valid: {error}"))?;
    let mut manifests = Vec::new();
    for document in documents {
        flatten(origin, document, &mut manifests)?;
    }
    Ok(manifests)
}

fn flatten(origin: &str, mut document: Value, manifests: &mut Vec<Manifest>) -> anyhow::Result<()> {
    if document.is_null() {
        return Ok(());
    }
    let kind = document["kind"].as_str().unwrap_or_default();
    if kind.ends_with("List") && document["items"].is_array() {
        let Value::Array(items) = document["items"].take() else { return Ok(()) };
        return items.into_iter().try_for_each(|item| flatten(origin, item, manifests));
    }
    if kind.is_empty() || !document["apiVersion"].is_string() {
        bail!("{origin} holds a document without apiVersion and kind");
    }
    manifests.push(Manifest { origin: origin.to_owned(), object: document });
    Ok(())
}

/// Loads all manifests.
pub async fn apply(client: &kube::Client, manifests: Vec<Manifest>) -> anyhow::Result<()> {
    let (definitions, others): (Vec<_>, Vec<_>) =
        manifests.into_iter().partition(|manifest| manifest.kind() == "CustomResourceDefinition");
    let (mut namespaces, objects): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|manifest| manifest.kind() == "Namespace" && manifest.text("/apiVersion") == "v1");
    let mut missing = missing_namespaces(&namespaces, &objects);
    if !missing.is_empty() {
        // Applying a namespace that exists would remove the labels that its own manifest set.
        let known = Api::<Namespace>::all(client.clone()).list_metadata(&ListParams::default()).await?;
        let known: HashSet<_> =
            known.items.iter().filter_map(|known| known.metadata.name.as_deref()).collect();
        missing.retain(|manifest| !known.contains(manifest.name()));
    }
    namespaces.extend(missing);

    let awaited: HashSet<_> =
        definitions.iter().map(|manifest| manifest.text("/spec/group").to_owned()).collect();
    let (owned, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|manifest| {
        manifest.object.pointer("/metadata/ownerReferences").is_some_and(|owners| !owners.is_null())
    });
    for stage in [definitions, namespaces, objects] {
        apply_all(client, stage, &awaited).await?;
    }
    // Owned objects may own others. Manifests are in the order in which they were written, owners first.
    for manifest in owned {
        let manifest = with_live_owners(client, manifest).await?;
        apply_all(client, vec![manifest], &awaited).await?;
    }
    Ok(())
}

/// Replaces the uids in the manifest's owner references by those in this cluster: selections by owner use the
/// uid, and the garbage collector would delete an object whose owner does not exist.
async fn with_live_owners(client: &kube::Client, mut manifest: Manifest) -> anyhow::Result<Manifest> {
    let namespace = manifest.text("/metadata/namespace").to_owned();
    let owners = manifest.object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten() {
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
        let Ok(resource) = Resource::resolve(client, &api_version, &kind, &HashSet::new()).await else {
            continue;
        };
        let live = resource.api(client, &namespace).get_opt(&name).await?;
        if let Some(uid) = live.and_then(|live| live.metadata.uid) {
            owner["uid"] = uid.into();
        }
    }
    Ok(manifest)
}

fn missing_namespaces(defined: &[Manifest], objects: &[Manifest]) -> Vec<Manifest> {
    let mut named: BTreeSet<_> =
        objects.iter().map(|manifest| manifest.text("/metadata/namespace")).collect();
    for known in ["", "default", "kube-system", "kube-public", "kube-node-lease"] {
        named.remove(known);
    }
    for manifest in defined {
        named.remove(manifest.name());
    }
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    named
        .into_iter()
        .map(|name| Manifest { origin: "(implied)".to_owned(), object: namespace(name) })
        .collect()
}

/// Resolves each kind once, then applies the manifests in parallel. Waits for kinds of the `awaited` groups
/// to appear.
async fn apply_all(
    client: &kube::Client,
    manifests: Vec<Manifest>,
    awaited: &HashSet<String>,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    let mut resources: HashMap<(String, String), Option<Resource>> = HashMap::new();
    for manifest in &manifests {
        if let Entry::Vacant(unknown) = resources.entry(manifest.type_key()) {
            let (api_version, kind) = unknown.key();
            let resource = Resource::resolve(client, api_version, kind, awaited).await;
            let resource =
                resource.map_err(|error| failures.push(format!("{}: {error:#}", manifest.describe())));
            unknown.insert(resource.ok());
        }
    }
    let resources = &resources;
    let outcomes: Vec<_> = stream::iter(manifests)
        .map(|manifest| async move {
            let resource = resources.get(&manifest.type_key())?.as_ref()?;
            let applied = resource.apply(client, &manifest).await;
            applied.err().map(|error| format!("{}: {error:#}", manifest.describe()))
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    failures.extend(outcomes.into_iter().flatten());
    if failures.is_empty() {
        return Ok(());
    }
    let mut message = format!("{} objects could not be loaded:", failures.len());
    for failure in &failures {
        write!(message, "\n  {failure}")?;
    }
    bail!(message)
}

/// A kind, as discovery describes it.
struct Resource {
    api: ApiResource,
    namespaced: bool,
    has_status: bool,
}

impl Resource {
    async fn resolve(
        client: &kube::Client,
        api_version: &str,
        kind: &str,
        awaited: &HashSet<String>,
    ) -> anyhow::Result<Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let attempts = if awaited.contains(group) { DEFINITION_ATTEMPTS } else { 1 };
        let mut attempt = 1;
        let (api, capabilities) = loop {
            match discovery::pinned_kind(client, &gvk).await {
                Ok(found) => break found,
                Err(kube::Error::Api(_) | kube::Error::Discovery(_)) if attempt == attempts => {
                    bail!("the cluster does not serve {api_version} {kind}")
                }
                Err(kube::Error::Api(_) | kube::Error::Discovery(_)) => {
                    tokio::time::sleep(DEFINITION_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        };
        let has_status =
            capabilities.subresources.iter().any(|(subresource, _)| subresource.plural == "status");
        Ok(Self { api, namespaced: capabilities.scope == Scope::Namespaced, has_status })
    }

    fn api(&self, client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            let namespace = if namespace.is_empty() { "default" } else { namespace };
            Api::namespaced_with(client.clone(), namespace, &self.api)
        } else {
            Api::all_with(client.clone(), &self.api)
        }
    }

    async fn apply(&self, client: &kube::Client, manifest: &Manifest) -> anyhow::Result<()> {
        let api = self.api(client, manifest.text("/metadata/namespace"));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let name = manifest.name();
        let mut object = manifest.object.clone();
        // Snapshots contain managedFields, but server-side apply does not accept them.
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let status = if self.has_status { take_status(&mut object) } else { None };
        api.patch(name, &params, &Patch::Apply(&object)).await.map_err(answer)?;
        if let Some(status) = status {
            let patch = json!({
                "apiVersion": object["apiVersion"],
                "kind": object["kind"],
                "metadata": {"name": name},
                "status": status,
            });
            api.patch_status(name, &params, &Patch::Apply(&patch))
                .await
                .map_err(answer)
                .context("its status")?;
        }
        Ok(())
    }
}

/// The message of an API server's Status, without the structure around it.
fn answer(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("{}", status.message),
        error => error.into(),
    }
}

fn take_status(object: &mut Value) -> Option<Value> {
    object.as_object_mut()?.remove("status").filter(|status| !status.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(manifests: &[Manifest]) -> Vec<&str> {
        manifests.iter().map(Manifest::name).collect()
    }

    #[test]
    fn documents_and_lists_become_single_objects() {
        let text = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: a}}
---
---
{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {\"name\": \"c\"}}
";
        assert_eq!(names(&parse("x.yaml", text).expect("parses")), ["a", "b", "c"]);
    }

    #[test]
    fn document_that_is_no_object_is_refused_by_file() {
        let error = parse("x.yaml", "just: data").expect_err("refused").to_string();
        assert!(error.starts_with("x.yaml holds a document"), "{error}");
        let error = parse("y.yaml", "a: [").expect_err("refused").to_string();
        assert!(error.starts_with("y.yaml is not valid"), "{error}");
    }

    #[test]
    fn namespaces_are_made_only_where_nobody_defines_them() {
        let object = |namespace: &str| Manifest {
            origin: String::new(),
            object: json!({"kind": "ConfigMap", "metadata": {"namespace": namespace}}),
        };
        let defined = [Manifest {
            origin: String::new(),
            object: json!({"kind": "Namespace", "metadata": {"name": "a"}}),
        }];
        let objects = [object("a"), object("b"), object("b"), object("default"), object("")];
        assert_eq!(names(&missing_namespaces(&defined, &objects)), ["b"]);
    }
}
