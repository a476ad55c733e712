//! The kinds that Gatehouse reads, with permissive CRDs for those whose real CRDs are not available.
//!
//! Names, scopes and subresources are the real ones, so that clients and RBAC behave as in a real cluster.
//! The schemas accept anything, including bad input.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::load::{self, Manifest};

/// A kind that a system other than Kubernetes defines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Its API group.
    pub group: String,
    /// The served versions; the first is stored.
    pub versions: Vec<String>,
    /// The kind's name in manifests.
    pub kind: String,
    /// The resource's name in URLs.
    pub plural: String,
    #[serde(default)]
    short: Vec<String>,
    #[serde(default = "namespaced")]
    scope: String,
    #[serde(default = "yes")]
    status: bool,
    #[serde(default)]
    scale: bool,
}

fn namespaced() -> String {
    "Namespaced".to_owned()
}

fn yes() -> bool {
    true
}

/// All kinds, in the order of the table `crds/kinds.yaml`.
pub fn kinds() -> Vec<Kind> {
    serde_saphyr::from_str(include_str!("../crds/kinds.yaml")).expect("the table, part of this crate, parses")
}

/// A folder with real CRDs, which some working copies have beside them.
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/crds");

/// The real CRDs that are available, possibly none.
pub fn shared() -> anyhow::Result<Vec<Manifest>> {
    let folder = Path::new(SHARED);
    if folder.is_dir() { load::read_folder(folder) } else { Ok(Vec::new()) }
}

/// The CRDs of `policy.gatehouse.dev`.
pub fn policy() -> Vec<Manifest> {
    let manifest = |object| Manifest { origin: "policy.gatehouse.dev".to_owned(), object };
    gatehouse_apiservice::crds::definitions().into_iter().map(manifest).collect()
}

/// CRDs for the kinds that `defined` does not contain: Gatehouse's own ones, and stand-ins for the others.
pub fn missing_from(defined: &[Manifest]) -> Vec<Manifest> {
    let names: HashSet<_> = defined
        .iter()
        .filter(|manifest| manifest.object["kind"] == "CustomResourceDefinition")
        .filter_map(|manifest| manifest.object["metadata"]["name"].as_str())
        .collect();
    let stand_in = |kind: Kind| Manifest { origin: "crds/kinds.yaml".to_owned(), object: kind.crd() };
    let all = kinds().into_iter().map(stand_in).chain(policy());
    all.filter(|manifest| {
        manifest.object["metadata"]["name"].as_str().is_some_and(|name| !names.contains(name))
    })
    .collect()
}

/// The CRDs of these names, real ones if available. With fewer CRDs there is less to watch.
pub fn only(names: &[&str]) -> anyhow::Result<Vec<Manifest>> {
    let mut definitions = shared()?;
    definitions.extend(missing_from(&definitions));
    definitions.retain(|manifest| {
        manifest.object["metadata"]["name"].as_str().is_some_and(|name| names.contains(&name))
    });
    Ok(definitions)
}

impl Kind {
    fn crd_name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    fn crd(&self) -> Value {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let mut subresources = json!({});
        if self.status {
            subresources["status"] = json!({});
        }
        if self.scale {
            subresources["scale"] =
                json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
        }
        let condition = |field| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
        let versions: Vec<_> = self
            .versions
            .iter()
            .enumerate()
            .map(|(index, version)| {
                json!({
                    "name": version,
                    "served": true,
                    "storage": index == 0,
                    "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": anything, "status": anything},
                        // Velero and Longhorn, among others, have top-level fields besides spec and status.
                        "x-kubernetes-preserve-unknown-fields": true,
                    }},
                    "subresources": subresources,
                    "additionalPrinterColumns": [
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                        {"name": "Ready", "type": "string", "jsonPath": condition("status")},
                        {"name": "Status", "type": "string", "jsonPath": condition("message")},
                    ],
                })
            })
            .collect();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": self.crd_name(),
                // kube-apiserver refuses CRDs of groups under k8s.io without this annotation.
                "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
            },
            "spec": {
                "group": self.group,
                "scope": self.scope,
                "names": {
                    "kind": self.kind,
                    "listKind": format!("{}List", self.kind),
                    "plural": self.plural,
                    "singular": self.kind.to_lowercase(),
                    "shortNames": self.short,
                },
                "versions": versions,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration;

    #[test]
    fn kinds_that_are_defined_already_are_left_alone() {
        let all = missing_from(&[]);
        let defined = &all[..3];
        assert_eq!(missing_from(defined).len(), all.len() - 3);
    }

    #[test]
    fn every_kind_that_gatehouse_reads_can_be_defined() {
        let mut known: Vec<_> = kinds().into_iter().map(|kind| (kind.group, kind.plural)).collect();
        known.extend(policy().iter().map(|definition| {
            let text =
                |pointer| definition.object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
            (text("/spec/group"), text("/spec/names/plural"))
        }));
        // The groups that kube-apiserver itself defines.
        let built_in = [
            "",
            "apiextensions.k8s.io",
            "apiregistration.k8s.io",
            "apps",
            "autoscaling",
            "batch",
            "node.k8s.io",
            "policy",
            "storage.k8s.io",
        ];
        for kind in registration::kinds().into_iter().chain(gatehouse_webhooks::intercepted::read()) {
            assert!(known.contains(&kind) || built_in.contains(&&*kind.0), "{kind:?}");
        }
    }

    #[test]
    fn no_kind_is_listed_twice() {
        let names: HashSet<_> = kinds().iter().map(Kind::crd_name).collect();
        assert_eq!(names.len(), kinds().len());
    }
}
