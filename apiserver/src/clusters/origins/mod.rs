//! Origins of registrations: kinds of objects of the local cluster that name other clusters, and how to reach them.
//!
//! Each origin lists its objects and says what each of them asks for. Who gets a name is decided over all origins, in
//! [`super::registrations`].
//!
//! **Invariant:** an origin that cannot be read keeps what is known of it, and harms no other.

mod argocd;
mod cluster_api;
mod labelled;
mod profiles;
mod secrets;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use gatehouse_apiservice::client::explain;
use gatehouse_inventory::{Refusal, Str};
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use self::{profiles::Profiles, secrets::Secrets};
use super::{ALLOW_ACTIONS, LABEL, kubeconfig::Credential};

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Failures after which the others do not wait for an origin that was never read: about a minute.
const GIVEN_UP: u8 = 12;
/// Objects of one origin that are read at a time.
const READS: usize = 16;

/// Which origins are followed, each with the namespaces of its objects. Without any, no cluster is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// Of Secrets with the label [`LABEL`].
    pub labelled: Option<String>,
    /// Of Secrets that Cluster API makes.
    pub cluster_api: Vec<String>,
    /// Of cluster Secrets of Argo CD.
    pub argocd: Vec<String>,
    /// Of ClusterProfiles.
    pub profiles: Vec<String>,
    /// The only namespace of Secrets that ClusterProfiles may name.
    pub profile_secrets: String,
}

/// What one object asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The object: `Secret NAMESPACE/NAME`.
    pub(super) origin: Str,
    pub(super) created: Option<Timestamp>,
    /// The name that the cluster shall have, and the field that says so.
    pub(super) name: Str,
    pub(super) name_field: Str,
    /// Whether the credential may be used for actions, if the cluster grants that.
    pub(super) allows_actions: bool,
    pub(super) credential: Result<Credential, Refusal>,
    /// Of what the credential was read from, which is not kept.
    pub(super) digest: [u8; 32],
}

/// What came of reading an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Followed {
    /// Whether what is known has changed.
    pub(super) has_changed: bool,
    /// Whether what is known is current; so it is where the right is missing, as other replicas lack it too.
    pub(super) is_current: bool,
}

/// Why an origin cannot be read.
#[derive(Debug)]
struct Unread {
    error: String,
    /// Whether the right is missing.
    is_refused: bool,
    /// Whether the server does not know the kind.
    is_unknown: bool,
}

/// The uid and the version of an object.
type Version = (Option<String>, Option<String>);

/// Objects, each read once in each of its versions.
#[derive(Default)]
struct Known(BTreeMap<String, Entry>);

#[derive(Clone)]
struct Entry {
    /// Of the object, and of another one that it names.
    versions: [Version; 2],
    /// None, if the object does not ask for a cluster.
    wanted: Option<Arc<Wanted>>,
}

enum Kind {
    Secrets(Secrets),
    Profiles(Profiles),
}

/// An origin in one namespace.
pub(super) struct Origin {
    kind: Kind,
    known: Known,
    /// Whether it was ever read, or given up.
    is_answered: bool,
    failures: u8,
    last_error: String,
    /// The error where the right is missing.
    refused: Option<Str>,
}

impl Origins {
    /// Whether no origin is followed.
    pub fn is_empty(&self) -> bool {
        *self == Self { profile_secrets: self.profile_secrets.clone(), ..Self::default() }
    }

    /// Each of them.
    pub(super) fn each(&self) -> Vec<Origin> {
        let mut kinds: Vec<Kind> = Vec::new();
        let mut add = |format, namespaces: &[String]| {
            kinds.extend(namespaces.iter().map(|namespace| Kind::Secrets(Secrets::new(format, namespace))));
        };
        add(labelled::FORMAT, self.labelled.as_slice());
        add(cluster_api::FORMAT, &self.cluster_api);
        add(argocd::FORMAT, &self.argocd);
        kinds.extend(
            self.profiles
                .iter()
                .map(|namespace| Kind::Profiles(Profiles::new(namespace, &self.profile_secrets))),
        );
        let origin = |kind| Origin {
            kind,
            known: Known::default(),
            is_answered: false,
            failures: 0,
            last_error: String::new(),
            refused: None,
        };
        kinds.into_iter().map(origin).collect()
    }
}

impl Origin {
    /// Reads what has changed.
    pub(super) async fn follow(&mut self, client: &kube::Client) -> Followed {
        let read = match &self.kind {
            Kind::Secrets(secrets) => secrets.read(client, &self.known).await,
            Kind::Profiles(profiles) => profiles.read(client, &self.known).await,
        };
        match read {
            Ok(next) => self.take(next),
            Err(unread) => self.miss(unread),
        }
    }

    /// What is known stays.
    fn miss(&mut self, unread: Unread) -> Followed {
        let Unread { error, is_refused, .. } = unread;
        self.failures = self.failures.saturating_add(1);
        let refused = is_refused.then(|| Str::from(format!("{}: {error}", self.describe())));
        if error != self.last_error {
            tracing::warn!(origin = self.describe(), error, "an origin of clusters cannot be read");
            self.last_error = error;
        }
        let is_given_up = is_refused || self.failures >= GIVEN_UP;
        let is_first = is_given_up && !std::mem::replace(&mut self.is_answered, true);
        let is_other = self.refused != refused;
        self.refused = refused;
        Followed { has_changed: is_first || is_other, is_current: is_refused }
    }

    fn take(&mut self, next: BTreeMap<String, Entry>) -> Followed {
        self.failures = 0;
        self.last_error.clear();
        let is_first = !std::mem::replace(&mut self.is_answered, true);
        let was_refused = self.refused.take().is_some();
        let has_changed = self.known.replace(next) || is_first || was_refused;
        Followed { has_changed, is_current: true }
    }

    /// Whether it was ever read, or given up. Before, an older object may be unknown.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Why it may not be read.
    pub(super) fn refused(&self) -> Option<Str> {
        self.refused.clone()
    }

    /// What its objects ask for.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Arc<Wanted>> {
        self.known.0.values().filter_map(|entry| entry.wanted.clone())
    }

    /// What it is called.
    fn describe(&self) -> String {
        match &self.kind {
            Kind::Secrets(secrets) => secrets.describe(),
            Kind::Profiles(profiles) => profiles.describe(),
        }
    }
}

impl Known {
    /// What is known of an object, if it is of these versions.
    fn same(&self, name: &str, versions: &[Version; 2]) -> Option<Entry> {
        self.0.get(name).filter(|known| known.versions == *versions).cloned()
    }

    /// Replaces what is known. Returns whether it differs.
    fn replace(&mut self, next: BTreeMap<String, Entry>) -> bool {
        let is_same = self.0.len() == next.len()
            && next.iter().all(|(name, entry)| self.same(name, &entry.versions).is_some());
        self.0 = next;
        !is_same
    }
}

/// Waits for an answer, a bounded time.
async fn ask<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, Unread> {
    let Ok(answer) = timeout(ANSWER, question).await else {
        let error = format!("timed out after {} s", ANSWER.as_secs());
        return Err(Unread { error, is_refused: false, is_unknown: false });
    };
    answer.map_err(|error| {
        let code = match &error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        Unread {
            error: explain(&error),
            is_refused: code == StatusCode::FORBIDDEN.as_u16(),
            is_unknown: code == StatusCode::NOT_FOUND.as_u16(),
        }
    })
}

fn version(metadata: &ObjectMeta) -> Version {
    (metadata.uid.clone(), metadata.resource_version.clone())
}

fn origin(kind: &str, metadata: &ObjectMeta) -> Str {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{kind} {}/{}", text(&metadata.namespace), text(&metadata.name)).into()
}

fn created(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// The name that an object gives to its cluster, and the field: that of the label, which every origin may have, or the
/// origin's own.
fn name(metadata: &ObjectMeta, otherwise: (&str, &str)) -> (Str, Str) {
    match metadata.labels.as_ref().and_then(|labels| labels.get(LABEL)) {
        Some(label) => (label.as_str().into(), format!("metadata.labels[{LABEL}]").into()),
        None => (otherwise.0.into(), otherwise.1.into()),
    }
}

/// Whether an object of another tool allows actions. Its credential was made for that tool, and is often one that may
/// impersonate everybody, so the cluster's RBAC alone would allow them to everybody.
fn allows_actions(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(ALLOW_ACTIONS)).is_some_and(|value| value == "true")
}

/// A digest of several texts that tells where each ends.
fn digest<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_le_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
