//! Who may do what.
//!
//! Invariants: fails closed: no answer is no. Health, and the group system:masters, are always allowed, so that
//! probes and the aggregator's own checks work while the cluster cannot be asked.

mod delegated;
mod selectors;
mod standing;
#[cfg(test)]
pub(crate) mod testing;

pub use delegated::DelegatedAuthorizer;
pub use standing::Standing;

use tokio::time::Instant;

use crate::authn::UserInfo;
use crate::error::{ApiError, Subject};
use crate::request_info::{RequestInfo, ResourceRequest};
use crate::review::ReviewError;

/// One question to the authoriser.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// For what.
    pub request: &'a RequestInfo,
}

/// Decides who may do what.
pub enum Authorizer {
    /// The cluster decides, by SubjectAccessReview.
    Delegated(Box<DelegatedAuthorizer>),
    /// Every authenticated user may do everything. For a server whose client CA is its own, as the demo's.
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

/// What the authoriser says; a reason is for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny { reason: String },
}

impl Authorizer {
    /// Ok if the request is allowed; else what to tell the client.
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

/// What became of a right.
enum Right {
    /// Nothing can take it away.
    Forever,
    /// It was there when this was asked.
    Since(Instant),
    /// It is gone.
    Gone,
}

impl Authorizer {
    /// Whether a request that was allowed still is, by an answer later than the last.
    async fn confirm(
        &self,
        attributes: Attributes<'_>,
        after: Option<Instant>,
    ) -> Result<Right, ReviewError> {
        match self {
            Self::Delegated(delegated) if !attributes.is_always_allowed() => {
                let (decision, asked) = delegated.decide_after(attributes, after).await?;
                Ok(if decision == Decision::Allow { Right::Since(asked) } else { Right::Gone })
            }
            _ => Ok(Right::Forever),
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

    /// The answer of upstream's `responsewriters.Forbidden`, to the letter: tools look for it.
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

/// `/healthz`, `/livez`, `/readyz`, and the checks below them.
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

/// The text may end up in a browser.
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
