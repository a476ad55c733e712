//! The part of a TenantQuota's status that is about each of its namespaces: usage, and the last denials.
//!
//! **Invariant:** its size is bounded, because every write of the status carries it to etcd and to every watch.

use std::collections::BTreeMap;

use gatehouse_apiservice::policy::{LastDenial, NamespaceUsage};
use gatehouse_inventory::Str;
use gatehouse_quota::CompiledQuota;
use serde_json::{Map, Value, json};

use crate::world::Snapshot;

/// The namespaces of a quota whose usage is reported, the first by name.
const NAMESPACES: usize = 1000;
/// The denials that are kept of a namespace.
const DENIALS: usize = 3;
/// The namespaces of a quota whose denials are kept, those that were denied something last.
const DENIED_NAMESPACES: usize = 64;
/// Longer messages are truncated.
const MESSAGE: usize = 256;

/// Usage by namespace.
pub(super) type ByNamespace = BTreeMap<String, NamespaceUsage>;

/// The usage of each of these namespaces, with the denials that are known.
pub(super) fn usage(
    world: &Snapshot,
    quota: &CompiledQuota,
    namespaces: &[Str],
    known: Option<&ByNamespace>,
) -> ByNamespace {
    let of = |namespace: &Str| {
        let used = world.usage_of(namespace).map(|amounts| quota.relevant(amounts)).unwrap_or_default();
        let known = known.and_then(|known| known.get(&**namespace));
        let usage = NamespaceUsage {
            used: used.iter().map(|(one, two)| (one.to_string(), one.text(*two))).collect(),
            last_denials: known.map(|known| known.last_denials.clone()).unwrap_or_default(),
        };
        (namespace.to_string(), usage)
    };
    namespaces.iter().take(NAMESPACES).map(of).collect()
}

/// Whether both agree in the usage.
pub(super) fn is_same_usage(one: &ByNamespace, other: &ByNamespace) -> bool {
    let used = |(namespace, usage): (_, &NamespaceUsage)| (namespace, usage.used.clone());
    one.len() == other.len() && one.iter().map(used).eq(other.iter().map(used))
}

/// What a merge patch says to change the usage, and nothing else.
pub(super) fn usage_patch(before: &ByNamespace, now: &ByNamespace) -> Map<String, Value> {
    let gone = before.keys().filter(|namespace| !now.contains_key(*namespace));
    let mut patch: Map<String, Value> = gone.map(|namespace| (namespace.clone(), Value::Null)).collect();
    for (namespace, usage) in now {
        let known = before.get(namespace);
        if known.is_some_and(|known| known.used == usage.used) {
            continue;
        }
        let none = BTreeMap::new();
        let used = map_patch(known.map_or(&none, |known| &known.used), &usage.used);
        patch.insert(namespace.clone(), json!({"used": used}));
    }
    patch
}

/// What a merge patch says to turn one map into another.
pub(super) fn map_patch(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let mut map: Map<String, Value> = before.keys().map(|key| (key.clone(), Value::Null)).collect();
    map.extend(now.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))));
    map
}

/// The last denials of each namespace, the newest first.
#[derive(Debug, Default)]
pub(super) struct LastDenials(BTreeMap<String, Vec<LastDenial>>);

impl LastDenials {
    /// The denial of a request in a namespace.
    pub(super) fn of(namespace: &str, denial: &LastDenial) -> Self {
        let message = denial.message.chars().take(MESSAGE).collect();
        let denial = LastDenial { time: denial.time.clone(), message };
        Self(BTreeMap::from([(namespace.to_owned(), vec![denial])]))
    }

    /// Adds those of `other`.
    pub(super) fn add(&mut self, other: Self) {
        for (namespace, more) in other.0 {
            let all = self.0.entry(namespace).or_default();
            *all = newest(more.iter().chain(&*all));
        }
    }

    /// What a merge patch says to add them to what is known. Namespaces without known usage are not the quota's.
    pub(super) fn patch(&self, known: &ByNamespace) -> Map<String, Value> {
        let mut all: BTreeMap<&String, Vec<LastDenial>> = BTreeMap::new();
        for (namespace, usage) in known {
            let new = self.0.get(namespace).into_iter().flatten();
            all.insert(namespace, newest(new.chain(&usage.last_denials)));
        }
        let mut by_time: Vec<_> = all.iter().filter(|(_, denials)| !denials.is_empty()).collect();
        by_time.sort_by_key(|(namespace, denials)| (std::cmp::Reverse(denials[0].time.0), *namespace));
        let dropped: Vec<String> =
            by_time.iter().skip(DENIED_NAMESPACES).map(|(namespace, _)| (**namespace).clone()).collect();
        let changed = all.into_iter().filter_map(|(namespace, denials)| {
            let denials = if dropped.contains(namespace) { Vec::new() } else { denials };
            (known[namespace].last_denials != denials).then_some((namespace, denials))
        });
        changed.map(|(namespace, denials)| (namespace.clone(), json!({"lastDenials": denials}))).collect()
    }
}

fn newest<'a>(denials: impl Iterator<Item = &'a LastDenial>) -> Vec<LastDenial> {
    let mut all: Vec<_> = denials.cloned().collect();
    // Stable: of one second, the order is kept.
    all.sort_by_key(|denial| std::cmp::Reverse(denial.time.0));
    all.truncate(DENIALS);
    all
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn denial(second: i64, message: &str) -> LastDenial {
        LastDenial { time: Time(Timestamp::from_second(second).unwrap()), message: message.into() }
    }

    fn used(pairs: &[(&str, &str)]) -> NamespaceUsage {
        let used = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NamespaceUsage { used, last_denials: Vec::new() }
    }

    fn known(namespaces: &[(&str, NamespaceUsage)]) -> ByNamespace {
        namespaces.iter().map(|(name, usage)| ((*name).to_owned(), usage.clone())).collect()
    }

    #[test]
    fn a_patch_names_only_the_usage_that_changed() {
        let before = known(&[
            ("a", used(&[("players", "5"), ("gameservers", "1")])),
            ("b", used(&[])),
            ("gone", used(&[])),
        ]);
        let now = known(&[("a", used(&[("players", "6")])), ("b", used(&[])), ("new", used(&[]))]);
        let expected = json!({
            "a": {"used": {"gameservers": null, "players": "6"}},
            "gone": null,
            "new": {"used": {}},
        });
        assert_eq!(Value::from(usage_patch(&before, &now)), expected);
        assert!(!is_same_usage(&before, &now) && is_same_usage(&now, &now));
        let mut denied = now.clone();
        denied.get_mut("a").unwrap().last_denials.push(denial(1, "no"));
        assert!(is_same_usage(&now, &denied), "denials are written by every replica");
        assert!(usage_patch(&now, &denied).is_empty());
    }

    #[test]
    fn the_newest_denials_of_each_namespace_are_kept() {
        let mut last = LastDenials::default();
        for (second, message) in [(1, "one"), (4, "four"), (2, "two")] {
            last.add(LastDenials::of("a", &denial(second, message)));
        }
        last.add(LastDenials::of("elsewhere", &denial(9, "not the tenant's")));
        let mut status = known(&[("a", used(&[])), ("b", used(&[]))]);
        status.get_mut("a").unwrap().last_denials = vec![denial(3, "three")];
        let patch = Value::from(last.patch(&status));
        let messages: Vec<_> =
            patch["a"]["lastDenials"].as_array().unwrap().iter().map(|one| &one["message"]).collect();
        assert_eq!(messages, ["four", "three", "two"]);
        assert_eq!(patch.as_object().unwrap().len(), 1, "{patch}");
        let long = LastDenials::of("a", &denial(1, &"é".repeat(2000)));
        assert_eq!(long.0["a"][0].message.chars().count(), MESSAGE);
    }

    #[test]
    fn denials_of_the_namespaces_that_were_denied_first_go() {
        let name = |index: usize| format!("team-{index:03}");
        let status: ByNamespace = (0..100)
            .map(|index| {
                let last = if index < DENIED_NAMESPACES { index } else { 0 };
                let last_denials = if last == index {
                    vec![denial(i64::try_from(index).unwrap(), "no")]
                } else {
                    Vec::new()
                };
                (name(index), NamespaceUsage { last_denials, ..NamespaceUsage::default() })
            })
            .collect();
        let patch = Value::from(LastDenials::of(&name(99), &denial(1000, "new")).patch(&status));
        assert_eq!(patch.as_object().unwrap().keys().collect::<Vec<_>>(), [&name(0), &name(99)]);
        assert_eq!(patch[name(0)]["lastDenials"], json!([]));
    }
}
