//! Remote clusters in the process of the benchmark: each has Kustomizations and an API server of its own, which answers
//! over TLS as a real one does, and sends no bookmarks.

use std::collections::BTreeMap;

use anyhow::Context;
use gatehouse_conformance::front::{Front, Identity};
use gatehouse_conformance::spokes;
use gatehouse_fake_api::FakeApi;
use serde_json::{Value, json};

const GROUP: &str = "kustomize.toolkit.fluxcd.io";
const NAMESPACE: &str = "team";
/// Of three clusters, one.
const DEAD_OF: usize = 3;

pub(super) struct Spoke {
    pub(super) name: String,
    api: FakeApi,
    /// `None` once nothing listens any more.
    front: Option<Front>,
    secret: Value,
}

pub(super) struct Spokes(pub(super) Vec<Spoke>);

impl Spokes {
    pub(super) async fn start(clusters: usize, rows: usize) -> anyhow::Result<Self> {
        let identity = Identity::new()?;
        let mut all = Vec::new();
        for number in 0..clusters {
            let name = format!("spoke-{number:03}");
            let api = FakeApi::new();
            api.serve(GROUP, "v1", "kustomizations", "Kustomization");
            for namespace in ["kube-system", NAMESPACE] {
                let metadata = json!({"name": namespace, "uid": format!("{name}-{namespace}")});
                api.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
            }
            for row in 0..rows {
                api.put(kustomization(&format!("app-{row:03}"), "v1"));
            }
            let front = Front::start(&identity, api.client(), |_| {}).await?;
            let secret = spokes::secret(&name, front.kubeconfig());
            all.push(Spoke { name, api, front: Some(front), secret });
        }
        Ok(Self(all))
    }

    /// The Secrets that register them.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Value> {
        self.0.iter().map(|spoke| spoke.secret.clone())
    }

    /// Ends a third of them: half of these refuse connections, the others accept them and answer nothing.
    pub(super) fn end_a_third(&mut self) {
        for (number, spoke) in self.0.iter_mut().step_by(DEAD_OF).enumerate() {
            match &spoke.front {
                Some(front) if number % 2 == 0 => front.answer(false),
                _ => spoke.front = None,
            }
        }
    }

    /// Those that are not ended by [`Self::end_a_third`].
    pub(super) fn living(&self) -> Vec<&Spoke> {
        self.0
            .iter()
            .enumerate()
            .filter(|(number, _)| number % DEAD_OF != 0)
            .map(|(_, spoke)| spoke)
            .collect()
    }

    pub(super) fn dead(&self) -> usize {
        self.0.len() - self.living().len()
    }
}

impl Spoke {
    /// Changes an object, so that its row has this revision.
    pub(super) fn change(&self, revision: &str) {
        self.api.put(kustomization("app-000", revision));
    }
}

fn kustomization(name: &str, revision: &str) -> Value {
    let labels: BTreeMap<_, _> = [("app.kubernetes.io/name", name), ("team", NAMESPACE)].into();
    let (message, now) = (format!("Applied revision: {revision}"), "2026-01-01T00:00:00Z");
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Kustomization",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, "creationTimestamp": now},
        "spec": {
            "interval": "10m", "path": format!("./apps/{name}"), "prune": true,
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        },
        "status": {
            "observedGeneration": 1, "lastAppliedRevision": revision, "lastAttemptedRevision": revision,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "message": message,
                "observedGeneration": 1, "lastTransitionTime": now,
            }],
        },
    })
}

/// The name of a cluster in the name of one of its rows.
pub(super) fn cluster_of(row: &str) -> anyhow::Result<&str> {
    Ok(row.split_once('.').context("a row without a cluster")?.0)
}
