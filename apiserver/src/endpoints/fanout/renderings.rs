//! The texts of the latest events, each made once for all who are told of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use super::{super::select::EventType, Style};

/// Bytes of texts kept for each resource. At a hundred changes a second those of some seconds: a watcher further
/// behind than that pays for what it reads.
const BYTES: usize = 1 << 20;

/// What a text depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// First, so that the oldest go first.
    pub(super) version: u64,
    pub(super) event: EventType,
    pub(super) style: Style,
    /// Of the ages in Tables; zero where there are none.
    pub(super) second: i64,
}

/// Texts by what they depend on, the latest of them.
#[derive(Debug, Default)]
pub(super) struct Renderings {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    texts: BTreeMap<Key, Bytes>,
    bytes: usize,
    made: usize,
}

impl Renderings {
    /// The text, made now if it is not there. Whoever else wants it waits for that, some microseconds.
    pub(super) fn get(&self, key: Key, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = state.texts.get(&key) {
            return text.clone();
        }
        let text = Bytes::from(make());
        state.made += 1;
        state.bytes += text.len();
        state.texts.insert(key, text.clone());
        // That may be this very one: what is older than all that is kept is not kept.
        while state.bytes > BYTES
            && let Some((_, oldest)) = state.texts.pop_first()
        {
            state.bytes -= oldest.len();
        }
        text
    }

    /// How many texts have been made.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).made
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
        let renderings = Renderings::default();
        let text = || vec![b'x'; 10 << 10];
        for version in 0..200 {
            for _ in 0..3 {
                renderings.get(key(version), text);
            }
        }
        assert_eq!(renderings.made(), 200);
        renderings.get(key(199), text);
        assert_eq!(renderings.made(), 200, "the latest is kept");
        for _ in 0..2 {
            renderings.get(key(0), text);
        }
        assert_eq!(renderings.made(), 202, "the oldest is not, and takes nothing's place");
        renderings.get(key(199), text);
        assert_eq!(renderings.made(), 202);
        assert!(renderings.state.lock().unwrap().bytes <= BYTES);
    }
}
