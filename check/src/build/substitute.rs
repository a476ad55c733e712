//! Substitutes `${…}` as Flux does after a build: the variables of `spec.postBuild` of a Kustomization, in the syntax
//! of drone/envsubst.
//!
//! **Invariant:** Unknown variables are left as they are written.

use std::collections::BTreeMap;

use gatehouse_inventory::yaml::{self, Data, Node, Style};

/// The known variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    pub(crate) known: BTreeMap<String, String>,
    /// Whether there may be others: from a Secret, or from a ConfigMap that is not in the files.
    pub(crate) others: bool,
}

/// Substitutes the known variables.
pub(crate) fn substitute(node: &mut Node, variables: &Variables) {
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| substitute(item, variables)),
        Data::Map(entries) => {
            for entry in entries {
                if entry.key.contains("${") {
                    entry.key = filled(&entry.key, variables).into();
                }
                substitute(&mut entry.value, variables);
            }
        }
        Data::Text(text, style) if text.contains('$') => {
            let filled = filled(text, variables);
            if *filled == **text {
                return;
            }
            // Flux substitutes in the text of the whole object, from which kustomize has dropped the original quotes,
            // so a value may become a number.
            node.data = match style {
                Style::Plain | Style::Quoted if !filled.contains("${") => yaml::plain(&filled),
                style => Data::Text(filled.into(), *style),
            };
        }
        _ => {}
    }
}

fn filled(text: &str, variables: &Variables) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(escaped) = tail.strip_prefix("$$") {
            filled.push('$');
            rest = escaped;
            // `$${x}` is an escape for `${x}`.
            if let Some(end) = escaped.strip_prefix('{').and_then(|_| escaped.find('}')) {
                filled.push_str(&escaped[..=end]);
                rest = &escaped[end + 1..];
            }
            continue;
        }
        let Some(expression) =
            tail.strip_prefix("${").and_then(|inner| inner.find('}').map(|end| &inner[..end]))
        else {
            filled.push('$');
            rest = &tail[1..];
            continue;
        };
        rest = &tail[expression.len() + 3..];
        if let Some(value) = value(expression, variables) {
            filled.push_str(&value);
        } else {
            filled.push_str("${");
            filled.push_str(expression);
            filled.push('}');
        }
    }
    filled.push_str(rest);
    filled
}

/// `None` if the value is unknown here.
fn value(expression: &str, variables: &Variables) -> Option<String> {
    let end = expression
        .find(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .unwrap_or(expression.len());
    let (name, operator) = expression.split_at(end);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let known = variables.known.get(name);
    if known.is_none() && variables.others {
        return None;
    }
    let known = known.map(String::as_str).unwrap_or_default();
    let or = |default: &str| if known.is_empty() { default.to_owned() } else { known.to_owned() };
    Some(match operator {
        "" => known.to_owned(),
        "^^" => known.to_uppercase(),
        ",," => known.to_lowercase(),
        _ => {
            let default =
                [":=", ":-", "=", "-"].iter().find_map(|operator_text| operator.strip_prefix(operator_text));
            // A default with nested variables, and functions that are not used in governed fields.
            or(default.filter(|default| !default.contains("${"))?)
        }
    })
}
