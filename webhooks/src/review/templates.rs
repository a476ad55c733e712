//! Refuses changes of a GameTemplate of Pteronimbus while game servers are counted by it.
//!
//! The usage of a server is that of its template. If the template changed, the servers would count for less than what their
//! pods were made with, or use more than was asked for; without it, for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_quota::{Amounts, CompiledQuota, Dimension, GroupResource, template_of, template_usage};
use gatehouse_serving::ApiError;
use serde_json::Value;

use super::answer::Answer;
use super::judge::Judge;
use super::object::Looks;
use super::request::{Request, Resource};
use crate::world::Snapshot;

/// The group of Pteronimbus.
const PTERONIMBUS: &str = "pteronimbus.io";

/// Whether these are GameTemplates.
pub(super) fn is_template(resource: &Resource<'_>) -> bool {
    (&*resource.group, &*resource.resource) == (PTERONIMBUS, "gametemplates")
}

impl Judge {
    /// Judges an update or a deletion of a template.
    pub(super) async fn keep_template(&self, request: &Request<'_>) -> Result<Answer, ApiError> {
        let (objects, _room) = self.read(request, Looks::Fields).await?;
        let Some(old) = objects.old.map(|read| read.value) else { return Ok(Answer::allowed()) };
        let change = Change::of(objects.object.map(|read| read.value).as_ref(), &old);
        if change == Change::None {
            return Ok(Answer::allowed());
        }
        let snapshot = self.known()?;
        let over = counting(&snapshot, &request.namespace, &request.name, &change);
        drop(snapshot);
        let refusal = |quota: &str| match &change {
            Change::Invalid(why) => why.clone(),
            _ => format!(
                "spec.resources: Forbidden: the quota {quota} counts game servers by the template {}: delete them first, \
                 or create another template",
                request.name
            ),
        };
        self.may_release(request, &over, refusal).await?;
        Ok(Answer::allowed())
    }
}

/// What changes of the usage of a template's servers.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    /// These limits.
    Of(BTreeSet<Dimension>),
    /// It cannot be computed any more; the error.
    Invalid(String),
}

impl Change {
    fn of(new: Option<&Value>, old: &Value) -> Self {
        let before = template_usage(old);
        let after = match new.map(template_usage) {
            None => Amounts::default(),
            Some(Ok(after)) => after,
            // Servers of one that was invalid before are counted as far as they can be.
            Some(Err(error)) if before.is_ok() => return Self::Invalid(error.to_string()),
            Some(Err(_)) => return Self::None,
        };
        let before = before.unwrap_or_default();
        let all = before.iter().chain(&after).map(|(dimension, _)| dimension);
        let changed: BTreeSet<_> = all.filter(|one| before.get(one) != after.get(one)).cloned().collect();
        if changed.is_empty() { Self::None } else { Self::Of(changed) }
    }

    fn concerns(&self, quota: &CompiledQuota) -> bool {
        match self {
            Self::None => false,
            Self::Of(changed) => changed.iter().any(|dimension| quota.hard.contains_key(dimension)),
            Self::Invalid(_) => quota.hard.keys().any(|dimension| dimension.counted().is_none()),
        }
    }
}

/// The quotas that deny and count servers of a template by what changes.
fn counting(world: &Snapshot, namespace: &str, name: &str, change: &Change) -> Vec<Arc<CompiledQuota>> {
    let denying = world.quotas.iter().filter(|quota| quota.enforcement == Enforcement::Deny);
    let concerned: Vec<_> = denying.filter(|quota| change.concerns(quota)).collect();
    if concerned.is_empty() {
        return Vec::new();
    }
    let servers = GroupResource::new(PTERONIMBUS, "gameservers");
    let servers = world.objects(&servers).into_iter().flat_map(|servers| servers.values());
    let mut found: Vec<Arc<CompiledQuota>> = Vec::new();
    for server in servers {
        let Some(info) = world.namespaces.get(&server.key.namespace) else { continue };
        let over = concerned.iter().filter(|quota| quota.selects(&info.labels));
        let new: Vec<_> = over
            .filter(|quota| found.iter().all(|known| known.name != quota.name))
            .copied()
            .cloned()
            .collect();
        if !new.is_empty() && is_of(server.value().as_ref(), namespace, name) {
            found.extend(new);
        }
    }
    found
}

fn is_of(server: Option<&Value>, namespace: &str, name: &str) -> bool {
    server.and_then(template_of).is_some_and(|template| template == (namespace.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::world::testing::Builder;

    fn template(resources: &Value) -> Value {
        json!({"metadata": {"name": "t", "namespace": "games"}, "spec": {"resources": resources, "image": "a"}})
    }

    #[test]
    fn a_template_changes_with_what_its_servers_use() {
        let old = template(&json!({"cpu": "1", "memory": "1Gi"}));
        let change = |new: Option<&Value>| Change::of(new, &old);
        let mut other = old.clone();
        other["spec"]["image"] = "b".into();
        other["spec"]["resources"]["cpu"] = "1000m".into();
        assert_eq!(change(Some(&other)), Change::None);
        let of = |changed: &[&str]| Change::Of(changed.iter().map(|one| one.parse().unwrap()).collect());
        // What it states as a whole is request and limit.
        assert_eq!(change(None), of(&["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"]));
        for cpu in ["500m", "2"] {
            let new = template(&json!({"cpu": cpu, "memory": "1Gi"}));
            assert_eq!(change(Some(&new)), of(&["limits.cpu", "requests.cpu"]));
        }
        let limited = template(&json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "4"}}));
        assert_eq!(change(Some(&limited)), of(&["limits.cpu", "limits.memory"]));
        let Change::Invalid(why) = change(Some(&template(&json!({"cpu": "many"})))) else {
            panic!("invalid")
        };
        assert!(why.starts_with("spec.resources.cpu: "), "{why}");
        let invalid = template(&json!({"cpu": "many"}));
        assert_eq!(Change::of(Some(&invalid), &invalid), Change::None);
    }

    #[test]
    fn only_quotas_that_deny_and_count_its_servers_keep_a_template() {
        let servers = GroupResource::new(PTERONIMBUS, "gameservers");
        let quotas = GroupResource::new("policy.gatehouse.dev", "tenantquotas");
        let quota = |name: &str, tenant: &str, limit: &str, enforcement: &str| {
            json!({"metadata": {"name": name, "uid": name, "resourceVersion": "1", "generation": 1},
                   "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
                   "spec": {"namespaceSelector": {"matchLabels": {"tenant": tenant}}, "hard": {limit: "9"},
                            "enforcement": enforcement}})
        };
        let server = |name: &str, namespace: &str, reference: Value| {
            json!({"metadata": {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "3"},
                   "spec": {"templateRef": reference}})
        };
        let mut builder = Builder::new();
        builder.namespace("games", &[("tenant", "a")]).namespace("b", &[("tenant", "b")]);
        for quota in [
            quota("denies", "a", "requests.cpu", "Deny"),
            quota("warns", "a", "requests.cpu", "Warn"),
            quota("of-players", "a", "players", "Deny"),
            quota("of-b", "b", "requests.cpu", "Deny"),
        ] {
            builder.apply(&quotas, &quota);
        }
        let counting = |builder: &Builder| {
            let change = Change::Of([Dimension::RequestsCpu].into());
            let over = counting(&builder.snapshot(), "games", "t", &change);
            over.iter().map(|quota| quota.name.clone()).collect::<Vec<_>>()
        };
        builder.apply(&servers, &server("other", "games", json!("u")));
        builder.apply(&servers, &server("odd", "games", json!(7)));
        assert_eq!(counting(&builder), [""; 0]);
        builder.apply(&servers, &server("one", "games", json!({"name": "t"})));
        assert_eq!(counting(&builder), ["denies"]);
        builder.apply(&servers, &server("two", "b", json!({"name": "t", "namespace": "games"})));
        assert_eq!(counting(&builder), ["of-b", "denies"]);
        builder.delete(&servers, "games", "one");
        assert_eq!(counting(&builder), ["of-b"]);
    }
}
