//! The permissions that actions need, and ClusterRoles for users who act. Pure values.
//!
//! Without actions, the account of `gatehouse apiserver` writes nothing that it shows.

use serde_json::{Value, json};

use super::{
    ACCOUNT, NAME, NAMESPACE,
    account::{by_group, cluster_role, labelled_cluster_role, named, rule},
};
use crate::{requester, view::GROUP};

/// The ClusterRole of the account, beside [`NAME`].
pub const RIGHTS: &str = "gatehouse-apiserver:actions";
/// The ClusterRole to request reconciliations.
pub const ON_CALL: &str = "gatehouse-actions-on-call";
/// The ClusterRole to request reconciliations, to suspend and to resume.
pub const OPERATOR: &str = "gatehouse-actions-operator";

/// The permissions beyond [`super::rights`] that the account needs to act on the kinds of `flux`, given as group and
/// plural name: to read and patch single objects, to create Events, to impersonate itself with the requester, and to
/// resume what was suspended until a time, where a policy has `verbs: Authorize`.
pub fn rights(flux: impl IntoIterator<Item = (String, String)> + Clone) -> Vec<Value> {
    let mut rules = by_group(flux.clone(), &["get", "patch"]);
    rules.extend(by_group(flux, &["resume"]));
    rules.push(rule(&["events.k8s.io"], &["events"], &["create"]));
    let extra = format!("userextras/{}", requester::EXTRA);
    rules.push(rule(&["authentication.k8s.io"], &[&extra], &["impersonate"]));
    let mut rights = vec![cluster_role(RIGHTS, &rules), ACCOUNT.cluster_role_binding(RIGHTS, RIGHTS)];
    rights.extend(ACCOUNT.role(RIGHTS, &[named("", "serviceaccounts", &[NAME], &["impersonate"])]));
    debug_assert!(
        rights.iter().all(|right| right["metadata"]["namespace"].as_str().is_none_or(|of| of == NAMESPACE))
    );
    rights
}

/// ClusterRoles for users, aggregated to nothing: bind them in a namespace, or in the whole cluster. They come with the
/// right to read the rows that they act on.
pub fn user_roles(flux: &[(String, String)]) -> [Value; 2] {
    let role = |name: &str, verbs: &[&str], subresources: &[&str], is_operator: bool| {
        let mut rules = vec![
            rule(&[GROUP], &["fluxresources", "fluxsummaries"], &["get", "list", "watch"]),
            rule(&[GROUP], subresources, &["create"]),
        ];
        if is_operator {
            rules.push(rule(&[GROUP], &["fluxresources/suspension"], &["get", "patch", "update"]));
        }
        rules.extend(by_group(flux.iter().cloned(), verbs));
        labelled_cluster_role(name, &json!({}), &rules)
    };
    let reconcile = ["fluxresources/reconcile", "fluxsummaries/reconcile"];
    let all = ["fluxresources/resume", "fluxresources/suspend"];
    [
        role(ON_CALL, &["reconcile"], &reconcile, false),
        role(OPERATOR, &["reconcile", "resume", "suspend"], &[reconcile, all].concat(), true),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::SUBRESOURCES;

    fn flux() -> Vec<(String, String)> {
        vec![("kustomize.toolkit.fluxcd.io".to_owned(), "kustomizations".to_owned())]
    }

    #[test]
    fn the_account_impersonates_nobody_but_itself() {
        let rights = rights(flux());
        let rules = rights.iter().filter_map(|right| right["rules"].as_array()).flatten();
        let impersonates: Vec<_> = rules.filter(|rule| rule["verbs"] == json!(["impersonate"])).collect();
        assert_eq!(impersonates.len(), 2);
        assert_eq!(impersonates[0]["resources"], json!(["userextras/gatehouse.dev/requester"]));
        assert_eq!(impersonates[1]["resourceNames"], json!([NAME]));
        assert!(!json!(rights).to_string().contains("\"*\""));
    }

    #[test]
    fn an_operator_may_do_everything_and_on_call_may_only_ask() {
        let [on_call, operator] = user_roles(&flux());
        let text = on_call.to_string();
        assert!(text.contains("fluxresources/reconcile") && !text.contains("suspend"), "{text}");
        for subresource in &SUBRESOURCES {
            let name = format!("{}/{}", subresource.resource.plural, subresource.name);
            let rules = operator["rules"].as_array().expect("rules").iter();
            let granted = rules.filter(|rule| rule["resources"].to_string().contains(&name));
            let verbs: Vec<_> =
                granted.flat_map(|rule| rule["verbs"].as_array().cloned().expect("verbs")).collect();
            for verb in subresource.verbs {
                assert!(verbs.contains(&json!(verb)), "{name} {verb}: {verbs:?}");
            }
        }
    }
}
