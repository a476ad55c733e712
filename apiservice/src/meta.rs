//! Pieces of `metav1` that every view uses, serialised as Kubernetes does.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A `metav1.Time`: seconds since the Unix epoch, written in RFC 3339 as UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Years beyond 9999 cannot be written in RFC 3339; the nearest that can be stands for them.
        let time = jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.0}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(Self(time.as_second()))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// One aspect of an object's state, as `metav1.Condition`: what `kubectl wait` and `describe` read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(!default)]
pub struct Condition {
    /// The aspect: Ready and Fresh on most views, WithinLimits on tenantusages, Healthy and Reachable on clusterhealths.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// When the status last changed.
    pub last_transition_time: Time,
    /// Why, as one CamelCase word.
    pub reason: Cow<'static, str>,
    /// Why, for people.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    #[default]
    #[serde(other)]
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_kubernetes_writes_it() {
        assert_eq!(Time(1_795_250_440).to_string(), "2026-11-21T08:40:40Z");
        assert_eq!(serde_json::to_string(&Time(0)).unwrap(), "\"1970-01-01T00:00:00Z\"");
        let read = |text: &str| serde_json::from_str::<Time>(text).ok();
        assert_eq!(read("\"2026-11-21T09:40:40.5+01:00\""), Some(Time(1_795_250_440)));
        assert_eq!([read("\"soon\""), read("7")], [None, None]);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_written_as_the_last_there_is() {
        assert!(Time(i64::MAX).to_string().starts_with("9999-12-"));
    }
}
