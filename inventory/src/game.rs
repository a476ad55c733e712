//! Game servers: what an object of Agones, OpenKruiseGame or Pteronimbus adds to the numbers of its namespace.
//!
//! **Invariant:** each server counts once. Servers of a Fleet or GameServerSet are counted from the status of that
//! object; such a server itself adds only whether it has failed. A standalone server adds itself.

use std::ops::{AddAssign, SubAssign};

use crate::Record;

/// A system that runs game servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    /// `agones.dev`.
    Agones,
    /// `game.kruise.io`, OpenKruiseGame.
    Kruise,
    /// `pteronimbus.io`.
    Pteronimbus,
}

impl Engine {
    /// Every engine, in order.
    pub const ALL: [Engine; 3] = [Engine::Agones, Engine::Kruise, Engine::Pteronimbus];

    /// The name used in the API (`status.engines[].engine`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Engine::Agones => "agones",
            Engine::Kruise => "kruise",
            Engine::Pteronimbus => "pteronimbus",
        }
    }
}

/// What an object of a kind represents: many servers, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A Fleet or a GameServerSet.
    Group,
    /// A GameServer.
    Server,
}

/// The engine and role of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GameKind {
    /// The engine that defines the kind.
    pub engine: Engine,
    /// What an object of the kind represents.
    pub role: Role,
}

impl GameKind {
    /// The kind with this group and name, if it belongs to an engine.
    pub(crate) fn of(group: &str, kind: &str) -> Option<Self> {
        let (engine, role) = match (group, kind) {
            ("agones.dev", "Fleet" | "GameServerSet") => (Engine::Agones, Role::Group),
            ("agones.dev", "GameServer") => (Engine::Agones, Role::Server),
            ("game.kruise.io", "GameServerSet") => (Engine::Kruise, Role::Group),
            ("game.kruise.io", "GameServer") => (Engine::Kruise, Role::Server),
            ("pteronimbus.io", "GameServer") => (Engine::Pteronimbus, Role::Server),
            _ => return None,
        };
        Some(Self { engine, role })
    }
}

/// Counts of game servers: what one object adds, or a sum over many objects.
///
/// The numbers of an object are bounded when they are read, so sums cannot overflow. What an object adds may be
/// negative: an allocated server subtracts itself from those that its GameServerSet reports as ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GameNumbers {
    /// Fleets, and GameServerSets without a Fleet.
    pub fleets: i64,
    /// Servers that should exist.
    pub desired: i64,
    /// Servers that are ready for players.
    pub ready: i64,
    /// Servers in use.
    pub allocated: i64,
    /// Servers that are reserved.
    pub reserved: i64,
    /// Servers that were deliberately taken out of service.
    pub withdrawn: i64,
    /// Servers that have failed.
    pub unhealthy: i64,
    /// Desired servers that are none of ready, allocated, reserved and withdrawn.
    pub missing: i64,
    /// Connected players.
    pub players: PartialSum,
    /// The number of players that the servers can hold.
    pub capacity: PartialSum,
}

/// A sum over the objects that report a number; others are left out rather than counted as zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartialSum {
    /// The sum over the objects that report the number.
    sum: i64,
    /// How many objects report it.
    by: i64,
}

impl PartialSum {
    /// The number of one object; `None` if it reports none.
    pub const fn new(number: Option<i64>) -> Self {
        match number {
            Some(sum) => Self { sum, by: 1 },
            None => Self { sum: 0, by: 0 },
        }
    }

    /// The sum; `None` if no object reports the number.
    pub fn get(self) -> Option<i64> {
        (self.by > 0).then_some(self.sum)
    }
}

impl GameNumbers {
    /// What `record` adds.
    pub(crate) fn of(record: &Record, role: Role) -> Self {
        let own = record.game().copied().unwrap_or_default();
        let failed = role == Role::Server && record.verdict.state.is_failure();
        Self { unhealthy: i64::from(failed), ..own }
    }

    /// Computes `missing` from the other numbers.
    pub(crate) fn with_missing(self) -> Self {
        let there = self.ready + self.allocated + self.reserved + self.withdrawn;
        Self { missing: (self.desired - there).max(0), ..self }
    }

    fn each(&mut self, other: &Self, change: impl Fn(&mut i64, i64)) {
        for (number, other) in [
            (&mut self.fleets, other.fleets),
            (&mut self.desired, other.desired),
            (&mut self.ready, other.ready),
            (&mut self.allocated, other.allocated),
            (&mut self.reserved, other.reserved),
            (&mut self.withdrawn, other.withdrawn),
            (&mut self.unhealthy, other.unhealthy),
            (&mut self.missing, other.missing),
            (&mut self.players.sum, other.players.sum),
            (&mut self.players.by, other.players.by),
            (&mut self.capacity.sum, other.capacity.sum),
            (&mut self.capacity.by, other.capacity.by),
        ] {
            change(number, other);
        }
    }
}

impl AddAssign for GameNumbers {
    fn add_assign(&mut self, other: Self) {
        self.each(&other, |number, other| *number += other);
    }
}

impl SubAssign for GameNumbers {
    fn sub_assign(&mut self, other: Self) {
        self.each(&other, |number, other| *number -= other);
    }
}

impl std::iter::Sum for GameNumbers {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_tells_is_not_zero() {
        let mut sum = GameNumbers::default();
        assert_eq!(sum.players.get(), None);
        let empty = GameNumbers { players: PartialSum::new(Some(0)), ..GameNumbers::default() };
        sum += empty;
        assert_eq!((sum.players.get(), sum.capacity.get()), (Some(0), None));
        sum -= empty;
        assert_eq!(sum, GameNumbers::default());
    }
}
