//! Authorization: whether a user may send a request.
//!
//! **Invariants:** authorization fails closed: without an answer from kube-apiserver, the request is denied. Health
//! paths and the group system:masters are always allowed, so that probes and the aggregator's availability checks work
//! while kube-apiserver cannot be asked.

mod access;
mod delegated;
mod selectors;
#[cfg(test)]
pub(crate) mod testing;
mod watch_authorization;

pub use access::{Access, Target};
pub use delegated::DelegatedAuthorizer;
pub use watch_authorization::WatchAuthorization;

use tokio::{sync::watch, time::Instant};

use crate::authn::UserInfo;
use crate::error::{ApiError, Subject};
use crate::request_info::{RequestInfo, ResourceRequest};
use crate::review::ReviewError;

/// What the authorizer decides about: `Attributes` of `k8s.io/apiserver/pkg/authorization/authorizer`.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The user who sent the request.
    pub user: &'a UserInfo,
    /// The request.
    pub request: &'a RequestInfo,
}

/// How many changes of RBAC's objects were observed; `None` while they are not observed.
pub type RbacChanges = watch::Receiver<Option<u64>>;

/// Decides whether a user may send a request.
pub enum Authorizer {
    /// Asks kube-apiserver, by SubjectAccessReview.
    Delegated(Box<DelegatedAuthorizer>),
    /// Allows everything to every authenticated user. For servers with a client CA of their own, such as the demo.
    CertificateHolders,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Delegated(_) => "Delegated",
            Self::CertificateHolders => "CertificateHolders",
        })
    }
}

/// The authorizer's decision. The reason is shown to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny { reason: String },
}

impl Authorizer {
    /// Ok if the request is allowed. Otherwise 403, or 500 if the SubjectAccessReview failed.
    pub async fn authorize(&self, attributes: Attributes<'_>) -> Result<(), ApiError> {
        if attributes.is_always_allowed() {
            return Ok(());
        }
        let decision = match self {
            Self::Delegated(delegated) => delegated.decide(attributes).await.map_err(|error| {
                tracing::warn!(%error, "SubjectAccessReview failed, request denied");
                ApiError::internal("authorization could not be decided: the cluster did not answer")
            })?,
            Self::CertificateHolders if attributes.user.is_authenticated() => Decision::Allow,
            Self::CertificateHolders => {
                Decision::Deny { reason: "a client certificate is needed".to_owned() }
            }
        };
        match decision {
            Decision::Allow => Ok(()),
            Decision::Deny { reason } => Err(attributes.forbidden(&reason)),
        }
    }
}

/// Whether a request that was allowed still is.
enum Reauthorization {
    /// It is always allowed; there is nothing to revoke.
    AlwaysAllowed,
    /// It is allowed, by a review that was sent at this time.
    AllowedAt(Instant),
    /// It is denied now.
    Revoked,
}

impl Authorizer {
    /// Whether a request that was allowed still is, by a review that was sent later than `after`.
    async fn reauthorize(
        &self,
        attributes: Attributes<'_>,
        after: Option<Instant>,
    ) -> Result<Reauthorization, ReviewError> {
        match self {
            Self::Delegated(delegated) if !attributes.is_always_allowed() => {
                let (decision, asked) = delegated.decide_after(attributes, after).await?;
                Ok(if decision == Decision::Allow {
                    Reauthorization::AllowedAt(asked)
                } else {
                    Reauthorization::Revoked
                })
            }
            _ => Ok(Reauthorization::AlwaysAllowed),
        }
    }
}

impl Authorizer {
    /// The changes of RBAC, if the authorizer has been given them.
    fn rbac_changes(&self) -> Option<RbacChanges> {
        match self {
            Self::Delegated(delegated) => delegated.rbac_changes.clone(),
            Self::CertificateHolders => None,
        }
    }

    /// Whether a request is allowed, by a review that is sent now and not cached.
    async fn review(&self, attributes: Attributes<'_>) -> Result<bool, ReviewError> {
        match self {
            _ if attributes.is_always_allowed() => Ok(true),
            Self::Delegated(delegated) => Ok(delegated.review(attributes).await? == Decision::Allow),
            Self::CertificateHolders => Ok(attributes.user.is_authenticated()),
        }
    }
}

impl From<DelegatedAuthorizer> for Authorizer {
    fn from(delegated: DelegatedAuthorizer) -> Self {
        Self::Delegated(Box::new(delegated))
    }
}

impl Attributes<'_> {
    fn is_always_allowed(self) -> bool {
        self.user.is_privileged()
            || match self.request {
                RequestInfo::Resource(_) => false,
                RequestInfo::NonResource(request) => is_health(&request.path),
            }
    }

    /// The exact text of `responsewriters.Forbidden` in k8s.io/apiserver, which tools look for.
    fn forbidden(self, reason: &str) -> ApiError {
        let user = &self.user.name;
        let colon = if reason.is_empty() { "" } else { ": " };
        match self.request {
            RequestInfo::NonResource(request) => {
                let what = format!("User {user:?} cannot {} path {:?}", request.verb, request.path);
                ApiError::forbidden_path(&request.path, format!("{}{colon}{reason}", sanitized(&what)))
            }
            RequestInfo::Resource(request) => {
                let what = format!("User {user:?} cannot {}", described(request));
                let subject = Subject {
                    group: &request.group,
                    resource: &request.resource,
                    name: request.name.as_deref().unwrap_or_default(),
                };
                ApiError::forbidden(subject, format!("{}{colon}{reason}", sanitized(&what)))
            }
        }
    }
}

/// Whether `path` is `/healthz`, `/livez`, `/readyz` or below.
pub(crate) fn is_health(path: &str) -> bool {
    let root = path.strip_prefix('/').and_then(|path| path.split('/').next());
    matches!(root, Some("healthz" | "livez" | "readyz"))
}

fn described(request: &ResourceRequest) -> String {
    let resource = match &request.subresource {
        Some(subresource) => format!("{}/{subresource}", request.resource),
        None => request.resource.clone(),
    };
    let place = match &request.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    format!("{} resource {resource:?} in API group {:?} {place}", request.verb.as_str(), request.group)
}

/// Escapes HTML, since a browser may show the text.
fn sanitized(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..UserInfo::default()
        }
    }

    async fn ask(user: &UserInfo, uri: &str) -> Result<(), String> {
        let request = RequestInfo::parse(&Method::GET, &uri.parse().expect("URI")).expect("readable");
        let attributes = Attributes { user, request: &request };
        Authorizer::CertificateHolders.authorize(attributes).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn certificate_holders_may_do_everything_and_others_see_health() {
        let (jane, anonymous) = (user("jane", &["system:authenticated"]), UserInfo::anonymous());
        for uri in ["/apis/view.gatehouse.dev/v1alpha1/fluxsummaries", "/metrics", "/healthz", "/readyz/ping"]
        {
            assert_eq!(ask(&jane, uri).await, Ok(()), "{uri}");
            assert_eq!(ask(&anonymous, uri).await.is_ok(), is_health(uri), "{uri}");
        }
        assert!(!is_health("/healthzz") && !is_health("/metrics/healthz") && !is_health(""));
    }

    #[tokio::test]
    async fn masters_are_allowed_before_anything_is_asked() {
        assert_eq!(ask(&user("root", &["system:masters"]), "/metrics").await, Ok(()));
    }

    #[tokio::test]
    async fn refusals_are_worded_as_upstream() {
        let reason = "a client certificate is needed";
        for (uri, expected) in [
            (
                "/apis/g/v1/namespaces/team-a/things",
                r#"things.g is forbidden: User "jane" cannot list resource "things" in API group "g" in the namespace "team-a""#,
            ),
            (
                "/apis/g/v1/things/a/status",
                r#"things.g "a" is forbidden: User "jane" cannot get resource "things/status" in API group "g" at the cluster scope"#,
            ),
            ("/x%3Cb%3E", r#"forbidden: User "jane" cannot get path "/x&lt;b&gt;""#),
        ] {
            assert_eq!(ask(&user("jane", &[]), uri).await, Err(format!("{expected}: {reason}")), "{uri}");
        }
    }
}
