//! What the objects of all origins ask for together: which clusters, by which credential, and which are refused.
//!
//! **Invariant:** the order of creation decides. A name or a server that is taken stays with the object that is older,
//! whatever the origins of both.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_apiservice::dns;
use gatehouse_inventory::{Refusal, Str};
use url::Url;

use super::origins::Wanted;

/// The name that rows of the local cluster have by default.
const RESERVED: &str = "local";

/// A cluster that has a row.
#[derive(Debug)]
pub(super) struct Accepted {
    /// What the oldest object of this name asks for.
    pub(super) wanted: Arc<Wanted>,
    /// Why it is not observed, as far as that is known without asking it.
    pub(super) refused: Option<Refusal>,
    /// Objects that ask for the same name.
    pub(super) ignored: Vec<Str>,
}

/// What all objects ask for.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    pub(super) clusters: BTreeMap<Str, Accepted>,
    /// Objects without a name that can be shown.
    pub(super) ignored: Vec<Str>,
}

/// Decides who gets which name. `local` is the name of the local cluster, and `server` its address.
pub(super) fn decide(mut asked: Vec<Arc<Wanted>>, local: &str, server: Option<&Url>) -> Registrations {
    asked.sort_by_key(|wanted| (wanted.created, Str::clone(&wanted.origin)));
    // Two origins may read the same namespace.
    asked.dedup_by(|one, other| one.origin == other.origin);
    let mut found = Registrations::default();
    let mut servers: BTreeMap<String, Str> = BTreeMap::new();
    for wanted in asked {
        let Wanted { origin, name, name_field, .. } = &*wanted;
        if let Some(why) = unusable(name, local) {
            found.ignored.push(format!("{origin}: {name_field}: {why}").into());
            continue;
        }
        if let Some(older) = found.clusters.get_mut(name) {
            let why = format!("{origin}: {name_field}: is taken by {}", older.wanted.origin);
            older.ignored.push(why.into());
            continue;
        }
        let refused = match &wanted.credential {
            Err(refusal) => Some(refusal.clone()),
            Ok(credential) => {
                let address = address(&credential.server);
                if server.is_some_and(|server| self::address(server) == address) {
                    Some(the_hub("server"))
                } else if let Some(other) = servers.get(&address) {
                    Some(same_as(other, "server"))
                } else {
                    servers.insert(address, Str::clone(name));
                    None
                }
            }
        };
        let name = Str::clone(name);
        found.clusters.insert(name, Accepted { wanted, refused, ignored: Vec::new() });
    }
    found
}

/// The registration leads to the cluster that serves this API: its rows would be shown twice, for ever.
pub(super) fn the_hub(field: &str) -> Refusal {
    Refusal { reason: "TheHub".into(), message: format!("{field}: is this cluster itself").into() }
}

/// Two registrations lead to one cluster.
pub(super) fn same_as(other: &str, field: &str) -> Refusal {
    Refusal { reason: "SameCluster".into(), message: format!("{field}: is that of {other}").into() }
}

fn unusable(name: &str, local: &str) -> Option<&'static str> {
    if name == local || name == RESERVED {
        return Some("is the name of this cluster");
    }
    (!dns::is_label(name)).then_some("must be lower-case letters, digits and `-`, at most 63")
}

/// What two URLs of one server have in common.
fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{host}:{port}{}", url.path().trim_end_matches('/'))
}
