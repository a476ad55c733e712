//! The format of a PolicyTest: policies, and cases with the expected decision of each.

use std::collections::BTreeMap;

use gatehouse_apiservice::UserInfo;
use gatehouse_policy::{Operation, Verb};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The API group of PolicyTests.
pub(super) const GROUP: &str = "test.gatehouse.dev";
/// Its only version.
pub(super) const VERSION: &str = "v1alpha1";
/// Its only kind.
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
    /// Files and folders with policies, quotas and namespaces, relative to the folder of the test; and addresses of such
    /// that are elsewhere.
    pub(super) policies: Vec<String>,
    /// Files and folders with objects that already exist in the cluster.
    #[serde(default)]
    pub(super) existing: Vec<String>,
    #[serde(default)]
    pub(super) namespaces: Vec<Namespace>,
    /// The time of the requests, unless a case sets one.
    #[serde(default)]
    pub(super) now: Option<Timestamp>,
    pub(super) cases: Vec<Case>,
}

/// The name in the metadata identifies the test; other fields are free.
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

/// One request and its expected outcome.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    #[serde(default)]
    pub(super) object: Option<Object>,
    #[serde(default)]
    pub(super) old_object: Option<Object>,
    /// A merge patch of the object, as by `kubectl patch --type=merge`; without an object, of the old one.
    #[serde(default)]
    pub(super) patch: Option<Value>,
    /// The replicas that `kubectl scale` requests for the old object.
    #[serde(default)]
    pub(super) scale: Option<i64>,
    #[serde(default)]
    pub(super) operation: Option<Operation>,
    #[serde(default)]
    pub(super) user_info: Option<UserInfo>,
    /// The verbs of `rules.verbs`, and `exempt`, that the user is authorized for.
    #[serde(default)]
    pub(super) authorized: Vec<Verb>,
    #[serde(default)]
    pub(super) field_manager: Option<String>,
    #[serde(default)]
    pub(super) now: Option<Timestamp>,
    pub(super) expect: Expect,
}

/// An object inline, or in a file: `FILE`, `FILE#KIND/NAME` or `FILE#KIND/NAMESPACE/NAME`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Object {
    File(String),
    Inline(Value),
}

/// The expected outcome of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) decision: Decision,
    /// All violations, in any order.
    #[serde(default)]
    pub(super) violations: Option<Vec<Violation>>,
    /// Fields of the admitted object: null for a field that must be absent.
    #[serde(default)]
    pub(super) object: Option<Value>,
}

/// The decision about a request; worse ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Decision {
    /// No violations.
    Allowed,
    /// A freeze holds back a write by Flux: the object stays as it is, or has no effect.
    Held,
    /// Only policies in audit mode are violated.
    Audited,
    /// Admitted with warnings.
    Warned,
    /// Denied.
    Denied,
}

/// An expected violation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Violation {
    /// The ReconcilePolicy or TenantQuota; if omitted, any.
    #[serde(default)]
    pub(super) policy: Option<String>,
    /// The rule, for example `interval`; for a quota, the limit.
    pub(super) rule: String,
    #[serde(default)]
    pub(super) field: Option<String>,
    /// A part of the message.
    #[serde(default)]
    pub(super) message: Option<String>,
}
