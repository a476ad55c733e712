//! Clients that create, change, scale and delete what their tenants have no room for, each by its own chance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::tenants::namespaces;
use crate::chance::Chance;

const AGONES: &str = "/apis/agones.dev/v1";

/// What became of requests, by what they were and how they ended.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) ends: BTreeMap<End, usize>,
    /// Answers that none of the others describes.
    pub(super) unexpected: Vec<String>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// It did what it was to do.
    Done,
    /// A limit.
    Denied,
    /// Try again: contention, or nobody knows yet.
    Busy,
    /// Somebody else was faster: a conflict, a name that is taken, an object that is gone.
    Overtaken,
    /// The webhook could not be asked.
    Unasked,
    /// kube-apiserver has given up waiting, or closed the connection. It may have been done, or be done yet.
    Late,
}

impl Tally {
    pub(super) fn count(&self, end: End) -> usize {
        self.ends.get(&end).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, other: Self) {
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.unexpected.extend(other.unexpected);
    }

    fn note(&mut self, what: &str, outcome: &Result<Value, kube::Error>) {
        let end = match outcome {
            Ok(_) => End::Done,
            Err(kube::Error::Api(status)) => match status.code {
                403 if status.message.contains("exceeded quota") => End::Denied,
                429 => End::Busy,
                404 | 409 => End::Overtaken,
                500 if status.message.contains("failed calling webhook") => End::Unasked,
                504 => End::Late,
                _ => return self.unexpected.push(format!("{what}: {status:?}")),
            },
            Err(kube::Error::Service(_)) => End::Late,
            Err(error) => return self.unexpected.push(format!("{what}: {error}")),
        };
        *self.ends.entry(end).or_default() += 1;
    }
}

/// Names of what was created and may still be there, by namespace and plural name.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<Names>>);

type Names = BTreeMap<(String, &'static str), Vec<String>>;

impl Known {
    fn with<T>(&self, namespace: &str, plural: &'static str, act: impl FnOnce(&mut Vec<String>) -> T) -> T {
        // Nothing that holds it can leave it half changed.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(known.entry((namespace.to_owned(), plural)).or_default())
    }

    fn one(&self, namespace: &str, plural: &'static str, chance: &mut Chance) -> Option<String> {
        self.with(namespace, plural, |names| (!names.is_empty()).then(|| chance.of(names).clone()))
    }
}

/// One client.
pub(super) struct Client {
    pub(super) cluster: kube::Client,
    pub(super) chance: Chance,
    pub(super) known: Known,
}

impl Client {
    /// Does one thing after another until the storm is over.
    pub(super) async fn run(mut self, over: CancellationToken) -> Tally {
        let mut tally = Tally::default();
        let namespaces = namespaces();
        while !over.is_cancelled() {
            let (namespace, _) = self.chance.of(&namespaces).clone();
            self.act(&namespace, &mut tally).await;
        }
        tally
    }

    async fn act(&mut self, namespace: &str, tally: &mut Tally) {
        match self.chance.below(20) {
            0..4 => self.create(namespace, "fleets", "", tally).await,
            4..6 => self.create(namespace, "gameservers", "", tally).await,
            6..8 => self.create(namespace, "configmaps", "", tally).await,
            8 => {
                let plural = *self.chance.of(&["fleets", "gameservers", "configmaps"]);
                self.create(namespace, plural, "?dryRun=All", tally).await;
            }
            9..12 => self.scale(namespace, tally).await,
            12..14 => self.change(namespace, tally).await,
            14 => self.replace(namespace, tally).await,
            15 => self.delete(namespace, "gameservers", tally).await,
            16 => self.delete(namespace, "configmaps", tally).await,
            _ => self.delete(namespace, "fleets", tally).await,
        }
    }

    async fn create(&mut self, namespace: &str, plural: &'static str, query: &str, tally: &mut Tally) {
        let mut object = match plural {
            "fleets" => json!({"apiVersion": "agones.dev/v1", "kind": "Fleet", "spec": {
                "replicas": self.chance.below(7),
                "template": {"spec": self.server()},
            }}),
            "gameservers" => {
                json!({"apiVersion": "agones.dev/v1", "kind": "GameServer", "spec": self.server()})
            }
            _ => json!({"apiVersion": "v1", "kind": "ConfigMap"}),
        };
        // A few fixed names, so that two creations meet; else names that the server makes.
        object["metadata"] = match self.chance.below(2) {
            0 => json!({"name": format!("storm-{}", self.chance.below(8))}),
            _ => json!({"generateName": "storm-"}),
        };
        let created = self.send("POST", &format!("{}{query}", collection(namespace, plural)), &object).await;
        if let (Ok(created), "") = (&created, query) {
            let name = created["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.known.with(namespace, plural, |names| names.push(name));
        }
        tally.note("create", &created);
    }

    async fn scale(&mut self, namespace: &str, tally: &mut Tally) {
        let Some(name) = self.known.one(namespace, "fleets", &mut self.chance) else { return };
        let path = format!("{}/{name}/scale", collection(namespace, "fleets"));
        let scale = json!({"spec": {"replicas": self.chance.below(12)}});
        let scaled = self.send("PATCH", &path, &scale).await;
        tally.note("scale", &scaled);
    }

    async fn change(&mut self, namespace: &str, tally: &mut Tally) {
        let Some(name) = self.known.one(namespace, "fleets", &mut self.chance) else { return };
        let path = format!("{}/{name}", collection(namespace, "fleets"));
        let fleet = json!({"spec": {"replicas": self.chance.below(9), "template": {"spec": self.server()}}});
        let changed = self.send("PATCH", &path, &fleet).await;
        tally.note("change", &changed);
    }

    /// Reads, then writes what may have changed meanwhile.
    async fn replace(&mut self, namespace: &str, tally: &mut Tally) {
        let Some(name) = self.known.one(namespace, "fleets", &mut self.chance) else { return };
        let path = format!("{}/{name}", collection(namespace, "fleets"));
        let read = self.send("GET", &path, &Value::Null).await;
        tally.note("get", &read);
        if let Ok(mut fleet) = read {
            fleet["spec"]["replicas"] = json!(self.chance.below(9));
            let replaced = self.send("PUT", &path, &fleet).await;
            tally.note("replace", &replaced);
        }
    }

    async fn delete(&mut self, namespace: &str, plural: &'static str, tally: &mut Tally) {
        let Some(name) = self.known.one(namespace, plural, &mut self.chance) else { return };
        let path = format!("{}/{name}", collection(namespace, plural));
        let deleted = self.send("DELETE", &path, &Value::Null).await;
        if deleted.is_ok() {
            self.known.with(namespace, plural, |names| names.retain(|one| *one != name));
        }
        tally.note("delete", &deleted);
    }

    fn server(&mut self) -> Value {
        let requests = json!({
            "cpu": self.chance.of(&["100m", "250m", "500m"]),
            "memory": self.chance.of(&["64Mi", "128Mi", "256Mi"]),
        });
        let container = json!({"name": "game", "image": "game", "resources": {"requests": requests}});
        json!({"template": {"spec": {"containers": [container]}}})
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let content_type =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(bytes)
            .map_err(kube::Error::HttpError)?;
        self.cluster.request(request).await
    }
}

fn collection(namespace: &str, plural: &str) -> String {
    let group = if plural == "configmaps" { "/api/v1" } else { AGONES };
    format!("{group}/namespaces/{namespace}/{plural}")
}
