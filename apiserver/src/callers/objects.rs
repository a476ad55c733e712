//! What is read of bindings and roles.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_apiservice::{
    View,
    view::{FluxSummaryStatus, GROUP},
};
use gatehouse_inventory::Interner;
use serde::Deserialize;

use super::rbac::{Binding, Subject};

/// The verb on the resource that makes a namespace visible.
pub(super) const VERB: &str = "list";
/// The resource.
pub(super) const RESOURCE: &str = <FluxSummaryStatus as View>::RESOURCE.plural;

/// The label of a RoleBinding, with the value `true`, whose subjects the authorizer is asked about in its namespace even
/// if its role does not grant the right: for what another authorizer than RBAC allows.
pub(super) const ASKED_LABEL: &str = "gatehouse.dev/ask-authorizer";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingObject {
    #[serde(default)]
    metadata: Metadata,
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<SubjectObject>>,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct SubjectObject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct RoleObject {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    verbs: Option<Vec<String>>,
    api_groups: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    resource_names: Option<Vec<String>>,
}

/// A binding in `namespace`, or in none; `None` if it can grant nothing.
pub(super) fn binding(
    namespace: &str,
    json: &str,
    strings: &Interner,
) -> Result<Option<Binding>, serde_json::Error> {
    let BindingObject { metadata, role_ref, subjects } = serde_json::from_str(json)?;
    let of_role = match role_ref.kind.as_str() {
        "ClusterRole" => "",
        // A ClusterRoleBinding of a Role, which has no namespace, is not valid.
        "Role" if !namespace.is_empty() => namespace,
        _ => return Ok(None),
    };
    let subjects = subjects.into_iter().flatten();
    let subjects: Arc<[_]> = subjects.filter_map(|subject| subject.read(namespace, strings)).collect();
    let role = (strings.intern(of_role), strings.intern(&role_ref.name));
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(ASKED_LABEL));
    // About the whole cluster the authorizer is asked anyway.
    let is_asked = !namespace.is_empty() && label.is_some_and(|value| value == "true");
    Ok((!subjects.is_empty()).then_some(Binding { role, subjects, is_asked }))
}

/// Whether a role grants the right in the namespaces in which it is bound.
pub(super) fn grants(json: &str) -> Result<bool, serde_json::Error> {
    let RoleObject { rules } = serde_json::from_str(json)?;
    Ok(rules.into_iter().flatten().any(|rule| rule.grants()))
}

impl Rule {
    /// A list names no object, so a rule with names grants none.
    fn grants(&self) -> bool {
        let has = |all: &Option<Vec<String>>, wanted: &str| {
            all.iter().flatten().any(|one| one == "*" || one == wanted)
        };
        has(&self.verbs, VERB)
            && has(&self.api_groups, GROUP)
            && has(&self.resources, RESOURCE)
            && self.resource_names.as_ref().is_none_or(Vec::is_empty)
    }
}

impl SubjectObject {
    /// `None` for a kind that RBAC does not know.
    fn read(self, of_binding: &str, strings: &Interner) -> Option<Subject> {
        match self.kind.as_str() {
            "User" => Some(Subject::User(strings.intern(&self.name))),
            "Group" => Some(Subject::Group(strings.intern(&self.name))),
            "ServiceAccount" => {
                let own = self.namespace.as_deref().filter(|namespace| !namespace.is_empty());
                let namespace = own.unwrap_or(of_binding);
                let name = format!("system:serviceaccount:{namespace}:{}", self.name);
                (!namespace.is_empty()).then(|| Subject::User(strings.intern(&name)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn role(rules: &Value) -> bool {
        grants(&json!({"metadata": {"name": "r"}, "rules": rules}).to_string()).expect("readable")
    }

    #[test]
    fn a_role_grants_what_rbac_says_it_grants() {
        let rule = |verbs: &[&str], groups: &[&str], resources: &[&str]| json!([{"verbs": verbs, "apiGroups": groups, "resources": resources}]);
        assert!(role(&rule(&["get", "list"], &["apps", GROUP], &["fluxsummaries"])));
        assert!(role(&rule(&["*"], &["*"], &["*"])));
        assert!(!role(&rule(&["get", "watch"], &[GROUP], &["fluxsummaries"])));
        assert!(!role(&rule(&["list"], &[""], &["fluxsummaries"])));
        assert!(!role(&rule(&["list"], &[GROUP], &["fluxsummaries/status", "*/fluxsummaries"])));
        assert!(!role(&json!(null)) && !role(&json!([{}])));
        let mut named = rule(&["list"], &[GROUP], &["fluxsummaries"]);
        named[0]["resourceNames"] = json!(["local"]);
        assert!(!role(&named), "a list has no name");
    }

    fn read(namespace: &str, role: &Value, subjects: &Value) -> Option<Binding> {
        let object = json!({"roleRef": role, "subjects": subjects});
        binding(namespace, &object.to_string(), &Interner::default()).expect("readable")
    }

    #[test]
    fn subjects_are_named_as_requests_name_them() {
        let role = json!({"kind": "ClusterRole", "name": "view"});
        let subjects = json!([
            {"kind": "User", "name": "jane"},
            {"kind": "Group", "name": "team"},
            {"kind": "ServiceAccount", "name": "here"},
            {"kind": "ServiceAccount", "name": "there", "namespace": "b"},
            {"kind": "Robot", "name": "r2"},
        ]);
        let user = |name: &str| Subject::User(name.into());
        let expected = [
            user("jane"),
            Subject::Group("team".into()),
            user("system:serviceaccount:a:here"),
            user("system:serviceaccount:b:there"),
        ];
        assert_eq!(*read("a", &role, &subjects).expect("grants").subjects, expected);
        let nobody = json!([{"kind": "ServiceAccount", "name": "here"}, {"kind": "Robot", "name": "r2"}]);
        assert_eq!(read("", &role, &nobody), None, "an account without a namespace is nobody");
        assert_eq!(read("a", &role, &Value::Null), None);
    }

    #[test]
    fn a_label_says_whom_to_ask_about() {
        let read = |namespace: &str, labels: &Value| {
            let object = json!({
                "metadata": {"labels": labels}, "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "User", "name": "jane"}],
            });
            let read = binding(namespace, &object.to_string(), &Interner::default());
            read.expect("readable").is_some_and(|binding| binding.is_asked)
        };
        assert!(read("a", &json!({ASKED_LABEL: "true"})));
        assert!(
            !read("a", &json!({ASKED_LABEL: "false"})) && !read("a", &json!({})) && !read("a", &Value::Null)
        );
        assert!(!read("", &json!({ASKED_LABEL: "true"})), "the whole cluster is asked about anyway");
    }

    #[test]
    fn a_role_is_looked_for_where_its_binding_is() {
        let (jane, name) = (json!([{"kind": "User", "name": "jane"}]), "r");
        let of = |namespace, kind: &str| {
            read(namespace, &json!({"kind": kind, "name": name}), &jane).map(|binding| binding.role)
        };
        assert_eq!(of("a", "Role"), Some(("a".into(), "r".into())));
        assert_eq!(of("a", "ClusterRole"), Some(("".into(), "r".into())));
        assert_eq!((of("", "Role"), of("a", "Other")), (None, None));
        assert!(binding("a", "{}", &Interner::default()).is_err(), "not a binding");
    }
}
