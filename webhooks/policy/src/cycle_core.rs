//! Finds the objects that a cycle of `dependsOn` may lead through.
//!
//! The rule against cycles searches below each object that it judges. Objects outside this set need no search; without
//! it, a chain of thousands would be walked once for each of its objects.
//!
//! **Invariant:** the set contains every member of every cycle.

use std::collections::{HashMap, HashSet};

use crate::ObjectName;

/// The dependencies of each object.
pub type Edges = HashMap<ObjectName, Vec<ObjectName>>;

/// Every member of every cycle, and the objects on paths between cycles.
#[derive(Debug, Default)]
pub struct CycleCore(HashSet<ObjectName>);

impl CycleCore {
    /// Computes the set in nearly linear time. An object that is given twice has the dependencies of both.
    pub fn of<'a>(edges: impl IntoIterator<Item = (&'a ObjectName, &'a Vec<ObjectName>)> + Clone) -> Self {
        // Objects are numbered, because their names would take up several times the memory.
        let (mut names, mut numbers) = (Vec::new(), HashMap::new());
        for (name, _) in edges.clone() {
            numbers.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            });
        }
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (from, on) in edges {
            let from = numbers[from];
            pairs.extend(on.iter().filter_map(|to| Some((from, *numbers.get(to)?))));
        }
        let mut core = vec![true; names.len()];
        peel(&mut core, &mut pairs);
        for (from, to) in &mut pairs {
            std::mem::swap(from, to);
        }
        peel(&mut core, &mut pairs);
        let core = names.into_iter().zip(core).filter(|(_, stays)| *stays);
        Self(core.map(|(name, _)| name.clone()).collect())
    }

    /// Whether a cycle may lead through an object.
    pub fn contains(&self, name: &ObjectName) -> bool {
        self.0.contains(name)
    }
}

/// Removes from `core` each object without an edge to another one of it, until none is left: no cycle leads through
/// these.
fn peel(core: &mut [bool], edges: &mut [(usize, usize)]) {
    edges.sort_unstable_by_key(|(_, to)| *to);
    let into = |number: usize| {
        let start = edges.partition_point(|(_, to)| *to < number);
        edges[start..].iter().take_while(move |(_, to)| *to == number).map(|(from, _)| *from)
    };
    let mut left = vec![0_usize; core.len()];
    for (from, to) in edges.iter() {
        left[*from] += usize::from(core[*from] && core[*to]);
    }
    let mut open: Vec<usize> = (0..core.len()).filter(|number| core[*number] && left[*number] == 0).collect();
    while let Some(number) = open.pop() {
        core[number] = false;
        for from in into(number).filter(|from| core[*from]) {
            left[from] -= 1;
            if left[from] == 0 {
                open.push(from);
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
        let edges: Edges = (0..20_000).map(|n| (number(n), vec![number(n + 1)])).collect();
        assert!(CycleCore::of(&edges).0.is_empty());
    }
}
