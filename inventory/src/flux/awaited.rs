//! What a failed attempt waited for, or lacked, as the controller's message names it.
//!
//! Flux's library for health checks writes `[Kind/namespace/name status: 'InProgress', …]`, and Helm writes
//! `resource Kind/namespace/name not ready`. The API group is not named. Of hooks and tests older releases of Helm write
//! only `job name failed` and `pod name failed`; they are in the namespace of the release. A Secret that does not exist is
//! in the namespace of the object, and what makes it has its name. Of an API or a webhook that does not answer the message
//! has the group and version, or the URL.

use crate::{
    Detail, FluxDetail, Interner, ObjectKey, Record,
    catalogue::{Catalogue, clip},
    pod::MAKERS_OF_SECRETS,
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

/// The Secret that a message says does not exist, as Kubernetes or its client words it.
fn lacked_secret(message: &str) -> Option<&str> {
    let (before, _) = message.split_once("\" not found")?;
    let (before, name) = before.rsplit_once('"')?;
    ["secrets ", "secret ", "Secret "].iter().any(|words| before.ends_with(words)).then_some(name)
}

/// The APIs that a message says do not answer, as Kubernetes' client words it: the names of their APIServices.
fn silent_apis(message: &str) -> impl Iterator<Item = String> {
    let list = message.split_once("list of server APIs: ").map_or("", |(_, list)| list);
    list.split(", ").filter_map(|api| {
        let (group, version) = api.split_once(": ")?.0.split_once('/')?;
        Some(format!("{version}.{group}"))
    })
}

/// The namespace and name of the Service in a URL of a message. What serves it has its name as a rule: a webhook,
/// source-controller.
fn service(message: &str) -> Option<[&str; 2]> {
    let (_, url) = message.split_once("://")?;
    let mut parts = url.split(['/', ':', '"', ' ']).next()?.split('.');
    let (name, namespace) = (parts.next()?, parts.next()?);
    (parts.next() == Some("svc") && !name.is_empty() && !namespace.is_empty()).then_some([namespace, name])
}

/// Whether a message names what was waited for, or lacked.
pub(crate) fn names_some(message: &str) -> bool {
    named(message).next().is_some()
        || lacked_secret(message).is_some()
        || silent_apis(message).next().is_some()
        || service(message).is_some()
}

/// The objects that a message says are not ready, of each observed kind with such a name; what makes the Secret that it
/// says an object of this namespace lacks; the APIs and what serves the URL that it says do not answer.
pub(super) fn awaited(
    catalogue: &Catalogue,
    interner: &Interner,
    namespace: &str,
    message: &str,
) -> Box<[ObjectKey]> {
    let key = |group: &str, kind: &str, namespace: &str, name: &str| {
        let kind = catalogue.find(group, kind)?;
        Some(interner.key(kind, clip(namespace, NAME_BYTES), clip(name, NAME_BYTES)))
    };
    let named = named(message).flat_map(|[kind, namespace, name]| {
        let kinds = catalogue.kinds().filter(move |(_, row)| row.kind == kind);
        kinds.map(move |(id, row)| {
            let namespace = if row.namespaced { namespace } else { "" };
            interner.key(id, clip(namespace, NAME_BYTES), clip(name, NAME_BYTES))
        })
    });
    let makers = lacked_secret(message).into_iter().flat_map(|name| {
        MAKERS_OF_SECRETS.iter().filter_map(move |[group, kind]| key(group, kind, namespace, name))
    });
    let apis = silent_apis(message).filter_map(|name| key("apiregistration.k8s.io", "APIService", "", &name));
    let servers = service(message).into_iter().flat_map(|[namespace, name]| {
        ["Deployment", "StatefulSet"].into_iter().filter_map(move |kind| key("apps", kind, namespace, name))
    });
    named.chain(makers).chain(apis).chain(servers).take(MOST).collect()
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

    #[test]
    fn what_does_not_answer_is_read_from_the_message() {
        let stale = "unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: stale GroupVersion \
                     discovery: metrics.k8s.io/v1beta1, a.example.com/v1: the server is currently unable to handle \
                     the request";
        let names: Vec<_> = silent_apis(stale).collect();
        assert_eq!(names, ["v1beta1.metrics.k8s.io", "v1.a.example.com"]);
        assert_eq!(silent_apis("unable to list").next(), None);
        for (message, expected) in [
            (
                "failed to call webhook: Post \"https://cert-manager-webhook.cert-manager.svc:443/mutate?timeout=10s\"",
                Some(["cert-manager", "cert-manager-webhook"]),
            ),
            (
                "GET http://source-controller.flux-system.svc.cluster.local./x.tar.gz giving up",
                Some(["flux-system", "source-controller"]),
            ),
            ("Get \"https://api.github.com/x\"", None),
            ("Get \"https://10.0.0.1:443/x\"", None),
            ("://", None),
            ("://..svc", None),
        ] {
            assert_eq!(service(message), expected, "{message}");
        }
    }

    #[test]
    fn a_secret_that_does_not_exist_is_read_from_the_message() {
        for (message, expected) in [
            ("failed to get secret 'apps/git': secrets \"git\" not found", Some("git")),
            ("Secret \"git\" not found", Some("git")),
            ("unable to read token from secret \"apps/git\" error: secrets \"git\" not found", Some("git")),
            ("configmaps \"git\" not found", None),
            ("secrets \"git\" is forbidden", None),
            ("secrets not found", None),
            ("\" not found", None),
        ] {
            assert_eq!(lacked_secret(message), expected, "{message}");
        }
    }
}
