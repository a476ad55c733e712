//! The user of a request: `UserInfo` of `authentication.k8s.io/v1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const ALL_AUTHENTICATED: &str = "system:authenticated";
const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
const PRIVILEGED: &str = "system:masters";

/// The user who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserInfo {
    /// The name, unique among all users.
    #[serde(rename = "username", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Distinguishes users that have had the same name over time; often empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups, in the order of the credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further attributes from the authenticator, for authorizers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// `system:anonymous` in the group `system:unauthenticated`.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![ALL_UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// Adds the group `system:authenticated`, under the conditions of k8s.io/apiserver: not to anonymous users, which a
    /// front proxy may pass on. The aggregator's own requests for OpenAPI have no group, and depend on this.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        let is_decided = |group: &String| group == ALL_AUTHENTICATED || group == ALL_UNAUTHENTICATED;
        if self.name != ANONYMOUS && !self.groups.iter().any(is_decided) {
            self.groups.push(ALL_AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether the user is in the group `system:authenticated`.
    pub fn is_authenticated(&self) -> bool {
        self.is_in(ALL_AUTHENTICATED)
    }

    /// Whether the user is in the group `system:masters`, which may do everything.
    pub fn is_privileged(&self) -> bool {
        self.is_in(PRIVILEGED)
    }

    /// The namespace and name, if it is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }
}
