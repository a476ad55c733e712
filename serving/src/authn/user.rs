//! The user of a request: `UserInfo` of `authentication.k8s.io/v1`.

use std::collections::BTreeMap;

const ALL_AUTHENTICATED: &str = "system:authenticated";
const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
const PRIVILEGED: &str = "system:masters";

/// The user who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// The name, unique among all users.
    pub name: String,
    /// Distinguishes users that have had the same name over time; often empty.
    pub uid: String,
    /// The groups, in the order of the credential.
    pub groups: Vec<String>,
    /// Further attributes from the authenticator, for authorizers.
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
    pub(super) fn authenticated(mut self) -> Self {
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

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }
}
