//! Kustomizations as a large cluster has them: their spec, and the status that kustomize-controller reports.
//!
//! They form chains of ten, in which each depends on the one before it. One chain in twenty has failed in the
//! middle, and what comes after that is DependencyNotReady. All others are Ready. Everything follows from an
//! object's number, so two runs load the same objects.

use std::fmt::Write;

use serde_json::{Value, json};

/// Each Kustomization of a chain depends on the one before it.
const CHAIN: usize = 10;
/// One chain in this many has a failure…
const BROKEN: usize = 20;
/// …at this position.
const BREAK: usize = 5;
/// Entries of a status' inventory: as many objects as a small application has.
pub(super) const INVENTORY: usize = 25;
/// Entries of a status' history: as many as kustomize-controller keeps.
pub(super) const HISTORY: u32 = 5;

/// How many objects are loaded, and into how many namespaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) objects: usize,
    pub(super) namespaces: usize,
    /// Entries of the inventory of each Kustomization.
    pub(super) entries: usize,
    /// Entries of its history.
    pub(super) history: u32,
    /// The time of the last reconciliation of all objects, in seconds since 1970.
    pub(super) now: i64,
}

/// A Kustomization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id {
    /// The number of its namespace.
    pub(super) namespace: usize,
    /// The number of the Kustomization in its namespace.
    pub(super) place: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
    Waiting,
}

impl Layout {
    pub(super) fn ids(self) -> impl Iterator<Item = Id> + Clone {
        (0..self.objects)
            .map(move |number| Id { namespace: number % self.namespaces, place: number / self.namespaces })
    }

    /// Kustomizations that no other depends on, spread over the namespaces. A change of one changes one row.
    pub(super) fn leaves(self) -> impl Iterator<Item = Id> + Clone {
        let last = move |id: &Id| (id.place + 1) * self.namespaces + id.namespace >= self.objects;
        self.ids().filter(move |id| id.place % CHAIN == CHAIN - 1 || last(id))
    }

    /// How many objects of Flux there are: each namespace has a GitRepository.
    pub(super) fn flux_objects(self) -> u64 {
        (self.objects + self.namespaces) as u64
    }

    fn time(self, seconds_ago: i64) -> String {
        jiff::Timestamp::from_second(self.now - seconds_ago).unwrap_or_default().to_string()
    }

    pub(super) fn kustomization_status(self, id: Id) -> Value {
        let outcome = id.outcome();
        let entries: Vec<_> = (0..self.entries).map(|number| inventory_entry(id, number)).collect();
        let history: Vec<_> = (0..self.history).map(|age| self.history(id, outcome, age)).collect();
        let mut status = json!({
            "conditions": self.conditions(id, outcome),
            "history": history,
            "inventory": {"entries": entries},
            "lastAppliedOriginRevision": revision(id.namespace, 0),
            "lastAppliedRevision": revision(id.namespace, 0),
            "lastAttemptedRevision": revision(id.namespace, 0),
            "observedGeneration": 1,
        });
        if outcome != Outcome::Succeeded {
            status["lastAppliedRevision"] = json!(revision(id.namespace, 1));
        }
        status
    }

    /// The conditions after a change that succeeds or fails. The message contains the number of the change.
    pub(super) fn changed_conditions(self, succeeded: bool, number: usize) -> Value {
        let (status, reason) =
            if succeeded { ("True", "ReconciliationSucceeded") } else { ("False", "ReconciliationFailed") };
        let message = format!("Change {number}: Kustomization/apply of revision {}", revision(number, 0));
        json!([self.condition("Ready", status, reason, &message, 0)])
    }

    fn conditions(self, id: Id, outcome: Outcome) -> Value {
        let applied = format!("Applied revision: {}", revision(id.namespace, 0));
        let unhealthy = format!(
            "health check failed after 5m0s: timeout waiting for: [Deployment/{}/{}-worker status: 'InProgress']",
            id.namespace_name(),
            id.name()
        );
        match outcome {
            Outcome::Succeeded => json!([
                self.condition("Ready", "True", "ReconciliationSucceeded", &applied, 7200),
                self.condition("Healthy", "True", "Succeeded", "Health check passed in 1.204s", 7200),
            ]),
            Outcome::Failed => json!([
                self.condition("Ready", "False", "HealthCheckFailed", &unhealthy, 5400),
                self.condition("Healthy", "False", "HealthCheckFailed", &unhealthy, 5400),
            ]),
            Outcome::Waiting => {
                let before = id.depends_on().unwrap_or(id);
                let message =
                    format!("dependency '{}/{}' is not ready", before.namespace_name(), before.name());
                json!([self.condition("Ready", "False", "DependencyNotReady", &message, 5300)])
            }
        }
    }

    fn condition(self, kind: &str, status: &str, reason: &str, message: &str, seconds_ago: i64) -> Value {
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": self.time(seconds_ago),
            "observedGeneration": 1,
        })
    }

    fn history(self, id: Id, outcome: Outcome, age: u32) -> Value {
        let failed = age == 0 && outcome == Outcome::Failed;
        let seconds_ago = i64::from(age) * 86_400;
        json!({
            "digest": format!("sha256:{}", digest(64, &[id.namespace, id.place, age as usize])),
            "firstReconciled": self.time(seconds_ago + 7200),
            "lastReconciled": self.time(seconds_ago + 60),
            "lastReconciledDuration": format!("{}.{:03}s", 1 + id.place % 7, id.place * 37 % 1000),
            "lastReconciledStatus": if failed { "HealthCheckFailed" } else { "ReconciliationSucceeded" },
            "totalReconciliations": 144 + id.place,
            "metadata": {"revision": revision(id.namespace, age as usize)},
        })
    }

    pub(super) fn repository_status(self, namespace: usize) -> Value {
        let message = format!("stored artifact for revision '{}'", revision(namespace, 0));
        let hash = digest(40, &[namespace, 0]);
        json!({
            "artifact": {
                "digest": format!("sha256:{}", digest(64, &[namespace])),
                "lastUpdateTime": self.time(7200),
                "path": format!("gitrepository/{}/fleet/{hash}.tar.gz", namespace_name(namespace)),
                "revision": revision(namespace, 0),
                "size": 48_213,
                "url": format!("http://source-controller.flux-system.svc.cluster.local./{hash}.tar.gz"),
            },
            "conditions": [
                self.condition("Ready", "True", "Succeeded", &message, 7200),
                self.condition("ArtifactInStorage", "True", "Succeeded", &message, 7200),
            ],
            "observedGeneration": 1,
        })
    }
}

impl Id {
    pub(super) fn namespace_name(self) -> String {
        namespace_name(self.namespace)
    }

    pub(super) fn name(self) -> String {
        const APPLICATIONS: [&str; 8] =
            ["payments", "checkout", "catalogue", "search", "identity", "billing", "shipping", "reporting"];
        format!("{}-{:04}", APPLICATIONS[self.place % APPLICATIONS.len()], self.place)
    }

    pub(super) fn kustomization(self) -> Value {
        let (namespace, name) = (self.namespace_name(), self.name());
        let mut spec = json!({
            "interval": "10m",
            "retryInterval": "2m",
            "timeout": "5m",
            "path": format!("./clusters/production/{namespace}/{name}"),
            "prune": true,
            "wait": true,
            "serviceAccountName": "flux-tenant",
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
            "targetNamespace": namespace,
            "postBuild": {
                "substitute": {"cluster": "production-eu-1", "environment": "production", "replicas": "3"},
                "substituteFrom": [{"kind": "ConfigMap", "name": "cluster-settings"}],
            },
        });
        if let Some(before) = self.depends_on() {
            spec["dependsOn"] = json!([{"name": before.name()}]);
        }
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    "app.kubernetes.io/name": name,
                    "app.kubernetes.io/part-of": namespace,
                    "kustomize.toolkit.fluxcd.io/name": "flux-system",
                    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                },
                "finalizers": ["finalizers.fluxcd.io"],
            },
            "spec": spec,
        })
    }

    fn depends_on(self) -> Option<Self> {
        (!self.place.is_multiple_of(CHAIN)).then(|| Self { place: self.place - 1, ..self })
    }

    fn outcome(self) -> Outcome {
        let broken = (self.namespace * 7 + self.place / CHAIN).is_multiple_of(BROKEN);
        match (self.place % CHAIN).cmp(&BREAK) {
            std::cmp::Ordering::Equal if broken => Outcome::Failed,
            std::cmp::Ordering::Greater if broken => Outcome::Waiting,
            _ => Outcome::Succeeded,
        }
    }
}

pub(super) fn namespace_name(number: usize) -> String {
    format!("team-{number:03}")
}

/// The GitRepository that is the source of a namespace's Kustomizations.
pub(super) fn repository(namespace: usize) -> Value {
    json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": "fleet", "namespace": namespace_name(namespace)},
        "spec": {
            "interval": "1m",
            "url": format!("https://git.example.com/{}/fleet", namespace_name(namespace)),
            "ref": {"branch": "main"},
        },
    })
}

/// The revision of a namespace's repository so many changes ago.
fn revision(namespace: usize, changes_ago: usize) -> String {
    format!("main@sha1:{}", digest(40, &[namespace, changes_ago]))
}

fn inventory_entry(id: Id, number: usize) -> Value {
    const KINDS: [(&str, &str); 5] = [
        ("apps_Deployment", "v1"),
        ("_Service", "v1"),
        ("_ConfigMap", "v1"),
        ("_ServiceAccount", "v1"),
        ("networking.k8s.io_NetworkPolicy", "v1"),
    ];
    let (kind, version) = KINDS[number % KINDS.len()];
    json!({"id": format!("{}_{}-{number:02}_{kind}", id.namespace_name(), id.name()), "v": version})
}

/// Hexadecimal digits that look like a digest and compress as badly as one.
fn digest(digits: usize, of: &[usize]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for number in of {
        hash.update(number.to_le_bytes());
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const LAYOUT: Layout =
        Layout { objects: 2000, namespaces: 20, entries: INVENTORY, history: HISTORY, now: 1_700_000_000 };

    #[test]
    fn an_object_is_as_large_as_real_ones() {
        let id = Id { namespace: 3, place: 17 };
        let mut object = id.kustomization();
        object["status"] = LAYOUT.kustomization_status(id);
        let size = object.to_string().len();
        assert!((4000..6000).contains(&size), "{size} bytes");
        assert_eq!(object["status"]["inventory"]["entries"].as_array().map(Vec::len), Some(25));
        let bare = Layout { entries: 0, history: 0, ..LAYOUT }.kustomization_status(id);
        assert_eq!(bare["inventory"]["entries"], json!([]));
        assert_eq!(bare["history"], json!([]));
    }

    #[test]
    fn every_object_has_a_name_of_its_own_and_dependencies_exist() {
        let all: HashSet<_> = LAYOUT.ids().collect();
        assert_eq!(all.len(), 2000);
        let names: HashSet<_> = all.iter().map(|id| (id.namespace_name(), id.name())).collect();
        assert_eq!(names.len(), 2000);
        assert!(all.iter().filter_map(|id| id.depends_on()).all(|before| all.contains(&before)));
    }

    #[test]
    fn most_are_ready_some_failed_and_what_waits_for_those_is_not_ready() {
        let count = |outcome| LAYOUT.ids().filter(|id| id.outcome() == outcome).count();
        assert_eq!([count(Outcome::Failed), count(Outcome::Waiting)], [10, 40]);
    }

    #[test]
    fn nothing_depends_on_leaves_and_each_namespace_has_one() {
        for layout in [LAYOUT, Layout { objects: 44, namespaces: 20, ..LAYOUT }] {
            let needed: HashSet<_> = layout.ids().filter_map(Id::depends_on).collect();
            assert!(layout.leaves().all(|leaf| !needed.contains(&leaf)));
            let namespaces: HashSet<_> = layout.leaves().map(|leaf| leaf.namespace).collect();
            assert_eq!(namespaces.len(), 20);
        }
    }
}
