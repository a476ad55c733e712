//! A user, as Kubernetes knows one.

use std::collections::BTreeMap;

const ALL_AUTHENTICATED: &str = "system:authenticated";
const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
const PRIVILEGED: &str = "system:masters";

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// Name, unique among all users.
    pub name: String,
    /// Tells two users of the same name over time apart; often empty.
    pub uid: String,
    /// Groups, in the order they were given.
    pub groups: Vec<String>,
    /// Whatever else the authenticator knows, for the authoriser.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![ALL_UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// Adds the group of all authenticated users, under upstream's conditions: a front proxy may pass anonymous users
    /// on. The aggregator's own requests for OpenAPI come without any group, and depend on this.
    #[must_use]
    pub(super) fn authenticated(mut self) -> Self {
        let is_decided = |group: &String| group == ALL_AUTHENTICATED || group == ALL_UNAUTHENTICATED;
        if self.name != ANONYMOUS && !self.groups.iter().any(is_decided) {
            self.groups.push(ALL_AUTHENTICATED.to_owned());
        }
        self
    }

    /// In the group of all authenticated users.
    pub fn is_authenticated(&self) -> bool {
        self.is_in(ALL_AUTHENTICATED)
    }

    /// In the group that may do everything.
    pub fn is_privileged(&self) -> bool {
        self.is_in(PRIVILEGED)
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }
}
