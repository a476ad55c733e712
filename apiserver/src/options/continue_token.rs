//! The `continue` token of a list that is read in pages.

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ResourceVersion;
use gatehouse_serving::ApiError;

/// The last object of a page, and the version of the list.
///
/// A token is opaque to clients, but neither secret nor signed: it contains only what the client was shown,
/// and each page is authorised on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContinueToken {
    /// The version of the first page. `None` in a token that came with 410 Expired: such a list continues at
    /// the current version, and is not consistent with the pages before.
    pub(crate) version: Option<ResourceVersion>,
    /// The namespace of the last object of the page; empty for cluster-scoped resources.
    pub(crate) namespace: String,
    /// The name of the last object of the page.
    pub(crate) name: String,
}

/// The format of the tokens. A token of another format is refused.
const FORMAT: &str = "gatehouse/v1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rv: Option<ResourceVersion>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    ns: String,
    name: String,
}

impl ContinueToken {
    /// The value of `metadata.continue`.
    pub(crate) fn encode(&self) -> String {
        let Self { version, namespace, name } = self.clone();
        let wire = Wire { v: FORMAT.to_owned(), rv: version, ns: namespace, name };
        let json = serde_json::to_vec(&wire).expect("strings and a number are JSON");
        match serde_json::to_value(ByteString(json)) {
            Ok(Value::String(base64)) => base64.trim_end_matches('=').replace('+', "-").replace('/', "_"),
            _ => unreachable!("a ByteString is written as a string"),
        }
    }

    /// Parses the value of the parameter `continue`; a bad token gives 400.
    pub(crate) fn decode(text: &str) -> Result<Self, ApiError> {
        let invalid = |why: &str| ApiError::bad_request(format!("continue key is not valid{why}"));
        let mut base64 = text.replace('-', "+").replace('_', "/");
        while !base64.len().is_multiple_of(4) {
            base64.push('=');
        }
        let ByteString(json) = serde_json::from_value(base64.into()).map_err(|_| invalid(""))?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| invalid(""))?;
        if wire.v != FORMAT {
            return Err(invalid(": server does not recognize this encoded version"));
        }
        if wire.rv == Some(ResourceVersion::ANY) {
            return Err(invalid(": incorrect encoded start resourceVersion"));
        }
        if wire.name.is_empty() {
            return Err(invalid(": encoded start key empty"));
        }
        Ok(Self { version: wire.rv, namespace: wire.ns, name: wire.name })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bad_token_returns_400() {
        for bad in ["x", "!!!", "e30", "ä", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0"]
        {
            let error = ContinueToken::decode(bad).unwrap_err();
            assert_eq!(error.code(), http::StatusCode::BAD_REQUEST, "{bad}");
            assert!(error.to_string().starts_with("continue key is not valid"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_read_back_as_it_was_written(
            version in proptest::option::of(1..u64::MAX), namespace in "\\PC{0,20}", name in "\\PC{1,40}"
        ) {
            let token = ContinueToken { version: version.map(ResourceVersion), namespace, name };
            let text = token.encode();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{}", text);
            prop_assert_eq!(ContinueToken::decode(&text).unwrap(), token);
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}|[A-Za-z0-9_-]{0,80}") {
            let _ = ContinueToken::decode(&text);
        }
    }
}
