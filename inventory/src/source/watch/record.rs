//! The observer for kinds of the catalogue: decodes each object once, into a record, and sends it to the inventory.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    notice::{Observer, WatchNotice},
    raw::Raw,
};
use crate::{
    catalogue::KindId,
    source::{Event, Sink},
};

/// Converts the notices of a kind to events.
pub(super) struct Recorder {
    pub(super) kind: KindId,
    pub(super) sink: Sink,
    /// When the last [`Event::Current`] was sent.
    pub(super) current: Option<Instant>,
}

/// The minimum interval of [`Event::Current`], which is precise enough for its readers.
const OFTEN: Duration = Duration::from_secs(1);

impl Observer for Recorder {
    async fn observe(&mut self, notice: WatchNotice<'_>) {
        let event = match notice {
            WatchNotice::Status(status) => Event::Kind(self.kind, status),
            WatchNotice::Restart => Event::Restart(self.kind),
            WatchNotice::Apply(raw) => self.record(raw),
            WatchNotice::Delete(raw) => {
                Event::Delete(self.sink.interner.key(self.kind, raw.namespace(), raw.name()))
            }
            WatchNotice::Synced => Event::Synced(self.kind),
            WatchNotice::Reached(_) if self.current.is_some_and(|current| current.elapsed() < OFTEN) => {
                return;
            }
            WatchNotice::Reached(_) => {
                self.current = Some(Instant::now());
                Event::Current(self.kind)
            }
        };
        self.sink.send(event).await;
    }
}

impl Recorder {
    fn record(&self, raw: &Raw) -> Event {
        let now = jiff::Timestamp::now().as_second();
        match self.sink.catalogue.observe(self.kind, raw.json(), &self.sink.interner, now) {
            Ok(record) => Event::Apply(Box::new(record)),
            Err(error) => {
                let what = format!("{}/{}: {error}", raw.namespace(), raw.name());
                let kind = self.sink.catalogue.kind(self.kind).resource_name();
                tracing::warn!(%kind, object = %what, "skipping an object that cannot be decoded");
                Event::Undecodable(Some(self.kind), what)
            }
        }
    }
}
