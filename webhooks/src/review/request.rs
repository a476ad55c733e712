//! An AdmissionReview as it arrives: read once, and the objects in it left as text until somebody wants to look.
//!
//! Invariant: whatever is not exactly a review of `admission.k8s.io/v1` is an error. Where its uid could be read, the
//! error is an answer to it; else it is one of HTTP.

use std::borrow::Cow;

use gatehouse_serving::ApiError;
use gatehouse_serving::authn;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The one version that is read and answered.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of questions and answers.
pub(super) const KIND: &str = "AdmissionReview";

/// The longest name of anything, in bytes. Kubernetes allows 253.
const LONGEST_NAME: usize = 1024;
/// The most groups of a user, and the most values of what else is known of one.
const MOST_OF_USER: usize = 4096;
/// What is known of a user, in bytes. kube-apiserver takes it from headers, of which it reads 1 MiB.
const LONGEST_USER: usize = 512 << 10;

/// What kube-apiserver asks about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Names this call. Another call about the same request has another.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// What the object is sent as. With matchPolicy Equivalent not always what the client used.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// The resource it is of.
    #[serde(borrow)]
    pub resource: Resource<'a>,
    /// What of the resource is written: `scale`, for one; empty for itself.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub sub_resource: Cow<'a, str>,
    /// Empty at a creation under `generateName`; the object has the name then.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub name: Cow<'a, str>,
    /// Empty for what belongs to no namespace.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub namespace: Cow<'a, str>,
    /// What is to be done.
    pub operation: Operation,
    /// Who asks for it.
    pub user_info: UserInfo,
    /// What is to be there. None at a deletion.
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    /// What is there. None at a creation.
    #[serde(borrow, default)]
    pub old_object: Option<&'a RawValue>,
    /// How it is to be written.
    #[serde(borrow, default, deserialize_with = "default_or_null")]
    pub options: WriteOptions<'a>,
    /// Nothing will be written, whatever the answer.
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

/// What is to be done with the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is to be there.
    Create,
    /// It is to be different.
    Update,
    /// It is to go.
    Delete,
    /// Something is to be opened through it.
    Connect,
}

/// CreateOptions or UpdateOptions, which patches have too; of DeleteOptions, nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteOptions<'a> {
    /// What the writer calls itself.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub field_manager: Cow<'a, str>,
    /// Of a deletion: what becomes of what the object owns.
    #[serde(borrow, default, deserialize_with = "text_or_null")]
    pub propagation_policy: Cow<'a, str>,
    /// The same, as it was said before.
    #[serde(default, deserialize_with = "default_or_null")]
    pub orphan_dependents: Option<bool>,
}

/// Who makes a request.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UserInfo {
    username: String,
    #[serde(default, deserialize_with = "default_or_null")]
    uid: String,
    #[serde(default)]
    groups: Few<String>,
    #[serde(default)]
    extra: Few<(String, Few<String>)>,
}

/// Why there is nothing to review.
#[derive(Debug)]
pub enum Unreadable {
    /// No review, so an answer of HTTP's.
    NotAReview(ApiError),
    /// A review that makes no sense, so a review that refuses.
    Refused {
        /// Of the review.
        uid: String,
        /// What is wrong.
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

impl Operation {
    /// As kube-apiserver spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

impl UserInfo {
    /// Their name.
    pub fn name(&self) -> &str {
        &self.username
    }

    /// Their groups.
    pub fn groups(&self) -> &[String] {
        &self.groups.0
    }

    /// The memory that it takes, with the copies that are made of it, in bytes.
    pub(super) fn cost(&self) -> usize {
        const COPIES: usize = 4;
        let extra = self.extra.0.iter();
        let (entries, bytes) = extra
            .fold((self.groups.0.len(), self.text()), |(entries, bytes), (_, values)| {
                (entries + 2 + values.0.len(), bytes)
            });
        COPIES * (bytes + entries * 3 * size_of::<String>())
    }

    /// The length of all that is known.
    fn text(&self) -> usize {
        let length = |texts: &Few<String>| texts.0.iter().map(String::len).sum::<usize>();
        let extra = self.extra.0.iter().map(|(name, values)| name.len() + length(values));
        self.username.len() + self.uid.len() + length(&self.groups) + extra.sum::<usize>()
    }
}

/// A list, or a map, of no more than is bearable. Null is none, as Go writes nil.
#[derive(Debug, Clone)]
struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Few<T> {
    fn push<E: serde::de::Error>(&mut self, one: T) -> Result<(), E> {
        if self.0.len() == MOST_OF_USER {
            return Err(E::custom(format_args!("must have {MOST_OF_USER} entries or fewer")));
        }
        self.0.push(one);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Few<String> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Few<String>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_unit<E>(self) -> Result<Few<String>, E> {
                Ok(Few::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<String>, A::Error> {
                let mut few = Few::default();
                while let Some(text) = list.next_element()? {
                    few.push(text)?;
                }
                Ok(few)
            }
        }
        deserializer.deserialize_any(List)
    }
}

impl<'de> Deserialize<'de> for Few<(String, Few<String>)> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Few<(String, Few<String>)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of lists of strings")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Few::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut few, mut values) = (Few::default(), 0);
                while let Some(entry) = map.next_entry::<String, Few<String>>()? {
                    values += entry.1.0.len();
                    if values > MOST_OF_USER {
                        return Err(A::Error::custom(format_args!(
                            "must have {MOST_OF_USER} values or fewer"
                        )));
                    }
                    few.push(entry)?;
                }
                Ok(few)
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl From<UserInfo> for authn::UserInfo {
    fn from(user: UserInfo) -> Self {
        let UserInfo { username: name, uid, groups: Few(groups), extra: Few(extra) } = user;
        let extra = extra.into_iter().map(|(name, Few(values))| (name, values)).collect();
        Self { name, uid, groups, extra }
    }
}

impl<'a> Request<'a> {
    /// Reads the body of a call.
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

    /// Every operation comes with its objects, and they are objects.
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
        if self.user_info.text() > LONGEST_USER {
            return Err(format!("request.userInfo: Too long: must have at most {LONGEST_USER} bytes"));
        }
        let (object, old) = match self.operation {
            Operation::Create => (true, false),
            Operation::Update => (true, true),
            Operation::Delete => (false, true),
            Operation::Connect => return Err("request.operation: CONNECT is not judged here".to_owned()),
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

    /// What the request is about: the object to be, or that was.
    pub fn subject(&self) -> Option<&'a RawValue> {
        self.object.or(self.old_object)
    }

    /// Whether it is about the resource itself, and not about a part such as `scale`.
    pub fn is_whole(&self) -> bool {
        self.sub_resource.is_empty()
    }

    /// Whether it deletes an object so that what this owns stays. What makes no sense does not.
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
            // Where the request does not say, the object does.
            ("", None) => {
                let old = self.old_object.and_then(|raw| serde_json::from_str::<Finalized>(raw.get()).ok());
                old.is_some_and(|old| old.metadata.finalizers.iter().any(|one| one == "orphan"))
            }
            (policy, _) => policy == "Orphan",
        }
    }
}

/// Finds out what is wrong with a body that could not be read, on the slow path.
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
        Err(error) => return not_a_review(format!("the body is no AdmissionReview: {error}")),
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

fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(Option::<Text<'de>>::deserialize(deserializer)?.map(|Text(text)| text).unwrap_or_default())
}

fn flag_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn default_or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod testing {
    use serde_json::{Value, json};

    use super::{API_VERSION, KIND};

    /// The review of a creation of an object `a` in the namespace `n` by jane.
    pub(crate) fn create(group: &str, resource: &str, object: &Value) -> Vec<u8> {
        review(group, resource, object).to_string().into_bytes()
    }

    /// The same, to be changed.
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
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review() -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "request": {
                "uid": "u-1",
                "kind": {"group": "g", "version": "v1", "kind": "Thing"},
                "resource": {"group": "g", "version": "v1", "resource": "things"},
                "name": "a",
                "namespace": "n",
                "operation": "UPDATE",
                "userInfo": {"username": "jane", "groups": ["x"], "extra": {"k": ["v"]}},
                "object": {"metadata": {"name": "a"}, "spec": {"é": 1}},
                "oldObject": {"metadata": {"name": "a"}},
                "dryRun": true,
                "options": {"kind": "UpdateOptions"},
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut review = review();
        *review.pointer_mut(pointer).expect("there") = value;
        review
    }

    /// `not_a_review MESSAGE` or `UID MESSAGE`.
    fn refusal(review: &Value) -> String {
        refusal_of(review.to_string().as_bytes())
    }

    fn refusal_of(body: &[u8]) -> String {
        match Request::parse(body).expect_err("refused") {
            Unreadable::NotAReview(error) => format!("not_a_review {error}"),
            Unreadable::Refused { uid, why } => format!("{uid} {why}"),
        }
    }

    #[test]
    fn objects_stay_text_and_everything_else_is_read() {
        let body = review().to_string();
        let request = Request::parse(body.as_bytes()).expect("a review");
        assert_eq!(
            (&*request.uid, &*request.kind.kind, &*request.resource.resource),
            ("u-1", "Thing", "things")
        );
        assert!(matches!(request.uid, Cow::Borrowed(_)) && request.dry_run && request.is_whole());
        assert_eq!(request.object.expect("sent").get(), r#"{"metadata":{"name":"a"},"spec":{"é":1}}"#);
        let user: authn::UserInfo = request.user_info.into();
        assert_eq!(
            (&*user.name, user.groups, &*user.extra["k"]),
            ("jane", vec!["x".to_owned()], &["v".to_owned()][..])
        );
    }

    #[test]
    fn null_is_nothing_as_go_writes_it() {
        let mut review = with("/request/oldObject", Value::Null);
        for field in ["subResource", "name", "namespace", "dryRun"] {
            review["request"][field] = Value::Null;
        }
        review["request"]["operation"] = json!("CREATE");
        review["request"]["userInfo"] = json!({"username": "a", "groups": null, "extra": null});
        let body = review.to_string();
        let request = Request::parse(body.as_bytes()).expect("a review");
        assert!(request.name.is_empty() && !request.dry_run && request.old_object.is_none());
    }

    #[test]
    fn what_is_no_review_is_told_so() {
        for (body, problem) in [
            (&b""[..], "the body is empty"),
            (b"AdmissionReview", "the body is no AdmissionReview: expected value"),
            (b"[]", "found kind \"\" of apiVersion \"\""),
            (b"{}", "found kind \"\" of apiVersion \"\""),
            (b"\xff", "the body is no AdmissionReview: "),
            (b"{\"kind\": 1}", "the body is no AdmissionReview: invalid type: integer `1`"),
        ] {
            let refusal = refusal_of(body);
            assert!(refusal.starts_with("not_a_review ") && refusal.contains(problem), "{refusal}");
        }
        for (pointer, value, problem) in [
            ("/apiVersion", json!("admission.k8s.io/v1beta1"), "apiVersion \"admission.k8s.io/v1beta1\""),
            ("/kind", json!("Review"), "found kind \"Review\""),
            ("/request", Value::Null, "has no request"),
            ("/request", json!(7), "request.uid: Invalid value: invalid type: integer `7`"),
            ("/request", json!({}), "request.uid: Invalid value: missing field `uid`"),
            ("/request/uid", json!(""), "request.uid: Required value"),
        ] {
            let refusal = refusal(&with(pointer, value));
            assert!(refusal.starts_with("not_a_review ") && refusal.contains(problem), "{refusal}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_review_is_named() {
        for (pointer, value, problem) in [
            (
                "/request/operation",
                json!("PATCH"),
                "request.operation: Invalid value: unknown variant `PATCH`",
            ),
            ("/request/operation", json!("CONNECT"), "request.operation: CONNECT is not judged here"),
            ("/request/object", Value::Null, "request.object: Required value: UPDATE needs it"),
            ("/request/object", json!([1]), "request.object: Invalid value: must be an object"),
            ("/request/oldObject", Value::Null, "request.oldObject: Required value: UPDATE needs it"),
            ("/request/oldObject", json!("x"), "request.oldObject: Invalid value: must be an object"),
            ("/request/namespace", json!(1), "request.namespace: Invalid value: invalid type: integer `1`"),
            ("/request/dryRun", json!("yes"), "request.dryRun: Invalid value: invalid type: string \"yes\""),
            ("/request/userInfo", json!([]), "request.userInfo: Invalid value: "),
            ("/request/userInfo/groups", json!([1]), "request.userInfo.groups[0]: Invalid value: "),
            ("/request/kind", json!({}), "request.kind: Invalid value: missing field `version`"),
        ] {
            let refusal = refusal(&with(pointer, value));
            assert!(refusal.starts_with(&format!("u-1 {problem}")), "{refusal}");
        }
        let long = "n".repeat(LONGEST_NAME + 1);
        for field in ["name", "namespace", "kind/kind", "resource/resource"] {
            let refusal = refusal(&with(&format!("/request/{field}"), json!(long)));
            assert!(
                refusal.starts_with(&format!("u-1 request.{}: Too long", field.replace('/', "."))),
                "{refusal}"
            );
        }
        assert!(
            refusal(&with("/request/uid", json!(long))).starts_with("not_a_review request.uid: Too long")
        );
        let mut deleted = with("/request/operation", json!("DELETE"));
        deleted["request"]["oldObject"] = Value::Null;
        assert_eq!(refusal(&deleted), "u-1 request.oldObject: Required value: DELETE needs it");
    }

    #[test]
    fn what_is_known_of_a_user_is_bounded() {
        let many = json!(vec![""; MOST_OF_USER + 1]);
        let names: Vec<_> = (0..=MOST_OF_USER).map(|name| (name.to_string(), json!([]))).collect();
        let names: Value = names.into_iter().collect::<serde_json::Map<_, _>>().into();
        for (pointer, value, problem) in [
            (
                "/request/userInfo/groups",
                many.clone(),
                "request.userInfo.groups: Invalid value: must have 4096",
            ),
            (
                "/request/userInfo/extra",
                names,
                "request.userInfo.extra: Invalid value: must have 4096 entries",
            ),
            (
                "/request/userInfo/extra",
                json!({"a": many}),
                "request.userInfo.extra.a: Invalid value: must have 4096",
            ),
            ("/request/userInfo/groups", json!(["x".repeat(LONGEST_USER)]), "request.userInfo: Too long"),
        ] {
            let refusal = refusal(&with(pointer, value));
            assert!(refusal.starts_with(&format!("u-1 {problem}")), "{refusal}");
        }
        let body = with("/request/userInfo/groups", json!(vec!["g"; MOST_OF_USER])).to_string();
        let request = Request::parse(body.as_bytes()).expect("a review");
        assert!(request.user_info.cost() > MOST_OF_USER * 4);
    }
}
