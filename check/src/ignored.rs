//! Findings that an object declares as intended, by the annotation `gatehouse.dev/check-ignore`.
//!
//! Each line of it is `RULE, RULE: REASON`; a rule may be written with its policy, as `POLICY/RULE`.
//!
//! **Invariant:** No finding is ignored without a reason.

use crate::build::Built;

/// The annotation.
pub(crate) const ANNOTATION: &str = "gatehouse.dev/check-ignore";

/// The reason to ignore a rule for an object, if the object gives one.
pub(crate) fn reason(object: &Built, policy: &str, rule: &str) -> Option<String> {
    let node = object.node.as_deref()?;
    let text = node.at_path(&["metadata", "annotations"])?.str_of(ANNOTATION)?;
    text.lines().find_map(|line| {
        let (rules, reason) = line.split_once(": ")?;
        let reason = reason.trim();
        let named = |name: &str| name == rule || name.split_once('/') == Some((policy, rule));
        (!reason.is_empty() && rules.split(',').map(str::trim).any(named)).then(|| reason.to_owned())
    })
}

/// Whether the annotation of an object has a line without a reason.
pub(crate) fn lacks_reason(object: &Built) -> bool {
    let text = object
        .node
        .as_deref()
        .and_then(|node| node.at_path(&["metadata", "annotations"])?.str_of(ANNOTATION));
    text.is_some_and(|text| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.into_iter().any(|line| line.split_once(": ").is_none_or(|(_, reason)| reason.trim().is_empty()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatehouse_inventory::yaml::{self, At};

    use super::*;
    use crate::build::Id;

    fn object(annotation: &str) -> Built {
        let text = format!(
            "apiVersion: v1\nkind: X\nmetadata:\n  name: x\n  annotations:\n    {ANNOTATION}: {annotation}\n"
        );
        let node = yaml::load(&text, At::default()).unwrap().unwrap();
        Built::new(Id::of(&node).unwrap(), Some(Arc::new(node)), At::default())
    }

    #[test]
    fn only_the_rules_that_are_named_are_ignored_and_only_with_a_reason() {
        let some = object("'interval, strict/sources: a mirror that we own'");
        assert_eq!(reason(&some, "strict", "interval").as_deref(), Some("a mirror that we own"));
        assert_eq!(reason(&some, "strict", "sources").as_deref(), Some("a mirror that we own"));
        assert_eq!(reason(&some, "other", "sources"), None);
        assert_eq!(reason(&some, "strict", "prune"), None);
        let several = object("|\n      interval: one\n      prune: two");
        assert_eq!(reason(&several, "x", "prune").as_deref(), Some("two"));
        assert!(!lacks_reason(&several));
        for without in ["interval", "'interval: '", "'interval:because'"] {
            assert_eq!(reason(&object(without), "strict", "interval"), None, "{without}");
            assert!(lacks_reason(&object(without)), "{without}");
        }
    }
}
