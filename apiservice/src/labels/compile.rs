//! A `LabelSelector` of `meta/v1`, validated: errors name the field.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{
    Requirement, Selector, Test,
    syntax::{key_problem, value_problem},
};
use crate::policy::FieldError;

impl Selector {
    /// Validates the selector in the field `field`.
    pub fn compile(field: &str, selector: &LabelSelector) -> Result<Self, Vec<FieldError>> {
        let mut requirements = Vec::new();
        let mut errors = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let field = format!("{field}.matchLabels[{key}]");
            if let Some(problem) = key_problem(key) {
                errors.push(FieldError::new(format!("{field} key"), key, problem));
            }
            if let Some(problem) = value_problem(value) {
                errors.push(FieldError::new(&field, value, problem));
            }
            requirements
                .push(Requirement { key: key.clone(), test: Test::In(BTreeSet::from([value.clone()])) });
        }
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let field = format!("{field}.matchExpressions[{index}]");
            if let Some(problem) = key_problem(&expression.key) {
                errors.push(FieldError::new(format!("{field}.key"), &expression.key, problem));
            }
            let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
            for value in &values {
                if let Some(problem) = value_problem(value) {
                    errors.push(FieldError::new(format!("{field}.values"), value, problem));
                }
            }
            let some = !values.is_empty();
            let test = match expression.operator.as_str() {
                "In" if some => Test::In(values),
                "NotIn" if some => Test::NotIn(values),
                "Exists" if !some => Test::Exists,
                "DoesNotExist" if !some => Test::Missing,
                "In" | "NotIn" => {
                    let why = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(FieldError::new(format!("{field}.values"), "", why));
                    continue;
                }
                "Exists" | "DoesNotExist" => {
                    let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    let shown = values.into_iter().collect::<Vec<_>>().join(",");
                    errors.push(FieldError::new(format!("{field}.values"), shown, why));
                    continue;
                }
                other => {
                    let why = "not a valid selector operator: supported are In, NotIn, Exists, DoesNotExist";
                    errors.push(FieldError::new(format!("{field}.operator"), other, why));
                    continue;
                }
            };
            requirements.push(Requirement { key: expression.key.clone(), test });
        }
        if errors.is_empty() { Ok(Self { requirements }) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn compile(json: serde_json::Value) -> Result<Selector, Vec<String>> {
        Selector::compile("spec.namespaceSelector", &serde_json::from_value(json).unwrap())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        let all = compile(serde_json::json!({})).unwrap();
        assert!(all.matches(&labels(&[])));
        assert!(all.matches(&labels(&[("a", "b")])));
    }

    #[test]
    fn every_requirement_must_hold() {
        let selector = compile(serde_json::json!({
            "matchLabels": {"gatehouse.dev/tenant": "a"},
            "matchExpressions": [
                {"key": "stage", "operator": "In", "values": ["prod", "test"]},
                {"key": "frozen", "operator": "DoesNotExist"},
                {"key": "tier", "operator": "NotIn", "values": ["gold"]},
                {"key": "owner", "operator": "Exists"},
            ],
        }))
        .unwrap();
        let whole = [("gatehouse.dev/tenant", "a"), ("stage", "prod"), ("owner", "")];
        assert!(selector.matches(&labels(&whole)));
        assert!(!selector.matches(&labels(&whole[..2])));
        assert!(!selector.matches(&labels(&whole[1..])));
        for more in [("frozen", ""), ("tier", "gold"), ("stage", "dev")] {
            let mut labels = labels(&whole);
            labels.insert(more.0.into(), more.1.into());
            assert!(!selector.matches(&labels), "{more:?}");
        }
    }

    #[test]
    fn what_does_not_parse_is_named_by_field() {
        let errors = compile(serde_json::json!({
            "matchLabels": {"-a": "ok", "b": "not ok"},
            "matchExpressions": [
                {"key": "a", "operator": "in", "values": ["b"]},
                {"key": "a", "operator": "In"},
                {"key": "Upper.example/x", "operator": "Exists", "values": ["b"]},
            ],
        }))
        .unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "spec.namespaceSelector.matchLabels[-a] key",
                "spec.namespaceSelector.matchLabels[b]",
                "spec.namespaceSelector.matchExpressions[0].operator",
                "spec.namespaceSelector.matchExpressions[1].values",
                "spec.namespaceSelector.matchExpressions[2].key",
                "spec.namespaceSelector.matchExpressions[2].values",
            ]
        );
    }
}
