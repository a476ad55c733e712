//! The user of a review, with a bounded number of groups and extra values.

use gatehouse_serving::authn;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};

use super::default_or_null;

/// The most groups of a user, and the most extra entries and values.
pub(super) const MOST_OF_USER: usize = 4096;
/// The most bytes of the user info. kube-apiserver takes it from headers, of which it reads at most 1 MiB.
pub(super) const LONGEST_USER: usize = 512 << 10;

/// The user who makes a request.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UserInfo {
    username: String,
    #[serde(default, deserialize_with = "default_or_null")]
    uid: String,
    #[serde(default)]
    groups: Few<String>,
    #[serde(default)]
    extra: Few<(String, Few<String>)>,
}

impl UserInfo {
    /// The user name.
    pub fn name(&self) -> &str {
        &self.username
    }

    /// The groups.
    pub fn groups(&self) -> &[String] {
        &self.groups.0
    }

    /// The memory that it takes, with the copies that are made of it, in bytes.
    pub(in crate::review) fn cost(&self) -> usize {
        const COPIES: usize = 4;
        let extra = self.extra.0.iter();
        let (entries, bytes) = extra
            .fold((self.groups.0.len(), self.text()), |(entries, bytes), (_, values)| {
                (entries + 2 + values.0.len(), bytes)
            });
        COPIES * (bytes + entries * 3 * size_of::<String>())
    }

    /// The total length of all texts.
    pub(super) fn text(&self) -> usize {
        let length = |texts: &Few<String>| texts.0.iter().map(String::len).sum::<usize>();
        let extra = self.extra.0.iter().map(|(name, values)| name.len() + length(values));
        self.username.len() + self.uid.len() + length(&self.groups) + extra.sum::<usize>()
    }
}

/// A list or a map with at most [`MOST_OF_USER`] entries. Null is empty, since Go writes nil as null.
#[derive(Debug, Clone)]
struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Few<T> {
    fn push<E: serde::de::Error>(&mut self, one: T) -> Result<(), E> {
        if self.0.len() == MOST_OF_USER {
            return Err(E::custom(format_args!("must have {MOST_OF_USER} entries or fewer")));
        }
        self.0.push(one);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Few<String> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Few<String>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_unit<E>(self) -> Result<Few<String>, E> {
                Ok(Few::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<String>, A::Error> {
                let mut few = Few::default();
                while let Some(text) = list.next_element()? {
                    few.push(text)?;
                }
                Ok(few)
            }
        }
        deserializer.deserialize_any(List)
    }
}

impl<'de> Deserialize<'de> for Few<(String, Few<String>)> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Few<(String, Few<String>)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of lists of strings")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Few::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut few, mut values) = (Few::default(), 0);
                while let Some(entry) = map.next_entry::<String, Few<String>>()? {
                    values += entry.1.0.len();
                    if values > MOST_OF_USER {
                        return Err(A::Error::custom(format_args!(
                            "must have {MOST_OF_USER} values or fewer"
                        )));
                    }
                    few.push(entry)?;
                }
                Ok(few)
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl From<UserInfo> for authn::UserInfo {
    fn from(user: UserInfo) -> Self {
        let UserInfo { username: name, uid, groups: Few(groups), extra: Few(extra) } = user;
        let extra = extra.into_iter().map(|(name, Few(values))| (name, values)).collect();
        Self { name, uid, groups, extra }
    }
}
