//! Reads JSON in which no field stands twice, as kube-apiserver does with `fieldValidation=Strict`: of two values, one
//! would be lost in silence.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The longest path that is told, in characters.
const LONGEST_PATH: usize = 128;

/// Why a document cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is not JSON.
    Syntax(serde_json::Error),
    /// The field at this path stands twice.
    Twice(String),
}

/// Reads one document.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Unreadable> {
    let mut twice = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Reading { at: &Path::Root, twice: &mut twice }.deserialize(&mut reader);
    let read = read.and_then(|document| reader.end().map(|()| document));
    match twice {
        Some(path) => Err(Unreadable::Twice(path)),
        None => read.map_err(Unreadable::Syntax),
    }
}

/// Where a value stands. serde_json bounds the depth.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Reads a value, and notes the first field that stands twice.
struct Reading<'a> {
    at: &'a Path<'a>,
    twice: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items
            .next_element_seed(Reading { at: &Path::Item(self.at, list.len()), twice: &mut *self.twice })?
        {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let at = Path::Field(self.at, &name);
            if object.contains_key(&name) {
                *self.twice = Some(at.to_string().chars().take(LONGEST_PATH).collect());
                return Err(de::Error::custom("a field stands twice"));
            }
            let value = fields.next_value_seed(Reading { at: &at, twice: &mut *self.twice })?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(text: &str) -> Option<String> {
        match parse(text.as_bytes()) {
            Err(Unreadable::Twice(path)) => Some(path),
            Err(Unreadable::Syntax(error)) => Some(format!("syntax: {error}")),
            Ok(_) => None,
        }
    }

    #[test]
    fn a_document_is_read_as_it_is() {
        let text = r#"{"a":[1,-2,0.5,"x",null,true,{"a":{"a":[]}}],"b":"\u00e4"}"#;
        let expected: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(parse(text.as_bytes()).expect("JSON"), expected);
    }

    #[test]
    fn a_field_that_stands_twice_is_named() {
        assert_eq!(twice(r#"{"spec":{},"spec":{}}"#).as_deref(), Some("spec"));
        assert_eq!(twice(r#"{"spec":{"reason":"a","reason":"b"}}"#).as_deref(), Some("spec.reason"));
        assert_eq!(twice(r#"[{"op":"add"},{"op":"add","op":"remove"}]"#).as_deref(), Some("[1].op"));
        assert_eq!(twice(r#"{"a":{"b":1},"c":{"b":1}}"#), None);
        let long = format!(r#"{{"{0}":1,"{0}":2}}"#, "x".repeat(100_000));
        assert_eq!(twice(&long).map(|path| path.len()), Some(LONGEST_PATH));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in ["{", "{} {}", "", &"[".repeat(100_000)] {
            assert!(twice(text).is_some_and(|why| why.starts_with("syntax")), "{}", text.len());
        }
    }
}
