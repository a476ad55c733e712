//! The dependency graph and the Fleets, from the files and the cluster; files override the cluster. Everything in files
//! is judged, whatever owner it names, because Agones does not apply files.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use gatehouse_policy::{CycleCore, Dependencies, Edges, Kind, ObjectName, Subject, depends_on};
use serde_json::Value;

use crate::Live;

#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Only of objects that a cycle may lead through.
    edges: Edges,
    fleets: HashMap<(String, String), Value>,
}

impl Graph {
    pub(crate) fn of(subjects: impl Iterator<Item = Subject>, live: &Live) -> Self {
        let live = live.objects.iter().filter_map(|object| {
            let kind = Kind::of_kind(&object.group, &object.kind)?;
            Some(Subject::of(kind, object.value.clone()))
        });
        let mut fleets = HashMap::new();
        let mut shared = HashSet::new();
        let graph = Self::new(live.chain(subjects).map(|subject| {
            let name = share(subject.object_name(), &mut shared);
            let on = depends_on(&subject).into_iter().map(|name| share(name, &mut shared)).collect();
            if subject.kind == Kind::Fleet {
                fleets.insert((subject.namespace, subject.name), subject.object);
            }
            (name, on)
        }));
        Self { fleets, ..graph }
    }

    fn new(objects: impl Iterator<Item = (ObjectName, Vec<ObjectName>)>) -> Self {
        let mut edges = Edges::new();
        // An object that is written twice is judged twice: a cycle may go through either.
        let mut former = Edges::new();
        for (name, on) in objects {
            match edges.entry(name) {
                Entry::Occupied(mut known) => {
                    let on = known.insert(on);
                    former.entry(known.key().clone()).or_default().extend(on);
                }
                Entry::Vacant(new) if !on.is_empty() => {
                    new.insert(on);
                }
                Entry::Vacant(_) => {}
            }
        }
        let core = CycleCore::of(edges.iter().chain(&former));
        edges.retain(|name, _| core.contains(name));
        edges.shrink_to_fit();
        Self { edges, fleets: HashMap::new() }
    }
}

/// Keeps equal groups, kinds and namespaces once: there are thousands of names and few of these.
fn share(name: ObjectName, shared: &mut HashSet<Arc<str>>) -> ObjectName {
    let mut once = |text: Arc<str>| {
        if let Some(known) = shared.get(&text) {
            return Arc::clone(known);
        }
        shared.insert(Arc::clone(&text));
        text
    };
    let ObjectName { group, kind, namespace, name } = name;
    ObjectName { group: once(group), kind: once(kind), namespace: once(namespace), name }
}

impl Dependencies for Graph {
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
        self.edges.get(of).cloned()
    }

    fn fleet(&self, namespace: &str, name: &str) -> Option<Value> {
        self.fleets.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ObjectName {
        ObjectName {
            group: "".into(),
            kind: "Kustomization".into(),
            namespace: "a".into(),
            name: name.into(),
        }
    }

    #[test]
    fn an_object_that_is_written_twice_is_in_the_cycles_of_both() {
        let edges = [("a", vec!["b"]), ("b", vec!["a"]), ("a", vec![]), ("c", vec!["a"])];
        let graph =
            Graph::new(edges.into_iter().map(|(from, on)| (name(from), on.into_iter().map(name).collect())));
        assert_eq!(graph.depends_on(&name("b")), Some(vec![name("a")]));
        assert_eq!(graph.depends_on(&name("c")), None, "in no cycle, whatever it leads to");
    }
}
