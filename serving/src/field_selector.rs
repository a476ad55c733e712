//! Field selectors, from the query parameter `fieldSelector`.
//!
//! **Invariants:** the grammar is that of `k8s.io/apimachinery` (`fields.ParseSelector`), because a more lenient parser
//! would select more than was requested and authorized. [`std::fmt::Display`] writes a canonical form, which parses to
//! the same selector.

use std::{fmt, sync::Arc};

use gatehouse_apiservice::Resource;

use crate::ApiError;

/// Conditions on an object's name, namespace and selectable fields. The default has none and selects all objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    /// All must hold. Sorted.
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Term {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Field {
    Name,
    Namespace,
    /// A field of the resource, by its index in `selectable_fields`.
    Own(usize, &'static str),
}

impl FieldSelector {
    /// Parses the parameter `fieldSelector` of a request for `resource`. The error is 400, also for a field that is not
    /// selectable.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, ApiError> {
        let compile = |terms: Vec<FieldTerm>| {
            let compiled = terms.into_iter().map(|FieldTerm { label, equal, value }| {
                Field::parse(label, resource).map(|field| Term { field, equal, value })
            });
            compiled.collect::<Result<Vec<_>, _>>()
        };
        let mut terms = field_terms(text)
            .and_then(compile)
            .map_err(|problem| ApiError::bad_request(format!("fieldSelector: {problem}")))?;
        terms.sort();
        terms.dedup();
        Ok(Self { terms })
    }

    /// The selector for a watch of the single object `name` (`…/fluxsummaries/NAME?watch=true`). The error is 400 if
    /// the request's selector is not empty and does not require this name.
    pub fn on(self, name: &str) -> Result<Self, ApiError> {
        if !self.is_empty() && self.requires_name() != Some(name) {
            return Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        let named = Term { field: Field::Name, equal: true, value: name.to_owned() };
        Ok(if self.is_empty() { Self { terms: vec![named] } } else { self })
    }

    /// Whether it selects all objects.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object is selected. `fields` are the values of the resource's `selectable_fields`, in their order. A
    /// field without a value counts as empty, as in Kubernetes.
    pub fn matches(&self, namespace: &str, name: &str, fields: &[Arc<str>]) -> bool {
        self.terms.iter().all(|term| {
            let value = match term.field {
                Field::Name => name,
                Field::Namespace => namespace,
                Field::Own(index, _) => fields.get(index).map_or("", AsRef::as_ref),
            };
            (value == term.value) == term.equal
        })
    }

    /// Whether an object with this name may be selected, for some values of its other fields.
    pub fn may_match(&self, namespace: &str, name: &str) -> bool {
        self.terms.iter().all(|term| match term.field {
            Field::Name => (name == term.value) == term.equal,
            Field::Namespace => (namespace == term.value) == term.equal,
            Field::Own(..) => true,
        })
    }

    /// The name that the selector requires, if it does.
    pub fn requires_name(&self) -> Option<&str> {
        self.requires(Field::Name)
    }

    fn requires(&self, field: Field) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.field == field)?;
        Some(&term.value)
    }
}

/// A term of a field selector, for any resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm<'a> {
    /// The field, such as `metadata.name`.
    pub label: &'a str,
    /// Whether the field must equal the value (true), or must not (false).
    pub equal: bool,
    /// The value, unescaped.
    pub value: String,
}

/// Parses the terms of a field selector. The error is a message for the client.
pub fn field_terms(text: &str) -> Result<Vec<FieldTerm<'_>>, String> {
    split_terms(text).filter(|term| !term.is_empty()).map(|term| FieldTerm::parse(term, text)).collect()
}

impl<'a> FieldTerm<'a> {
    fn parse(text: &'a str, whole: &str) -> Result<Self, String> {
        // The first operator counts: field names cannot be escaped.
        let (at, operator) = text
            .char_indices()
            .find_map(|(at, _)| {
                Some((at, ["!=", "==", "="].into_iter().find(|op| text[at..].starts_with(op))?))
            })
            .ok_or_else(|| format!("invalid selector: '{whole}'; can't understand '{text}'"))?;
        Ok(Self {
            label: &text[..at],
            equal: operator != "!=",
            value: unescape(&text[at + operator.len()..])?,
        })
    }
}

impl Field {
    fn parse(label: &str, resource: &Resource) -> Result<Self, String> {
        match label {
            "metadata.name" => Ok(Self::Name),
            "metadata.namespace" => Ok(Self::Namespace),
            _ => {
                let own = resource.selectable_fields.iter().enumerate().find(|(_, field)| **field == label);
                own.map(|(index, field)| Self::Own(index, field))
                    .ok_or_else(|| format!("field label not supported: {label}"))
            }
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Name => "metadata.name",
            Self::Namespace => "metadata.namespace",
            Self::Own(_, label) => label,
        }
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.field.label(), escape(&term.value))?;
        }
        Ok(())
    }
}

/// Splits at commas that are not escaped. The terms keep their escapes.
fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=")
}

fn unescape(text: &str) -> Result<String, String> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(format!("invalid field selector: invalid escape sequence: {sequence}"));
                }
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {c}")),
            _ => value.push(c),
        }
    }
    Ok(value)
}

/// The name that a field selector requires by `metadata.name=NAME`, if it is a valid path segment.
pub fn required_name(selector: &str) -> Option<String> {
    let demands = |term: &FieldTerm<'_>| term.equal && term.label == "metadata.name";
    let name = field_terms(selector).ok()?.into_iter().find(demands)?.value;
    let is_path_segment = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']);
    is_path_segment.then_some(name)
}

#[cfg(test)]
mod tests {
    use gatehouse_apiservice::{View, view::FluxResourceStatus};
    use proptest::prelude::*;

    use super::*;

    const RESOURCE: Resource = <FluxResourceStatus as View>::RESOURCE;

    fn parse(text: &str) -> Result<FieldSelector, ApiError> {
        FieldSelector::parse(text, &RESOURCE)
    }

    fn matches(text: &str) -> bool {
        // status.cluster, status.kind, status.state, status.suspended
        let fields = ["local", "Kustomization", "Failed", "false"].map(Arc::from);
        parse(text).unwrap().matches("team-a", "local.kustomization.app", &fields)
    }

    #[test]
    fn fields_are_compared_as_text() {
        for holds in [
            "",
            ",",
            "status.state=Failed",
            "status.state==Failed",
            "status.state!=Ready",
            "metadata.namespace=team-a",
            "metadata.name=local.kustomization.app,status.suspended=false",
            "status.kind!=",
        ] {
            assert!(matches(holds), "{holds}");
        }
        for fails in [
            "status.state=failed",
            "status.state!=Failed",
            "metadata.name=x",
            "status.cluster=",
            "metadata.namespace=",
        ] {
            assert!(!matches(fails), "{fails}");
        }
    }

    #[test]
    fn an_unknown_field_returns_400_with_its_name() {
        for (bad, problem) in [
            ("status.reason=x", "field label not supported: status.reason"),
            ("=x", "field label not supported: "),
            ("status.state", "can't understand 'status.state'"),
            ("status.state=a=b", "unescaped character in value: ="),
            (r"status.state=a\b", r"invalid escape sequence: \b"),
            (r"status.state=a\", r"invalid escape sequence: \"),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.code(), http::StatusCode::BAD_REQUEST, "{bad}");
            assert!(error.to_string().ends_with(problem), "{error}");
        }
    }

    #[test]
    fn a_watch_of_one_object_knows_its_name() {
        let name = |text| parse(text).unwrap().requires_name().map(str::to_owned);
        assert_eq!(name("status.state=Failed,metadata.name=a").as_deref(), Some("a"));
        assert_eq!(name("metadata.name!=a"), None);
        assert_eq!(parse("").unwrap().on("a").unwrap().to_string(), "metadata.name=a");
        assert!(parse("metadata.name=a").unwrap().on("a").is_ok());
        assert!(parse("metadata.name=b").unwrap().on("a").is_err());
        assert!(parse("status.state=Failed").unwrap().on("a").is_err());
    }

    #[test]
    fn the_canonical_form_is_sorted_and_escaped() {
        let canonical = |text| parse(text).unwrap().to_string();
        assert_eq!(
            canonical(r"status.state==a\,b,,metadata.name!=c\\"),
            r"metadata.name!=c\\,status.state=a\,b"
        );
    }

    proptest! {
        #[test]
        fn a_selector_is_read_back_as_it_was_written(value in "\\PC{0,12}|[\\\\,=a]{0,12}", equal: bool) {
            let selector = FieldSelector { terms: vec![Term { field: Field::Own(2, "status.state"), equal, value }] };
            prop_assert_eq!(parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,30}|(metadata\\.name[=!,\\\\a]{1,5}){0,3}") {
            if let Ok(selector) = parse(&text) {
                prop_assert_eq!(parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }

    #[test]
    fn a_name_is_demanded_by_equality_alone() {
        assert_eq!(required_name("metadata.name=a").as_deref(), Some("a"));
        assert_eq!(required_name("status.state=Failed,metadata.name==a").as_deref(), Some("a"));
        for selector in [
            "nonsense,metadata.name=a",
            "metadata.name!=a",
            "metadata.name=",
            "metadata.name=a/b",
            "status.state=Failed",
        ] {
            assert_eq!(required_name(selector), None, "{selector}");
        }
    }
}
