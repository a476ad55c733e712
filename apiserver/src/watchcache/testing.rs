//! Builders for tests.

use std::sync::Arc;

use gatehouse_apiservice::{Time, View, view::FluxSummaryStatus};

use super::{Cells, Draft, Label, RowKey, Selectable, WatchCache};
use crate::clock::Clock;

/// A draft of a FluxSummary in `state`.
pub(crate) fn draft(namespace: &str, name: &str, state: &str) -> Draft {
    Draft {
        key: RowKey { namespace: namespace.into(), name: name.into() },
        uid: uuid::Uuid::from_u128(7),
        created: Time(7),
        selectable: Arc::new(Selectable {
            labels: [("gatehouse.dev/cluster".into(), name.into())].into(),
            fields: [name.into(), state.into()].into(),
        }),
        status: format!("{{\"state\":\"{state}\"}}").into(),
        cells: Cells { json: format!("[\"{name}\",]").into(), ages: vec![(name.len() + 4, Some(Time(7)))] },
    }
}

impl Draft {
    /// The same with other labels.
    pub(crate) fn labelled(self, labels: impl Into<Arc<[Label]>>) -> Self {
        let selectable = Selectable { labels: labels.into(), ..(*self.selectable).clone() };
        Self { selectable: Arc::new(selectable), ..self }
    }
}

/// A cache of FluxSummaries that is not synced.
pub(crate) fn cache() -> WatchCache {
    let clock = Clock::new(0);
    clock.vouch(true);
    cache_by(clock)
}

/// The same with the given clock.
pub(crate) fn cache_by(clock: Clock) -> WatchCache {
    static RESOURCE: gatehouse_apiservice::Resource = <FluxSummaryStatus as View>::RESOURCE;
    WatchCache::new(&RESOURCE, Arc::new(clock))
}
