//! The account that the webhooks run as, and its rights, as pure values.
//!
//! It reads what it judges, counts or compiles, writes ledgers, statuses and Events, and suspends and resumes what Flux
//! reconciles. It reads no Secrets but that of its own certificates, where they are self-managed, and writes no object's
//! spec but for that.

use serde_json::{Value, json};

use super::account::{self, Account, by_group, labelled_cluster_role, named, rule};
use super::{NAMESPACE, webhooks};
use crate::policy::GROUP;

/// The name of the Service, account, roles and Lease of the webhooks.
pub const NAME: &str = "gatehouse-webhooks";
/// The name of the Secret of their certificates, where they are self-managed.
pub const SECRET: &str = "gatehouse-webhooks-tls";
/// Its user name: that of its service account.
pub const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-webhooks";
/// The name under which kube-apiserver asks for it in the TLS handshake: a serving certificate must carry it.
pub const SERVER_NAME: &str = "gatehouse-webhooks.gatehouse-system.svc";
/// A ClusterRole with this label, set to `true`, adds to what the account may do: to list and watch whatever a
/// TenantQuota is to count that it does not read by itself.
pub const AGGREGATE: &str = "gatehouse.dev/aggregate-to-webhooks";
/// The role that such rights are gathered in.
const AGGREGATED: &str = "gatehouse-webhooks-counted";

const ACCOUNT: Account = Account(NAME);
const REGISTRATIONS: &str = "admissionregistration.k8s.io";
const CONFIGURATIONS: &str = "validatingwebhookconfigurations";

/// Every right that the account [`USER`] needs in any case: to read `kinds` and to suspend and resume `suspended`, each a group and a
/// plural name.
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
    // Policies take parameters from ConfigMaps of its own namespace, whatever their names.
    let parameters = rule(&[""], &["configmaps"], &["list", "watch"]);
    rights.extend(ACCOUNT.role(NAME, &[Account::leases(&[NAME]), parameters]));
    // Whoever asks for metrics is asked about.
    rights.extend(ACCOUNT.delegation());
    rights.extend([priority_level(), flow_schema()]);
    rights
}

/// What the account needs beyond [`rights`] where certificates are self-managed: to write the Secret [`SECRET`], and to
/// keep both static configurations.
pub fn self_managed() -> Vec<Value> {
    let registered =
        |resource| named(REGISTRATIONS, resource, &[webhooks::NAME], &["get", "create", "patch"]);
    let registered = ["mutatingwebhookconfigurations", CONFIGURATIONS].map(registered);
    ACCOUNT.self_managed(Vec::new(), registered.into())
}

/// What people may be given: to read quotas and policies, which whoever may view the whole cluster can, since they belong
/// to no namespace; and to write them, which nobody can who is not bound to it.
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
    // What a charge rests on, or what became of it, is asked for beside what is watched.
    let mut rules = by_group(kinds, &["get", "list", "watch"]);
    rules.extend(by_group(suspended, &["patch"]));
    rules.extend([
        // One that is not known yet is asked for.
        rule(&[""], &["namespaces"], &["get", "list", "watch"]),
        rule(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &["list", "watch"]),
        rule(&[GROUP], &["reconcilepolicies"], &["list", "watch"]),
        // Each replica adds its refusals to the status as it is.
        rule(&[GROUP], &["tenantquotas"], &["get", "list", "watch"]),
        rule(&[GROUP], &["reconcilepolicies/status", "tenantquotas/status"], &["patch"]),
        // Read with a quorum, and written as a whole, by POST or PUT.
        rule(&[GROUP], &["quotaledgers"], &["get", "list", "watch", "create", "update"]),
        rule(&["events.k8s.io"], &["events"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        named(REGISTRATIONS, CONFIGURATIONS, &[webhooks::NAME], &["get"]),
    ]);
    // Applied, which creates or patches.
    let counts = ["get", "create", "patch", "delete"];
    rules.push(named(REGISTRATIONS, CONFIGURATIONS, &[webhooks::COUNTS_NAME], &counts));
    account::cluster_role(NAME, &rules)
}

/// Its rules are kube-controller-manager's to fill in, and so are not written here.
fn aggregated() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": AGGREGATED},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {AGGREGATE: "true"}}]},
    })
}

/// A request that waits for admission holds a seat of its user's level. Were the ledger written from the same level,
/// a full one would wait for itself.
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
            // Before those of service accounts (9000).
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
