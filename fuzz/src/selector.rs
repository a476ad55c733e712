//! Label selectors: of query strings, and those of objects.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_apiservice::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The first line is a selector as a query string has it, or, as JSON, as an object has it; the others are labels
/// (`key=value`).
///
/// What parses is written so that it parses back to the same, and selects the same. The two kinds agree about what is
/// meant by the same requirements.
pub fn selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let labels: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if first.starts_with('{') {
        of_object(first, &labels);
    } else {
        of_query(first, &labels);
    }
}

fn of_query(text: &str, labels: &BTreeMap<String, String>) {
    let Ok(parsed) = Selector::parse(text) else { return };
    let pairs: Box<[(Arc<str>, Arc<str>)]> =
        labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
    let written = parsed.to_string();
    let read = Selector::parse(&written).unwrap_or_else(|error| panic!("{written:?}: {error}"));
    assert_eq!(read, parsed, "{written:?}");
    assert_eq!(read.to_string(), written, "the written form is canonical");
    assert_eq!(read.matches(&*pairs), parsed.matches(&*pairs), "{written:?} on {labels:?}");
    assert!(!parsed.is_empty() || parsed.matches(&*pairs), "what asks for nothing selects everything");
    // A review sees at least what the request selects.
    let review = LabelSelector { match_expressions: Some(parsed.requirements()), match_labels: None };
    if let Ok(compiled) = Selector::compile("review", &review) {
        assert!(!parsed.matches(&*pairs) || compiled.matches(labels), "{written:?} on {labels:?}");
    }
}

fn of_object(text: &str, labels: &BTreeMap<String, String>) {
    let Ok(selector) = serde_json::from_str::<LabelSelector>(text) else { return };
    match Selector::compile("spec.namespaceSelector", &selector) {
        Err(errors) => {
            assert!(!errors.is_empty(), "what is refused is refused for a reason");
            assert!(
                errors.iter().all(|error| error.field.starts_with("spec.namespaceSelector")),
                "{errors:?}"
            );
        }
        Ok(compiled) => {
            let selected = compiled.matches(labels);
            // `matchLabels` are a way of writing expressions.
            let mut expressions: Vec<_> = selector.match_expressions.clone().unwrap_or_default();
            for (key, value) in selector.match_labels.clone().unwrap_or_default() {
                let (operator, values) = ("In".to_owned(), Some(vec![value]));
                expressions.push(LabelSelectorRequirement { key, operator, values });
            }
            let same = LabelSelector { match_expressions: Some(expressions), match_labels: None };
            let same =
                Selector::compile("spec.namespaceSelector", &same).expect("every part of it was taken");
            assert_eq!(same.matches(labels), selected, "{text} on {labels:?}");
        }
    }
}
