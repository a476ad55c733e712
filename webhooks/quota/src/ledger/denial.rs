//! The message of a denial. **Invariant:** it reads like ResourceQuota's.

use std::{collections::BTreeMap, fmt};

use gatehouse_apiservice::{denial, quantity::Quantity};

use crate::Dimension;

/// The limits that a request would exceed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceeded {
    /// How much more was requested.
    pub requested: BTreeMap<Dimension, Quantity>,
    /// How much is used, including what is reserved.
    pub used: BTreeMap<Dimension, Quantity>,
    /// The limit.
    pub limited: BTreeMap<Dimension, Quantity>,
}

impl Exceeded {
    pub(crate) fn insert(
        &mut self,
        dimension: &Dimension,
        requested: Quantity,
        used: Quantity,
        limit: Quantity,
    ) {
        self.requested.insert(dimension.clone(), requested);
        self.used.insert(dimension.clone(), used);
        self.limited.insert(dimension.clone(), limit);
    }

    /// `exceeded quota: team-a, requested: gameservers=5, used: gameservers=78, limited: gameservers=80`
    pub fn message(&self, quota: &str) -> String {
        let Self { requested, used, limited } = self;
        denial::exceeded(quota, List(requested), List(used), List(limited))
    }
}

struct List<'a>(&'a BTreeMap<Dimension, Quantity>);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (dimension, quantity)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{dimension}={}", dimension.written(*quantity))?;
        }
        Ok(())
    }
}
