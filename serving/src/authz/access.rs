//! Permissions beside that on the request itself: whether a user may suspend, resume or reconcile an object.
//!
//! This uses the same authorizer as `/metrics`: it sends one SubjectAccessReview for simultaneous equal questions, with
//! a deadline and without retries, and caches allow and deny for ten seconds. No answer counts as deny.

use std::sync::Arc;

use super::{Attributes, Authorizer};
use crate::ApiError;
use crate::authn::UserInfo;
use crate::request_info::{RequestInfo, ResourceRequest, Verb};

/// Checks permissions.
#[derive(Clone)]
pub struct Access(Arc<Authorizer>);

/// The object of a permission.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// The subresource; empty for the resource itself.
    pub subresource: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

impl Access {
    /// Uses `authorizer`.
    pub fn new(authorizer: Arc<Authorizer>) -> Self {
        Self(authorizer)
    }

    /// Succeeds if `user` may do `verb` on `target`. The error has the text of kube-apiserver's 403.
    pub async fn check(
        &self,
        user: &UserInfo,
        verb: &'static str,
        target: Target<'_>,
    ) -> Result<(), ApiError> {
        let request = target.request(verb);
        self.0.authorize(Attributes { user, request: &request }).await
    }

    /// Whether `user` may do `verb` on `target`, by a review that is sent now and whose answer is not cached here. For
    /// whoever keeps many answers. Errors: there is no answer.
    pub async fn review(
        &self,
        user: &UserInfo,
        verb: &'static str,
        target: Target<'_>,
    ) -> Result<bool, ApiError> {
        let request = target.request(verb);
        self.0.review(Attributes { user, request: &request }).await.map_err(|error| {
            tracing::debug!(%error, "SubjectAccessReview failed");
            ApiError::unavailable("rights could not be decided: the cluster did not answer")
        })
    }

    /// Whether `user` may do everything, whatever a review would say.
    pub fn always_allows(user: &UserInfo) -> bool {
        user.is_privileged()
    }
}

impl Target<'_> {
    fn request(&self, verb: &'static str) -> RequestInfo {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        RequestInfo::Resource(ResourceRequest {
            verb: Verb::Custom(verb),
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            resource: self.resource.to_owned(),
            subresource: some(self.subresource),
            namespace: some(self.namespace),
            name: some(self.name),
            field_selector: None,
            label_selector: None,
            has_extra_segments: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_worded_as_kube_apiserver_words_it() {
        let access = Access::new(Arc::new(Authorizer::CertificateHolders));
        let target = Target {
            group: "g",
            version: "v1",
            resource: "things",
            subresource: "",
            namespace: "n",
            name: "a",
        };
        let mut user = UserInfo { name: "jane".to_owned(), ..UserInfo::default() };
        let refused = access.check(&user, "suspend", target).await.expect_err("refused");
        let expected = r#"things.g "a" is forbidden: User "jane" cannot suspend resource "things" in API group "g" in the namespace "n": "#;
        assert!(refused.to_string().starts_with(expected), "{refused}");
        user.groups.push("system:authenticated".to_owned());
        access.check(&user, "suspend", target).await.expect("allowed");
    }
}
