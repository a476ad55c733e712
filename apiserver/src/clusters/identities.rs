//! Which cluster is which: no cluster is observed under two names.
//!
//! **Invariant:** of two registrations that lead to one cluster, that of the older object has it, whichever was observed
//! first. What the younger one observes has ended before the older one begins.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use gatehouse_inventory::{Refusal, Str};
use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::registrations;

/// When an object was created, and which it is: the least is the oldest, as in [`registrations::decide`].
pub(super) type Age = (Option<Timestamp>, Str);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Identities(Mutex<HashMap<String, Holder>>);

#[derive(Debug)]
enum Holder {
    /// The cluster that Gatehouse runs in.
    Local,
    Remote {
        name: Str,
        age: Age,
        /// Cancelled when an older one takes the cluster.
        lost: CancellationToken,
        /// Cancelled when the cluster is no longer observed under this name.
        ended: CancellationToken,
    },
}

/// The identity of a cluster that is observed. Dropped once it is observed no longer.
#[derive(Debug)]
pub(super) struct Held {
    lost: CancellationToken,
    /// Of the younger one that had the cluster.
    before: Option<CancellationToken>,
    _ended: DropGuard,
}

impl Held {
    /// Returns once nobody else observes the cluster.
    pub(super) async fn is_free(&self) {
        if let Some(before) = &self.before {
            before.cancelled().await;
        }
    }

    /// Cancelled when an older registration takes the cluster.
    pub(super) fn loss(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Identities {
    /// Records the identity of the local cluster.
    pub(super) fn is_local(&self, uid: String) {
        self.known().insert(uid, Holder::Local);
    }

    /// Takes an identity for the cluster `name`, unless it is that of an older one.
    pub(super) fn claim(&self, uid: String, name: &Str, age: Age) -> Result<Held, Refusal> {
        let mut known = self.known();
        let before = match known.get(&uid) {
            Some(Holder::Local) => return Err(registrations::the_hub("server")),
            Some(Holder::Remote { name: other, age: others, lost, ended }) if other != name => {
                if *others <= age {
                    return Err(registrations::same_as(other, "server"));
                }
                lost.cancel();
                Some(ended.clone())
            }
            _ => None,
        };
        known.retain(|_, holder| !holder.is(name));
        let (lost, ended) = (CancellationToken::new(), CancellationToken::new());
        let held = Held { lost: lost.clone(), before, _ended: ended.clone().drop_guard() };
        known.insert(uid, Holder::Remote { name: name.clone(), age, lost, ended });
        Ok(held)
    }

    /// Nothing is observed under a name any more.
    pub(super) fn release(&self, name: &Str) {
        self.known().retain(|_, holder| !holder.is(name));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    fn is(&self, wanted: &Str) -> bool {
        matches!(self, Self::Remote { name, .. } if name == wanted)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn age(second: i64) -> Age {
        (Some(Timestamp::from_second(second).unwrap()), "Secret a/b".into())
    }

    fn claim(identities: &Identities, uid: &str, name: &str, second: i64) -> Result<Held, String> {
        let held = identities.claim(uid.to_owned(), &name.into(), age(second));
        held.map_err(|refusal| refusal.reason.to_string())
    }

    #[test]
    fn an_identity_has_one_name_until_it_is_released() {
        let identities = Identities::default();
        identities.is_local("hub".into());
        let refused = |uid: &str, name: &str| claim(&identities, uid, name, 1).err();
        assert_eq!(refused("hub", "eu").as_deref(), Some("TheHub"));
        assert_eq!(refused("a", "eu"), None);
        assert_eq!(refused("a", "eu"), None, "a new credential for the same cluster");
        assert_eq!(refused("a", "us").as_deref(), Some("SameCluster"));
        identities.release(&"eu".into());
        assert_eq!(refused("a", "us"), None);
        identities.release(&"hub".into());
        assert_eq!(refused("hub", "eu").as_deref(), Some("TheHub"), "for ever");
    }

    #[test]
    fn the_older_one_takes_a_cluster_once_the_younger_has_ended() {
        let identities = Identities::default();
        let younger = claim(&identities, "a", "us", 2).unwrap();
        assert!(!younger.loss().is_cancelled() && younger.is_free().now_or_never().is_some());
        let older = claim(&identities, "a", "eu", 1).unwrap();
        assert!(younger.loss().is_cancelled(), "it is told");
        assert_eq!(claim(&identities, "a", "us", 2).unwrap_err(), "SameCluster");
        assert!(older.is_free().now_or_never().is_none(), "it is observed still");
        drop(younger);
        assert!(older.is_free().now_or_never().is_some() && !older.loss().is_cancelled());
        identities.release(&"us".into());
        assert_eq!(claim(&identities, "a", "us", 2).unwrap_err(), "SameCluster", "it had lost it before");
    }

    #[test]
    fn a_name_that_leads_elsewhere_leaves_its_cluster() {
        let identities = Identities::default();
        let _eu = claim(&identities, "a", "eu", 1).unwrap();
        let _eu = claim(&identities, "b", "eu", 1).unwrap();
        assert!(claim(&identities, "a", "us", 2).is_ok());
    }
}
