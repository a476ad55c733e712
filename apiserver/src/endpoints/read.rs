//! Handles get and list.
//!
//! A request takes a snapshot of the cache and selects rows. Their bytes are copied piece by piece, as the
//! client reads them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::{
    compress,
    encode::{Encoder, ListMeta, now},
    scope::Scope,
    select::Selection,
};
use crate::{
    clusters::access::Clusters,
    options::{ContinueToken, GetOptions, ListOptions, ResourceVersion, ResourceVersionMatch},
    watchcache::{Row, RowKey, Snapshot, WatchCache},
};
use gatehouse_serving::{
    ApiError, Body,
    negotiate::{Form, LIST_TAIL, Representation},
};

/// How long a request waits for a version that the cache has not reached, as kube-apiserver's watch cache
/// does.
pub(super) const WAIT_FOR_VERSION: Duration = Duration::from_secs(3);
/// How long a request waits for another replica's version before the cache is advanced to it. What that
/// replica knew mostly arrives within this time; nothing arrives if the version is of another resource, or
/// nothing has happened here since.
const WAIT_FOR_CHANGE: Duration = Duration::from_secs(1);
/// The size of a piece. It bounds the memory that a list of any length takes, at few wake-ups.
const CHUNK: usize = 64 << 10;

pub(super) async fn get(
    cache: &WatchCache,
    key: RowKey,
    clusters: &Clusters,
    options: GetOptions,
    (representation, form): (Representation, Form),
    request: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    wait_until_at_least(cache, options.resource_version).await?;
    let snapshot = cache.snapshot();
    // A row that may not be seen looks like one that does not exist.
    let row = snapshot.rows.get(&key).filter(|row| clusters.show(row));
    let row = row.ok_or_else(|| ApiError::not_found(super::subject(cache, &key.name)))?;
    let encoder = Encoder::new(cache.resource, representation, options.include_object);
    let document = form.document(encoder.single(row, now()))?;
    Ok(compress::respond(form, request, std::iter::once(document.into())))
}

pub(super) async fn list(
    scope: Scope<'_>,
    selection: Selection,
    options: ListOptions,
    (representation, form): (Representation, Form),
    request: &HeaderMap,
) -> Result<Response<Body>, ApiError> {
    if let (Some(token), Some(namespace)) = (&options.continue_token, &selection.namespace)
        && token.namespace != *namespace
    {
        return Err(ApiError::bad_request("continue key is not valid: it is of another namespace"));
    }
    let snapshot = snapshot(scope, &options).await?;
    let after = options
        .continue_token
        .map(|token| RowKey { namespace: token.namespace.into(), name: token.name.into() });
    let mut matching = selection.rows(&snapshot.rows, after);
    let limit = options.limit.map_or(usize::MAX, std::num::NonZeroUsize::get);
    let page: Vec<Arc<Row>> = matching.by_ref().take(limit).cloned().collect();
    let mut meta = ListMeta { version: snapshot.version, ..ListMeta::default() };
    if let Some(last) = page.last()
        && page.len() == limit
        && matching.next().is_some()
    {
        // kube-apiserver omits the count if there is a selector, since it would have to evaluate the rest.
        meta.remaining = selection.is_everything().then(|| 1 + matching.count());
        meta.continue_token = Some(token_after(last.key(), Some(snapshot.version)));
    }
    let encoder = Encoder::new(scope.cache().resource, representation, options.include_object);
    let buffer = encoder.list_head(&meta);
    let pieces = ListChunks { encoder, rows: page, now: now(), next: 0, buffer };
    if form == Form::Json {
        return Ok(compress::respond(form, request, pieces));
    }
    // YAML and pretty JSON are for people, who read short lists, so these are built as a whole.
    let document = form.document(pieces.flatten().collect())?;
    Ok(compress::respond(form, request, std::iter::once(document.into())))
}

/// The snapshot at the version that the parameters ask for.
async fn snapshot(scope: Scope<'_>, options: &ListOptions) -> Result<Snapshot, ApiError> {
    let cache = scope.cache();
    if let Some(token) = &options.continue_token {
        let Some(ResourceVersion(version)) = token.version else { return scope.snapshot() };
        let expired = || {
            let key = RowKey { namespace: token.namespace.as_str().into(), name: token.name.as_str().into() };
            ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a \
                 new list without the continue parameter, or use the continue token in this response to retrieve \
                 the remainder of the results. Continuing with the provided token results in an inconsistent list \
                 - objects that were created, modified, or deleted between the time the first chunk was returned \
                 and now may show up in the list.",
            )
            .with_continue(token_after(&key, None))
        };
        return scope.snapshot_at(version).map_err(|_| expired());
    }
    if let Some(version) = exact_version(options) {
        if !cache.clock().advance_past(version) {
            wait_until_reached(cache, version, WAIT_FOR_VERSION).await?;
        }
        return scope.snapshot_at(version).map_err(|error| ApiError::expired(error.to_string()));
    }
    wait_until_at_least(cache, options.resource_version).await?;
    scope.snapshot()
}

/// The version that a list must have exactly: with `resourceVersionMatch=Exact`, and for a first page with a
/// version but without a match ("legacy exact match" in Kubernetes).
fn exact_version(options: &ListOptions) -> Option<u64> {
    let ResourceVersion(version) =
        options.resource_version.filter(|version| *version != ResourceVersion::ANY)?;
    let is_exact = match options.resource_version_match {
        Some(wanted) => wanted == ResourceVersionMatch::Exact,
        None => options.limit.is_some(),
    };
    is_exact.then_some(version)
}

/// Waits until the cache is at least at `version`. Within a second after another replica made the version,
/// what that replica knew may be missing here, so the request waits for it. Beyond that it is best effort:
/// replicas may lag behind each other by more.
pub(super) async fn wait_until_at_least(
    cache: &WatchCache,
    version: Option<ResourceVersion>,
) -> Result<(), ApiError> {
    let Some(ResourceVersion(version)) = version else { return Ok(()) };
    let is_known = cache.clock().knows(version, WAIT_FOR_CHANGE) && cache.advance_past(version);
    if is_known
        || wait_until_reached(cache, version, WAIT_FOR_CHANGE).await.is_ok()
        || cache.advance_past(version)
    {
        return Ok(());
    }
    wait_until_reached(cache, version, WAIT_FOR_VERSION.saturating_sub(WAIT_FOR_CHANGE)).await
}

/// Waits until a change or another request has brought the cache to `version`; otherwise an error after
/// `limit`.
pub(super) async fn wait_until_reached(
    cache: &WatchCache,
    version: u64,
    limit: Duration,
) -> Result<(), ApiError> {
    let mut follow = cache.follow();
    match tokio::time::timeout(limit, follow.wait_for(|current| *current >= version)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(ApiError::resource_version_too_large(version, cache.snapshot().version)),
    }
}

fn token_after(key: &RowKey, version: Option<u64>) -> String {
    let token = ContinueToken {
        version: version.map(ResourceVersion),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    };
    token.encode()
}

/// The pieces of a list's body, written as they are read.
struct ListChunks {
    encoder: Encoder,
    rows: Vec<Arc<Row>>,
    /// The time of the request, for ages.
    now: i64,
    next: usize,
    buffer: Vec<u8>,
}

impl ListChunks {
    fn is_done(&self) -> bool {
        self.next > self.rows.len()
    }
}

impl Iterator for ListChunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.is_done() {
            return None;
        }
        // The size of the rows is a good estimate of the size of the piece.
        let expected = CHUNK + CHUNK / 8;
        self.buffer.reserve(expected.saturating_sub(self.buffer.len()));
        while self.buffer.len() < CHUNK {
            let Some(row) = self.rows.get(self.next) else {
                self.next = self.rows.len() + 1;
                self.buffer.extend_from_slice(LIST_TAIL);
                break;
            };
            if self.next > 0 {
                self.buffer.push(b',');
            }
            self.encoder.item(&mut self.buffer, row, self.now);
            self.next += 1;
        }
        Some(std::mem::take(&mut self.buffer).into())
    }
}
