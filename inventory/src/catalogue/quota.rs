//! Reads the fields of a TenantQuota that views show.

use std::collections::BTreeMap;

use gatehouse_apiservice::{
    policy::{Enforcement, LastDenial, TenantQuotaStatus},
    view::TENANT_LABEL,
};
use serde::Deserialize;

use crate::{
    Interner, Seconds, Str,
    record::{Limit, NamespaceShare, TenantQuotaDetail},
};

/// The fields that are read. Each may be absent, because a manifest can be incomplete.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Form {
    metadata: Metadata,
    spec: Spec,
    status: Option<TenantQuotaStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    namespace_selector: Selector,
    hard: BTreeMap<String, String>,
    enforcement: Enforcement,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

/// Reads the fields; the error names a field that has the wrong type.
pub(super) fn detail(json: &str, interner: &Interner) -> Result<TenantQuotaDetail, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let form: Form = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("{}: {}", error.path(), error.inner()))?;
    let Form { metadata, spec, status } = form;
    // The tenant is in the quota's own label, or else in its selector.
    let labels = [&metadata.labels, &spec.namespace_selector.match_labels];
    let tenant = labels.into_iter().find_map(|labels| labels.get(TENANT_LABEL));
    let amount = |amounts: fn(&TenantQuotaStatus) -> &BTreeMap<String, String>, name: &String| {
        status.as_ref().and_then(|status| amounts(status).get(name)).map(|amount| interner.intern(amount))
    };
    let limits = spec.hard.iter().map(|(name, hard)| Limit {
        name: interner.intern(name),
        hard: interner.intern(hard),
        used: amount(|status| &status.used, name),
        reserved: amount(|status| &status.reserved, name),
        overcommit: amount(|status| &status.overcommit, name),
    });
    let shares =
        status.iter().flat_map(|status| &status.by_namespace).map(|(namespace, usage)| NamespaceShare {
            namespace: interner.intern(namespace),
            used: spec
                .hard
                .keys()
                .map(|name| usage.used.get(name).map(|used| interner.intern(used)))
                .collect(),
            last_denials: usage.last_denials.iter().map(|denial| denied(denial, interner)).collect(),
        });
    let denial = status.as_ref().and_then(|status| status.last_denial.as_ref());
    Ok(TenantQuotaDetail {
        tenant: tenant.map(|tenant| interner.intern(tenant)),
        enforcement: spec.enforcement,
        limits: limits.collect(),
        namespaces: status.as_ref().map(|status| status.namespaces),
        denied: status.as_ref().map_or(0, |status| status.denied),
        last_denial: denial.map(|denial| denied(denial, interner)),
        by_namespace: shares.collect(),
    })
}

fn denied(denial: &LastDenial, interner: &Interner) -> (Seconds, Str) {
    (denial.time.0.as_second(), interner.intern(&denial.message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Detail, Record, State, testing::CATALOGUE};

    fn observe(object: &Value) -> Record {
        let id = CATALOGUE.find("policy.gatehouse.dev", "TenantQuota").unwrap();
        CATALOGUE.observe(id, &object.to_string(), &Interner::default(), 0).unwrap()
    }

    fn quota() -> Value {
        json!({
            "metadata": {"name": "arena"},
            "spec": {
                "namespaceSelector": {"matchLabels": {"gatehouse.dev/tenant": "arena"}},
                "hard": {"gameservers": "80", "players": "2000"},
                "enforcement": "Warn",
            },
            "status": {
                "used": {"gameservers": "78"},
                "reserved": {"gameservers": "1"},
                "byNamespace": {
                    "eu": {
                        "used": {"gameservers": "70", "pods": "5"},
                        "lastDenials": [{"time": "2026-01-01T00:00:00Z", "message": "too many"}],
                    },
                    "us": {},
                },
                "namespaces": 2,
                "denied": 3,
                "lastDenial": {"time": "2026-01-01T00:00:00Z", "message": "too many"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "Enforced", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        })
    }

    #[test]
    fn limits_are_told_with_what_is_used_of_them() {
        let record = observe(&quota());
        let Detail::TenantQuota(detail) = &record.detail else { panic!("{record:?}") };
        assert_eq!((record.verdict.state, &*record.verdict.reason), (State::Ready, "Enforced"));
        assert_eq!(record.layer, None);
        assert_eq!(detail.tenant.as_deref(), Some("arena"));
        assert_eq!((detail.enforcement, detail.namespaces, detail.denied), (Enforcement::Warn, Some(2), 3));
        assert_eq!(detail.last_denial, Some((1_767_225_600, "too many".into())));
        let limits: Vec<_> = detail
            .limits
            .iter()
            .map(|limit| (&*limit.name, &*limit.hard, limit.used.as_deref(), limit.reserved.as_deref()))
            .collect();
        assert_eq!(limits, [("gameservers", "80", Some("78"), Some("1")), ("players", "2000", None, None)]);
        let share = |namespace: &str, used: [Option<Str>; 2], last_denials: &[(i64, Str)]| NamespaceShare {
            namespace: namespace.into(),
            used: used.into(),
            last_denials: last_denials.into(),
        };
        let denial = (1_767_225_600, "too many".into());
        let expected = [share("eu", [Some("70".into()), None], &[denial]), share("us", [None, None], &[])];
        assert_eq!(*detail.by_namespace, expected, "of the limits, in their order");
    }

    #[test]
    fn a_label_of_its_own_names_the_tenant_first() {
        let mut quota = quota();
        quota["metadata"]["labels"] = json!({"gatehouse.dev/tenant": "league"});
        let Detail::TenantQuota(detail) = observe(&quota).detail else { panic!("no detail") };
        assert_eq!(detail.tenant.as_deref(), Some("league"));
    }

    #[test]
    fn a_quota_that_is_not_one_is_unknown_and_says_which_field() {
        let mut quota = quota();
        quota["spec"]["hard"]["players"] = json!(2000);
        let record = observe(&quota);
        assert_eq!((record.verdict.state, &record.detail), (State::Unknown, &Detail::None));
        let message = &record.verdict.message;
        assert!(message.starts_with("spec.hard.players: invalid type: integer `2000`"), "{message}");
    }
}
