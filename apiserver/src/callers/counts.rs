//! Whom bindings name, and where.

use std::collections::HashMap;

use gatehouse_inventory::Str;

use super::rbac::Subject;

/// How many bindings name each subject, by namespace; an empty namespace is that of ClusterRoleBindings.
#[derive(Debug, Default)]
pub(super) struct Counts(HashMap<Subject, HashMap<Str, u32>>);

impl Counts {
    /// Counts a binding, or counts it no longer.
    pub(super) fn count(&mut self, namespace: &Str, subjects: &[Subject], more: bool) {
        for subject in subjects {
            if more {
                let counts = self.0.entry(subject.clone()).or_default();
                *counts.entry(namespace.clone()).or_default() += 1;
                continue;
            }
            let Some(counts) = self.0.get_mut(subject) else { continue };
            if let Some(count) = counts.get_mut(namespace) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(namespace);
                }
            }
            if counts.is_empty() {
                self.0.remove(subject);
            }
        }
    }

    /// The namespaces in which bindings name one of these.
    pub(super) fn of(&self, who: &[Subject]) -> impl Iterator<Item = &Str> {
        who.iter().filter_map(|subject| self.0.get(subject)).flat_map(HashMap::keys)
    }

    /// Whether nobody is named.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
