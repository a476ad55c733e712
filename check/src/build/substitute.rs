//! `${…}` as Flux fills it in after a build: what `spec.postBuild` of a Kustomization says, in the syntax of
//! drone/envsubst.

use std::collections::BTreeMap;

use gatehouse_inventory::yaml::{self, Data, Node, Style};

/// The variables that are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    pub(crate) known: BTreeMap<String, String>,
    /// Whether there may be others: a Secret's, or a ConfigMap's that is not among the files.
    pub(crate) others: bool,
}

/// Fills in what is known. What is not stays as it is written.
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
            // The whole object is text when Flux fills it in, without the quotes it was written with, which kustomize
            // drops: a value may become a number.
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
            // `$${x}` is what `${x}` is to be afterwards.
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

/// None: not known here.
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
            // A default with variables of its own, and functions that nobody uses for what is judged.
            or(default.filter(|default| !default.contains("${"))?)
        }
    })
}
