//! Substitutes `${…}` as Flux does after a build: the variables of `spec.postBuild` of a Kustomization.
//!
//! **Invariant:** Unknown variables are left as they are written.

use std::collections::BTreeMap;

use gatehouse_inventory::yaml::{Data, Node};

use super::{Failure, envsubst, filled::refilled};

/// The known variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    pub(crate) known: BTreeMap<String, String>,
    /// Whether there may be others: from a Secret, or from a ConfigMap that is not in the files.
    pub(crate) others: bool,
}

impl Variables {
    /// `None` if the value is unknown; empty if there is no such variable.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        match self.known.get(name) {
            Some(value) => Some(value),
            None if self.others => None,
            None => Some(""),
        }
    }
}

/// Substitutes the known variables; fails where Flux would refuse the object.
pub(crate) fn substitute(node: &mut Node, variables: &Variables) -> Result<(), Failure> {
    let at = node.at;
    match &mut node.data {
        Data::List(items) => items.iter_mut().try_for_each(|item| substitute(item, variables)),
        Data::Map(entries) => entries.iter_mut().try_for_each(|entry| {
            if entry.key.contains('$') {
                let failure = |message: &str| Failure { at: entry.at, message: message.to_owned() };
                entry.key = envsubst::evaluate(&entry.key, variables).map_err(failure)?.into();
            }
            substitute(&mut entry.value, variables)
        }),
        Data::Text(text, style) if text.contains('$') => {
            let failure = |message: String| Failure { at, message };
            let fill = |text: &str| {
                envsubst::evaluate(text, variables)
                    .map_err(|why| format!("variable substitution failed: {why}"))
            };
            let filled = fill(text).map_err(failure)?;
            node.data = match refilled(text, *style, at, fill) {
                Ok(data) => data,
                // What is not known may make YAML of it.
                Err(_) if variables.others => Data::Text(filled.into(), *style),
                Err(message) => return Err(failure(message)),
            };
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_inventory::yaml::{self, At};
    use serde_json::{Value, json};

    use super::*;

    fn variables(others: bool) -> Variables {
        let known = [
            ("A", "one"),
            ("B", "team-a"),
            ("E", ""),
            ("H", "Hello World"),
            ("L", "[x, z]"),
            ("M", "{a: 1}"),
            ("N", "12"),
            ("Q", "it's"),
            ("S", "a.b.c"),
            ("T", "true"),
            ("C", "a: b"),
            ("X", "#x"),
        ];
        let known = known.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Variables { known, others }
    }

    fn substituted(text: &str, others: bool) -> Result<Value, String> {
        let mut node = yaml::load(&json!({"v": text}).to_string(), At::default()).unwrap().unwrap();
        substitute(&mut node, &variables(others)).map_err(|failure| failure.message)?;
        Ok(node.to_value()["v"].clone())
    }

    /// The expected values are those of Flux's own library.
    #[test]
    fn expressions_have_the_values_that_flux_gives_them() {
        for (text, expected) in [
            ("${A}", json!("one")),
            ("a ${A}-${B} b", json!("a one-team-a b")),
            ("$A $$ $", json!("$A $ $")),
            ("$${A} $$${A}", json!("${A} $one")),
            ("${nope}", json!(null)),
            ("x${nope}", json!("x")),
            ("${E:=10m}", json!("10m")),
            ("${E:-${nope:=${B}}}", json!("team-a")),
            ("${A:=x}", json!("one")),
            ("${E=x}", json!("x")),
            ("${E:+x}${E:?y}", json!("xy")),
            ("${#B}", json!(6)),
            ("${B^}${B^^}${H,}${H,,}", json!("Team-aTEAM-Ahello Worldhello world")),
            ("${B:1}", json!("eam-a")),
            ("${B:-2}", json!("team-a")),
            ("${B:1:2}", json!("ea")),
            ("${B:9}", json!(null)),
            ("${B:x}", json!("team-a")),
            ("${S/./-}", json!("a-b.c")),
            ("${S//./-}", json!("a-b-c")),
            ("${S//./}", json!("abc")),
            ("${B/#team/t}", json!("t-a")),
            ("${B/%a/b}", json!("team-b")),
            ("${S#*.}", json!("b.c")),
            ("${S##*.}", json!("c")),
            ("${S%.*}", json!("a.b")),
            ("${S%%.*}", json!("a")),
            ("${S%x}", json!("a.b.c")),
            // As a part of the text of the object, values may become something else.
            ("${N}", json!(12)),
            ("${T}", json!(true)),
            ("${L}", json!(["x", "z"])),
            ("${M}", json!({"a": 1})),
            ("${X}", json!(null)),
            ("a ${X}", json!("a")),
            ("${Q}", json!("it's")),
            (": ${N}", json!(": 12")),
            ("{${N}", json!("{12")),
            ("a\n${N}\n", json!("a\n12\n")),
        ] {
            assert_eq!(substituted(text, false), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_flux_refuses_is_an_error() {
        for text in ["${A", "${}", "${A-x}", "${A!}", "${ A}", "${A#}", "${A/x}", "${A:=x", "${C}", ": ${Q}"]
        {
            assert!(substituted(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn what_depends_on_an_unknown_variable_stays() {
        for (text, expected) in [
            ("${nope}", "${nope}"),
            ("${A} ${nope:=x}", "one ${nope:=x}"),
            ("${E:=${nope}}", "${E:=${nope}}"),
            ("${A:=${nope}}", "one"),
            ("${nope}: ${N}", "${nope}: 12"),
            // It may begin a quoted text.
            ("${nope}[ ${C} ]", "${nope}[ a: b ]"),
            // Patterns of these forms are not known here.
            ("${A#[o]}", "${A#[o]}"),
        ] {
            assert_eq!(substituted(text, true), Ok(json!(expected)), "{text}");
        }
    }
}
