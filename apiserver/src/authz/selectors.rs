//! Field and label selectors, as far as authorisation needs them.
//!
//! A selector in an access review can only narrow what is asked for. A term that cannot be read is therefore left
//! out, which asks for more and at worst is denied; whether the selector is valid at all is the endpoint's to say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldSelectorRequirement, LabelSelectorRequirement};

const IN: &str = "In";
const NOT_IN: &str = "NotIn";

/// The name that a field selector demands by `metadata.name=NAME`, if it can be an object's name.
pub(crate) fn required_name(selector: &str) -> Option<String> {
    let demanded =
        fields(selector).into_iter().find(|term| term.key == "metadata.name" && term.operator == IN)?;
    let name = demanded.values?.into_iter().next()?;
    let is_path_segment = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']);
    is_path_segment.then_some(name)
}

/// The terms of a field selector: `key=value`, `key==value`, `key!=value`, with backslash escapes in values.
pub(super) fn fields(selector: &str) -> Vec<FieldSelectorRequirement> {
    split_unescaped(selector).into_iter().filter_map(field).collect()
}

fn field(term: &str) -> Option<FieldSelectorRequirement> {
    let (key, operator, value) = comparison(term)?;
    Some(FieldSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(vec![unescape(value)?]),
    })
}

/// The terms of a label selector, set-based ones too. `Gt` and `Lt` do not exist in an access review.
pub(super) fn labels(selector: &str) -> Vec<LabelSelectorRequirement> {
    split_outside_parentheses(selector).into_iter().filter_map(label).collect()
}

fn label(term: &str) -> Option<LabelSelectorRequirement> {
    let (key, operator, values) = if let Some((key, operator, values)) = set(term) {
        (key, operator, Some(values))
    } else if let Some((key, operator, value)) = comparison(term) {
        (key.trim(), operator, Some(vec![value.trim().to_owned()]))
    } else if let Some(key) = term.trim().strip_prefix('!') {
        (key.trim(), "DoesNotExist", None)
    } else {
        (term.trim(), "Exists", None)
    };
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    is_key.then(|| LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values })
}

/// `key in (a, b)` and `key notin (a, b)`.
fn set(term: &str) -> Option<(&str, &'static str, Vec<String>)> {
    let (head, values) = term.trim().strip_suffix(')')?.split_once('(')?;
    let (key, operator) = head.trim().split_once(char::is_whitespace)?;
    let operator = match operator.trim() {
        "in" => IN,
        "notin" => NOT_IN,
        _ => return None,
    };
    Some((key, operator, values.split(',').map(|value| value.trim().to_owned()).collect()))
}

/// The first operator counts, so that a value may hold further ones.
fn comparison(term: &str) -> Option<(&str, &'static str, &str)> {
    let at = term.find('=')?;
    let (key, value) = (&term[..at], &term[at + 1..]);
    match key.strip_suffix('!') {
        Some(key) => Some((key, NOT_IN, value)),
        None => Some((key, IN, value.strip_prefix('=').unwrap_or(value))),
    }
}

fn split_unescaped(selector: &str) -> Vec<&str> {
    let mut escaped = false;
    selector
        .split(move |c: char| {
            let splits = c == ',' && !escaped;
            escaped = c == '\\' && !escaped;
            splits
        })
        .collect()
}

fn split_outside_parentheses(selector: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    selector
        .split(move |c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .collect()
}

/// `\\`, `\,` and `\=`; any other escape, and a bare comma or equals sign, makes the value invalid.
fn unescape(value: &str) -> Option<String> {
    let mut unescaped = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => unescaped.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            c => unescaped.push(c),
        }
    }
    Some(unescaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: &str, operator: &str, values: Option<&Vec<String>>) -> String {
        format!("{key} {operator} {}", values.map(|values| values.join("|")).unwrap_or_default())
    }

    fn shown_fields(selector: &str) -> Vec<String> {
        fields(selector).iter().map(|term| shown(&term.key, &term.operator, term.values.as_ref())).collect()
    }

    fn shown_labels(selector: &str) -> Vec<String> {
        labels(selector).iter().map(|term| shown(&term.key, &term.operator, term.values.as_ref())).collect()
    }

    #[test]
    fn field_terms() {
        assert_eq!(shown_fields("a=1,b!=2,c==3"), ["a In 1", "b NotIn 2", "c In 3"]);
        assert_eq!(shown_fields(r"a=x\,y\=z\\"), [r"a In x,y=z\"]);
        assert_eq!(shown_fields("nonsense,a=1"), ["a In 1"]);
        assert!(shown_fields(r"a=b=c").is_empty());
    }

    #[test]
    fn label_terms() {
        assert_eq!(
            shown_labels("a=1, b != 2,c in (x, y),d notin (z),e,!f"),
            ["a In 1", "b NotIn 2", "c In x|y", "d NotIn z", "e Exists ", "f DoesNotExist "]
        );
        assert!(shown_labels("a>1,(,in (").is_empty());
    }

    #[test]
    fn only_an_equality_on_metadata_name_names_an_object() {
        assert_eq!(required_name("status.state=Failed,metadata.name=a").as_deref(), Some("a"));
        for selector in ["metadata.name!=a", "metadata.name=", "metadata.name=..", "metadata.name=a%2f", ""] {
            assert_eq!(required_name(selector), None, "{selector}");
        }
    }
}
