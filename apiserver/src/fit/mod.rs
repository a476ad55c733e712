//! `fit`: whether objects would fit into a quota, without creating them.
//!
//! **Invariant:** nothing is written and nothing is reserved; what is answered may be outdated when it arrives. The
//! usage of objects is computed by the code of admission.

mod existing;
mod objects;
mod verdict;

use std::{collections::HashMap, iter::once};

use gatehouse_apiservice::{
    UserInfo,
    action::{FITS, QUOTA_FIT},
    view::{API_VERSION, GROUP},
};
use gatehouse_serving::{
    ApiError, Body,
    body::RequestBody,
    error::Subject,
    negotiate::{self, Shape},
};
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Value, json};

pub(crate) use self::existing::Existing;
use self::objects::Objects;
use crate::{
    endpoints::compress,
    options::GetOptions,
    watchcache::{RowKey, WatchCache, object_head},
};

/// The most bytes of a body.
const LONGEST_BODY: usize = 512 << 10;
const JSON: &str = "application/json";

/// Whether a resource has this subresource, and it is one of these.
pub(crate) fn is_asked(plural: &str, subresource: Option<&str>) -> bool {
    FITS.iter().any(|fit| fit.resource.plural == plural && subresource == Some(fit.name))
}

/// Answers whether the objects of a body fit into the quota of a row.
pub(crate) async fn answer(
    cache: &WatchCache,
    key: &RowKey,
    (query, headers): (&str, &HeaderMap),
    body: RequestBody,
    (user, existing): (&UserInfo, Option<&Existing>),
) -> Result<Response<Body>, ApiError> {
    let (_, form) = negotiate::resource(headers, Shape::Object)?;
    let form = form.prettified(GetOptions::parse(query)?.pretty);
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // `kubectl create --raw` says nothing of its body.
    if !["", JSON].contains(&sent.split(';').next().unwrap_or_default().trim()) {
        return Err(ApiError::unsupported_media_type(sent, JSON));
    }
    let bytes = crate::request_body::read(body, LONGEST_BODY).await?;
    let (quota, existing) = {
        let snapshot = cache.snapshot();
        let subject = Subject { group: GROUP, resource: cache.resource.plural, name: &key.name };
        let row = snapshot.rows.get(key).ok_or_else(|| ApiError::not_found(subject))?;
        let mut text = object_head(cache.resource.kind).into_bytes();
        row.write_object(&mut text);
        // The objects of another cluster are not read.
        let is_read = |existing: &&Existing| row.cluster().is_none_or(|cluster| *cluster == existing.cluster);
        (verdict::quota(&text)?, existing.filter(is_read))
    };
    let objects: Value = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    let objects = Objects::read(&key.namespace, objects)?;
    let asked = verdict::Question::new(&quota, &objects)?;
    let existing = match existing {
        Some(existing) => existing.find(user, asked.charged()).await,
        None => HashMap::new(),
    };
    let fit = asked.judge(&existing)?;
    let mut metadata = json!({"name": &*key.name});
    if !key.namespace.is_empty() {
        metadata["namespace"] = (*key.namespace).into();
    }
    let document =
        json!({"apiVersion": API_VERSION, "kind": QUOTA_FIT.kind, "metadata": metadata, "status": fit});
    let document = form.document(document.to_string().into_bytes())?;
    let mut response = compress::respond(form, headers, once(document.into()));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
