//! A compiled TenantQuota: its limits are numbers, and its selector is parsed.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_apiservice::{
    labels::Selector,
    policy::{Enforcement, FieldError, TenantQuota},
    quantity::Quantity,
};

use crate::{Amounts, CHARGED, Dimension, GroupResource, uncountable};

/// A valid TenantQuota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledQuota {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`; empty if it has none yet.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The limits.
    pub hard: BTreeMap<Dimension, Quantity>,
    /// What happens to a request that would exceed a limit.
    pub enforcement: Enforcement,
    selector: Selector,
}

/// The most bytes that the names of a quota's limits take together: the ledger repeats them, and stays within
/// [`MAX_BYTES`](crate::MAX_BYTES) with room for blocks.
const MAX_NAMES: usize = 4 << 10;

impl CompiledQuota {
    /// Compiles a quota, or returns all its errors.
    pub fn compile(quota: &TenantQuota) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut hard = BTreeMap::new();
        if quota.spec.hard.is_empty() {
            errors.push(FieldError::new("spec.hard", "", "must have at least one limit"));
        }
        let names: usize = quota.spec.hard.keys().map(String::len).sum();
        if names > MAX_NAMES {
            let problem = format!("the names of the limits must be at most {MAX_NAMES} bytes together");
            errors.push(FieldError::new("spec.hard", format!("{names} bytes"), problem));
        }
        for (key, value) in &quota.spec.hard {
            let field = format!("spec.hard[{key}]");
            match (key.parse::<Dimension>(), value.parse::<Quantity>()) {
                (Err(error), _) => errors.push(FieldError::new(field, key, error.to_string())),
                (_, Err(error)) => errors.push(FieldError::new(field, value, error.to_string())),
                (Ok(dimension), Ok(quantity)) => match problem(&dimension, quantity) {
                    Some(problem) => errors.push(FieldError::new(field, value, problem)),
                    None => {
                        hard.insert(dimension.clone(), dimension.written(quantity));
                    }
                },
            }
        }
        match Selector::compile("spec.namespaceSelector", &quota.spec.namespace_selector) {
            Ok(selector) if errors.is_empty() => Ok(Self {
                name: quota.metadata.name.clone().unwrap_or_default(),
                uid: quota.metadata.uid.clone().unwrap_or_default(),
                generation: quota.metadata.generation.unwrap_or_default(),
                hard,
                enforcement: quota.spec.enforcement,
                selector,
            }),
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// Whether a namespace with these labels is the tenant's.
    pub fn selects(&self, namespace_labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(namespace_labels)
    }

    /// The amounts that the quota limits.
    pub fn relevant(&self, amounts: &Amounts) -> Amounts {
        amounts.only(|dimension| self.hard.contains_key(dimension))
    }

    /// Errors for the resources that it cannot count, as far as known for Kubernetes' own resources.
    pub fn uncountable(&self) -> Vec<FieldError> {
        let counted =
            self.hard.keys().filter_map(|dimension| Some((dimension, uncountable(dimension.counted()?)?)));
        let error = |(dimension, why): (&Dimension, &str)| {
            FieldError::new(format!("spec.hard[{dimension}]"), dimension.to_string(), why)
        };
        counted.map(error).collect()
    }

    /// The resources whose objects may use something that is limited.
    pub fn resources(&self) -> BTreeSet<GroupResource> {
        let mut resources = BTreeSet::new();
        for dimension in self.hard.keys() {
            match dimension.counted() {
                Some(resource) => {
                    resources.insert(resource.clone());
                }
                None => resources
                    .extend(CHARGED.iter().map(|(group, resource)| GroupResource::new(group, resource))),
            }
        }
        resources
    }
}

fn problem(dimension: &Dimension, quantity: Quantity) -> Option<&'static str> {
    if quantity.is_negative() {
        Some("must not be negative")
    } else if quantity > Quantity::MAX_KUBERNETES {
        Some("must be at most 9223372036854775807")
    } else if dimension.is_integer() && !quantity.is_integer() {
        Some("must be an integer")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile(spec: &Value) -> Result<CompiledQuota, Vec<String>> {
        let quota = json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1",
            "kind": "TenantQuota",
            "metadata": {"name": "team-a", "uid": "u", "generation": 3},
            "spec": spec,
        });
        CompiledQuota::compile(&serde_json::from_value(quota).unwrap())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn limits_are_numbers_and_the_selector_selects() {
        let quota = compile(&json!({
            "namespaceSelector": {"matchLabels": {"gatehouse.dev/tenant": "team-a"}},
            "hard": {"gameservers": "80", "requests.memory": "256Gi", "count/fleets.agones.dev": "3"},
            "enforcement": "Warn",
        }))
        .unwrap();
        assert_eq!((&*quota.name, &*quota.uid, quota.generation), ("team-a", "u", 3));
        assert_eq!(quota.enforcement, Enforcement::Warn);
        assert_eq!(quota.hard[&Dimension::GameServers], Quantity::from_integer(80));
        assert!(quota.selects(&BTreeMap::from([("gatehouse.dev/tenant".into(), "team-a".into())])));
        assert!(!quota.selects(&BTreeMap::new()));
        assert!(quota.resources().contains(&GroupResource::new("agones.dev", "gameserversets")));
    }

    #[test]
    fn everything_that_makes_no_sense_is_named_by_field() {
        let errors = compile(&json!({
            "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]},
            "hard": {
                "players": "-1",
                "gameservers": "2.5",
                "requests.cpu": "ten",
                "requests.memory": "10Ei",
                "count/Fleets": "1",
                "pods": "1",
                "count/pods": "",
            },
        }))
        .unwrap_err();
        assert_eq!(
            errors,
            [
                r#"spec.hard[count/Fleets]: Invalid value: "count/Fleets": must be count/RESOURCE.GROUP, such as count/fleets.agones.dev, or count/RESOURCE for the core group"#,
                r#"spec.hard[count/pods]: Invalid value: "": quantities must be a number with an optional suffix, such as 500m, 2 or 1.5Gi"#,
                r#"spec.hard[gameservers]: Invalid value: "2.5": must be an integer"#,
                r#"spec.hard[players]: Invalid value: "-1": must not be negative"#,
                r#"spec.hard[pods]: Invalid value: "pods": unknown limit: there are gameservers, players, capacity/NAME, requests.cpu, requests.memory, limits.cpu, limits.memory, requests.storage and count/RESOURCE.GROUP"#,
                r#"spec.hard[requests.cpu]: Invalid value: "ten": quantities must be a number with an optional suffix, such as 500m, 2 or 1.5Gi"#,
                r#"spec.hard[requests.memory]: Invalid value: "10Ei": must be at most 9223372036854775807"#,
                r#"spec.namespaceSelector.matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator: supported are In, NotIn, Exists, DoesNotExist"#,
            ]
        );
    }

    #[test]
    fn a_quota_without_limits_is_refused() {
        let errors = compile(&json!({"namespaceSelector": {}, "hard": {}})).unwrap_err();
        assert_eq!(errors, [r#"spec.hard: Invalid value: "": must have at least one limit"#]);
        let hard: serde_json::Map<_, _> = (0..40)
            .map(|index| (format!("count/r{index:0>60}.example.{}", "d".repeat(40)), json!("1")))
            .collect();
        let errors = compile(&json!({"namespaceSelector": {}, "hard": hard})).unwrap_err();
        let expected = "the names of the limits must be at most 4096 bytes together";
        assert_eq!(errors, [format!(r#"spec.hard: Invalid value: "4640 bytes": {expected}"#)]);
    }
}
