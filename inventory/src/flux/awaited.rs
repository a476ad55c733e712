//! What a failed attempt waited for, as the controller's message names it.
//!
//! Flux's library for health checks writes `[Kind/namespace/name status: 'InProgress', …]`, and Helm writes
//! `resource Kind/namespace/name not ready`. The API group is not named. Of hooks and tests older releases of Helm write
//! only `job name failed` and `pod name failed`; they are in the namespace of the release.

use crate::{
    Detail, FluxDetail, Interner, ObjectKey, Record,
    catalogue::{Catalogue, clip},
};

use super::NAME_BYTES;

/// The most objects that are kept.
const MOST: usize = 16;

/// The kind, namespace and name of each object that a message says is not ready.
fn named(message: &str) -> impl Iterator<Item = [&str; 3]> {
    let words = || message.split_whitespace();
    let follows = words().skip(1).zip(words().skip(2).chain(std::iter::once("")));
    let objects = words().zip(follows).filter_map(|(word, (next, after))| {
        let is_awaited = next == "status:" || next == "not" && after.starts_with("ready");
        object(word.trim_start_matches('[')).filter(|_| is_awaited)
    });
    objects.chain(hook(message))
}

/// The Job or Pod of a release that a message says failed.
fn hook(message: &str) -> Option<[&str; 3]> {
    let (_, release) = message.split_once(" for release ")?;
    let (namespace, rest) = release.split_once('/')?;
    let kinds = [("job ", " failed: ", "Job"), ("pod ", " failed", "Pod")];
    let mut found = kinds.into_iter().filter_map(|(word, failed, kind)| {
        let (_, named) = rest.split_once(word)?;
        let (name, _) = named.split_once(failed)?;
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '.';
        name.chars().all(is_name).then_some([kind, namespace, name])
    });
    found.next()
}

/// The parts of `Kind/namespace/name`, or of `Kind/name`.
fn object(word: &str) -> Option<[&str; 3]> {
    let mut parts = word.split('/');
    let (kind, second, third) = (parts.next()?, parts.next()?, parts.next());
    let [namespace, name] = third.map_or(["", second], |third| [second, third]);
    let is_kind = kind.starts_with(|first: char| first.is_ascii_uppercase());
    (is_kind && !name.is_empty() && parts.next().is_none()).then_some([kind, namespace, name])
}

/// Whether a message says of any object that it is not ready.
pub(crate) fn names_some(message: &str) -> bool {
    named(message).next().is_some()
}

/// The objects that a message says are not ready, of each observed kind with such a name.
pub(super) fn awaited(catalogue: &Catalogue, interner: &Interner, message: &str) -> Box<[ObjectKey]> {
    let keys = named(message).take(MOST).flat_map(|[kind, namespace, name]| {
        let kinds = catalogue.kinds().filter(move |(_, row)| row.kind == kind);
        kinds.map(move |(id, row)| {
            let namespace = if row.namespaced { namespace } else { "" };
            interner.key(id, clip(namespace, NAME_BYTES), clip(name, NAME_BYTES))
        })
    });
    keys.collect()
}

impl FluxDetail {
    /// The objects that its last attempt waited for in vain.
    pub(crate) fn awaited(&self) -> &[ObjectKey] {
        self.links.as_ref().map_or(&[], |links| &links.awaited)
    }
}

impl Record {
    /// Keeps what was waited for while the next attempt is under way, as its verdict does with the message.
    pub(crate) fn remember_awaited(&mut self, before: &Self) {
        let is_same = self.verdict.message == before.verdict.message;
        if let Detail::Flux(flux) = &mut self.detail
            && let Some(known) = before.flux().map(FluxDetail::awaited).filter(|known| !known.is_empty())
            && is_same
            && flux.awaited().is_empty()
        {
            flux.links.get_or_insert_default().awaited = known.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_waited_for_is_read_from_the_message() {
        for (message, expected) in [
            (
                "health check failed after 5m0s: timeout waiting for: [Deployment/apps/web status: 'InProgress', \
                 Namespace/apps status: 'Terminating']",
                vec![["Deployment", "apps", "web"], ["Namespace", "", "apps"]],
            ),
            (
                "failed early due to stalled resources: [HelmRelease/data/redis status: 'Failed']",
                vec![["HelmRelease", "data", "redis"]],
            ),
            (
                "resource StatefulSet/apps/redis not ready. status: InProgress, message: Ready: 1/3\nresource \
                 ClusterIssuer//le not ready. status: InProgress, message: x\ncontext deadline exceeded",
                vec![["StatefulSet", "apps", "redis"], ["ClusterIssuer", "", "le"]],
            ),
            ("resource Deployment/apps/pay not ready", vec![["Deployment", "apps", "pay"]]),
            (
                "Helm upgrade failed for release apps/pay with chart pay@1.0.0: pre-upgrade hooks failed: 1 error \
                 occurred:\n\t* job migrate failed: BackoffLimitExceeded",
                vec![["Job", "apps", "migrate"]],
            ),
            (
                "Helm test failed for release apps/pay.v2 with chart pay@1.0.0: pod pay-test failed",
                vec![["Pod", "apps", "pay-test"]],
            ),
            ("pre-install hooks failed: job migrate failed: BackoffLimitExceeded", vec![]),
            ("Helm upgrade failed for release apps/pay with chart pay@1.0.0: job was failed", vec![]),
            ("dependency 'apps/queue' is not ready", vec![]),
            ("Ingress/apps/shop dry-run failed (InternalError)", vec![]),
            ("Deployment/apps/web status", vec![]),
            ("a/b/c/d not ready, A/ not ready, A/b/c/d not ready", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(named(message).collect::<Vec<_>>(), expected, "{message}");
        }
    }
}
