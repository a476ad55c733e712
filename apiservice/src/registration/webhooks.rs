//! The webhook configurations, as pure values.
//!
//! Every field that the API server would fill in is written out: a tool that compares what it applied with what is
//! there (Flux does) would otherwise see a difference for ever. Empty fields that the API server drops are left out,
//! for the same reason.
//!
//! Nothing of these names a label of objects: users write those, and `Scale` has none.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{
    NAMESPACE,
    conditions::{
        changes_what_a_game_server_is, changes_what_is_counted_of_a_game_server,
        changes_what_is_judged_of_a_game_server, is_not_cleaned_up, is_not_going, leaves_something_behind,
    },
};
use crate::{agones, policy::GROUP};

/// The name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration.
pub const NAME: &str = "gatehouse";
/// The ValidatingWebhookConfiguration of the kinds that TenantQuotas count beyond the static ones.
pub const COUNTS_NAME: &str = "gatehouse-counts";

/// The webhook that fills in a policy's defaults.
pub const DEFAULTS: &str = "defaults.policy.gatehouse.dev";
/// The webhook that judges by policies.
pub const POLICIES: &str = "policies.policy.gatehouse.dev";
/// The webhook that holds the limits of tenants.
pub const QUOTAS: &str = "quotas.policy.gatehouse.dev";
/// The webhook that refuses policies and quotas that make no sense.
pub const CONFIG: &str = "config.policy.gatehouse.dev";
/// The webhook of kinds that are counted beyond the static ones.
pub const COUNTS: &str = "counts.policy.gatehouse.dev";

/// The path of [`DEFAULTS`].
pub const MUTATE_PATH: &str = "/mutate";
/// The path of [`POLICIES`] and [`CONFIG`].
pub const VALIDATE_PATH: &str = "/validate";
/// The path of [`QUOTAS`] and [`COUNTS`].
pub const QUOTA_PATH: &str = "/quota";

/// A review takes milliseconds. What takes longer than this waits for a quota's room or for a replica that is gone,
/// and had better be tried again.
pub const TIMEOUT_SECONDS: i32 = 5;

/// What fleets and sets of game servers are scaled through. It is matched as a subresource of the resource's own
/// group; what arrives is an `autoscaling/v1` Scale.
const SCALE: &str = "scale";

/// What Agones makes for a Fleet.
const SETS: &str = "gameserversets";

/// Where kube-apiserver finds the webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Behind a Service, as in a cluster.
    Service {
        /// The Service's namespace.
        namespace: String,
        /// The Service's name.
        name: String,
        /// The Service's port.
        port: u16,
    },
    /// At a URL, without a path: where kube-apiserver is not part of the cluster's network.
    Url(String),
}

/// What becomes of a request that nobody could be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It is refused.
    Fail,
    /// It is admitted.
    Ignore,
}

/// A resource, and whether it is scaled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intercepted {
    /// The API group.
    pub group: String,
    /// The plural name.
    pub resource: String,
    /// Whether the `scale` subresource is intercepted too.
    pub scale: bool,
}

/// What the configurations are made of.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Where the webhooks are served.
    pub address: Address,
    /// Whom their certificates are signed by, as PEM.
    pub ca_bundle: String,
    /// What policies judge.
    pub governed: Vec<Intercepted>,
    /// What quotas charge: an update may take up more.
    pub charged: Vec<Intercepted>,
    /// What quotas count, and no more, whatever they say: it is creation that makes more of it.
    pub counted: Vec<Intercepted>,
    /// What becomes of a request while no policy can be asked about it. Quotas are held in any case.
    pub policies: FailurePolicy,
    /// Namespaces that are never reviewed, beside that of the webhooks and kube-system.
    pub excluded: Vec<String>,
    /// How long kube-apiserver waits for a review.
    pub timeout_seconds: i32,
}

impl Intercepted {
    /// A resource that cannot be scaled.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into(), scale: false }
    }

    /// The same, scaled through its `scale` subresource.
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

    /// Defaults are a convenience: where they cannot be filled in, policies still judge the object as it is.
    fn mutating(&self) -> Value {
        let mut webhook = self.webhook(DEFAULTS, MUTATE_PATH, FailurePolicy::Ignore);
        webhook["sideEffects"] = json!("None");
        // What is filled in depends on nothing that other webhooks add.
        webhook["reinvocationPolicy"] = json!("Never");
        webhook["matchConditions"] = json!([is_not_going(), changes_what_a_game_server_is()]);
        webhook["rules"] = json!(rules(&without_scale(&self.governed), &["CREATE", "UPDATE"]));
        configuration("MutatingWebhookConfiguration", NAME, &[webhook])
    }

    fn validating(&self) -> Value {
        let mut policies = self.webhook(POLICIES, VALIDATE_PATH, self.policies);
        policies["rules"] = json!(rules(&self.governed, &["CREATE", "UPDATE", "DELETE"]));
        policies["matchConditions"] =
            json!([is_not_cleaned_up(), is_not_going(), changes_what_is_judged_of_a_game_server()]);
        // What is deleted is credited when it is gone, not when somebody asks for it. But a set that leaves its servers
        // behind is replaced by its Fleet.
        let mut quotas = self.webhook(QUOTAS, QUOTA_PATH, FailurePolicy::Fail);
        let mut charged = rules(&self.charged, &["CREATE", "UPDATE"]);
        charged.extend(rules(&self.counted, &["CREATE"]));
        charged.extend(rules(&[Intercepted::new(agones::GROUP, SETS)], &["DELETE"]));
        quotas["rules"] = json!(charged);
        // What is going may still grow: nothing says that it will not be there for long.
        quotas["matchConditions"] =
            json!([changes_what_is_counted_of_a_game_server(), leaves_something_behind()]);
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

    /// A cluster must come up, and Gatehouse in it, while nobody answers.
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

    /// Where the webhooks run.
    fn namespace(&self) -> &str {
        match self {
            Self::Service { namespace, .. } => namespace,
            Self::Url(_) => NAMESPACE,
        }
    }
}

/// The ValidatingWebhookConfiguration [`COUNTS_NAME`], with a rule for each of `counted`, reached as the webhook
/// [`QUOTAS`] of the static configuration is, and removed with it. None where nothing is counted.
///
/// Says what is missing where `installed` is not what [`Webhooks::configurations`] makes.
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
    // What the installation excludes is excluded here.
    let (namespaces, timeout) = (&quotas["namespaceSelector"], &quotas["timeoutSeconds"]);
    let mut counts = webhook(COUNTS, &quotas["clientConfig"], FailurePolicy::Fail, namespaces, timeout);
    let counted: Vec<_> = counted.into_iter().collect();
    counts["rules"] = json!(rules(&counted, &["CREATE"]));
    let mut made = configuration("ValidatingWebhookConfiguration", COUNTS_NAME, &[counts]);
    made["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "name": installed["metadata"]["name"],
        "uid": uid,
    }]);
    Ok(Some(made))
}

/// A validating webhook without rules, for what is in `namespaces`, a selector.
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
        // Reservations and Events; neither in a dry-run.
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

/// One rule for each group, in order, so that the same kinds make the same text. Objects arrive in the version that
/// they are asked for in.
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
        assert_eq!((&rules[2]["operations"], &rules[2]["resources"]), (&json!(["DELETE"]), &json!([SETS])));
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
