//! The audit ID of a request, which connects its lines in different logs.

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::crypto::aws_lc_rs;

pub(super) const HEADER: HeaderName = HeaderName::from_static("audit-id");

/// The `MaxAuditIDLength` of k8s.io/apiserver.
const MAX_LENGTH: usize = 64;

/// The audit ID of the request's header, which kube-apiserver sets when it forwards a request; otherwise a random UUID.
#[derive(Debug, Clone)]
pub(super) struct AuditId(String);

impl AuditId {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
        // The ID appears in logs, so it must be printable and of bounded length.
        let usable = given.filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()));
        usable.map_or_else(Self::random, |id| Self(id.chars().take(MAX_LENGTH).collect()))
    }

    fn random() -> Self {
        let mut bytes = [0; 16];
        // If no random bytes are available, the ID is not unique, which is no reason to fail the request.
        let _ = aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
    }

    /// Leaves it to the handler, which passes it on to other API servers.
    pub(super) fn keep_in(&self, headers: &mut HeaderMap) {
        let is_there = headers.get(HEADER).is_some_and(|given| given.as_bytes() == self.0.as_bytes());
        if !is_there {
            headers.insert(HEADER, self.clone().into());
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<AuditId> for HeaderValue {
    fn from(id: AuditId) -> Self {
        Self::try_from(id.0).expect("an audit ID holds printable ASCII only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> String {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("value");
        AuditId::of(&[(HEADER, value)].into_iter().collect()).0
    }

    #[test]
    fn a_usable_id_is_kept_and_any_other_replaced() {
        assert_eq!(of("abc-1"), "abc-1");
        assert_eq!(of(&"x".repeat(100)).len(), MAX_LENGTH);
        for unusable in ["", "a b", "\u{fc}"] {
            assert_eq!(of(unusable).len(), 36, "{unusable:?}");
        }
        assert_ne!(AuditId::random().0, AuditId::random().0);
        let mut headers = HeaderMap::new();
        let made = AuditId::of(&headers);
        made.keep_in(&mut headers);
        assert_eq!(AuditId::of(&headers).0, made.0, "a handler sees the ID that logs have");
    }
}
