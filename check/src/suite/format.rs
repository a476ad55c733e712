//! A PolicyTest, as it is written: cases beside policies, each with the decision that is right.

use std::collections::BTreeMap;

use gatehouse_policy::{Operation, Verb};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The group of PolicyTests.
pub(super) const GROUP: &str = "test.gatehouse.dev";
/// Its one version.
pub(super) const VERSION: &str = "v1alpha1";
/// Its one kind.
pub(super) const KIND: &str = "PolicyTest";

/// A document of `test.gatehouse.dev/v1alpha1`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicyTest {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) metadata: Metadata,
    /// Files and folders with policies, quotas and namespaces, from the folder of the test.
    pub(super) policies: Vec<String>,
    /// Files and folders with objects that the cluster has already.
    #[serde(default)]
    pub(super) existing: Vec<String>,
    #[serde(default)]
    pub(super) namespaces: Vec<Namespace>,
    /// When the requests are made, where a case does not say.
    #[serde(default)]
    pub(super) now: Option<Timestamp>,
    pub(super) cases: Vec<Case>,
}

/// Of the metadata, the name tells tests apart; the rest is the user's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) name: String,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Namespace {
    pub(super) name: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

/// One request, and what has to come of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    #[serde(default)]
    pub(super) object: Option<Object>,
    #[serde(default)]
    pub(super) old_object: Option<Object>,
    /// Changes the object as `kubectl patch --type=merge` would; without an object, the old one.
    #[serde(default)]
    pub(super) patch: Option<Value>,
    /// The replicas that `kubectl scale` asks for the old object.
    #[serde(default)]
    pub(super) scale: Option<i64>,
    #[serde(default, deserialize_with = "operation")]
    pub(super) operation: Option<Operation>,
    #[serde(default)]
    pub(super) user_info: Option<UserInfo>,
    /// The verbs of `rules.verbs` that the user has a right to, and `exempt`.
    #[serde(default, deserialize_with = "verbs")]
    pub(super) authorized: Vec<Verb>,
    #[serde(default)]
    pub(super) field_manager: Option<String>,
    #[serde(default)]
    pub(super) now: Option<Timestamp>,
    pub(super) expect: Expect,
}

/// An object in place, or in a file: `FILE`, `FILE#KIND/NAME` or `FILE#KIND/NAMESPACE/NAME`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Object {
    File(String),
    Inline(Value),
}

/// Who makes the request, as an AdmissionReview has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserInfo {
    pub(super) username: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

/// What has to come of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) decision: Decision,
    /// All that is broken, in any order.
    #[serde(default)]
    pub(super) violations: Option<Vec<Violation>>,
    /// Fields that the object has when it is admitted: null for one that it must not have.
    #[serde(default)]
    pub(super) object: Option<Value>,
}

/// What comes of a request, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Decision {
    /// Nothing is broken.
    Allowed,
    /// A freeze holds what Flux writes: the object stays as it is, or does nothing.
    Held,
    /// Only policies that audit are broken.
    Audited,
    /// It is admitted with warnings.
    Warned,
    /// It is refused.
    Denied,
}

/// A rule that has to be broken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Violation {
    /// The ReconcilePolicy or TenantQuota; any, if it is left out.
    #[serde(default)]
    pub(super) policy: Option<String>,
    /// For example `interval`; of a quota, the limit.
    pub(super) rule: String,
    #[serde(default)]
    pub(super) field: Option<String>,
    /// A part of the message.
    #[serde(default)]
    pub(super) message: Option<String>,
}

fn operation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Operation>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    enum Word {
        Create,
        Update,
        Delete,
    }
    Ok(Option::<Word>::deserialize(deserializer)?.map(|word| match word {
        Word::Create => Operation::Create,
        Word::Update => Operation::Update,
        Word::Delete => Operation::Delete,
    }))
}

fn verbs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Verb>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Suspend,
        Resume,
        Reconcile,
        Exempt,
    }
    let words = Vec::<Word>::deserialize(deserializer)?.into_iter();
    Ok(words
        .map(|word| match word {
            Word::Suspend => Verb::Suspend,
            Word::Resume => Verb::Resume,
            Word::Reconcile => Verb::Reconcile,
            Word::Exempt => Verb::Exempt,
        })
        .collect())
}
