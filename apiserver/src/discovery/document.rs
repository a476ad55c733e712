//! A document that does not change while the server runs, with an ETag so that clients need not download it
//! again.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use gatehouse_serving::{Body, body::full};

/// The bytes of a document. Responses share them and copy nothing.
#[derive(Debug)]
pub(crate) struct Document {
    content_type: HeaderValue,
    cache_control: HeaderValue,
    hash: String,
    etag: HeaderValue,
    body: Bytes,
}

impl Document {
    pub(crate) fn new(content_type: &'static str, cache_control: &'static str, json: &Value) -> Self {
        let body = Bytes::from(json.to_string());
        let hash = format!("{:X}", Sha256::digest(&body));
        let etag =
            HeaderValue::from_str(&format!("\"{hash}\"")).expect("quotes and hexadecimal digits are ASCII");
        let [content_type, cache_control] = [content_type, cache_control].map(HeaderValue::from_static);
        Self { content_type, cache_control, hash, etag, body }
    }

    /// The hash of the content in hexadecimal: the ETag without its quotes.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// 200 with the document, or 304 if the client has it.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response<Body> {
        let known = self.is_known(request);
        let mut response = Response::new(full(if known { Bytes::new() } else { self.body.clone() }));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        if !known {
            headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        }
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, self.cache_control.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }

    /// Whether `If-None-Match` contains this ETag. Weak and strong tags compare equal here (RFC 9110,
    /// 13.1.2).
    fn is_known(&self, request: &HeaderMap) -> bool {
        let given =
            request.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
        given
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.etag.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(document: &Document, tag: &str) -> u16 {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap())]);
        document.respond(&headers).status().as_u16()
    }

    #[test]
    fn a_client_that_has_the_content_gets_304() {
        let document = Document::new("application/json", "public", &Value::Null);
        let etag = document.respond(&HeaderMap::new()).headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(etag, format!("\"{}\"", document.hash()));
        for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".into()] {
            assert_eq!(status(&document, &known), 304, "{known}");
        }
        for unknown in ["\"other\"", document.hash(), ""] {
            assert_eq!(status(&document, unknown), 200, "{unknown}");
        }
    }
}
