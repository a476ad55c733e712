//! Reads and writes a QuotaLedger object.
//!
//! **Invariant:** every write is a creation or a compare-and-swap, and no request is repeated.

use std::time::Duration;

use futures::StreamExt;
use gatehouse_apiservice::policy::{GROUP, QuotaLedger, TenantQuota, VERSION};
use gatehouse_quota::{CompiledQuota, Ledger, LedgerError, Place};
use http::{Method, Request, header};
use kube::{Client, Resource, core::WatchEvent};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::timeout;

/// The timeout of a read or write of one object, which takes milliseconds; after it, the ledger is read again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Asks for metadata only: else the response to a write is the whole ledger.
const METADATA_ALONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// The client for quotas' ledgers.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    path: String,
}

/// A ledger that was read or written.
#[derive(Debug)]
pub(super) struct Stored {
    /// The version of the object.
    pub(super) version: Version,
    /// The ledger that it holds.
    pub(super) ledger: Result<Ledger, LedgerError>,
}

/// A state of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) uid: String,
    pub(super) revision: String,
    pub(super) generation: i64,
}

/// Why a ledger was not written, as far as is known.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    /// The object has changed, or already exists.
    #[error("the ledger was written by another client")]
    Conflict,
    /// The object is gone.
    #[error("the ledger does not exist")]
    Gone,
    /// It took too long. The request may have been carried out.
    #[error("timed out after {} s", PATIENCE.as_secs())]
    Late,
    /// The API server denied the request, or was unreachable. The request may have been carried out.
    #[error("request to the API server failed")]
    Failed(#[source] Box<kube::Error>),
    /// The list ended early.
    #[error("the API server returned an incomplete list")]
    Incomplete,
    /// The request could not be built: never happens, since a ledger is always JSON and its name that of an object.
    #[error("the request could not be made")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, S> {
    api_version: String,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: S,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    owner_references: [Owner<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Owner<'a> {
    api_version: String,
    kind: &'static str,
    name: &'a str,
    uid: &'a str,
}

#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    uid: String,
    resource_version: String,
    #[serde(default)]
    generation: i64,
}

impl Version {
    pub(super) fn of(ledger: &QuotaLedger) -> Self {
        Self {
            uid: ledger.meta().uid.clone().unwrap_or_default(),
            revision: ledger.meta().resource_version.clone().unwrap_or_default(),
            generation: ledger.meta().generation.unwrap_or_default(),
        }
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { uid: &self.uid, generation: self.generation }
    }

    /// Whether it is the state right after another, or that state itself except for changes that do not count.
    pub(super) fn is_next(&self, before: &Self) -> bool {
        self.uid == before.uid && self.generation <= before.generation + 1
    }

    /// The resourceVersion as a number.
    pub(super) fn number(&self) -> u64 {
        self.revision.parse().unwrap_or_default()
    }
}

impl Stored {
    pub(super) fn of(ledger: &QuotaLedger) -> Self {
        let version = Version::of(ledger);
        let read = Ledger::read(&ledger.spec, version.place());
        Self { version, ledger: read }
    }
}

impl Store {
    /// `client` must not repeat requests: a repeated write conflicts with itself.
    pub(super) fn new(client: Client) -> Self {
        Self { client, path: format!("/apis/{GROUP}/{VERSION}/quotaledgers") }
    }

    /// Reads the ledger with a quorum: never older than what is committed now.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Stored>, StoreError> {
        let request = Request::get(format!("{}/{name}", self.path)).body(Vec::new());
        match self.ask::<QuotaLedger>(request).await {
            Ok(ledger) => Ok(Some(Stored::of(&ledger))),
            Err(StoreError::Gone) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Passes every state of the object, or of a later one of its name, after `from` and up to `until` to `see`. It
    /// fails if the cluster no longer knows all of them; it has no timeout of its own.
    pub(super) async fn since(
        &self,
        name: &str,
        from: &Version,
        until: &Version,
        mut see: impl FnMut(Result<Ledger, LedgerError>),
    ) -> Result<(), StoreError> {
        let query =
            format!("watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion={}", from.revision);
        let request = Request::get(format!("{}?{query}", self.path)).body(Vec::new());
        let request = request.map_err(|error| StoreError::Request(Box::new(error)))?;
        let failed = |error| StoreError::Failed(Box::new(error));
        let events = self.client.request_events::<QuotaLedger>(request).await.map_err(failed)?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event.map_err(failed)? {
                WatchEvent::Added(ledger) | WatchEvent::Modified(ledger) => {
                    if ledger.metadata.name.as_deref() != Some(name) {
                        continue;
                    }
                    let Stored { version, ledger } = Stored::of(&ledger);
                    see(ledger);
                    if version == *until {
                        return Ok(());
                    }
                }
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(failed(kube::Error::Api(status))),
            }
        }
        Err(StoreError::Incomplete)
    }

    /// Replaces the ledger at `version`, or creates it.
    pub(super) async fn write(
        &self,
        quota: &CompiledQuota,
        version: Option<&Version>,
        ledger: &Ledger,
    ) -> Result<Version, StoreError> {
        let document = Document {
            api_version: QuotaLedger::api_version(&()).into_owned(),
            kind: "QuotaLedger",
            metadata: Metadata {
                name: &quota.name,
                uid: version.map(|version| version.uid.as_str()),
                resource_version: version.map(|version| version.revision.as_str()),
                owner_references: [Owner {
                    api_version: TenantQuota::api_version(&()).into_owned(),
                    kind: "TenantQuota",
                    name: &quota.name,
                    uid: &quota.uid,
                }],
            },
            spec: ledger.written(version.map(Version::place)),
        };
        let body = serde_json::to_vec(&document).map_err(|error| StoreError::Request(Box::new(error)))?;
        let request = match version {
            Some(_) => Request::builder().method(Method::PUT).uri(format!("{}/{}", self.path, quota.name)),
            None => Request::builder().method(Method::POST).uri(&self.path),
        };
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, METADATA_ALONE)
            .body(body);
        let Written { metadata: WrittenMetadata { uid, resource_version, generation } } =
            self.ask(request).await?;
        Ok(Version { uid, revision: resource_version, generation })
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        request: http::Result<Request<Vec<u8>>>,
    ) -> Result<T, StoreError> {
        let request = request.map_err(|error| StoreError::Request(Box::new(error)))?;
        match timeout(PATIENCE, self.client.request::<T>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(StoreError::Conflict),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(StoreError::Gone),
            Ok(Err(error)) => Err(StoreError::Failed(Box::new(error))),
            Err(_) => Err(StoreError::Late),
        }
    }
}
