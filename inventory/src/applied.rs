//! What a Flux object has applied, as the inventory in its status lists it, packed.
//!
//! There are 250,000 entries in 10,000 inventories, and few are ever looked at. So an inventory is one text: its entries
//! are sorted, and each begins with how much of the one before it repeats.
//!
//! **Invariant:** two inventories of the same entries are equal, in whatever order they are listed.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

/// The entries of an inventory.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Applied {
    packed: Box<[u8]>,
    len: u32,
    /// How many entries are not kept: they are more than [`Applied::MOST`], or name no object.
    pub omitted: u32,
}

/// An object that was applied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Its API group; empty for the core group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Between the parts of an entry. No part contains it.
const SEPARATOR: char = '\0';

impl Applied {
    /// The most entries of one inventory that are kept. Real ones have some hundreds; etcd admits 25,000.
    pub const MOST: usize = 10_000;

    /// The most bytes of one inventory that are kept.
    const BYTES: usize = 256 << 10;

    /// Packs the `id`s of an inventory: `namespace_name_group_kind`. `omitted` are those that were not read.
    pub fn pack<'a>(ids: impl Iterator<Item = &'a str>, omitted: usize) -> Self {
        let mut omitted = u32::try_from(omitted).unwrap_or(u32::MAX);
        let mut texts = Vec::new();
        for id in ids {
            match Entry::parse(id) {
                Some(entry) => texts.push(entry.text()),
                None => omitted = omitted.saturating_add(1),
            }
        }
        texts.sort_unstable();
        texts.dedup();
        let (mut packed, mut before, mut len) = (Vec::new(), "", 0);
        for text in &texts {
            if packed.len() > Self::BYTES {
                omitted = omitted.saturating_add(1);
                continue;
            }
            let shared = before.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
            let shared = text.floor_char_boundary(shared.min(u8::MAX.into()));
            let rest = &text[shared..];
            packed.push(u8::try_from(shared).unwrap_or_default());
            packed.extend(u16::try_from(rest.len()).unwrap_or_default().to_le_bytes());
            packed.extend(rest.bytes());
            before = text;
            len += 1;
        }
        Self { packed: packed.into(), len, omitted }
    }

    /// The number of entries that are kept.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no entry is kept.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The size of the entries in bytes.
    pub(crate) fn size(&self) -> usize {
        self.packed.len()
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.texts().map(|text| Entry::of_text(&text))
    }

    /// A digest of each entry, in order.
    pub(crate) fn digests(&self) -> Vec<u32> {
        let mut digests: Vec<_> = self.texts().map(|text| digest(&text)).collect();
        digests.sort_unstable();
        digests
    }

    /// Whether an entry is in the inventory.
    pub fn contains(&self, entry: &Entry) -> bool {
        let text = entry.text();
        self.texts().any(|other| other == text)
    }

    fn texts(&self) -> impl Iterator<Item = String> {
        let (mut rest, mut before) = (&*self.packed, Vec::new());
        std::iter::from_fn(move || {
            let [shared, low, high, tail @ ..] = rest else { return None };
            let (own, others) = tail.split_at_checked(u16::from_le_bytes([*low, *high]).into())?;
            before.truncate((*shared).into());
            before.extend_from_slice(own);
            rest = others;
            Some(String::from_utf8_lossy(&before).into_owned())
        })
    }
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

impl Entry {
    /// Parses an `id`. Neither namespaces nor groups nor kinds contain an underscore; a colon in a name is written as
    /// two.
    fn parse(id: &str) -> Option<Self> {
        let (namespace, rest) = id.split_once('_')?;
        let (rest, kind) = rest.rsplit_once('_')?;
        let (name, group) = rest.rsplit_once('_')?;
        let is_whole = !name.is_empty() && !kind.is_empty() && id.len() < 1024 && !id.contains(SEPARATOR);
        let owned = str::to_owned;
        is_whole.then(|| Self {
            namespace: owned(namespace),
            group: owned(group),
            kind: owned(kind),
            name: name.replace("__", ":"),
        })
    }

    /// See [`Applied::digests`].
    pub(crate) fn digest(&self) -> u32 {
        digest(&self.text())
    }

    /// Kinds and namespaces come first, so that neighbours share them.
    fn text(&self) -> String {
        let Self { namespace, group, kind, name } = self;
        [namespace.as_str(), group, kind, name].join("\0")
    }

    fn of_text(text: &str) -> Self {
        let mut parts = text.split(SEPARATOR).map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        Self { namespace: part(), group: part(), kind: part(), name: part() }
    }
}

fn digest(text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry([namespace, group, kind, name]: [&str; 4]) -> Entry {
        let owned = str::to_owned;
        Entry { namespace: owned(namespace), group: owned(group), kind: owned(kind), name: owned(name) }
    }

    #[test]
    fn ids_are_parsed_as_flux_writes_them() {
        let ids = [
            "apps_shop_apps_Deployment",
            "_system__node_rbac.authorization.k8s.io_ClusterRole",
            "apps_shop__Service",
            "apps_shop",
            "",
            "___",
            "apps__apps_Deployment",
        ];
        let applied = Applied::pack(ids.into_iter(), 2);
        let entries: Vec<_> = applied.entries().collect();
        let expected = [
            ["", "rbac.authorization.k8s.io", "ClusterRole", "system:node"],
            ["apps", "", "Service", "shop"],
            ["apps", "apps", "Deployment", "shop"],
        ];
        assert_eq!(entries, expected.map(entry));
        assert_eq!((applied.len(), applied.omitted), (3, 6), "what names no object is counted");
        assert!(applied.contains(&entry(["apps", "", "Service", "shop"])));
        assert!(!applied.contains(&entry(["apps", "", "Service", "sho"])));
    }

    #[test]
    fn an_inventory_takes_few_bytes_beyond_its_names() {
        let kinds =
            ["apps_Deployment", "_Service", "_ServiceAccount", "_ConfigMap", "networking.k8s.io_Ingress"];
        let ids: Vec<_> = (0..25).map(|n| format!("team-a_shop-{}_{}", n / 5, kinds[n % 5])).collect();
        let applied = Applied::pack(ids.iter().map(String::as_str), 0);
        let names: usize = applied.entries().map(|entry| entry.name.len()).sum();
        let beyond = (applied.size() - names) / 25;
        println!("{} bytes for each of 25 entries, {beyond} beyond its name", applied.size() / 25);
        assert!(beyond <= 8, "{beyond}");
    }

    proptest! {
        #[test]
        fn entries_are_those_that_were_packed(
            mut all in prop::collection::vec(("[a-c]{0,3}", "[a-c.]{0,4}", "[A-C]{1,3}", "[a-cé:-]{1,300}"), 0..20)
        ) {
            all.retain(|(.., name)| !name.contains("::"));
            let entries: std::collections::BTreeSet<_> = all.iter()
                .map(|(namespace, group, kind, name)| entry([namespace, group, kind, name])).collect();
            let ids: Vec<_> = all.iter().map(|(namespace, group, kind, name)| {
                format!("{namespace}_{}_{group}_{kind}", name.replace(':', "__"))
            }).collect();
            let applied = Applied::pack(ids.iter().map(String::as_str), 0);
            let found: std::collections::BTreeSet<_> = applied.entries().collect();
            prop_assert_eq!(found, entries);
            prop_assert_eq!(&applied, &Applied::pack(ids.iter().rev().map(String::as_str), 0));
        }
    }
}
