//! An object as the values that rules look at.
//!
//! JSON becomes CEL values directly. Whole numbers are `int` whatever their sign, as Kubernetes does it:
//! through a generic JSON value they would be `uint`, and `status.replicas < 1` would not compare.

use std::{collections::HashMap, fmt, sync::Arc};

use kube_cel::cel::{
    Value,
    objects::{Key, Map},
};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Reads an object, keeping of `metadata.managedFields` the times alone: the rest is often half of it, and of no use to
/// a rule.
pub(crate) fn parse(json: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = Place::Root.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The same from JSON that was read before.
pub(crate) fn of(json: &serde_json::Value) -> Result<Value, serde_json::Error> {
    Place::Root.deserialize(json)
}

/// The field `name` of a map. Null is absence.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(map) = value else { return None };
    map.get(&Key::String(Arc::new(name.to_owned()))).filter(|value| !matches!(value, Value::Null))
}

/// Where in the object a value stands, as far as that matters.
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

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place {
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
        // As Kubernetes reads JSON: what is too large for an int is a double.
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
        let place = if matches!(self, Place::Managed) { self } else { Place::Within };
        while let Some(value) = seq.next_element_seed(place)? {
            list.push(value);
        }
        Ok(Value::List(Arc::new(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = HashMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if matches!(self, Place::Managed) && key != "time" {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = entries.next_value_seed(self.of_child(&key))?;
            map.insert(Key::String(Arc::new(key)), value);
        }
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }
}
