//! Converts an object into the CEL values that rules read.
//!
//! **Invariant:** Integers are `int` regardless of their sign, as in Kubernetes. Through a generic JSON value they
//! would be `uint`, and `status.replicas < 1` would not compare.
//!
//! **Invariant:** Rules see no null. Controllers in Go write null for a list or map that is empty, and `has(…)` would
//! call such a field present.

use std::{collections::HashMap, fmt, sync::Arc};

use kube_cel::cel::{
    Value,
    objects::{Key, Map},
};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Parses an object, without its nulls. Of `metadata.managedFields` only the times are kept: the rest is often half of
/// the object, and no rule needs it.
pub(crate) fn parse(json: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = Reading { place: Place::Root, nulls: false }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Converts JSON that is already parsed, with its nulls.
pub(crate) fn of(json: &serde_json::Value) -> Result<Value, serde_json::Error> {
    Reading { place: Place::Root, nulls: true }.deserialize(json)
}

/// The field `name` of a map. Null counts as absent.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(map) = value else { return None };
    map.get(&Key::String(Arc::new(name.to_owned()))).filter(|value| !matches!(value, Value::Null))
}

/// The position of a value in the object, as far as it matters.
#[derive(Clone, Copy)]
enum Place {
    Root,
    Metadata,
    Managed,
    Within,
}

impl Place {
    fn of_child(self, key: &str) -> Self {
        match self {
            Place::Root if key == "metadata" => Place::Metadata,
            Place::Metadata if key == "managedFields" => Place::Managed,
            _ => Place::Within,
        }
    }
}

/// How a value is read.
#[derive(Clone, Copy)]
struct Reading {
    place: Place,
    /// Whether nulls are kept.
    nulls: bool,
}

impl Reading {
    fn keeps(self, value: &Value) -> bool {
        self.nulls || !matches!(value, Value::Null)
    }
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        // As in Kubernetes, an integer that is too large for an int becomes a double.
        #[allow(clippy::cast_precision_loss, reason = "as Kubernetes reads it")]
        Ok(i64::try_from(v).map_or(Value::Float(v as f64), Value::Int))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(Arc::new(v.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let place = if matches!(self.place, Place::Managed) { self.place } else { Place::Within };
        while let Some(value) = seq.next_element_seed(Self { place, ..self })? {
            if self.keeps(&value) {
                list.push(value);
            }
        }
        Ok(Value::List(Arc::new(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = HashMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if matches!(self.place, Place::Managed) && key != "time" {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = entries.next_value_seed(Self { place: self.place.of_child(&key), ..self })?;
            if self.keeps(&value) {
                map.insert(Key::String(Arc::new(key)), value);
            }
        }
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }
}
