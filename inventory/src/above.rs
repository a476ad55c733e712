//! What stands above an object: the object that owns it, and the Flux object that applies it.
//!
//! Flux labels everything that it applies with the name of the object that did, so that neither inventories nor the
//! objects between are needed to find it. Owners are those of `metadata.ownerReferences` that are the controller.
//!
//! **Invariant:** only objects that may explain a failure keep this: those that are well cost nothing.

use serde::Deserialize;

use crate::{Interner, ObjectKey, catalogue::Catalogue, flux::Text};

/// The objects above an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Above {
    /// The controller of the object, by its owner references.
    pub owner: Option<ObjectKey>,
    /// The Flux object that applies it, by its labels.
    pub manager: Option<ObjectKey>,
}

impl Above {
    /// `None` if nothing is known to be above it.
    pub(crate) fn of(owner: Option<ObjectKey>, manager: Option<ObjectKey>) -> Option<Box<Self>> {
        (owner.is_some() || manager.is_some()).then(|| Box::new(Self { owner, manager }))
    }

    /// Every object above.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        let manager = self.manager.as_ref().filter(|manager| self.owner.as_ref() != Some(manager));
        self.owner.iter().chain(manager)
    }
}

/// The labels of each manager: the prefix of its labels `…/name` and `…/namespace`, its group and kind. Of several, the
/// first: what a release applies may carry the labels of the Kustomization that its chart was made from.
const MANAGERS: [(&str, &str, &str); 4] = [
    ("helm.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "HelmRelease"),
    ("kustomize.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io", "Kustomization"),
    ("resourceset.fluxcd.controlplane.io", "fluxcd.controlplane.io", "ResourceSet"),
    ("fluxcd.controlplane.io", "fluxcd.controlplane.io", "FluxInstance"),
];

/// The manager that an object's labels name.
pub(crate) fn manager<'a>(
    catalogue: &Catalogue,
    interner: &Interner,
    label: impl Fn(&str, &str) -> Option<&'a str>,
) -> Option<ObjectKey> {
    MANAGERS.into_iter().find_map(|(prefix, group, kind)| {
        let (name, namespace) = (label(prefix, "name")?, label(prefix, "namespace")?);
        let kind = catalogue.find(group, kind)?;
        Some(interner.key(kind, namespace, name))
    })
}

/// An owner, if its kind is observed. `namespace` is that of the object: an owner is in the same one, or in none.
pub(crate) fn owner(
    catalogue: &Catalogue,
    interner: &Interner,
    [api_version, kind, name]: [&str; 3],
    namespace: &str,
) -> Option<ObjectKey> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let id = catalogue.find(group, kind)?;
    let namespace = if catalogue.kind(id).namespaced { namespace } else { "" };
    Some(interner.key(id, namespace, name))
}

/// The labels that tell what is above an object.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Labels<'a> {
    /// Of a Pod: what its ReplicaSet is called beyond the name of its Deployment.
    #[serde(borrow, rename = "pod-template-hash")]
    pub(crate) deployment_hash: Option<Text<'a>>,
    /// The same for a Rollout.
    #[serde(borrow, rename = "rollouts-pod-template-hash")]
    pub(crate) rollout_hash: Option<Text<'a>>,
    /// The set of a game server of OpenKruiseGame, which is called as its pod.
    #[serde(borrow, rename = "game.kruise.io/owner-gss")]
    pub(crate) game_set: Option<Text<'a>>,
    /// What Strimzi made a pod for: the kind and the name.
    #[serde(borrow, rename = "strimzi.io/kind")]
    pub(crate) strimzi_kind: Option<Text<'a>>,
    #[serde(borrow, rename = "strimzi.io/cluster")]
    pub(crate) strimzi_cluster: Option<Text<'a>>,
    #[serde(borrow, rename = "helm.toolkit.fluxcd.io/name")]
    release: Option<Text<'a>>,
    #[serde(borrow, rename = "helm.toolkit.fluxcd.io/namespace")]
    release_namespace: Option<Text<'a>>,
    #[serde(borrow, rename = "kustomize.toolkit.fluxcd.io/name")]
    kustomization: Option<Text<'a>>,
    #[serde(borrow, rename = "kustomize.toolkit.fluxcd.io/namespace")]
    kustomization_namespace: Option<Text<'a>>,
    #[serde(borrow, rename = "resourceset.fluxcd.controlplane.io/name")]
    set: Option<Text<'a>>,
    #[serde(borrow, rename = "resourceset.fluxcd.controlplane.io/namespace")]
    set_namespace: Option<Text<'a>>,
    #[serde(borrow, rename = "fluxcd.controlplane.io/name")]
    instance: Option<Text<'a>>,
    #[serde(borrow, rename = "fluxcd.controlplane.io/namespace")]
    instance_namespace: Option<Text<'a>>,
}

impl Labels<'_> {
    /// The manager that they name.
    pub(crate) fn manager(&self, catalogue: &Catalogue, interner: &Interner) -> Option<ObjectKey> {
        manager(catalogue, interner, |prefix, part| {
            let [name, namespace] = match prefix {
                "helm.toolkit.fluxcd.io" => [&self.release, &self.release_namespace],
                "kustomize.toolkit.fluxcd.io" => [&self.kustomization, &self.kustomization_namespace],
                "resourceset.fluxcd.controlplane.io" => [&self.set, &self.set_namespace],
                _ => [&self.instance, &self.instance_namespace],
            };
            let label = if part == "name" { name } else { namespace };
            label.as_ref().map(Text::as_str)
        })
    }
}
