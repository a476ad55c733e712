//! Parses an AdmissionReview once; its objects stay text until they are needed.
//!
//! **Invariant:** a body that is not a valid review of `admission.k8s.io/v1` is an error. If its uid could be read,
//! the error is a response to the review; otherwise it is an HTTP error.

use std::borrow::Cow;

use gatehouse_apiservice::UserInfo;
use gatehouse_policy::Operation;
use gatehouse_serving::ApiError;
use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

mod user;

use user::LONGEST_USER;
pub(super) use user::cost as cost_of_user;

/// The only supported version.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of requests and responses.
pub(super) const KIND: &str = "AdmissionReview";

/// The longest uid, name or group, in bytes. Kubernetes allows names of 253.
const LONGEST_NAME: usize = 1024;
/// The request of a review.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Identifies this call. Another call about the same request has another uid.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// The kind of the object. With matchPolicy Equivalent it may differ from what the client used.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// The resource of the object.
    #[serde(borrow)]
    pub resource: Resource<'a>,
    /// The subresource, such as `scale`; empty for the resource itself.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub sub_resource: Cow<'a, str>,
    /// The name. Empty at a creation with `generateName`; the object has the name then.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub name: Cow<'a, str>,
    /// The namespace; empty for cluster-scoped objects.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub namespace: Cow<'a, str>,
    /// The operation.
    #[serde(deserialize_with = "operation")]
    pub operation: Operation,
    /// The user. If [`by_gatehouse`](Self::by_gatehouse) is set, the one for whom `gatehouse apiserver` writes.
    #[serde(deserialize_with = "user::bounded")]
    pub user_info: UserInfo,
    /// Whether `gatehouse apiserver` sent it. Only [`Judge::attribute`](super::Judge::attribute) sets it.
    #[serde(skip)]
    pub by_gatehouse: bool,
    /// The new object; `None` for a deletion.
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    /// The old object; `None` for a creation.
    #[serde(borrow, default)]
    pub old_object: Option<&'a RawValue>,
    /// The options of the write.
    #[serde(borrow, default, deserialize_with = "default_or_null")]
    pub options: WriteOptions<'a>,
    /// Whether the request is a dry run.
    #[serde(default, deserialize_with = "flag_or_null")]
    pub dry_run: bool,
}

/// Group, version and kind.
#[derive(Debug, Clone, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the API's own names")]
pub struct Kind<'a> {
    /// API group, empty for the core's.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// API version.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// Kind.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

/// Group, version and plural name.
#[derive(Debug, Clone, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the API's own names")]
pub struct Resource<'a> {
    /// API group, empty for the core's.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// API version.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// Plural name.
    #[serde(borrow)]
    pub resource: Cow<'a, str>,
}

/// The options that are used of CreateOptions, UpdateOptions (also of patches) and DeleteOptions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteOptions<'a> {
    /// The field manager.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub field_manager: Cow<'a, str>,
    /// For a deletion: what happens to dependents.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub propagation_policy: Cow<'a, str>,
    /// For a deletion: the deprecated form of `propagation_policy`.
    #[serde(default, deserialize_with = "default_or_null")]
    pub orphan_dependents: Option<bool>,
}

/// Why a body could not be parsed.
#[derive(Debug)]
pub enum Unreadable {
    /// Not a review: answered with an HTTP error.
    NotAReview(ApiError),
    /// A review that is invalid: answered with a denial.
    Refused {
        /// The uid of the review.
        uid: String,
        /// The error.
        why: ApiError,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    request: Option<Request<'a>>,
}

impl<'a> Request<'a> {
    /// Parses a body.
    pub fn parse(body: &'a [u8]) -> Result<Self, Unreadable> {
        if body.is_empty() {
            return Err(not_a_review("the body is empty; an AdmissionReview is expected"));
        }
        let Ok(Envelope { api_version, kind, request }) = serde_json::from_slice(body) else {
            return Err(explain(body));
        };
        is_review(&kind, &api_version)?;
        let request = request.ok_or_else(|| not_a_review("the AdmissionReview has no request"))?;
        if request.uid.is_empty() {
            return Err(not_a_review("request.uid: Required value"));
        }
        if request.uid.len() > LONGEST_NAME {
            return Err(not_a_review(format!(
                "request.uid: Too long: must have at most {LONGEST_NAME} bytes"
            )));
        }
        match request.check() {
            Ok(()) => Ok(request),
            Err(problem) => Err(refused(&request.uid, problem)),
        }
    }

    /// Checks that lengths are within limits, and that the operation has the objects that it needs.
    fn check(&self) -> Result<(), String> {
        for (field, name) in [
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("subResource", &self.sub_resource),
            ("kind.group", &self.kind.group),
            ("kind.version", &self.kind.version),
            ("kind.kind", &self.kind.kind),
            ("resource.group", &self.resource.group),
            ("resource.version", &self.resource.version),
            ("resource.resource", &self.resource.resource),
        ] {
            if name.len() > LONGEST_NAME {
                return Err(format!("request.{field}: Too long: must have at most {LONGEST_NAME} bytes"));
            }
        }
        if user::length(&self.user_info) > LONGEST_USER {
            return Err(format!("request.userInfo: Too long: must have at most {LONGEST_USER} bytes"));
        }
        let (object, old) = match self.operation {
            Operation::Create => (true, false),
            Operation::Update => (true, true),
            Operation::Delete => (false, true),
        };
        let operation = self.operation.as_str();
        for (field, needed, sent) in [("object", object, self.object), ("oldObject", old, self.old_object)] {
            match sent {
                None if needed => {
                    return Err(format!("request.{field}: Required value: {operation} needs it"));
                }
                Some(raw) if !raw.get().trim_start().starts_with('{') => {
                    return Err(format!("request.{field}: Invalid value: must be an object"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The new object, or the old one for a deletion.
    pub fn subject(&self) -> Option<&'a RawValue> {
        self.object.or(self.old_object)
    }

    /// Whether it is about the resource itself, not a subresource such as `scale`.
    pub fn is_whole(&self) -> bool {
        self.sub_resource.is_empty()
    }

    /// Whether it deletes an object and orphans its dependents. False if the old object cannot be read.
    pub fn orphans(&self) -> bool {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Finalized {
            metadata: Finalizers,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Finalizers {
            finalizers: Vec<String>,
        }
        if self.operation != Operation::Delete {
            return false;
        }
        match (&*self.options.propagation_policy, self.options.orphan_dependents) {
            ("", Some(orphans)) => orphans,
            // If the request does not say, the finalizers of the object do.
            ("", None) => {
                let old = self.old_object.and_then(|raw| serde_json::from_str::<Finalized>(raw.get()).ok());
                old.is_some_and(|old| old.metadata.finalizers.iter().any(|one| one == "orphan"))
            }
            (policy, _) => policy == "Orphan",
        }
    }
}

/// Finds the error in a body that could not be parsed. This is the slow path.
fn explain(body: &[u8]) -> Unreadable {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outline<'a> {
        #[serde(borrow, default)]
        api_version: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        kind: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        request: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        uid: Cow<'a, str>,
    }

    let outline: Outline<'_> = match serde_json::from_slice(body) {
        Ok(outline) => outline,
        Err(error) => return not_a_review(format!("the body is not an AdmissionReview: {error}")),
    };
    let (kind, version) = (outline.kind.unwrap_or_default(), outline.api_version.unwrap_or_default());
    if let Err(not_a_review) = is_review(&kind, &version) {
        return not_a_review;
    }
    let Some(request) = outline.request else {
        return not_a_review("the AdmissionReview has no request");
    };
    let uid = match serde_json::from_str::<Named<'_>>(request.get()) {
        Ok(Named { uid }) if !uid.is_empty() => uid,
        Ok(_) => return not_a_review("request.uid: Required value"),
        Err(error) => return not_a_review(format!("request.uid: Invalid value: {error}")),
    };
    let mut json = serde_json::Deserializer::from_str(request.get());
    match serde_path_to_error::deserialize::<_, Request<'_>>(&mut json) {
        Err(error) => {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { format!(".{path}") };
            refused(&uid, format!("request{path}: Invalid value: {}", error.inner()))
        }
        Ok(_) => refused(&uid, "request: Invalid value: it cannot be read".to_owned()),
    }
}

fn is_review(kind: &str, version: &str) -> Result<(), Unreadable> {
    if kind == KIND && version == API_VERSION {
        return Ok(());
    }
    Err(not_a_review(format!(
        "expected kind {KIND:?} of apiVersion {API_VERSION:?}, found kind {kind:?} of apiVersion {version:?}"
    )))
}

fn not_a_review(why: impl Into<String>) -> Unreadable {
    Unreadable::NotAReview(ApiError::bad_request(why))
}

fn refused(uid: &str, why: String) -> Unreadable {
    Unreadable::Refused { uid: uid.to_owned(), why: ApiError::bad_request(why) }
}

fn operation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Operation, D::Error> {
    match &*Cow::<str>::deserialize(deserializer)? {
        "CONNECT" => Err(D::Error::custom("CONNECT is not supported")),
        other => Operation::deserialize(other.into_deserializer()),
    }
}

fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(Option::<Text<'de>>::deserialize(deserializer)?.map(|Text(text)| text).unwrap_or_default())
}

fn flag_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn default_or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod testing {
    use serde_json::{Value, json};

    use super::{API_VERSION, KIND};

    /// The review of a creation of object `a` in namespace `n` by jane.
    pub(crate) fn create(group: &str, resource: &str, object: &Value) -> Vec<u8> {
        review(group, resource, object).to_string().into_bytes()
    }

    /// The same as a value, for tests to modify.
    pub(crate) fn review(group: &str, resource: &str, object: &Value) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": group, "version": "v1", "kind": object.get("kind").and_then(Value::as_str).unwrap_or("Thing")},
                "resource": {"group": group, "version": "v1", "resource": resource},
                "name": "a",
                "namespace": "n",
                "operation": "CREATE",
                "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
                "object": object,
                "oldObject": null,
                "dryRun": false,
                "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
            },
        })
    }
}

#[cfg(test)]
mod tests;
