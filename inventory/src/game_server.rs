//! Game servers: what is kept of a single one beyond its verdict.

use crate::{
    Detail, GameNumbers, ObjectKey, Record, Seconds, Str,
    catalogue::KindId,
    game::{GameKind, Role},
};

/// What is kept of a game server beyond its verdict. There may be ten thousand of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GameServer {
    /// What it adds to the numbers of its namespace; `None` for one that its fleet counts.
    pub numbers: Option<Box<GameNumbers>>,
    /// Kind and name of the fleet or set that it belongs to, which is in the same namespace.
    pub fleet: Option<(KindId, Str)>,
    /// Its state as its engine names it; of OpenKruiseGame's that are ready, what they are used for. May be empty.
    pub phase: Str,
    /// The host that players connect to.
    pub address: Option<Str>,
    /// The ports that players connect to; at most [`GameServer::PORTS`].
    pub ports: Box<[Port]>,
    /// The node that it runs on.
    pub node: Option<Str>,
    /// Connected players, if the engine reports them.
    pub players: Option<u32>,
    /// Room for players, if the engine reports it.
    pub capacity: Option<u32>,
    /// Since when it runs; 0 if unknown.
    pub started: Seconds,
}

/// A port of a game server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; may be empty.
    pub name: Str,
    /// Its number; 0 if it has none yet.
    pub number: u16,
}

/// How much a start that follows from a duration may differ from the one known before and still be the same: a duration
/// is written some time after it was measured.
const SAME_START: u64 = 60;

impl GameServer {
    /// How many ports of a server are kept.
    pub const PORTS: usize = 16;

    pub(crate) fn size(&self) -> usize {
        let numbers = if self.numbers.is_some() { size_of::<GameNumbers>() } else { 0 };
        size_of::<Self>() + numbers + size_of_val(&*self.ports)
    }
}

impl Record {
    /// The fields of a game server.
    pub fn game_server(&self) -> Option<&GameServer> {
        match &self.detail {
            Detail::GameServer(server) => Some(server),
            _ => None,
        }
    }

    /// The fleet or set that a game server belongs to, and what the server adds to its numbers.
    pub(crate) fn share_of_fleet(&self, kind: GameKind) -> Option<(ObjectKey, GameNumbers)> {
        let (fleet, name) = self.game_server()?.fleet.clone()?;
        let fleet = ObjectKey::new(fleet, self.key.namespace.clone(), name);
        (kind.role == Role::Server).then(|| (fleet, GameNumbers::of(self, kind.role)))
    }

    /// Keeps the time since when a server has run. Pteronimbus reports how long, and that is not exact.
    pub(crate) fn runs_since(&mut self, before: &Record) {
        if let (Detail::GameServer(own), Detail::GameServer(before)) = (&mut self.detail, &before.detail)
            && own.started.abs_diff(before.started) <= SAME_START
        {
            own.started = before.started;
        }
    }
}

#[cfg(test)]
mod tests;
