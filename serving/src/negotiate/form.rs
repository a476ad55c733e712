//! In which text an answer is written: JSON as it is made, JSON for people, YAML.
//!
//! Answers are made as compact JSON. Whoever wants another text pays for reading that again and writing it anew,
//! for a list item by item, so that the memory of a list stays bounded in any of them.

use http::{HeaderValue, Response, header};
use serde_json::{Map, Value};

use super::JSON;
use crate::{ApiError, Body, body::full};

/// The media type of YAML, as kube-apiserver has it.
const YAML: &str = "application/yaml";

/// How an answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// JSON without a space.
    #[default]
    Json,
    /// JSON with line ends and indentation.
    PrettyJson,
    /// YAML, in which nothing is `pretty`: it always is.
    Yaml,
}

impl Form {
    /// The same, for people or not, where the client says so.
    #[must_use]
    pub fn prettified(self, pretty: Option<bool>) -> Self {
        match (self, pretty) {
            (Self::Json, Some(true)) => Self::PrettyJson,
            (Self::PrettyJson, Some(false)) => Self::Json,
            (form, _) => form,
        }
    }

    /// What goes into `Content-Type`.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json | Self::PrettyJson => JSON,
            Self::Yaml => YAML,
        })
    }

    /// A whole document, which came as compact JSON.
    pub fn document(self, json: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        match self {
            Self::Json => Ok(json),
            _ => self.write(&serde_json::from_slice(&json).map_err(ApiError::internal)?),
        }
    }

    /// The answer that an error is.
    pub fn refusal(self, error: ApiError) -> Response<Body> {
        let text = (self != Self::Json).then(|| self.write(&error.status()));
        let mut response = error.into_response();
        // An error that cannot be written in YAML is told in JSON.
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

/// Strings on one line each, quoted wherever a reader of YAML 1.1 (Go's, Python's) would take them for something
/// else.
fn yaml(value: &Value) -> Result<Vec<u8>, ApiError> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(value, options).map_err(ApiError::internal)?;
    Ok(text.into_bytes())
}

/// Writes a list or Table piece by piece.
#[derive(Debug)]
pub struct ListWriter {
    form: Form,
    /// Nothing has been written of the array yet.
    is_first: bool,
}

/// Where the items of a list stand in pretty JSON.
const INDENT: &[u8] = b"    ";

impl ListWriter {
    /// For one list.
    pub fn new(form: Form) -> Self {
        Self { form, is_first: true }
    }

    /// What goes before the first item; `json` is the compact list up to and with the bracket that opens its array.
    pub fn head(&mut self, json: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        if self.form == Form::Json {
            return Ok(json);
        }
        let whole = [&json, LIST_TAIL].concat();
        let mut list: Map<String, Value> = serde_json::from_slice(&whole).map_err(ApiError::internal)?;
        if self.form == Form::PrettyJson {
            let mut text = serde_json::to_vec_pretty(&list).map_err(ApiError::internal)?;
            text.truncate(text.len() - b"]\n}".len());
            return Ok(text);
        }
        let array = list.keys().next_back().cloned().unwrap_or_default();
        list.shift_remove(&array);
        let mut text = yaml(&Value::Object(list))?;
        text.extend_from_slice(array.as_bytes());
        text.push(b':');
        Ok(text)
    }

    /// Appends one item, which `write` writes as compact JSON.
    pub fn item(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let is_first = std::mem::take(&mut self.is_first);
        match self.form {
            Form::Json => {
                if !is_first {
                    out.push(b',');
                }
                write(out);
            }
            Form::PrettyJson => {
                out.extend_from_slice(if is_first { b"\n" } else { b",\n" });
                let text = reread(write, |item| Ok(serde_json::to_string_pretty(item)?.into_bytes()));
                indented(out, &text, INDENT, INDENT);
            }
            Form::Yaml => {
                if is_first {
                    out.push(b'\n');
                }
                let text = reread(write, |item| yaml(item).map_err(serde::ser::Error::custom));
                indented(out, text.trim_ascii_end(), b"- ", b"  ");
                out.push(b'\n');
            }
        }
    }

    /// Appends what goes behind the last item.
    pub fn tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match (self.form, self.is_first) {
            (Form::Json, _) => LIST_TAIL,
            (Form::PrettyJson, true) => b"]\n}\n",
            (Form::PrettyJson, false) => b"\n  ]\n}\n",
            (Form::Yaml, true) => b" []\n",
            (Form::Yaml, false) => b"",
        });
    }
}

/// What closes a compact list.
pub const LIST_TAIL: &[u8] = b"]}";

/// An item in another text.
fn reread(
    write: impl FnOnce(&mut Vec<u8>),
    rewrite: impl FnOnce(&Value) -> serde_json::Result<Vec<u8>>,
) -> Vec<u8> {
    let mut json = Vec::new();
    write(&mut json);
    let rewritten = serde_json::from_slice(&json).and_then(|item: Value| rewrite(&item));
    // The head of the answer has gone out by now. JSON is YAML, too.
    rewritten.unwrap_or(json)
}

/// Appends `text`, with something before its first line and before each other.
fn indented(out: &mut Vec<u8>, text: &[u8], first: &[u8], other: &[u8]) {
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if at > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(if at == 0 { first } else { other });
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn list(form: Form, items: &[Value]) -> Vec<u8> {
        let mut writer = ListWriter::new(form);
        let head = br#"{"kind":"ThingList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":["#;
        let mut text = writer.head(head.to_vec()).expect("a head");
        for item in items {
            writer.item(&mut text, |out| out.extend_from_slice(item.to_string().as_bytes()));
        }
        writer.tail(&mut text);
        text
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
    fn a_pretty_list_is_what_a_pretty_document_is() {
        for items in [&[][..], &[json!({"a": [1, {"b": {}}]})], &[json!({}), json!({"c": "\n"})]] {
            let compact = list(Form::Json, items);
            let whole = Form::PrettyJson.document(compact).unwrap();
            let pieces = list(Form::PrettyJson, items);
            assert_eq!(String::from_utf8(pieces).unwrap(), String::from_utf8(whole).unwrap());
        }
    }

    #[test]
    fn errors_are_written_as_asked_for() {
        let response = Form::Yaml.refusal(ApiError::unauthorized());
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::CONTENT_TYPE]),
            (401, &Form::Yaml.content_type())
        );
    }

    /// Any JSON that a view may hold: whole numbers, since versions and counts are.
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
                prop_assert_eq!(&read(form, &form.document(list(Form::Json, &items)).unwrap()), &expected);
            }
        }
    }
}
