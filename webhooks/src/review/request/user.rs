//! Reads the user of a review, with a bounded number of groups and extra values.

use std::collections::BTreeMap;

use gatehouse_apiservice::UserInfo;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::default_or_null;

/// The most groups of a user, and the most extra entries and values.
pub(super) const MOST_OF_USER: usize = 4096;
/// The most bytes of the user info. kube-apiserver takes it from headers, of which it reads at most 1 MiB.
pub(super) const LONGEST_USER: usize = 512 << 10;

/// Reads a user; lists and maps that are too long are an error.
pub(super) fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserInfo, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename = "UserInfo")]
    struct Bounded {
        username: String,
        #[serde(default, deserialize_with = "default_or_null")]
        uid: String,
        #[serde(default)]
        groups: List,
        #[serde(default)]
        extra: Extra,
    }
    let Bounded { username: name, uid, groups: List(groups), extra: Extra(extra) } =
        Bounded::deserialize(deserializer)?;
    Ok(UserInfo { name, uid, groups, extra })
}

/// The memory that a user takes, with the copies that are made of it, in bytes.
pub(in crate::review) fn cost(user: &UserInfo) -> usize {
    const COPIES: usize = 4;
    let extra: usize = user.extra.values().map(|values| 2 + values.len()).sum();
    COPIES * (length(user) + (user.groups.len() + extra) * 3 * size_of::<String>())
}

/// The total length of all texts.
pub(super) fn length(user: &UserInfo) -> usize {
    let length = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    let extra = user.extra.iter().map(|(name, values)| name.len() + length(values));
    user.name.len() + user.uid.len() + length(&user.groups) + extra.sum::<usize>()
}

/// A list with at most [`MOST_OF_USER`] entries. Null is empty, since Go writes nil as null.
#[derive(Default)]
struct List(Vec<String>);

/// A map of lists with at most [`MOST_OF_USER`] entries, and as many values. Null is empty.
#[derive(Default)]
struct Extra(BTreeMap<String, Vec<String>>);

fn check<E: Error>(count: usize, what: &str) -> Result<(), E> {
    if count > MOST_OF_USER {
        return Err(E::custom(format_args!("must have {MOST_OF_USER} {what} or fewer")));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = List;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_unit<E>(self) -> Result<List, E> {
                Ok(List::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(text) = seq.next_element()? {
                    list.push(text);
                    check(list.len(), "entries")?;
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Extra;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of lists of strings")
            }

            fn visit_unit<E>(self) -> Result<Extra, E> {
                Ok(Extra::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extra, A::Error> {
                let (mut extra, mut entries, mut values) = (BTreeMap::new(), 0, 0);
                while let Some((name, List(list))) = map.next_entry()? {
                    (entries, values) = (entries + 1, values + list.len());
                    check(values, "values")?;
                    check(entries, "entries")?;
                    extra.insert(name, list);
                }
                Ok(Extra(extra))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}
