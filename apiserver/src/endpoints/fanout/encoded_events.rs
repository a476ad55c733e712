//! The encoded recent events of a resource, shared by all its feeds. Each is encoded once.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use super::{super::select::EventType, Style};

/// Bytes of encoded events that a resource keeps. At a hundred changes a second that is some seconds; a watch
/// that is further behind encodes its events itself.
const MAX_BYTES: usize = 1 << 20;

/// What the bytes of an event depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The first field, so that the oldest events are removed first.
    pub(super) version: u64,
    pub(super) event: EventType,
    pub(super) style: Style,
    /// The second that ages in a Table refer to; zero if there is no Table.
    pub(super) second: i64,
}

/// The most recent encoded events.
#[derive(Debug, Default)]
pub(super) struct EncodedEvents {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    texts: BTreeMap<Key, Bytes>,
    bytes: usize,
    encoded_count: usize,
}

impl EncodedEvents {
    /// The encoded event; `make` encodes it if it is not there. Other callers wait for that, which takes
    /// microseconds.
    pub(super) fn get(&self, key: Key, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = state.texts.get(&key) {
            return text.clone();
        }
        let text = Bytes::from(make());
        state.encoded_count += 1;
        state.bytes += text.len();
        state.texts.insert(key, text.clone());
        // This may remove the new event itself, if it is older than all that are kept.
        while state.bytes > MAX_BYTES
            && let Some((_, oldest)) = state.texts.pop_first()
        {
            state.bytes -= oldest.len();
        }
        text
    }

    /// How many events have been encoded.
    #[cfg(test)]
    pub(super) fn encoded_count(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).encoded_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::IncludeObject;
    use gatehouse_serving::negotiate::Representation;

    fn key(version: u64) -> Key {
        let style = Style { representation: Representation::Object, include_object: IncludeObject::None };
        Key { version, event: EventType::Added, style, second: 0 }
    }

    #[test]
    fn texts_are_made_once_and_bounded_by_bytes_the_latest_are_kept() {
        let encoded_events = EncodedEvents::default();
        let text = || vec![b'x'; 10 << 10];
        for version in 0..200 {
            for _ in 0..3 {
                encoded_events.get(key(version), text);
            }
        }
        assert_eq!(encoded_events.encoded_count(), 200);
        encoded_events.get(key(199), text);
        assert_eq!(encoded_events.encoded_count(), 200, "the latest is kept");
        for _ in 0..2 {
            encoded_events.get(key(0), text);
        }
        assert_eq!(encoded_events.encoded_count(), 202, "the oldest is not, and takes nothing's place");
        encoded_events.get(key(199), text);
        assert_eq!(encoded_events.encoded_count(), 202);
        assert!(encoded_events.state.lock().unwrap().bytes <= MAX_BYTES);
    }
}
