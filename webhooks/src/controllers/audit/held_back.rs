//! How many objects each policy holds back, as their own status says.

use std::collections::{BTreeMap, HashMap};

use gatehouse_inventory::Str;

use super::Place;
use crate::world::Held;

/// Objects that are held back, and by which policies.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    places: BTreeMap<Place, Box<[Str]>>,
    counts: HashMap<Str, usize>,
}

impl HeldBack {
    /// How many objects a policy holds back.
    pub(super) fn by(&self, policy: &str) -> usize {
        self.counts.get(policy).copied().unwrap_or_default()
    }

    /// Takes in an object as it is now, or that it is gone. One that is being tried again is held back until the attempt
    /// has ended: numbers do not flap.
    pub(super) fn follow(&mut self, place: &Place, held: Option<&Held>) {
        let policies = match held {
            Some(held) => match &held.held_back {
                Some(policies) => policies.clone(),
                None => return,
            },
            None => Box::default(),
        };
        let before = if policies.is_empty() {
            self.places.remove(place)
        } else {
            self.places.insert(place.clone(), policies.clone())
        };
        for policy in before.iter().flatten() {
            if let Some(count) = self.counts.get_mut(policy) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(policy);
                }
            }
        }
        for policy in &policies {
            *self.counts.entry(Str::clone(policy)).or_default() += 1;
        }
    }
}
