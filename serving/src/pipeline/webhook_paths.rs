//! Webhook paths, which kube-apiserver calls itself. There is no RBAC rule to check for these calls.

use crate::request_info::RequestInfo;

/// Paths that skip authorization: kube-apiserver calls webhooks without a credential, unless it is configured to
/// present a certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct WebhookPaths {
    /// The complete paths.
    pub paths: &'static [&'static str],
    /// The credential that these paths require.
    pub credential: Credential,
}

/// The credential that a webhook path requires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Credential {
    /// None: every client that can connect may call. A client certificate signed by the client CA still names the user;
    /// all other credentials are ignored.
    None,
    /// A certificate signed by the client CA.
    #[default]
    Certificate,
}

impl WebhookPaths {
    pub(super) fn contains(&self, info: &RequestInfo) -> bool {
        matches!(info, RequestInfo::NonResource(request) if self.paths.contains(&request.path.as_str()))
    }
}
