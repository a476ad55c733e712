//! Finds the objects that a cycle of `dependsOn` may lead through.
//!
//! The rule against cycles searches below each object that it judges. Objects outside this set need no search; without
//! it, a chain of thousands would be walked once for each of its objects.
//!
//! **Invariant:** the set contains every member of every cycle.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::ObjectName;

/// The dependencies of each object.
pub type Edges = HashMap<ObjectName, Vec<ObjectName>>;

/// Every member of every cycle, and the objects on paths between cycles.
#[derive(Debug, Default)]
pub struct CycleCore(HashSet<ObjectName>);

impl CycleCore {
    /// Computes the set in linear time.
    pub fn of(edges: &Edges) -> Self {
        let mut core = edges.keys().cloned().collect();
        let turned = turned(edges);
        peel(&mut core, edges, &turned);
        peel(&mut core, &turned, edges);
        Self(core)
    }

    /// Whether a cycle may lead through an object.
    pub fn contains(&self, name: &ObjectName) -> bool {
        self.0.contains(name)
    }
}

fn turned(edges: &Edges) -> Edges {
    let mut turned = Edges::new();
    for (from, on) in edges {
        for to in on {
            turned.entry(to.clone()).or_default().push(from.clone());
        }
    }
    turned
}

/// Removes from `core` each object without an edge into it, until none is left: no cycle leads through these.
fn peel(core: &mut HashSet<ObjectName>, edges: &Edges, back: &Edges) {
    let within = |core: &HashSet<ObjectName>, name: &ObjectName| {
        edges.get(name).into_iter().flatten().filter(|to| core.contains(*to)).count()
    };
    let mut left: HashMap<ObjectName, usize> =
        core.iter().map(|name| (name.clone(), within(core, name))).collect();
    let mut open: VecDeque<ObjectName> =
        left.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.clone()).collect();
    while let Some(name) = open.pop_front() {
        core.remove(&name);
        for from in back.get(&name).into_iter().flatten() {
            let Some(count) = left.get_mut(from).filter(|count| **count > 0) else { continue };
            *count -= 1;
            if *count == 0 {
                open.push_back(from.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ObjectName {
        ObjectName {
            group: "kustomize.toolkit.fluxcd.io".into(),
            kind: "Kustomization".into(),
            namespace: "a".into(),
            name: name.into(),
        }
    }

    fn core(edges: &[(&str, &[&str])]) -> Vec<String> {
        let edges: Edges =
            edges.iter().map(|(from, on)| (name(from), on.iter().map(|to| name(to)).collect())).collect();
        let mut names: Vec<_> = CycleCore::of(&edges).0.iter().map(|name| name.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn no_cycle_leads_through_a_tree() {
        assert_eq!(core(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d", "missing"]), ("d", &[])]), [""; 0]);
    }

    #[test]
    fn cycles_remain_without_what_leads_to_them_and_what_they_lead_to() {
        let edges: &[(&str, &[&str])] =
            &[("top", &["a"]), ("a", &["b"]), ("b", &["a", "low", "b"]), ("low", &[]), ("self", &["self"])];
        assert_eq!(core(edges), ["a", "b", "self"]);
    }

    #[test]
    fn nothing_of_a_chain_of_twenty_thousand_remains() {
        let number = |n: usize| name(&n.to_string());
        let edges = (0..20_000).map(|n| (number(n), vec![number(n + 1)])).collect();
        assert!(CycleCore::of(&edges).0.is_empty());
    }
}
