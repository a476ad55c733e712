//! Decodes and judges Pods: JSON in, record out.
//!
//! The ReplicaSet between a Pod and its Deployment is not observed: its name is that of the Deployment and the hash that
//! the Pod's label `pod-template-hash` repeats. A cluster keeps ten old ReplicaSets for each Deployment. Other sets between
//! are known by labels, too.

mod object;
mod rule;

pub(crate) use rule::CRASH_LOOP;

use object::{Owner, Pod};

use crate::{
    Above, Detail, Interner, Links, ObjectKey, Record, Seconds, State, Use,
    above::{self, Labels},
    catalogue::{Catalogue, KindId, namespace_of},
    flux::{Text, path_error},
};

/// The most claims of a pod that are looked at.
const CLAIMS: usize = 16;
/// The most Secrets of a pod that are looked at.
const SECRETS: usize = 4;
/// The kinds whose objects make a Secret, as a rule of their own name.
pub(crate) const MAKERS_OF_SECRETS: [[&str; 2]; 3] = [
    ["external-secrets.io", "ExternalSecret"],
    ["bitnami.com", "SealedSecret"],
    ["cert-manager.io", "Certificate"],
];

/// Decodes and judges a Pod.
pub(crate) fn observe(
    catalogue: &Catalogue,
    id: KindId,
    json: &str,
    interner: &Interner,
    now: Seconds,
) -> Result<Record, serde_json::Error> {
    let pod: Pod<'_> = serde_json::from_str(json)?;
    let draft = rule::judge(&pod, interner);
    let namespace = namespace_of(catalogue.kind(id), pod.metadata.namespace.as_ref());
    let created = pod.metadata.creation_timestamp.map_or(0, |at| at.0);
    let name = pod.metadata.name.as_str();
    // A pod that is well is forgotten at once, and its name need not be shared with anything.
    let is_well = draft.state == State::Ready;
    let key = if is_well { ObjectKey::new(id, namespace, name) } else { interner.key(id, namespace, name) };
    let verdict = draft.finish(interner);
    let mut record = Record { key, created, layer: None, verdict, detail: Detail::None, above: None };
    if !is_well {
        let uses = uses(catalogue, interner, &pod, namespace);
        if !uses.is_empty() {
            let own = record.verdict.clone();
            record.detail =
                Detail::Linked(Box::new(Links { own, layer: None, uses, series: None, applied: None }));
        }
        record.above = above(catalogue, interner, &pod, namespace);
    }
    record.let_pass(now);
    Ok(record)
}

/// Describes why [`observe`] rejected an object.
pub(crate) fn field_error(json: &str) -> String {
    path_error::<Pod<'_>>(json)
}

/// What makes the Secrets that a pod lacks, by their names. The claims of a pod that does not run yet, and the node of one
/// that does.
fn uses(catalogue: &Catalogue, interner: &Interner, pod: &Pod<'_>, namespace: &str) -> Box<[Use]> {
    let target = |group: &str, kind: &str, namespace: &str, name: &str| {
        let kind = catalogue.find(group, kind)?;
        let target = interner.key(kind, namespace, name);
        Some(Use {
            target,
            explains_if_failed: true,
            // The scheduler's message says that a claim does not exist.
            explains_if_missing: false,
            not_reasons: Box::default(),
            cases: Box::default(),
        })
    };
    let lacked = lacked_secrets(pod).take(SECRETS);
    let makers =
        lacked.flat_map(|name| MAKERS_OF_SECRETS.map(|[group, kind]| target(group, kind, namespace, name)));
    let makers: Vec<_> = makers.flatten().collect();
    if !makers.is_empty() {
        return makers.into();
    }
    let Some(spec) = &pod.spec else { return Box::default() };
    let runs = pod.status.as_ref().and_then(|status| status.phase.as_ref());
    if runs.is_some_and(|phase| phase.as_str() != "Pending") {
        let node = spec.node_name.as_ref().map(Text::as_str).filter(|name| !name.is_empty());
        return node.and_then(|name| target("", "Node", "", name)).into_iter().collect();
    }
    let claims = spec.volumes.as_deref().unwrap_or_default().iter().filter_map(|volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(claim.claim_name.as_ref()?.as_str().to_owned());
        }
        volume.ephemeral.as_ref()?;
        Some(format!("{}-{}", pod.metadata.name.as_str(), volume.name.as_ref()?.as_str()))
    });
    claims.take(CLAIMS).filter_map(|name| target("", "PersistentVolumeClaim", namespace, &name)).collect()
}

/// The Secrets that containers wait for, as kubelet names them.
fn lacked_secrets<'a>(pod: &'a Pod<'_>) -> impl Iterator<Item = &'a str> {
    let status = pod.status.iter();
    let containers = status.flat_map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let waiting = containers.flatten().flatten().filter_map(|of| of.state.as_ref()?.waiting.as_ref());
    let messages = waiting.filter_map(|waiting| waiting.message.as_ref());
    messages.filter_map(|message| lacked_secret(message.as_str()))
}

/// The Secret that a message of kubelet says is missing, or lacks a key.
fn lacked_secret(message: &str) -> Option<&str> {
    if let Some((_, rest)) = message.split_once("secret \"") {
        return rest.split_once("\" not found").map(|(name, _)| name);
    }
    let (_, rest) = message.split_once("couldn't find key ")?.1.split_once(" in Secret ")?;
    rest.split_whitespace().next()?.split('/').nth(1)
}

fn above(catalogue: &Catalogue, interner: &Interner, pod: &Pod<'_>, namespace: &str) -> Option<Box<Above>> {
    let references = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let controller = references.iter().find(|owner| owner.controller == Some(true));
    let labels = pod.metadata.labels.as_ref();
    let owner = controller.and_then(|owner| {
        let named = match (owner.kind.as_str(), labels.and_then(|labels| maker(pod, owner, labels))) {
            // A static pod: kubelet created it, and nothing else manages it.
            ("Node", _) => return None,
            (_, Some(maker)) => maker,
            (kind, None) => [owner.api_version.as_str(), kind, owner.name.as_str()],
        };
        above::owner(catalogue, interner, named, namespace)
    });
    Above::of(owner, labels.and_then(|labels| labels.manager(catalogue, interner)))
}

/// What made the owner of a pod, if that is of a kind that is not observed.
fn maker<'a>(pod: &'a Pod<'_>, owner: &'a Owner<'_>, labels: &'a Labels<'_>) -> Option<[&'a str; 3]> {
    let (group, _) = owner.api_version.as_str().split_once('/')?;
    match (group, owner.kind.as_str()) {
        ("apps", "ReplicaSet") => {
            let (hash, api_version, kind) = match (&labels.deployment_hash, &labels.rollout_hash) {
                (Some(hash), _) => (hash, "apps/v1", "Deployment"),
                (None, Some(hash)) => (hash, "argoproj.io/v1alpha1", "Rollout"),
                (None, None) => return None,
            };
            let name = owner.name.as_str().strip_suffix(hash.as_str())?.strip_suffix('-')?;
            Some([api_version, kind, name])
        }
        ("apps.kruise.io", "StatefulSet") => {
            labels.game_set.as_ref()?;
            Some(["game.kruise.io/v1alpha1", "GameServer", pod.metadata.name.as_str()])
        }
        ("core.strimzi.io", "StrimziPodSet") => {
            let kind = labels.strimzi_kind.as_ref()?.as_str();
            Some(["kafka.strimzi.io/v1", kind, labels.strimzi_cluster.as_ref()?.as_str()])
        }
        _ => None,
    }
}

impl Record {
    /// Keeps the time since when a pod has failed. kubelet resets the conditions with each attempt.
    pub(crate) fn fails_since(&mut self, before: &Record) {
        let since = before.verdict.since;
        if self.verdict.state.is_failure() && before.verdict.state.is_failure() && since.is_some() {
            let earlier = |own: Option<Seconds>| own.min(since).or(since);
            self.verdict.since = earlier(self.verdict.since);
            let own = self.own_verdict_mut();
            own.since = earlier(own.since);
        }
    }
}

#[cfg(test)]
mod tests;
