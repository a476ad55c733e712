//! The webhook configurations, as pure values.
//!
//! Every field that the API server would default is set: a tool that compares the applied with the stored object (as
//! Flux does) would otherwise always see a difference. Empty fields that the API server drops are absent for the same
//! reason.
//!
//! There is no objectSelector: users can change labels, and `Scale` has none.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{
    NAMESPACE,
    conditions::{
        claim_requests_changed, game_server_policy_fields_changed, game_server_spec_or_owner_changed,
        game_server_usage_changed, is_no_pod_of_a_set, is_not_garbage_collected, is_not_terminating,
        is_pod_of_a_set, orphans_dependents,
    },
};
use crate::{agones, policy::GROUP};

/// The name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration.
pub const NAME: &str = "gatehouse";
/// The name of the ValidatingWebhookConfiguration for further kinds that TenantQuotas count.
pub const COUNTS_NAME: &str = "gatehouse-counts";

/// The webhook that sets the defaults of policies.
pub const DEFAULTS: &str = "defaults.policy.gatehouse.dev";
/// The webhook that validates by policies.
pub const POLICIES: &str = "policies.policy.gatehouse.dev";
/// The webhook that enforces quotas.
pub const QUOTAS: &str = "quotas.policy.gatehouse.dev";
/// The webhook that denies invalid policies and quotas.
pub const CONFIG: &str = "config.policy.gatehouse.dev";
/// The webhook for further counted kinds.
pub const COUNTS: &str = "counts.policy.gatehouse.dev";

/// The path of [`DEFAULTS`].
pub const MUTATE_PATH: &str = "/mutate";
/// The path of [`POLICIES`] and [`CONFIG`].
pub const VALIDATE_PATH: &str = "/validate";
/// The path of [`QUOTAS`] and [`COUNTS`].
pub const QUOTA_PATH: &str = "/quota";

/// A review takes milliseconds. One that takes longer than this waits for room in a quota or for a replica that is down;
/// then the client should retry.
pub const TIMEOUT_SECONDS: i32 = 5;

/// The subresource by which fleets and sets are scaled. Rules match it in the group of the resource; the object of the
/// review is an `autoscaling/v1` Scale.
const SCALE: &str = "scale";

/// PersistentVolumeClaims, whose requests may be expanded.
const CLAIMS: &str = "persistentvolumeclaims";

/// Pods, of which those of OpenKruiseGame's sets are charged.
const PODS: &str = "pods";

/// By which their requests are changed in place.
const PODS_RESIZE: &str = "pods/resize";

/// The templates that the usage of Pteronimbus' game servers is computed from. They may not change while there are any.
const TEMPLATES: (&str, &str) = ("pteronimbus.io", "gametemplates");

/// The sets that Agones creates for a Fleet.
const SETS: &str = "gameserversets";

/// How kube-apiserver connects to the webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// By a Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// By a URL without a path, for a kube-apiserver outside of the cluster's network.
    Url(String),
}

/// The result of a request while the webhooks are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It is denied.
    Fail,
    /// It is admitted.
    Ignore,
}

/// A resource, and whether it has the subresource `scale`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intercepted {
    /// The API group.
    pub group: String,
    /// The plural name.
    pub resource: String,
    /// Whether requests for the `scale` subresource are reviewed too.
    pub scale: bool,
}

/// The parameters of the configurations.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// The address of the webhooks.
    pub address: Address,
    /// The CAs of their serving certificates (PEM).
    pub ca_bundle: String,
    /// The resources that policies judge.
    pub governed: Vec<Intercepted>,
    /// The resources whose updates may increase usage.
    pub charged: Vec<Intercepted>,
    /// The resources that quotas only count: only creation increases usage.
    pub counted: Vec<Intercepted>,
    /// The failurePolicy of the webhook for policies. That for quotas is always Fail.
    pub policies: FailurePolicy,
    /// Namespaces that are not reviewed, in addition to kube-system and that of the webhooks.
    pub excluded: Vec<String>,
    /// `timeoutSeconds` of the webhooks.
    pub timeout_seconds: i32,
}

impl Intercepted {
    /// A resource without the subresource `scale`.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into(), scale: false }
    }

    /// A resource with the subresource `scale`.
    #[must_use]
    pub fn scaled(self) -> Self {
        Self { scale: true, ..self }
    }
}

impl Webhooks {
    /// The MutatingWebhookConfiguration and the ValidatingWebhookConfiguration.
    pub fn configurations(&self) -> [Value; 2] {
        [self.mutating(), self.validating()]
    }

    /// Its failurePolicy is Ignore: without defaults, policies still judge the object as it is.
    fn mutating(&self) -> Value {
        let mut webhook = self.webhook(DEFAULTS, MUTATE_PATH, FailurePolicy::Ignore);
        webhook["sideEffects"] = json!("None");
        // Defaults depend on no field that other webhooks add.
        webhook["reinvocationPolicy"] = json!("Never");
        webhook["matchConditions"] = json!([is_not_terminating(), game_server_spec_or_owner_changed()]);
        webhook["rules"] = json!(rules(&without_scale(&self.governed), &["CREATE", "UPDATE"]));
        configuration("MutatingWebhookConfiguration", NAME, &[webhook])
    }

    fn validating(&self) -> Value {
        let mut policies = self.webhook(POLICIES, VALIDATE_PATH, self.policies);
        policies["rules"] = json!(rules(&self.governed, &["CREATE", "UPDATE", "DELETE"]));
        policies["matchConditions"] =
            json!([is_not_garbage_collected(), is_not_terminating(), game_server_policy_fields_changed()]);
        // Deletions are credited when the object is gone, so only those that orphan servers are reviewed: the Fleet
        // replaces the orphans. Without its template the usage of a server would be unknown.
        let mut quotas = self.webhook(QUOTAS, QUOTA_PATH, FailurePolicy::Fail);
        let mut charged = rules(&self.charged, &["CREATE", "UPDATE"]);
        charged.extend(rules(&self.counted, &["CREATE"]));
        charged.extend(rules(&[Intercepted::new("", PODS)], &["CREATE", "UPDATE"]));
        charged.extend(rules(&[Intercepted::new("", PODS_RESIZE)], &["UPDATE"]));
        charged.extend(rules(&[Intercepted::new(agones::GROUP, SETS)], &["DELETE"]));
        charged.extend(rules(&[Intercepted::new(TEMPLATES.0, TEMPLATES.1)], &["UPDATE", "DELETE"]));
        quotas["rules"] = json!(charged);
        // Objects that are being deleted are reviewed too: they may still grow, and may exist for long.
        quotas["matchConditions"] =
            json!([game_server_usage_changed(), orphans_dependents(), is_pod_of_a_set()]);
        let mut config = self.webhook(CONFIG, VALIDATE_PATH, FailurePolicy::Fail);
        config["namespaceSelector"] = json!({});
        config["rules"] = json!([{
            "apiGroups": [GROUP],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["reconcilepolicies", "tenantquotas"],
            "scope": "Cluster",
        }]);
        configuration("ValidatingWebhookConfiguration", NAME, &[policies, quotas, config])
    }

    fn webhook(&self, name: &str, path: &str, failure: FailurePolicy) -> Value {
        let client_config = self.address.client_config(path, &self.ca_bundle);
        webhook(name, &client_config, failure, &self.reviewed(), &json!(self.timeout_seconds))
    }

    /// The cluster and Gatehouse must be able to start while the webhooks are down.
    fn reviewed(&self) -> Value {
        let mut unreviewed = vec![self.address.namespace(), "kube-system"];
        for name in &self.excluded {
            if !unreviewed.contains(&name.as_str()) {
                unreviewed.push(name);
            }
        }
        json!({"matchExpressions": [{
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": unreviewed,
        }]})
    }
}

impl Address {
    fn client_config(&self, path: &str, ca_bundle: &str) -> Value {
        let ca_bundle = ByteString(ca_bundle.as_bytes().to_vec());
        match self {
            Self::Service { namespace, name, port } => json!({
                "caBundle": ca_bundle,
                "service": {"namespace": namespace, "name": name, "port": port, "path": path},
            }),
            Self::Url(url) => json!({"caBundle": ca_bundle, "url": format!("{url}{path}")}),
        }
    }

    /// The namespace of the webhooks.
    fn namespace(&self) -> &str {
        match self {
            Self::Service { namespace, .. } => namespace,
            Self::Url(_) => NAMESPACE,
        }
    }
}

/// The ValidatingWebhookConfiguration [`COUNTS_NAME`] with a rule for each of `counted`, or `None` if there are none. It
/// has the clientConfig of the webhook [`QUOTAS`] in `installed`, the static configuration, which is also its owner.
///
/// The error says what `installed` lacks that [`Webhooks::configurations`] sets.
pub fn counts_configuration(
    installed: &Value,
    counted: impl IntoIterator<Item = (String, String)>,
) -> Result<Option<Value>, &'static str> {
    let quotas = installed["webhooks"].as_array().into_iter().flatten();
    let quotas =
        quotas.into_iter().find(|webhook| webhook["name"] == QUOTAS).ok_or("it has no webhook for quotas")?;
    let uid = installed["metadata"]["uid"].as_str().ok_or("it has no uid")?;
    let counted: BTreeSet<_> =
        counted.into_iter().map(|(group, resource)| Intercepted::new(group, resource)).collect();
    if counted.is_empty() {
        return Ok(None);
    }
    // The installation may exclude further namespaces.
    let (namespaces, timeout) = (&quotas["namespaceSelector"], &quotas["timeoutSeconds"]);
    let mut counts = webhook(COUNTS, &quotas["clientConfig"], FailurePolicy::Fail, namespaces, timeout);
    let counted: Vec<_> = counted.into_iter().collect();
    let mut sent = rules(&counted, &["CREATE"]);
    // A claim is the only one of these that may grow.
    let claims = Intercepted::new("", CLAIMS);
    let mut conditions = Vec::new();
    if counted.contains(&claims) {
        sent.extend(rules(&[claims], &["UPDATE"]));
        conditions.push(claim_requests_changed());
    }
    // The others are sent by the static configuration, and would be charged twice.
    if counted.contains(&Intercepted::new("", PODS)) {
        conditions.push(is_no_pod_of_a_set());
    }
    if !conditions.is_empty() {
        counts["matchConditions"] = json!(conditions);
    }
    counts["rules"] = json!(sent);
    let mut made = configuration("ValidatingWebhookConfiguration", COUNTS_NAME, &[counts]);
    made["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "name": installed["metadata"]["name"],
        "uid": uid,
    }]);
    Ok(Some(made))
}

/// A validating webhook without rules and with the namespaceSelector `namespaces`.
fn webhook(
    name: &str,
    client_config: &Value,
    failure: FailurePolicy,
    namespaces: &Value,
    timeout_seconds: &Value,
) -> Value {
    json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": client_config,
        "failurePolicy": match failure {
            FailurePolicy::Fail => "Fail",
            FailurePolicy::Ignore => "Ignore",
        },
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespaces,
        "objectSelector": {},
        // Reservations and Events, but not for dry runs.
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": timeout_seconds,
    })
}

fn configuration(kind: &str, name: &str, webhooks: &[Value]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": webhooks,
    })
}

fn without_scale(intercepted: &[Intercepted]) -> Vec<Intercepted> {
    intercepted.iter().map(|one| Intercepted { scale: false, ..one.clone() }).collect()
}

/// One rule for each group, sorted, so that the same kinds always result in the same text. Objects are sent in the version
/// of the request.
fn rules(intercepted: &[Intercepted], operations: &[&str]) -> Vec<Value> {
    let mut groups: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for Intercepted { group, resource, scale } in intercepted {
        let resources = groups.entry(group).or_default();
        resources.insert(resource.clone());
        if *scale {
            resources.insert(format!("{resource}/{SCALE}"));
        }
    }
    let rule = |(group, resources): (&str, BTreeSet<String>)| {
        json!({
            "apiGroups": [group],
            "apiVersions": ["*"],
            "operations": operations,
            "resources": resources,
            "scope": "Namespaced",
        })
    };
    groups.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhooks() -> Webhooks {
        Webhooks {
            address: Address::Service { namespace: "a".into(), name: "b".into(), port: 443 },
            ca_bundle: "PEM".into(),
            governed: vec![
                Intercepted::new("agones.dev", "gameservers"),
                Intercepted::new("agones.dev", "fleets").scaled(),
                Intercepted::new("helm.toolkit.fluxcd.io", "helmreleases"),
            ],
            charged: vec![Intercepted::new("agones.dev", "fleets").scaled()],
            counted: vec![Intercepted::new("helm.toolkit.fluxcd.io", "helmreleases")],
            policies: FailurePolicy::Ignore,
            excluded: Vec::new(),
            timeout_seconds: TIMEOUT_SECONDS,
        }
    }

    fn named<'a>(configuration: &'a Value, name: &str) -> &'a Value {
        let webhooks = configuration["webhooks"].as_array().expect("webhooks");
        webhooks.iter().find(|webhook| webhook["name"] == name).expect("there")
    }

    #[test]
    fn scale_is_a_subresource_of_the_resources_own_group() {
        let [_, validating] = webhooks().configurations();
        assert_eq!(
            named(&validating, POLICIES)["rules"],
            json!([
                {
                    "apiGroups": ["agones.dev"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["fleets", "fleets/scale", "gameservers"],
                    "scope": "Namespaced",
                },
                {
                    "apiGroups": ["helm.toolkit.fluxcd.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["helmreleases"],
                    "scope": "Namespaced",
                },
            ])
        );
    }

    #[test]
    fn defaults_fail_open_and_quotas_never_do() {
        let [mutating, validating] = webhooks().configurations();
        assert_eq!(named(&mutating, DEFAULTS)["failurePolicy"], "Ignore");
        assert_eq!(named(&validating, POLICIES)["failurePolicy"], "Ignore");
        assert_eq!(named(&validating, QUOTAS)["failurePolicy"], "Fail");
        assert_eq!(named(&validating, CONFIG)["failurePolicy"], "Fail");
        // A Scale has nothing that could be filled in.
        assert!(!mutating["webhooks"][0]["rules"].to_string().contains("/scale"));
    }

    #[test]
    fn what_is_only_counted_is_not_reviewed_when_it_changes() {
        let [_, validating] = webhooks().configurations();
        let rules = &named(&validating, QUOTAS)["rules"];
        assert_eq!(rules[0]["operations"], json!(["CREATE", "UPDATE"]));
        assert_eq!(rules[1]["operations"], json!(["CREATE"]));
        assert_eq!(rules[1]["resources"], json!(["helmreleases"]));
        let further = |index: usize| (&rules[index]["operations"], &rules[index]["resources"]);
        assert_eq!(further(2), (&json!(["CREATE", "UPDATE"]), &json!([PODS])));
        assert_eq!(further(3), (&json!(["UPDATE"]), &json!([PODS_RESIZE])));
        assert_eq!(further(4), (&json!(["DELETE"]), &json!([SETS])));
        assert_eq!(further(5), (&json!(["UPDATE", "DELETE"]), &json!([TEMPLATES.1])));
    }

    #[test]
    fn nothing_of_its_own_namespace_is_sent_to_it() {
        let [mutating, _] = webhooks().configurations();
        let excluded = &mutating["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"];
        assert_eq!(*excluded, json!(["a", "kube-system"]));
    }

    #[test]
    fn what_is_excluded_is_excluded_everywhere_and_once() {
        let excluded = ["cert-manager", "a"].map(str::to_owned).into();
        let [mutating, mut validating] =
            Webhooks { excluded, timeout_seconds: 3, ..webhooks() }.configurations();
        for webhook in [named(&mutating, DEFAULTS), named(&validating, POLICIES), named(&validating, QUOTAS)]
        {
            let values = &webhook["namespaceSelector"]["matchExpressions"][0]["values"];
            assert_eq!(*values, json!(["a", "kube-system", "cert-manager"]));
            assert_eq!(webhook["timeoutSeconds"], 3);
        }
        // Policies and quotas are of no namespace.
        assert_eq!(named(&validating, CONFIG)["namespaceSelector"], json!({}));
        validating["metadata"]["uid"] = json!("u");
        let counted = [("apps".to_owned(), "deployments".to_owned())];
        let counts = counts_configuration(&validating, counted).expect("installed").expect("counted");
        let (counts, quotas) = (named(&counts, COUNTS), named(&validating, QUOTAS));
        assert_eq!(counts["namespaceSelector"], quotas["namespaceSelector"]);
        assert_eq!(counts["timeoutSeconds"], 3);
    }

    #[test]
    fn a_pod_is_sent_once() {
        let [_, mut validating] = webhooks().configurations();
        validating["metadata"]["uid"] = json!("u");
        let expressions = |webhook: &Value| {
            let conditions = webhook["matchConditions"].as_array().into_iter().flatten();
            let of_pods =
                conditions.filter(|one| one["name"].as_str().is_some_and(|name| name.contains("pod")));
            of_pods.map(|one| one["expression"].to_string()).collect::<Vec<_>>()
        };
        let [labelled] = &expressions(named(&validating, QUOTAS))[..] else { panic!("one condition") };
        assert!(labelled.contains(" ? 'game.kruise.io/owner-gss' in "), "{labelled}");
        let counted = [(String::new(), PODS.to_owned())];
        let counts = counts_configuration(&validating, counted).expect("installed").expect("counted");
        let [others] = &expressions(named(&counts, COUNTS))[..] else { panic!("one condition") };
        assert!(others.contains(" || !('game.kruise.io/owner-gss' in "), "{others}");
    }

    #[test]
    fn url_takes_the_path() {
        let made = Webhooks { address: Address::Url("https://127.0.0.1:1".into()), ..webhooks() };
        let [_, validating] = made.configurations();
        let expected = json!({"caBundle": "UEVN", "url": "https://127.0.0.1:1/quota"});
        assert_eq!(named(&validating, QUOTAS)["clientConfig"], expected);
    }

    #[test]
    fn counts_are_reached_as_quotas_are_and_go_with_them() {
        let [_, mut installed] = webhooks().configurations();
        installed["metadata"]["uid"] = json!("u");
        let counted = [("", "configmaps"), ("apps", "deployments"), ("", "configmaps")];
        let counted = counted.map(|(group, resource)| (group.to_owned(), resource.to_owned()));
        let counts = counts_configuration(&installed, counted).expect("installed").expect("counted");
        let webhook = named(&counts, COUNTS);
        assert_eq!(webhook["clientConfig"], named(&installed, QUOTAS)["clientConfig"]);
        assert_eq!(webhook["rules"][0]["resources"], json!(["configmaps"]));
        assert_eq!(webhook["rules"][1]["apiGroups"], json!(["apps"]));
        assert_eq!(counts["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(counts_configuration(&installed, []), Ok(None));
    }

    #[test]
    fn counts_need_what_is_installed() {
        let [mutating, validating] = webhooks().configurations();
        assert!(counts_configuration(&mutating, []).is_err());
        assert_eq!(counts_configuration(&validating, []), Err("it has no uid"));
    }
}
