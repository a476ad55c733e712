//! Reads where a game server is to be found, since when it runs, and who plays on it.

use gatehouse_apiservice::{agones::Member, duration};
use kube_cel::cel::Value;

use super::{Object, agones_players, kruise_owner, owner::made_for};
use crate::{
    GameServer, Interner, Port, Seconds, Str,
    catalogue::{Catalogue, KindId, clip, matching, object::wrong},
    game::{Engine, PartialSum},
};

/// The longest state and port name that are kept, and the longest name of a host.
const WORD_BYTES: usize = 64;
const HOST_BYTES: usize = 253;

pub(super) fn read(
    catalogue: &Catalogue,
    engine: Engine,
    object: Object<'_>,
    written: Seconds,
    interner: &Interner,
) -> Result<GameServer, String> {
    let reader = Reader { catalogue, object, interner };
    match engine {
        Engine::Agones => reader.agones(),
        Engine::Kruise => reader.kruise(),
        Engine::Pteronimbus => reader.pteronimbus(written),
    }
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    object: Object<'a>,
    interner: &'a Interner,
}

impl Reader<'_> {
    /// Agones makes a new object for each start of a server, so that a server runs since it was created.
    fn agones(&self) -> Result<GameServer, String> {
        let fleet = match made_for(self.object, Member::GameServer)? {
            None => None,
            // Agones copies the name of the fleet from the labels of the set.
            Some(set) => match self.object.text(&["metadata", "labels", Member::GameServerSet.label()])? {
                "" => self.fleet("agones.dev", "GameServerSet", set),
                fleet => self.fleet("agones.dev", "Fleet", fleet),
            },
        };
        let (players, capacity) = agones_players(self.object)?;
        Ok(GameServer {
            fleet,
            phase: self.word(self.object, &["status", "state"])?,
            address: self.host(self.object, &["status", "address"])?,
            ports: self.ports(self.object, &["status", "ports"])?,
            node: self.host(self.object, &["status", "nodeName"])?,
            players: count(players),
            capacity: count(capacity),
            started: self.instant(&["metadata", "creationTimestamp"])?,
            ..GameServer::default()
        })
    }

    /// A server of OpenKruiseGame's outlives its pods, and runs since its pod started. What its owner uses it for is the
    /// state of one that is ready.
    fn kruise(&self) -> Result<GameServer, String> {
        let owner = kruise_owner(self.object)?.filter(|name| !name.is_empty());
        let purpose = self.word(self.object, &["spec", "opsState"])?;
        let state = self.word(self.object, &["status", "currentState"])?;
        let has_purpose = !matches!(&*purpose, "" | "None");
        let network = ["status", "networkStatus"];
        let at = |list| self.object.list(&[&network[..], &[list]].concat()).map(|mut all| all.next());
        let place =
            at("externalAddresses")?.map_or_else(|| at("internalAddresses"), |place| Ok(Some(place)))?;
        let (mut address, mut ports) = (None, Box::default());
        if let Some(place) = place {
            address = self
                .host(place, &["ip"])?
                .map_or_else(|| self.host(place, &["endPoint"]), |ip| Ok(Some(ip)))?;
            ports = self.ports(place, &["ports"])?;
        }
        Ok(GameServer {
            fleet: owner.and_then(|owner| self.fleet("game.kruise.io", "GameServerSet", owner)),
            phase: if has_purpose && &*state == "Ready" { purpose } else { state },
            address,
            ports,
            started: self.instant(&["status", "podStatus", "startTime"])?,
            ..GameServer::default()
        })
    }

    fn pteronimbus(&self, written: Seconds) -> Result<GameServer, String> {
        Ok(GameServer {
            phase: self.word(self.object, &["status", "phase"])?,
            players: count(PartialSum::new(self.object.number(&["status", "playerCount"])?)),
            started: self.uptime(&["status", "uptime"])?.map_or(0, |uptime| written.saturating_sub(uptime)),
            ..GameServer::default()
        })
    }

    fn fleet(&self, group: &str, kind: &str, name: &str) -> Option<(KindId, Str)> {
        self.catalogue.find(group, kind).map(|kind| (kind, self.interner.intern(name)))
    }

    fn word(&self, object: Object<'_>, path: &[&str]) -> Result<Str, String> {
        Ok(self.interner.intern(clip(object.text(path)?, WORD_BYTES)))
    }

    fn host(&self, object: Object<'_>, path: &[&str]) -> Result<Option<Str>, String> {
        let text = object.text(path)?;
        Ok((!text.is_empty()).then(|| self.interner.intern(clip(text, HOST_BYTES))))
    }

    fn ports(&self, object: Object<'_>, path: &[&str]) -> Result<Box<[Port]>, String> {
        object.list(path)?.take(GameServer::PORTS).map(|port| self.port(port)).collect()
    }

    fn port(&self, port: Object<'_>) -> Result<Port, String> {
        let name = self.word(port, &["name"])?;
        // An int-or-string in OpenKruiseGame.
        let number = match port.get(&["port"]) {
            None => Some(0),
            Some(Value::Int(number)) => u16::try_from(*number).ok(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(other) => return Err(wrong(&["ports", "port"], "a number", other)),
        };
        let number = number.ok_or_else(|| "ports.port: expected a number up to 65535".to_owned())?;
        Ok(Port { name, number })
    }

    /// A time; 0 if absent.
    fn instant(&self, path: &[&str]) -> Result<Seconds, String> {
        let text = self.object.text(path)?;
        if text.is_empty() {
            return Ok(0);
        }
        let wrong = || format!("{}: expected an RFC 3339 timestamp, got {text:?}", path.join("."));
        matching::seconds(text).ok_or_else(wrong)
    }

    /// A duration, or a number of seconds. No definition says which, so that text of another form tells nothing.
    fn uptime(&self, path: &[&str]) -> Result<Option<Seconds>, String> {
        match self.object.get(path) {
            Some(Value::String(text)) => Ok(duration::parse(text).ok().map(|uptime| uptime.as_secs().max(0))),
            _ => self.object.number(path),
        }
    }
}

fn count(number: PartialSum) -> Option<u32> {
    number.get().map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}
