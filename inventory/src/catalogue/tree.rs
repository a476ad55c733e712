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

/// Parses an object, without its nulls and without what is large and no rule needs: of `metadata.managedFields` only the
/// times and what was written are kept, and of the versions of a CustomResourceDefinition no schema.
pub(crate) fn parse(json: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = Reading { place: Place::Root, nulls: false }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Converts JSON that is already parsed, with its nulls.
pub(crate) fn of(json: &serde_json::Value) -> Result<Value, serde_json::Error> {
    Reading { place: Place::Within, nulls: true }.deserialize(json)
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
    Spec,
    Versions,
    Within,
}

impl Place {
    fn of_child(self, key: &str) -> Self {
        match self {
            Place::Root if key == "metadata" => Place::Metadata,
            Place::Root if key == "spec" => Place::Spec,
            Place::Metadata if key == "managedFields" => Place::Managed,
            Place::Spec if key == "versions" => Place::Versions,
            _ => Place::Within,
        }
    }

    fn of_item(self) -> Self {
        match self {
            Place::Managed | Place::Versions => self,
            _ => Place::Within,
        }
    }

    fn skips(self, key: &str) -> bool {
        match self {
            Place::Managed => !matches!(key, "time" | "subresource"),
            Place::Versions => key == "schema",
            _ => false,
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
        let place = self.place.of_item();
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
            if self.place.skips(&key) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{of, parse};

    #[test]
    fn what_is_large_and_read_by_no_rule_is_left_out() {
        let object = json!({
            "metadata": {"managedFields": [
                {"manager": "m", "time": "t", "subresource": "status", "fieldsV1": {"f:status": {}}},
            ]},
            "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}}], "schema": 1},
            "status": {"none": null, "versions": [{"schema": 1}]},
        });
        let kept = json!({
            "metadata": {"managedFields": [{"time": "t", "subresource": "status"}]},
            "spec": {"versions": [{"name": "v1"}], "schema": 1},
            "status": {"versions": [{"schema": 1}]},
        });
        assert_eq!(parse(&object.to_string()).unwrap(), of(&kept).unwrap());
        // Expressions of policies see the whole object.
        assert_ne!(of(&object).unwrap(), of(&kept).unwrap());
    }
}
