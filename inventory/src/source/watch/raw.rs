//! An object of any kind as JSON text.
//!
//! The catalogue decodes it later, once. Here only the four fields that a watch needs are read. A wrong type in them is
//! ignored, so that no object makes a whole page or stream unreadable.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object as the API server sent it.
#[derive(Debug, Clone)]
pub struct Raw {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    /// The whole object.
    json: Box<RawValue>,
}

impl Raw {
    /// Creates an object from its text, which must be JSON.
    pub(super) fn of(json: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(json).map(Self::new)
    }

    fn new(json: Box<RawValue>) -> Self {
        let Envelope { metadata } = serde_json::from_str(json.get()).unwrap_or_default();
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).unwrap_or_default();
        Self {
            name: owned(metadata.name),
            namespace: owned(metadata.namespace),
            uid: owned(metadata.uid),
            resource_version: owned(metadata.resource_version),
            json,
        }
    }

    /// The object as JSON.
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// `metadata.name`; empty if it is missing.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `metadata.namespace`; empty if it is missing.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `metadata.uid`; empty if it is missing.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// `metadata.resourceVersion`, unless it is missing or empty.
    pub fn resource_version(&self) -> Option<&str> {
        Some(self.resource_version.as_str()).filter(|version| !version.is_empty())
    }
}

#[derive(Deserialize, Default)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    uid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    resource_version: Option<Cow<'a, str>>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    #[test]
    fn items_of_a_list_keep_their_text_whatever_their_fields_hold() {
        let list: ObjectList<Raw> = serde_json::from_str(
            r#"{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"7"},
                "items":[{"metadata":{"name":"a","namespace":"b","resourceVersion":"5"},"spec":{ "x": 1 }},
                         {"metadata":{"name":["odd"]},"status":3}, {"metadata":"none"}, null]}"#,
        )
        .unwrap();
        let [a, odd, none, null] = &list.items[..] else { panic!("{list:?}") };
        assert_eq!((a.namespace(), a.name(), a.resource_version()), ("b", "a", Some("5")));
        assert!(a.json().ends_with(r#""spec":{ "x": 1 }}"#));
        assert_eq!((odd.name(), odd.json()), ("", r#"{"metadata":{"name":["odd"]},"status":3}"#));
        assert_eq!((none.name(), null.json()), ("", "null"));
    }

    #[test]
    fn a_watch_event_keeps_the_objects_text() {
        let event: WatchEvent<Raw> = serde_json::from_str(
            r#"{"type":"MODIFIED","object":{"kind":"Node","metadata":{"name":"a","resourceVersion":"9"}}}"#,
        )
        .unwrap();
        let WatchEvent::Modified(raw) = event else { panic!("{event:?}") };
        assert_eq!((raw.name(), raw.resource_version()), ("a", Some("9")));
    }
}
