//! The reverse of `dependsOn`, updated incrementally, to find the objects that a change affects.

use std::collections::{BTreeSet, HashMap};

use gatehouse_policy::ObjectName;

/// For each object, those that name it in their `dependsOn`.
#[derive(Debug, Default)]
pub(super) struct Dependents(HashMap<ObjectName, BTreeSet<ObjectName>>);

impl Dependents {
    /// Changes the dependencies of `of` from `old` to `new`.
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

    /// The objects `names`, and all that depend on them directly or indirectly.
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
