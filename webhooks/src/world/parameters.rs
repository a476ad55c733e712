//! The ConfigMaps that policies take parameters from: those of Gatehouse's own namespace. Who may write there is trusted with
//! what policies say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gatehouse_apiservice::policy::ParamRef;
use gatehouse_inventory::{KindStatus, Str};
use serde_json::Value;

use super::state::{Applied, Change};

/// What is known of the ConfigMaps.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// Where they are; none while nobody asks for any.
    namespace: Option<String>,
    known: BTreeMap<Str, Arc<Value>>,
    /// While they are listed: those that have arrived.
    listing: Option<BTreeSet<Str>>,
    is_synced: bool,
    /// They may not be read: no use in waiting.
    is_forbidden: bool,
}

impl Parameters {
    /// Nothing is known yet of those of a namespace.
    pub(super) fn begun(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::default() }
    }

    /// Whether there may be more than is known.
    pub(super) fn is_awaited(&self) -> bool {
        self.namespace.is_some() && !self.is_synced && !self.is_forbidden
    }

    /// The ConfigMap that a policy names.
    pub(super) fn get(&self, of: &ParamRef) -> Option<&Value> {
        let known = self.known.get(of.name.as_str());
        known.filter(|_| self.namespace.as_ref() == Some(&of.namespace)).map(Arc::as_ref)
    }

    /// Takes what was said. Returns the names of those that are another now.
    pub(super) fn take(&mut self, change: Change) -> Vec<Str> {
        match change {
            Change::Restart => {
                self.listing = Some(BTreeSet::new());
                Vec::new()
            }
            Change::Apply(applied) => match *applied {
                Applied::Parameters(key, map) => self.apply(key.name, without_managed_fields(map)),
                _ => Vec::new(),
            },
            Change::Delete(key) => self.known.remove(&key.name).map(|_| key.name).into_iter().collect(),
            Change::Synced => {
                self.is_synced = true;
                let listed = self.listing.take().unwrap_or_default();
                let gone: Vec<Str> =
                    self.known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                self.known.retain(|name, _| listed.contains(name));
                gone
            }
            Change::Status(status) => {
                self.is_forbidden = matches!(status, KindStatus::Forbidden { .. } | KindStatus::Absent);
                Vec::new()
            }
            Change::Reached(_) => Vec::new(),
        }
    }

    fn apply(&mut self, name: Str, map: Arc<Value>) -> Vec<Str> {
        if let Some(listed) = &mut self.listing {
            listed.insert(Str::clone(&name));
        }
        // A list repeats what is known already.
        if self.known.get(&name).is_some_and(|known| *known == map) {
            return Vec::new();
        }
        self.known.insert(Str::clone(&name), map);
        vec![name]
    }
}

fn without_managed_fields(map: Arc<Value>) -> Arc<Value> {
    let mut map = Arc::unwrap_or_clone(map);
    if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
        metadata.shift_remove("managedFields");
    }
    Arc::new(map)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::ObjectKey;
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "g".into(), name: name.into() }
    }

    fn apply(parameters: &mut Parameters, name: &str, text: &str) -> Vec<Str> {
        let map = json!({"metadata": {"name": name, "managedFields": [{}]}, "data": {"a": text}});
        parameters.take(Change::Apply(Box::new(Applied::Parameters(key(name), Arc::new(map)))))
    }

    fn of(name: &str, namespace: &str) -> ParamRef {
        ParamRef { name: name.to_owned(), namespace: namespace.to_owned() }
    }

    #[test]
    fn what_changes_is_told_by_name_and_what_is_missing_in_a_list_is_gone() {
        let mut parameters = Parameters::begun("g");
        assert!(parameters.is_awaited());
        parameters.take(Change::Restart);
        assert_eq!(apply(&mut parameters, "x", "1"), ["x".into()]);
        assert_eq!(apply(&mut parameters, "y", "1"), ["y".into()]);
        assert!(parameters.take(Change::Synced).is_empty());
        assert!(!parameters.is_awaited());
        assert_eq!(apply(&mut parameters, "x", "1"), [] as [Str; 0], "the same again");
        assert_eq!(apply(&mut parameters, "x", "2"), ["x".into()]);
        assert_eq!(parameters.get(&of("x", "g")).unwrap()["data"]["a"], "2");
        assert_eq!(parameters.get(&of("x", "g")).unwrap()["metadata"], json!({"name": "x"}));
        assert!(parameters.get(&of("x", "team-a")).is_none(), "a tenant's ConfigMap of the same name");
        parameters.take(Change::Restart);
        apply(&mut parameters, "y", "1");
        assert_eq!(parameters.take(Change::Synced), ["x".into()]);
        assert_eq!(parameters.take(Change::Delete(key("y"))), ["y".into()]);
        assert!(parameters.get(&of("y", "g")).is_none());
    }

    #[test]
    fn what_may_not_be_read_is_not_waited_for() {
        let mut parameters = Parameters::begun("g");
        parameters.take(Change::Status(KindStatus::Forbidden { message: "no".into() }));
        assert!(!parameters.is_awaited());
    }
}
