//! Paths that are called by kube-apiserver itself, which has no rights it could be asked for.

use crate::request_info::RequestInfo;

/// Paths whose callers are let in without the authoriser being asked: kube-apiserver calls webhooks without any
/// credential, unless it is configured to present a certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Callers {
    /// The paths, whole.
    pub paths: &'static [&'static str],
    /// What callers must show.
    pub credential: Credential,
}

/// What a caller must show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: whoever can connect may call. Who shows a certificate signed by the client CA is known by it; nothing else
    /// that they send along is looked at.
    None,
    /// A certificate signed by the client CA.
    #[default]
    Certificate,
}

impl Callers {
    pub(super) fn know(&self, info: &RequestInfo) -> bool {
        matches!(info, RequestInfo::NonResource(request) if self.paths.contains(&request.path.as_str()))
    }
}
