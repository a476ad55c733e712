//! Which objects of Flux and Argo CD have applied an object: the reverse of all inventories of a cluster.
//!
//! Two objects that apply the same one undo each other's changes, and neither says so.
//!
//! **Invariant:** an entry takes eight bytes here, and some reserve. What has the same digest is compared by its text.

use std::collections::{BTreeSet, HashMap};

use crate::{
    Cluster, ObjectKey, Record,
    applied::{Applied, Entry},
    catalogue::Catalogue,
    records::{self, Records},
};

/// Shards are short, so that an insertion moves few entries.
const SHARDS: usize = 1024;

/// The number of no manager.
const NOBODY: u32 = u32::MAX;

/// The managers of each applied object.
#[derive(Debug, Default)]
pub(crate) struct Managers {
    ids: HashMap<ObjectKey, u32>,
    keys: Vec<Option<ObjectKey>>,
    free: Vec<u32>,
    /// The digest of an applied object and who applies it, sorted, by the first bits of the digest.
    shards: Vec<Vec<(u32, u32)>>,
}

impl Managers {
    /// Applies the change of a manager's inventory. Returns the other managers of what it applies no longer, or anew.
    pub(crate) fn update(
        &mut self,
        key: &ObjectKey,
        old: Option<&Applied>,
        new: Option<&Applied>,
    ) -> BTreeSet<ObjectKey> {
        let mut others = BTreeSet::new();
        if old == new {
            return others;
        }
        let digests = |applied: Option<&Applied>| applied.map(Applied::digests).unwrap_or_default();
        let (before, after) = (digests(old), digests(new));
        let id = self.id(key);
        for digest in before.iter().filter(|digest| after.binary_search(digest).is_err()) {
            let shard = self.shard(*digest);
            if let Ok(at) = shard.binary_search(&(*digest, id)) {
                shard.remove(at);
            }
            self.others(*digest, id, &mut others);
        }
        for digest in after.iter().filter(|digest| before.binary_search(digest).is_err()) {
            let shard = self.shard(*digest);
            if let Err(at) = shard.binary_search(&(*digest, id)) {
                if shard.len() == shard.capacity() {
                    shard.reserve_exact((shard.len() / 8).max(4));
                }
                shard.insert(at, (*digest, id));
            }
            self.others(*digest, id, &mut others);
        }
        if after.is_empty() {
            self.ids.remove(key);
            self.keys[id as usize] = None;
            self.free.push(id);
        }
        others
    }

    /// The size in bytes of what is kept for each entry.
    #[cfg(test)]
    fn size(&self) -> usize {
        self.shards.iter().map(|shard| shard.capacity() * size_of::<(u32, u32)>()).sum()
    }

    fn id(&mut self, key: &ObjectKey) -> u32 {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.keys.push(None);
            u32::try_from(self.keys.len() - 1).expect("memory ends before the numbers do")
        });
        self.keys[id as usize] = Some(key.clone());
        self.ids.insert(key.clone(), id);
        id
    }

    fn shard(&mut self, digest: u32) -> &mut Vec<(u32, u32)> {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, Vec::new);
        }
        &mut self.shards[digest as usize % SHARDS]
    }

    /// Who else applies what has this digest.
    fn others(&self, digest: u32, id: u32, found: &mut BTreeSet<ObjectKey>) {
        let Some(shard) = self.shards.get(digest as usize % SHARDS) else { return };
        let first = shard.partition_point(|entry| *entry < (digest, 0));
        let all = shard[first..].iter().take_while(|entry| entry.0 == digest);
        let keys = all.filter(|entry| entry.1 != id).filter_map(|entry| self.keys[entry.1 as usize].clone());
        found.extend(keys);
    }
}

impl Cluster {
    /// The other Applications in whose inventories an object is. Objects of Flux are found by labels instead.
    pub fn applications_of(&self, catalogue: &Catalogue, key: &ObjectKey) -> Vec<ObjectKey> {
        let kind = catalogue.kind(key.kind);
        let entry = Entry {
            namespace: key.namespace.to_string(),
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            name: key.name.to_string(),
        };
        let mut found = BTreeSet::new();
        self.managers.others(entry.digest(), NOBODY, &mut found);
        found.retain(|manager| {
            let is_other = manager != key && catalogue.kind(manager.kind).is_application();
            let applied = self.record(manager).filter(|_| is_other).and_then(Record::applied_here);
            applied.is_some_and(|applied| applied.contains(&entry))
        });
        found.into_iter().collect()
    }

    /// What an object of Flux or Argo CD applies that another one applies as well, at most `most`, each with the other one.
    pub fn managed_twice(&self, record: &Record, most: usize) -> Vec<(Entry, ObjectKey)> {
        let (Some(id), Some(own)) = (self.managers.ids.get(&record.key), record.applied_here()) else {
            return Vec::new();
        };
        let mut others = BTreeSet::new();
        for digest in own.digests() {
            self.managers.others(digest, *id, &mut others);
        }
        let mut twice = Vec::new();
        for other in others {
            let theirs: BTreeSet<_> = self
                .record(&other)
                .and_then(Record::applied_here)
                .into_iter()
                .flat_map(Applied::entries)
                .collect();
            let both = own.entries().filter(|entry| theirs.contains(entry));
            twice.extend(both.take(most - twice.len()).map(|entry| (entry, other.clone())));
            if twice.len() == most {
                break;
            }
        }
        twice
    }
}

/// The records of what an Application applies, itself excepted: those of which [`Cluster::applications_of`] finds it.
pub(crate) fn records_of<'a>(
    application: &'a ObjectKey,
    applied: Option<&'a Applied>,
    catalogue: &'a Catalogue,
    records: &'a Records,
) -> impl Iterator<Item = &'a Record> {
    applied.into_iter().flat_map(Applied::entries).filter_map(move |entry| {
        let kind = catalogue.find(&entry.group, &entry.kind)?;
        let is_exact = catalogue.kind(kind).namespaced != entry.namespace.is_empty();
        let key = is_exact.then(|| ObjectKey::new(kind, entry.namespace, entry.name))?;
        records::find(records, &key).filter(|_| key != *application)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    fn deployments(names: &[&str]) -> Applied {
        let ids: Vec<_> = names.iter().map(|name| format!("apps_{name}_apps_Deployment")).collect();
        Applied::pack(ids.iter().map(String::as_str), 0)
    }

    #[test]
    fn managers_of_one_object_are_told_when_another_comes_or_goes() {
        let mut managers = Managers::default();
        let (ab, bc) = (deployments(&["a", "b"]), deployments(&["b", "c"]));
        assert!(managers.update(&key("one"), None, Some(&ab)).is_empty());
        assert_eq!(managers.update(&key("two"), None, Some(&bc)), [key("one")].into());
        let c = deployments(&["c"]);
        assert_eq!(managers.update(&key("two"), Some(&bc), Some(&c)), [key("one")].into());
        assert!(managers.update(&key("one"), Some(&ab), None).is_empty());
        assert!(managers.update(&key("two"), Some(&c), None).is_empty());
        assert_eq!((managers.ids.len(), managers.shards.iter().map(Vec::len).sum::<usize>()), (0, 0));
    }

    #[test]
    fn an_entry_takes_some_bytes_in_each_direction() {
        let mut managers = Managers::default();
        let (mut packed, mut names) = (0, 0);
        for n in 0..2_000 {
            let kinds = ["apps_Deployment", "_Service", "_ServiceAccount", "_ConfigMap", "batch_CronJob"];
            let ids: Vec<_> =
                (0..25).map(|at| format!("team-{}_app-{n}-{}_{}", n / 100, at / 5, kinds[at % 5])).collect();
            let own = Applied::pack(ids.iter().map(String::as_str), 0);
            packed += own.size() + size_of::<Applied>();
            names += own.entries().map(|entry| entry.name.len()).sum::<usize>();
            managers.update(&key(&format!("k{n}")), None, Some(&own));
        }
        let each = |bytes: usize| bytes / (2_000 * 25);
        let (names, forth, back) = (each(names), each(packed), each(managers.size()));
        println!(
            "names of {names} bytes; {forth} bytes in inventories with the names, {back} in the reverse"
        );
        assert!(forth + back <= 20 + names, "{forth} + {back}, names of {names}");
    }
}
