//! The service account of the webhooks and its permissions, as pure values.
//!
//! It reads the objects that policies and quotas judge or count, writes QuotaLedgers, statuses and Events, and suspends
//! and resumes Flux objects, which is the only field of a spec that it writes. The only Secret that it reads is that of
//! its certificates, if they are self-managed.

use serde_json::{Value, json};

use super::account::{self, Account, by_group, labelled_cluster_role, named, rule};
use super::{NAMESPACE, webhooks};
use crate::policy::GROUP;

/// The name of the Service, service account, roles and Lease of the webhooks.
pub const NAME: &str = "gatehouse-webhooks";
/// The name of the Lease if certificates are not self-managed. A replica that manages certificates needs the Lease
/// [`NAME`] while replicas of another `tls.mode` are still running.
pub const UNMANAGED_LEASE: &str = "gatehouse-webhooks-controllers";
/// The name of the Secret with their certificates, if they are self-managed.
pub const SECRET: &str = "gatehouse-webhooks-tls";
/// The user name of the service account.
pub const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-webhooks";
/// The server name that kube-apiserver sends in the TLS handshake. The serving certificate must be valid for it.
pub const SERVER_NAME: &str = "gatehouse-webhooks.gatehouse-system.svc";
/// A ClusterRole with this label, set to `true`, is aggregated to the account's permissions: it lets the account list and
/// watch further kinds for a TenantQuota to count.
pub const AGGREGATE: &str = "gatehouse.dev/aggregate-to-webhooks";
/// The ClusterRole that aggregates them.
const AGGREGATED: &str = "gatehouse-webhooks-counted";

const ACCOUNT: Account = Account(NAME);
const REGISTRATIONS: &str = "admissionregistration.k8s.io";
const CONFIGURATIONS: &str = "validatingwebhookconfigurations";

/// The permissions that the account [`USER`] always needs. It reads `kinds`, and suspends and resumes `suspended`, each
/// given as group and plural name.
pub fn rights(
    kinds: impl IntoIterator<Item = (String, String)>,
    suspended: impl IntoIterator<Item = (String, String)>,
) -> Vec<Value> {
    let mut rights = vec![
        cluster_role(kinds, suspended),
        ACCOUNT.cluster_role_binding(NAME, NAME),
        aggregated(),
        ACCOUNT.cluster_role_binding(AGGREGATED, AGGREGATED),
    ];
    // Policies take parameters from any ConfigMap in its own namespace.
    let parameters = rule(&[""], &["configmaps"], &["list", "watch"]);
    rights.extend(ACCOUNT.role(NAME, &[Account::leases(&[NAME, UNMANAGED_LEASE]), parameters]));
    // Requests for metrics are authenticated and authorized.
    rights.extend(ACCOUNT.delegation());
    rights.extend([priority_level(), flow_schema()]);
    rights
}

/// The permissions beyond [`rights`] that the account needs if certificates are self-managed: for the Secret [`SECRET`]
/// and both static webhook configurations.
pub fn self_managed() -> Vec<Value> {
    let registered =
        |resource| named(REGISTRATIONS, resource, &[webhooks::NAME], &["get", "create", "patch"]);
    let registered = ["mutatingwebhookconfigurations", CONFIGURATIONS].map(registered);
    ACCOUNT.self_managed(Vec::new(), registered.into())
}

/// ClusterRoles for users: one to read quotas and policies, aggregated to `view` (they are cluster-scoped, so only users
/// with a ClusterRoleBinding have it), and one to write them, which is aggregated to nothing.
pub fn user_roles() -> [Value; 2] {
    let resources = ["reconcilepolicies", "tenantquotas"];
    let read = rule(&[GROUP], &resources, &["get", "list", "watch"]);
    let write = rule(&[GROUP], &resources, &["*"]);
    let view = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    [
        labelled_cluster_role("gatehouse-policies-view", &view, &[read]),
        labelled_cluster_role("gatehouse-policies-admin", &json!({}), &[write]),
    ]
}

/// A ClusterRole that lets the account list and watch `kinds`, by [`AGGREGATE`] or by a binding to it.
pub fn counted_role(name: &str, kinds: impl IntoIterator<Item = (String, String)>) -> Value {
    labelled_cluster_role(name, &json!({AGGREGATE: "true"}), &by_group(kinds, &["get", "list", "watch"]))
}

/// Binds the account to a ClusterRole.
pub fn cluster_role_binding(name: &str, role: &str) -> Value {
    ACCOUNT.cluster_role_binding(name, role)
}

fn cluster_role(
    kinds: impl IntoIterator<Item = (String, String)>,
    suspended: impl IntoIterator<Item = (String, String)>,
) -> Value {
    // Single objects are read in addition to the watches: templates, and objects whose admission has expired.
    let mut rules = by_group(kinds, &["get", "list", "watch"]);
    rules.extend(by_group(suspended, &["patch"]));
    rules.extend([
        // A namespace that was not observed yet is read.
        rule(&[""], &["namespaces"], &["get", "list", "watch"]),
        rule(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &["list", "watch"]),
        rule(&[GROUP], &["reconcilepolicies"], &["list", "watch"]),
        // Each replica adds its denials to the current status.
        rule(&[GROUP], &["tenantquotas"], &["get", "list", "watch"]),
        rule(&[GROUP], &["reconcilepolicies/status", "tenantquotas/status"], &["patch"]),
        // Read with a quorum, and written as a whole, by POST or PUT.
        rule(&[GROUP], &["quotaledgers"], &["get", "list", "watch", "create", "update"]),
        rule(&["events.k8s.io"], &["events"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        named(REGISTRATIONS, CONFIGURATIONS, &[webhooks::NAME], &["get"]),
    ]);
    // Server-side apply creates or patches.
    let counts = ["get", "create", "patch", "delete"];
    rules.push(named(REGISTRATIONS, CONFIGURATIONS, &[webhooks::COUNTS_NAME], &counts));
    account::cluster_role(NAME, &rules)
}

/// kube-controller-manager fills in the rules, so they are absent here.
fn aggregated() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": AGGREGATED},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {AGGREGATE: "true"}}]},
    })
}

/// A request that waits for admission takes a seat of its user's priority level. If ledgers were written at the same
/// level, requests that fill the level would wait for a write that waits for them.
fn priority_level() -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": NAME},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 20,
                "lendablePercent": 50,
                "limitResponse": {
                    "type": "Queue",
                    "queuing": {"queues": 16, "handSize": 4, "queueLengthLimit": 50},
                },
            },
        },
    })
}

fn flow_schema() -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": NAME},
        "spec": {
            "priorityLevelConfiguration": {"name": NAME},
            // Takes precedence over the FlowSchema of service accounts (9000).
            "matchingPrecedence": 1000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{
                    "kind": "ServiceAccount",
                    "serviceAccount": {"namespace": NAMESPACE, "name": NAME},
                }],
                "resourceRules": [{
                    "apiGroups": ["*"],
                    "resources": ["*"],
                    "verbs": ["*"],
                    "clusterScope": true,
                    "namespaces": ["*"],
                }],
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(group: &str, plural: &str) -> (String, String) {
        (group.to_owned(), plural.to_owned())
    }

    #[test]
    fn account_reads_what_it_judges_and_patches_only_what_it_suspends() {
        let role = cluster_role([pair("a", "fleets"), pair("b", "ks")], [pair("b", "ks")]);
        let rules = role["rules"].as_array().expect("rules");
        assert_eq!(
            rules[0],
            json!({"apiGroups": ["a"], "resources": ["fleets"], "verbs": ["get", "list", "watch"]})
        );
        assert_eq!(rules[2], json!({"apiGroups": ["b"], "resources": ["ks"], "verbs": ["patch"]}));
        let text = role.to_string();
        assert!(!text.contains("\"*\"") && !text.contains("secrets"), "{text}");
    }

    #[test]
    fn nothing_is_written_in_a_way_that_nobody_uses() {
        let role = cluster_role([], []);
        let rules = role["rules"].as_array().expect("rules");
        let verbs = |resource: &str| {
            let is_of = |rule: &&Value| {
                rule["resources"].as_array().is_some_and(|all| all.contains(&json!(resource)))
            };
            let rules = rules.iter().filter(is_of).filter(|rule| rule.get("resourceNames").is_none());
            rules.map(|rule| (rule["apiGroups"].clone(), rule["verbs"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(verbs("events"), [(json!(["events.k8s.io"]), json!(["create"]))]);
        assert_eq!(verbs("tenantquotas/status"), [(json!([GROUP]), json!(["patch"]))]);
        assert_eq!(
            verbs("quotaledgers"),
            [(json!([GROUP]), json!(["get", "list", "watch", "create", "update"]))]
        );
        assert_eq!(verbs(CONFIGURATIONS), [], "by name alone");
    }

    #[test]
    fn only_its_own_registration_may_be_written() {
        let mut rules = Vec::new();
        for role in [cluster_role([], []), self_managed().swap_remove(0)] {
            rules.extend(role["rules"].as_array().expect("rules").clone());
        }
        let mut named = Vec::new();
        for rule in rules {
            let writes = rule["verbs"]
                .as_array()
                .expect("verbs")
                .iter()
                .any(|verb| !["get", "list", "watch"].contains(&verb.as_str().expect("text")));
            if rule["apiGroups"][0] == REGISTRATIONS && writes {
                named.push(rule["resourceNames"].clone());
            }
        }
        assert_eq!(named, [json!([webhooks::COUNTS_NAME]), json!([webhooks::NAME]), json!([webhooks::NAME])]);
    }

    #[test]
    fn ledgers_are_nobodys_to_write() {
        for role in user_roles() {
            assert!(!role.to_string().contains("quotaledgers"), "{role}");
        }
    }

    #[test]
    fn user_is_the_bound_service_account() {
        assert_eq!(USER, format!("system:serviceaccount:{NAMESPACE}:{NAME}"));
        assert_eq!(SERVER_NAME, format!("{NAME}.{NAMESPACE}.svc"));
        assert_eq!(SECRET, ACCOUNT.secret());
    }
}
