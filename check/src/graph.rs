//! The dependency graph and the Fleets, from the files and the cluster; files override the cluster. Everything in files
//! is judged, whatever owner it names, because Agones does not apply files.

use std::collections::HashMap;

use gatehouse_policy::{CycleCore, Dependencies, Edges, Kind, ObjectName, Subject, depends_on};
use serde_json::Value;

use crate::Live;

#[derive(Debug, Default)]
pub(crate) struct Graph {
    edges: Edges,
    core: CycleCore,
    fleets: HashMap<(String, String), Value>,
}

impl Graph {
    pub(crate) fn of(subjects: impl Iterator<Item = Subject>, live: &Live) -> Self {
        let live = live.objects.iter().filter_map(|object| {
            let kind = Kind::of_kind(&object.group, &object.kind)?;
            Some(Subject::of(kind, object.value.clone()))
        });
        let mut fleets = HashMap::new();
        let mut learn = |subject: &Subject| {
            if subject.kind == Kind::Fleet {
                fleets.insert((subject.namespace.clone(), subject.name.clone()), subject.object.clone());
            }
            (subject.object_name(), depends_on(subject))
        };
        let mut objects: Vec<_> = live.map(|subject| learn(&subject)).collect();
        objects.extend(subjects.map(|subject| learn(&subject)));
        Self { fleets, ..Self::new(objects.into_iter()) }
    }

    fn new(objects: impl Iterator<Item = (ObjectName, Vec<ObjectName>)>) -> Self {
        let mut edges = HashMap::new();
        // An object that is written twice is judged twice: a cycle may go through either.
        let mut all = Edges::new();
        for (name, on) in objects {
            all.entry(name.clone()).or_default().extend(on.iter().cloned());
            edges.insert(name, on);
        }
        Self { core: CycleCore::of(&all), edges, fleets: HashMap::new() }
    }
}

impl Dependencies for Graph {
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
        self.edges.get(of).filter(|_| self.core.contains(of)).cloned()
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
