//! Splits a list into its items as it arrives, so that a page of megabytes is never in memory as a whole: only the
//! current item, and what arrived together with its end.

use kube::core::ListMeta;
use serde::Deserialize;

/// The largest item, in bytes. etcd accepts 1.5 MiB by default, and kube-apiserver at most 3 MiB from a client.
const LONGEST_ITEM: usize = 32 << 20;
/// The largest size of the list without its items, in bytes.
const LONGEST_HEAD: usize = 1 << 20;

/// Splits a list by its brackets and quotation marks, without parsing the items.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// The list without its items.
    head: Vec<u8>,
    /// The current item.
    item: Vec<u8>,
    depth: usize,
    is_quoted: bool,
    is_escaped: bool,
    /// Whether the position is inside the array `items`.
    is_within: bool,
    /// The range in `head` of the last string among the list's own fields.
    text: (usize, usize),
    /// The range in `head` of the name of the list's current field.
    field: (usize, usize),
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: ListMeta,
}

impl Items {
    /// Consumes `bytes`, and appends the items that end in them to `whole`.
    pub(super) fn feed(&mut self, bytes: &[u8], whole: &mut Vec<Vec<u8>>) -> Result<(), String> {
        for &byte in bytes {
            self.take(byte, whole);
        }
        if self.item.len() > LONGEST_ITEM || self.head.len() > LONGEST_HEAD {
            return Err("an item of the list, or what is beside its items, is too long".to_owned());
        }
        Ok(())
    }

    /// The metadata of the list, after all of it was consumed.
    pub(super) fn finish(self) -> Result<ListMeta, String> {
        serde_json::from_slice::<Head>(&self.head)
            .map(|head| head.metadata)
            .map_err(|error| error.to_string())
    }

    fn take(&mut self, byte: u8, whole: &mut Vec<Vec<u8>>) {
        // Depth 2 is inside the array of items.
        let is_between = self.is_within && self.depth == 2 && !self.is_quoted;
        if is_between && matches!(byte, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
            // An item that is neither an object nor an array ends here.
            if !self.item.is_empty() {
                whole.push(std::mem::take(&mut self.item));
            }
            if byte == b']' {
                self.is_within = false;
                self.depth = 1;
                self.head.push(byte);
            }
            return;
        }
        if self.is_within {
            self.item.push(byte);
        } else {
            self.head.push(byte);
        }
        if self.is_quoted {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.is_quoted = false;
                    self.text.1 = self.head.len();
                }
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.is_quoted = true;
                self.text.0 = self.head.len() - usize::from(!self.is_within);
            }
            b':' if self.depth == 1 => self.field = self.text,
            b'{' | b'[' => {
                self.depth += 1;
                let field = self.head.get(self.field.0..self.field.1);
                if self.depth == 2 && byte == b'[' && field == Some(b"\"items\"") {
                    self.is_within = true;
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.is_within && self.depth == 2 {
                    whole.push(std::mem::take(&mut self.item));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The items and metadata of a list that arrives in pieces.
    fn taken_apart(list: &str, pieces: &[usize]) -> Result<(Vec<Value>, ListMeta), String> {
        let (mut items, mut whole) = (Items::default(), Vec::new());
        let mut rest = list.as_bytes();
        for piece in pieces.iter().chain([&usize::MAX]) {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            items.feed(now, &mut whole)?;
            rest = later;
        }
        let whole = whole.iter().map(|item| serde_json::from_slice(item).map_err(|error| error.to_string()));
        Ok((whole.collect::<Result<_, _>>()?, items.finish()?))
    }

    #[test]
    fn items_are_those_of_the_list_alone() {
        let list = r#" {"kind":"items","x":["no"],"metadata":{"items":[1],"resourceVersion":"7","continue":"c"},
            "items" : [ {"items":[1,{"a":"]}\"\\"}]} , null,7,"t,]", [1] ], "apiVersion":"v1"} "#;
        let (items, metadata) = taken_apart(list, &[]).unwrap();
        assert_eq!(json!(items), json!([{"items": [1, {"a": "]}\"\\"}]}, null, 7, "t,]", [1]]));
        assert_eq!(metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(metadata.continue_.as_deref(), Some("c"));
        for (list, items) in
            [(r#"{"metadata":{},"items":[]}"#, 0), (r#"{"items":null}"#, 0), (r#"{"items":[{}]}"#, 1)]
        {
            assert_eq!(taken_apart(list, &[]).unwrap().0.len(), items, "{list}");
        }
        for broken in ["", "{", r#"{"items":[{}"#, r#"{"items":[{]}"#, "}", "]]"] {
            assert!(taken_apart(broken, &[]).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut whole = Vec::new();
        let text = vec![b'x'; 1 << 20];
        let mut feed = |start: &str| {
            let mut items = Items::default();
            items.feed(start.as_bytes(), &mut whole)?;
            (0..64).try_for_each(|_| items.feed(&text, &mut whole))
        };
        assert!(feed(r#"{"items":[{"a":""#).is_err() && feed("{\"a\":\"").is_err());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let names = prop_oneof![Just("items".to_owned()), "[a-c\"\\\\\\[\\]]{0,3}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(names, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_list_in_pieces_is_the_list(
            items in prop::collection::vec(values(), 0..6), before in values(), after in values(),
            pretty in any::<bool>(), pieces in prop::collection::vec(1_usize..40, 0..20),
        ) {
            let list = json!({"before": before, "metadata": {"resourceVersion": "9"}, "items": items, "z": after});
            let text = if pretty { serde_json::to_string_pretty(&list).unwrap() } else { list.to_string() };
            let (found, metadata) = taken_apart(&text, &pieces).unwrap();
            prop_assert_eq!(found, items);
            prop_assert_eq!(metadata.resource_version.as_deref(), Some("9"));
        }
    }
}
