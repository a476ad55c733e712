//! `dependencyCycles`: chains of `spec.dependsOn` that lead back to their start.
//!
//! The search starts at the object under review, which replaces its stored version, and finds the shortest chain that
//! leads back to it.
//!
//! **Invariant:** a cycle that does not pass through the object is no violation of it. Two simultaneous writes can
//! close a cycle together; the audit of existing objects finds it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::Report;
use crate::{
    Dependencies, Kind, ObjectName, Subject,
    look::{Look, WrongType},
};

/// The most objects that a search visits. Real graphs have hundreds of objects below one; a search of this size takes
/// some milliseconds. An object with more below it is a violation: it is never left unjudged.
const MOST: usize = 20_000;

/// The most references that a search visits: an object may hold tens of thousands.
const MOST_REFERENCES: usize = 200_000;

/// The most objects of a cycle that a message names.
const SHOWN: usize = 64;

/// The dependencies of an object, by its `spec.dependsOn`. References without a name are omitted.
pub fn depends_on(subject: &Subject) -> Vec<ObjectName> {
    read(subject).unwrap_or_default()
}

/// Whether objects of a kind have dependencies.
pub(crate) fn has_dependencies(kind: Kind) -> bool {
    matches!(kind, Kind::Kustomization | Kind::HelmRelease | Kind::ResourceSet)
}

fn read(subject: &Subject) -> Result<Vec<ObjectName>, WrongType> {
    if !has_dependencies(subject.kind) {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in Look::spec(&subject.object).field("dependsOn")?.elements()? {
        let Some(name) = entry.field("name")?.string()?.filter(|name| !name.is_empty()) else { continue };
        let namespace = entry.field("namespace")?.string()?.filter(|namespace| !namespace.is_empty());
        let (group, kind) = if subject.kind == Kind::ResourceSet {
            let version = entry.field("apiVersion")?.string()?.unwrap_or_default();
            let group = version.split_once('/').map_or("", |(group, _)| group);
            (group, entry.field("kind")?.string()?.unwrap_or_default())
        } else {
            (subject.kind.group(), subject.kind.name())
        };
        names.push(ObjectName {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.unwrap_or(&subject.namespace).into(),
            name: name.into(),
        });
    }
    Ok(names)
}

pub(crate) fn check(
    subject: &Subject,
    deps: &dyn Dependencies,
    report: &mut Report<'_>,
) -> Result<(), WrongType> {
    let first = read(subject)?;
    // No other object can name one whose name is not generated yet.
    if first.is_empty() || subject.name.is_empty() {
        return Ok(());
    }
    let start = subject.object_name();
    match search(&start, first, deps) {
        Search::Nothing => {}
        Search::Cycle(cycle) => report.broken(
            "spec.dependsOn",
            format!("closes a cycle: {}", show(&cycle)),
            "remove one of these dependencies",
        ),
        Search::TooLarge => report.broken(
            "spec.dependsOn",
            format!("more than {MOST} objects lie below, too many to look for cycles"),
            "depend on fewer objects",
        ),
        Search::TooDense => report.broken(
            "spec.dependsOn",
            format!("more than {MOST_REFERENCES} references lie below, too many to look for cycles"),
            "depend on fewer objects",
        ),
    }
    Ok(())
}

enum Search {
    Nothing,
    /// Starts and ends with the same object.
    Cycle(Vec<ObjectName>),
    TooLarge,
    TooDense,
}

/// Searches breadth first, so the cycle that is found is the shortest.
fn search(start: &ObjectName, first: Vec<ObjectName>, deps: &dyn Dependencies) -> Search {
    // Each object that was reached, and its predecessor.
    let mut reached: HashMap<ObjectName, Arc<ObjectName>> = HashMap::new();
    let mut open: VecDeque<(Arc<ObjectName>, Vec<ObjectName>)> = VecDeque::new();
    open.push_back((Arc::new(start.clone()), first));
    let mut references = 0;
    while let Some((from, next)) = open.pop_front() {
        references += next.len();
        if references > MOST_REFERENCES {
            return Search::TooDense;
        }
        for name in next {
            if name == *start {
                return Search::Cycle(way_back(start, &from, &reached));
            }
            if reached.contains_key(&name) {
                continue;
            }
            if reached.len() == MOST {
                return Search::TooLarge;
            }
            reached.insert(name.clone(), Arc::clone(&from));
            if let Some(next) = deps.depends_on(&name).filter(|next| !next.is_empty()) {
                open.push_back((Arc::new(name), next));
            }
        }
    }
    Search::Nothing
}

fn way_back(
    start: &ObjectName,
    last: &Arc<ObjectName>,
    reached: &HashMap<ObjectName, Arc<ObjectName>>,
) -> Vec<ObjectName> {
    let mut cycle = vec![start.clone()];
    let mut at = last;
    while **at != *start {
        cycle.push(ObjectName::clone(at));
        let Some(from) = reached.get(&**at) else { break };
        at = from;
    }
    cycle.push(start.clone());
    cycle.reverse();
    cycle
}

/// `a → b → a`; with namespaces if they differ, and with kinds if those differ.
fn show(cycle: &[ObjectName]) -> String {
    let differ =
        |part: fn(&ObjectName) -> (&str, &str)| cycle.windows(2).any(|pair| part(&pair[0]) != part(&pair[1]));
    let kinds = differ(|name| (&name.group, &name.kind));
    let namespaces = differ(|name| (&name.namespace, ""));
    let one = |name: &ObjectName| {
        let kind = if kinds { format!("{} ", name.kind) } else { String::new() };
        let namespace = if namespaces { format!("{}/", name.namespace) } else { String::new() };
        format!("{kind}{namespace}{}", name.name)
    };
    // Nobody reads a message with a thousand names, and the API server truncates it.
    let left_out = cycle.len().saturating_sub(SHOWN);
    let mut names: Vec<String> = cycle.iter().take(SHOWN - 1).map(one).collect();
    if left_out > 0 {
        names.push(format!("… ({left_out} more)"));
    }
    names.extend(cycle.last().filter(|_| cycle.len() >= SHOWN).map(one));
    names.join(" → ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::judge;

    /// `from → to`, as `NAMESPACE/NAME` or as `NAME` in the namespace a.
    struct Graph(HashMap<ObjectName, Vec<ObjectName>>);

    fn name(text: &str) -> ObjectName {
        let (namespace, name) = text.split_once('/').unwrap_or(("a", text));
        ObjectName {
            group: "kustomize.toolkit.fluxcd.io".into(),
            kind: "Kustomization".into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    impl Graph {
        fn new(edges: &[(&str, &str)]) -> Self {
            let mut graph: HashMap<_, Vec<_>> = HashMap::new();
            for (from, to) in edges {
                graph.entry(name(from)).or_default().push(name(to));
                graph.entry(name(to)).or_default();
            }
            Self(graph)
        }
    }

    impl Dependencies for Graph {
        fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
            self.0.get(of).cloned()
        }
    }

    fn check_cycle(subject: &str, depends_on: &[&str], graph: &dyn Dependencies) -> Option<String> {
        let name = name(subject);
        let list: Vec<_> = depends_on
            .iter()
            .map(|text| match text.split_once('/') {
                Some((namespace, name)) => json!({"name": name, "namespace": namespace}),
                None => json!({"name": text}),
            })
            .collect();
        let object = json!({"spec": {"dependsOn": list}});
        let subject = Subject::new(Kind::Kustomization, &name.namespace, &name.name, object);
        let mut violations = Vec::new();
        judge("dependencyCycles", &mut violations, |report| check(&subject, graph, report));
        violations.pop().map(|violation| violation.message)
    }

    #[test]
    fn a_cycle_is_named_in_full() {
        let graph = Graph::new(&[("b", "c"), ("c", "a"), ("c", "d")]);
        assert_eq!(check_cycle("a", &["b"], &graph).unwrap(), "closes a cycle: a → b → c → a");
        let graph = Graph::new(&[("x/b", "a/c"), ("a/c", "a/a")]);
        assert_eq!(check_cycle("a", &["x/b"], &graph).unwrap(), "closes a cycle: a/a → x/b → a/c → a/a");
        assert_eq!(check_cycle("a", &["a"], &Graph::new(&[])).unwrap(), "closes a cycle: a → a");
    }

    #[test]
    fn the_shortest_cycle_is_named() {
        let graph = Graph::new(&[("b", "c"), ("c", "d"), ("d", "a"), ("e", "a")]);
        assert_eq!(check_cycle("a", &["b", "e"], &graph).unwrap(), "closes a cycle: a → e → a");
    }

    #[test]
    fn what_leads_nowhere_back_is_no_cycle() {
        let graph = Graph::new(&[("b", "c"), ("c", "b"), ("b", "x/a")]);
        assert_eq!(check_cycle("a", &["b", "missing"], &graph), None);
        assert_eq!(check_cycle("a", &[], &graph), None);
    }

    #[test]
    fn the_object_under_review_stands_for_its_stored_self() {
        // The stored a depends on b; the one under review does not.
        let graph = Graph::new(&[("a", "b"), ("b", "a")]);
        assert_eq!(check_cycle("a", &["c"], &graph), None);
        assert!(check_cycle("b", &["a"], &graph).is_some());
    }

    /// Each object depends on the next, and the last on the object under review.
    struct Chain(usize);

    impl Dependencies for Chain {
        fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
            let number: usize = of.name.parse().ok()?;
            Some(vec![if number == self.0 { name("a") } else { name(&(number + 1).to_string()) }])
        }
    }

    #[test]
    fn long_chains_are_followed_and_endless_ones_given_up() {
        let cycle = check_cycle("a", &["0"], &Chain(10_000)).unwrap();
        assert!(cycle.starts_with("closes a cycle: a → 0 → 1 → 2 →"), "{cycle}");
        assert!(cycle.ends_with(" → 60 → 61 → … (9939 more) → a"), "{cycle}");
        let endless = check_cycle("a", &["0"], &Chain(usize::MAX)).unwrap();
        assert!(endless.starts_with("more than 20000 objects"), "{endless}");
    }

    #[test]
    fn dense_graphs_are_searched_up_to_a_number_of_references() {
        /// Three hundred objects that each depend on as many others, which have no further dependencies.
        struct Dense(usize);
        impl Dependencies for Dense {
            fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
                let number: usize = of.name.parse().ok()?;
                (number < 300).then(|| (0..self.0).map(|n| name(&(n + 1).to_string())).collect())
            }
        }
        assert_eq!(check_cycle("a", &["0"], &Dense(150)), None);
        let dense = check_cycle("a", &["0"], &Dense(1_000)).unwrap();
        assert!(dense.starts_with("more than 200000 references"), "{dense}");
    }

    #[test]
    fn resource_sets_depend_on_any_kind() {
        struct Deps;
        impl Dependencies for Deps {
            fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
                let set = ObjectName {
                    group: "fluxcd.controlplane.io".into(),
                    kind: "ResourceSet".into(),
                    ..name("a")
                };
                (*of == name("b")).then(|| vec![set])
            }
        }
        let object = json!({"spec": {"dependsOn": [
            {"apiVersion": "v1", "kind": "Namespace", "name": "b"},
            {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "name": "b", "namespace": "a"},
        ]}});
        let subject = Subject::new(Kind::ResourceSet, "a", "a", object);
        let mut violations = Vec::new();
        judge("dependencyCycles", &mut violations, |report| check(&subject, &Deps, report));
        assert_eq!(violations[0].message, "closes a cycle: ResourceSet a → Kustomization b → ResourceSet a");
    }
}
