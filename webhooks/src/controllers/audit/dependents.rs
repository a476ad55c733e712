//! Who depends on whom, the other way round: kept up, so that a change reaches those above it.

use std::collections::{BTreeSet, HashMap};

use gatehouse_policy::ObjectName;

/// By object, those whose `dependsOn` names it.
#[derive(Debug, Default)]
pub(super) struct Dependents(HashMap<ObjectName, BTreeSet<ObjectName>>);

impl Dependents {
    /// What `of` depends on was `old` and is `new`.
    pub(super) fn change(&mut self, of: &ObjectName, old: &[ObjectName], new: &[ObjectName]) {
        for on in old {
            if let Some(dependents) = self.0.get_mut(on) {
                dependents.remove(of);
                if dependents.is_empty() {
                    self.0.remove(on);
                }
            }
        }
        for on in new {
            self.0.entry(on.clone()).or_default().insert(of.clone());
        }
    }

    /// Those who depend on any of `names`, over any number of steps, and `names` themselves.
    pub(super) fn above(&self, names: BTreeSet<ObjectName>) -> BTreeSet<ObjectName> {
        let mut waiting: Vec<ObjectName> = names.iter().cloned().collect();
        let mut all = names;
        while let Some(name) = waiting.pop() {
            for dependent in self.0.get(&name).into_iter().flatten() {
                if all.insert(dependent.clone()) {
                    waiting.push(dependent.clone());
                }
            }
        }
        all
    }
}
