//! The dimensions that a quota limits: the keys of `spec.hard`.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use gatehouse_apiservice::quantity::{Format, Quantity};
use thiserror::Error;

use crate::usage::claim;

/// A dimension that a quota limits. Ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// `capacity/NAME`: the capacity of the Agones counters or lists with this name.
    Capacity(Arc<str>),
    /// `count/RESOURCE.GROUP`: the number of objects of a resource.
    Count(GroupResource),
    /// `gameservers`: servers that exist, or that fleets ask for.
    GameServers,
    /// `limits.cpu`: the CPU that those servers may use at most.
    LimitsCpu,
    /// `limits.memory`: the memory that those servers may use at most.
    LimitsMemory,
    /// `players`: the players that those servers have room for.
    Players,
    /// `requests.cpu`: the CPU that those servers request.
    RequestsCpu,
    /// `requests.memory`: the memory that those servers request.
    RequestsMemory,
    /// `requests.storage`: the storage that PersistentVolumeClaims request.
    RequestsStorage,
}

/// A resource of a group, at any version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// The plural name, such as `fleets`.
    pub resource: Arc<str>,
    /// The group; empty for the core group.
    pub group: Arc<str>,
}

/// An invalid key of `spec.hard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DimensionError {
    /// There is no such dimension.
    #[error(
        "unknown limit: there are gameservers, players, capacity/NAME, requests.cpu, requests.memory, limits.cpu, \
         limits.memory, requests.storage and count/RESOURCE.GROUP"
    )]
    Unknown,
    /// `capacity/` is not followed by the name of a counter or list.
    #[error("must be capacity/NAME with a name of at most 63 letters, digits, dots, dashes and underscores")]
    Capacity,
    /// `count/` is not followed by a resource.
    #[error(
        "must be count/RESOURCE.GROUP, such as count/fleets.agones.dev, or count/RESOURCE for the core group"
    )]
    Resource,
}

impl Dimension {
    /// Whether only integers are valid.
    pub fn is_integer(&self) -> bool {
        matches!(self, Self::Capacity(_) | Self::Count(_) | Self::GameServers | Self::Players)
    }

    /// The resource whose objects use it; `None` if these are the [charged](crate::CHARGED) ones.
    pub fn counted(&self) -> Option<&GroupResource> {
        match self {
            Self::Count(resource) => Some(resource),
            Self::RequestsStorage => Some(&CLAIMS),
            _ => None,
        }
    }

    /// The capacity of counters and lists with this name, if a limit can name it.
    pub(crate) fn capacity(name: &str) -> Option<Self> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let well = (1..=63).contains(&name.len()) && name.bytes().all(inner);
        well.then(|| Self::Capacity(name.into()))
    }

    /// A quantity of this dimension as text: memory and storage with binary suffixes, all others with decimal ones.
    pub fn text(&self, quantity: Quantity) -> String {
        self.written(quantity).to_string()
    }

    /// `quantity`, in the format of this dimension.
    pub(crate) fn written(&self, quantity: Quantity) -> Quantity {
        let is_bytes = matches!(self, Self::LimitsMemory | Self::RequestsMemory | Self::RequestsStorage);
        let format = if is_bytes { Format::Binary } else { Format::Decimal };
        quantity.with_format(format)
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity(name) => write!(f, "capacity/{name}"),
            Self::Count(resource) => write!(f, "count/{resource}"),
            Self::GameServers => f.write_str("gameservers"),
            Self::LimitsCpu => f.write_str("limits.cpu"),
            Self::LimitsMemory => f.write_str("limits.memory"),
            Self::Players => f.write_str("players"),
            Self::RequestsCpu => f.write_str("requests.cpu"),
            Self::RequestsMemory => f.write_str("requests.memory"),
            Self::RequestsStorage => f.write_str("requests.storage"),
        }
    }
}

impl FromStr for Dimension {
    type Err = DimensionError;

    fn from_str(text: &str) -> Result<Self, DimensionError> {
        match text {
            "gameservers" => Ok(Self::GameServers),
            "limits.cpu" => Ok(Self::LimitsCpu),
            "limits.memory" => Ok(Self::LimitsMemory),
            "players" => Ok(Self::Players),
            "requests.cpu" => Ok(Self::RequestsCpu),
            "requests.memory" => Ok(Self::RequestsMemory),
            "requests.storage" => Ok(Self::RequestsStorage),
            _ => match text.split_once('/') {
                Some(("count", resource)) => resource.parse().map(Self::Count),
                Some(("capacity", name)) => Self::capacity(name).ok_or(DimensionError::Capacity),
                _ => Err(DimensionError::Unknown),
            },
        }
    }
}

/// PersistentVolumeClaims.
static CLAIMS: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", claim::RESOURCE));

impl GroupResource {
    /// Whether these are PersistentVolumeClaims, which use storage.
    pub fn is_claims(&self) -> bool {
        *self == *CLAIMS
    }

    /// The resource of a kind of `group`, by the usual rule for plurals.
    pub fn of_kind(group: &str, kind: &str) -> Self {
        let lower = kind.to_lowercase();
        let plural = match lower.strip_suffix('y') {
            _ if lower == "endpoints" => lower,
            Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
            _ if lower.ends_with('s') || lower.ends_with('x') || lower.ends_with("ch") => {
                format!("{lower}es")
            }
            _ => format!("{lower}s"),
        };
        Self::new(group, &plural)
    }

    /// The resource `resource` of `group`, which is empty for the core group.
    pub fn new(group: &str, resource: &str) -> Self {
        Self { resource: resource.into(), group: group.into() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, group } = self;
        if group.is_empty() { f.write_str(resource) } else { write!(f, "{resource}.{group}") }
    }
}

impl FromStr for GroupResource {
    type Err = DimensionError;

    fn from_str(text: &str) -> Result<Self, DimensionError> {
        let (resource, group) = text.split_once('.').map_or((text, None), |(one, two)| (one, Some(two)));
        let well = is_label(resource) && group.is_none_or(|group| group.split('.').all(is_label));
        if !well || text.len() > 316 {
            // A label of 63, a dot and a subdomain of 253, minus what would not be served anyway.
            return Err(DimensionError::Resource);
        }
        Ok(Self::new(group.unwrap_or_default(), resource))
    }
}

/// A DNS label.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        for key in [
            "gameservers",
            "limits.cpu",
            "limits.memory",
            "players",
            "requests.cpu",
            "requests.memory",
            "requests.storage",
            "capacity/rooms",
            "capacity/Rooms_2.eu-1",
            "count/pods",
            "count/fleets.agones.dev",
            "count/kustomizations.kustomize.toolkit.fluxcd.io",
        ] {
            assert_eq!(key.parse::<Dimension>().unwrap().to_string(), key);
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for key in ["", "pods", "GameServers", "requests.gpu", "limits.storage", "gameservers ", "a/b"] {
            assert_eq!(key.parse::<Dimension>(), Err(DimensionError::Unknown), "{key}");
        }
        for key in
            ["count/", "count/Pods", "count/.apps", "count/pods.", "count/a..b", "count/-a", "count/a/b"]
        {
            assert_eq!(key.parse::<Dimension>(), Err(DimensionError::Resource), "{key}");
        }
        for key in ["capacity/", "capacity/a b", "capacity/a/b", "capacity/ä"] {
            assert_eq!(key.parse::<Dimension>(), Err(DimensionError::Capacity), "{key}");
        }
        assert!(format!("capacity/{}", "a".repeat(64)).parse::<Dimension>().is_err());
    }

    #[test]
    fn kinds_have_their_usual_plurals() {
        for (group, kind, plural) in [
            ("agones.dev", "Fleet", "fleets.agones.dev"),
            ("source.toolkit.fluxcd.io", "HelmRepository", "helmrepositories.source.toolkit.fluxcd.io"),
            ("gateway.networking.k8s.io", "Gateway", "gateways.gateway.networking.k8s.io"),
            ("networking.k8s.io", "Ingress", "ingresses.networking.k8s.io"),
            ("", "Endpoints", "endpoints"),
        ] {
            assert_eq!(GroupResource::of_kind(group, kind).to_string(), plural);
        }
    }

    #[test]
    fn limits_are_in_the_order_of_their_names() {
        let keys = [
            "capacity/rooms",
            "count/a.z",
            "count/b.a",
            "gameservers",
            "limits.cpu",
            "limits.memory",
            "players",
            "requests.cpu",
            "requests.memory",
            "requests.storage",
        ];
        let mut parsed: Vec<Dimension> = keys.iter().rev().map(|key| key.parse().unwrap()).collect();
        parsed.sort();
        assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), keys);
    }
}
