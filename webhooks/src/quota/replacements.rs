//! Admits game servers that Agones creates for its sets, by what exists: they are charged to nobody.
//!
//! **Invariant:** each replica counts the servers that it observes, and those that it admitted until it observes them.
//! So each replica may admit as much as there was room for when it last looked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_inventory::Str;
use gatehouse_quota::{Amounts, CompiledQuota, Dimension, Exceeded, exceeded_by_replacement};
use tokio::time::{Instant, timeout_at};

use crate::world::{Snapshot, World};

/// How long a denial waits for a change that averts it: Agones may have observed one that this replica has not yet.
const LAG: Duration = Duration::from_millis(250);

/// The servers that this replica has admitted.
#[derive(Debug)]
pub(super) struct Replacements {
    /// How long after its admission a request may still be written.
    patience: Duration,
    admitted: Mutex<HashMap<Str, Admitted>>,
}

#[derive(Debug)]
struct Admitted {
    namespace: Str,
    amounts: Amounts,
    since: Instant,
}

/// A game server that Agones creates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replacement<'a> {
    pub(super) uid: &'a str,
    pub(super) namespace: &'a str,
    pub(super) amounts: &'a Amounts,
    pub(super) dry_run: bool,
}

/// The quota that has no room for it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) quota: Arc<CompiledQuota>,
    pub(super) why: String,
}

impl Replacements {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, admitted: Mutex::default() }
    }

    /// Admits a server, or returns the quota that has no room for it.
    pub(super) async fn admit(
        &self,
        world: &World,
        over: &[Arc<CompiledQuota>],
        new: Replacement<'_>,
        until: Instant,
    ) -> Result<(), Refused> {
        let until = until.min(Instant::now() + LAG);
        let mut changed = world.changed();
        loop {
            changed.borrow_and_update();
            match self.try_admit(&world.snapshot(), over, new) {
                Err(refused) => match timeout_at(until, changed.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return Err(refused),
                },
                admitted => return admitted,
            }
        }
    }

    fn try_admit(
        &self,
        world: &Snapshot,
        over: &[Arc<CompiledQuota>],
        new: Replacement<'_>,
    ) -> Result<(), Refused> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        admitted.retain(|uid, one| {
            let is_seen = world.object_of_uid(uid).is_some() || world.was_deleted(uid);
            !is_seen && now < one.since + self.patience
        });
        for quota in over.iter().filter(|quota| quota.enforcement == Enforcement::Deny) {
            let is_its = |namespace: &str| {
                world.namespaces.get(namespace).is_some_and(|info| quota.selects(&info.labels))
            };
            let pending = admitted.values().filter(|one| is_its(&one.namespace));
            let pending = pending.fold(Amounts::default(), |sum, one| sum.saturating_add(&one.amounts));
            let (used, standing) = (world.used(quota), world.standing(quota));
            let exceeded = exceeded_by_replacement(&quota.hard, &used, &standing, &pending, new.amounts);
            if let Some(exceeded) = exceeded {
                let why = exceeded.message(&quota.name) + &because_of_going(world, quota, &exceeded);
                return Err(Refused { quota: Arc::clone(quota), why });
            }
        }
        if !new.dry_run {
            let (namespace, amounts) = (Str::from(new.namespace), new.amounts.clone());
            admitted.insert(Str::from(new.uid), Admitted { namespace, amounts, since: now });
        }
        Ok(())
    }

    /// Forgets a server that was denied elsewhere.
    pub(super) fn withdraw(&self, uid: &str) {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// A note on how many game servers that are being deleted still use the exceeded limits; empty if none does.
pub(super) fn because_of_going(world: &Snapshot, quota: &CompiledQuota, exceeded: &Exceeded) -> String {
    let going = world.standing(quota).going;
    let number = going.get(&Dimension::GameServers);
    if !exceeded.limited.keys().any(|dimension| !going.get(dimension).is_zero()) {
        return String::new();
    }
    format!(" (game servers that are terminating count until they are gone: {number})")
}
