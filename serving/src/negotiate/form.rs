//! The encoding of a response: compact JSON, indented JSON or YAML.
//!
//! Responses are built as compact JSON. For another encoding, the whole document is parsed and written again.

use http::{HeaderValue, Response, header};
use serde_json::Value;

use super::JSON;
use crate::{ApiError, Body, body::full};

/// The media type of YAML in Kubernetes.
const YAML: &str = "application/yaml";

/// The encoding of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// JSON without white space.
    #[default]
    Json,
    /// JSON with line breaks and indentation.
    PrettyJson,
    /// YAML. `pretty` does not change it.
    Yaml,
}

impl Form {
    /// The same encoding, with or without indentation if `pretty` is given.
    #[must_use]
    pub fn prettified(self, pretty: Option<bool>) -> Self {
        match (self, pretty) {
            (Self::Json, Some(true)) => Self::PrettyJson,
            (Self::PrettyJson, Some(false)) => Self::Json,
            (form, _) => form,
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json | Self::PrettyJson => JSON,
            Self::Yaml => YAML,
        })
    }

    /// Encodes a complete document, given as compact JSON.
    pub fn document(self, json: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        match self {
            Self::Json => Ok(json),
            _ => self.write(&serde_json::from_slice(&json).map_err(ApiError::internal)?),
        }
    }

    /// The response for an error.
    pub fn refusal(self, error: ApiError) -> Response<Body> {
        let text = (self != Self::Json).then(|| self.write(&error.status()));
        let mut response = error.into_response();
        // An error that cannot be encoded in YAML is sent as JSON.
        if let Some(Ok(text)) = text {
            response.headers_mut().insert(header::CONTENT_TYPE, self.content_type());
            *response.body_mut() = full(text);
        }
        response
    }

    fn write(self, value: &Value) -> Result<Vec<u8>, ApiError> {
        match self {
            Self::Json => serde_json::to_vec(value).map_err(ApiError::internal),
            Self::PrettyJson => {
                let mut text = serde_json::to_vec_pretty(value).map_err(ApiError::internal)?;
                text.push(b'\n');
                Ok(text)
            }
            Self::Yaml => yaml(value),
        }
    }
}

/// Writes every string on one line, in quotes if a parser of YAML 1.1 (Go's, Python's) would read another type.
fn yaml(value: &Value) -> Result<Vec<u8>, ApiError> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(value, options).map_err(ApiError::internal)?;
    Ok(text.into_bytes())
}

/// The end of a list in compact JSON, for handlers that write lists piece by piece.
pub const LIST_TAIL: &[u8] = b"]}";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn list(form: Form, items: &[Value]) -> Vec<u8> {
        let list = json!({"kind": "ThingList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items});
        form.document(list.to_string().into_bytes()).expect("a document")
    }

    fn read(form: Form, text: &[u8]) -> Value {
        let text = std::str::from_utf8(text).expect("text");
        match form {
            Form::Yaml => serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")),
            _ => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")),
        }
    }

    #[test]
    fn yaml_looks_as_kubernetes_users_know_it() {
        let item = json!({"metadata": {"name": "a", "labels": {"on": "yes", "n": "1"}}, "list": [{"x": 1}, "2026-11-21"]});
        let text = String::from_utf8(list(Form::Yaml, &[item])).unwrap();
        insta::assert_snapshot!(text, @r#"
        kind: ThingList
        apiVersion: v1
        metadata:
          resourceVersion: "7"
        items:
        - metadata:
            name: a
            labels:
              "on": "yes"
              "n": "1"
          list:
          - x: 1
          - "2026-11-21"
        "#);
    }

    #[test]
    fn errors_are_written_as_asked_for() {
        let response = Form::Yaml.refusal(ApiError::unauthorized());
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::CONTENT_TYPE]),
            (401, &Form::Yaml.content_type())
        );
    }

    /// Any JSON that a view may contain. Numbers are integers, as versions and counts are.
    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "\\PC{0,12}",
            "[ \\n\\t:#'\"{}\\[\\],&*!|>%@`y-]{0,8}",
            "(yes|no|on|null|~|1e3|0x1f|12:30|\\.5|2026-11-21)"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,8}|on|[0-9]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_text_says_the_same(items in prop::collection::vec(value(), 0..4)) {
            let expected = read(Form::Json, &list(Form::Json, &items));
            for form in [Form::PrettyJson, Form::Yaml] {
                prop_assert_eq!(&read(form, &list(form, &items)), &expected);
            }
        }
    }
}
