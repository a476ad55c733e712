//! The audit policy: which requests are logged, and which of their stages. It is the kind Policy of `audit.k8s.io/v1`,
//! with the semantics of kube-apiserver.
//!
//! **Invariants:** the first rule that matches decides; if none matches, the request is not logged. A policy with an
//! unknown field is rejected, with the field's path, so that a typo cannot cause a gap in the log.

use std::{collections::HashSet, path::Path};

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    authn::UserInfo,
    request_info::{RequestInfo, ResourceRequest},
};

const API_VERSION: &str = "audit.k8s.io/v1";
const KIND: &str = "Policy";

/// An audit policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Option<IgnoredAny>,
    /// Stages that every rule omits, beside its own.
    #[serde(default)]
    omit_stages: HashSet<Stage>,
    #[serde(default, rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
    #[serde(default)]
    rules: Vec<Rule>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// Which file.
        file: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{file} is not YAML: {message}")]
    Yaml {
        /// Which file.
        file: String,
        /// The error and its position.
        message: String,
    },
    /// A field is unknown, missing or invalid.
    #[error("{file}: {field}: {message}")]
    Field {
        /// Which file.
        file: String,
        /// The path of the field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

/// How much of a request to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// A stage of a request at which an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: HashSet<Stage>,
    #[serde(default, rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// The stages of a request that are not logged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Omitted<'a>([&'a HashSet<Stage>; 2]);

impl Omitted<'_> {
    pub(super) fn contains(self, stage: Stage) -> bool {
        self.0.iter().any(|stages| stages.contains(&stage))
    }
}

impl Policy {
    /// Reads and parses a file.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(source) => Err(PolicyError::Read { file, source }),
        }
    }

    /// Parses YAML; `file` names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        let wrong =
            |field: String, message: String| PolicyError::Field { file: file.to_owned(), field, message };
        // A namespace may be called `n`, which is false in YAML 1.1.
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let document: serde_json::Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| PolicyError::Yaml { file: file.to_owned(), message: error.to_string() })?;
        let policy: Self = serde_path_to_error::deserialize(document)
            .map_err(|error| wrong(error.path().to_string(), error.inner().to_string()))?;
        policy.check().map_err(|(field, message)| wrong(field, message))?;
        Ok(policy)
    }

    /// Whether a rule asks for bodies (level Request or RequestResponse), which are never written.
    pub fn asks_for_bodies(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.level, Level::Request | Level::RequestResponse))
    }

    /// The stages to omit for a request; `None` if it is not logged at all. `user` is `None` for a request that is not
    /// authenticated; rules with users or groups do not match it.
    pub(super) fn omitted(&self, user: Option<&UserInfo>, request: &RequestInfo) -> Option<Omitted<'_>> {
        let rule = self.rules.iter().find(|rule| rule.matches(user, request))?;
        (rule.level != Level::None).then_some(Omitted([&self.omit_stages, &rule.omit_stages]))
    }

    /// The checks of `ValidatePolicy` in k8s.io/apiserver. The error is the field's path and the message.
    fn check(&self) -> Result<(), (String, String)> {
        for (field, value, expected) in
            [("apiVersion", &self.api_version, API_VERSION), ("kind", &self.kind, KIND)]
        {
            if value != expected {
                return Err((field.to_owned(), format!("must be {expected}, and is {value:?}")));
            }
        }
        if self.rules.is_empty() {
            return Err(("rules".to_owned(), "there are none, so that nothing would be logged".to_owned()));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|(field, message)| (format!("rules[{index}].{field}"), message))?;
        }
        Ok(())
    }
}

impl Rule {
    fn matches(&self, user: Option<&UserInfo>, request: &RequestInfo) -> bool {
        let is_user = |user: &UserInfo| self.users.contains(&user.name);
        let is_in = |user: &UserInfo| user.groups.iter().any(|group| self.user_groups.contains(group));
        if !(self.users.is_empty() || user.is_some_and(is_user))
            || !(self.user_groups.is_empty() || user.is_some_and(is_in))
            || !(self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == request.verb()))
        {
            return false;
        }
        match request {
            RequestInfo::Resource(resource) => {
                self.non_resource_urls.is_empty() && self.matches_resource(resource)
            }
            RequestInfo::NonResource(other) => {
                self.namespaces.is_empty() && self.resources.is_empty() && self.matches_path(&other.path)
            }
        }
    }

    fn matches_resource(&self, request: &ResourceRequest) -> bool {
        // Cluster-scoped resources and lists of all namespaces have the namespace "".
        let namespace = request.namespace.as_deref().unwrap_or_default();
        (self.namespaces.is_empty() || self.namespaces.iter().any(|one| one == namespace))
            && (self.resources.is_empty() || self.resources.iter().any(|row| row.matches(request)))
    }

    fn matches_path(&self, path: &str) -> bool {
        let is_in = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == pattern,
        };
        self.non_resource_urls.is_empty() || self.non_resource_urls.iter().any(is_in)
    }

    fn check(&self) -> Result<(), (String, String)> {
        for (index, url) in self.non_resource_urls.iter().enumerate() {
            let wrong =
                |message: &str| Err((format!("nonResourceURLs[{index}]"), format!("{url:?} {message}")));
            if url != "*" && !url.starts_with('/') {
                return wrong("must begin with /");
            }
            if url.strip_suffix('*').unwrap_or(url).contains('*') {
                return wrong("may have a * at its end alone");
            }
        }
        let is_for_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if is_for_resources && !self.non_resource_urls.is_empty() {
            let message = "a rule is for resources or for other URLs, and not for both";
            return Err(("nonResourceURLs".to_owned(), message.to_owned()));
        }
        let nameless = |row: &GroupResources| row.resources.is_empty() && !row.resource_names.is_empty();
        if let Some(index) = self.resources.iter().position(nameless) {
            return Err((
                format!("resources[{index}].resourceNames"),
                "needs resources beside it".to_owned(),
            ));
        }
        let versioned = |row: &GroupResources| row.group.contains('/');
        if let Some(index) = self.resources.iter().position(versioned) {
            let message = format!("{:?} is no group: leave the version out", self.resources[index].group);
            return Err((format!("resources[{index}].group"), message));
        }
        Ok(())
    }
}

impl GroupResources {
    fn matches(&self, request: &ResourceRequest) -> bool {
        let name = request.name.as_deref().unwrap_or_default();
        let is_named = || self.resource_names.is_empty() || self.resource_names.iter().any(|one| one == name);
        (self.group == request.group || self.group == "*")
            && (self.resources.is_empty()
                || (is_named() && self.resources.iter().any(|pattern| matches_pattern(pattern, request))))
    }
}

/// Whether a pattern of `resources` matches: `*` matches everything, `things` the resource without its subresources,
/// `things/status` one subresource, `things/*` the resource and all its subresources, `*/status` the subresource of any
/// resource.
fn matches_pattern(pattern: &str, request: &ResourceRequest) -> bool {
    let subresource = request.subresource.as_deref();
    match pattern.split_once('/') {
        None => pattern == "*" || (pattern == request.resource && subresource.is_none()),
        Some((resource, "*")) => resource == request.resource,
        Some(("*", sub)) => subresource == Some(sub),
        Some((resource, sub)) => resource == request.resource && subresource == Some(sub),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn policy(rules: &str) -> Result<Policy, PolicyError> {
        Policy::parse("policy.yaml", &format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}"))
    }

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        UserInfo { name: name.to_owned(), groups, ..UserInfo::default() }
    }

    fn info(method: &Method, uri: &str) -> RequestInfo {
        RequestInfo::parse(method, &uri.parse().expect("URI")).expect("readable")
    }

    #[test]
    fn a_rule_matches_what_upstreams_would() {
        let jane = user("jane", &["devs", "system:authenticated"]);
        for (rule, uri, expected) in [
            ("{}", "/apis/g/v1/things", true),
            ("{}", "/healthz", true),
            ("users: [jane]", "/healthz", true),
            ("users: [joe]", "/healthz", false),
            ("userGroups: [ops, devs]", "/healthz", true),
            ("userGroups: [ops]", "/healthz", false),
            ("users: [jane], userGroups: [ops]", "/healthz", false),
            ("verbs: [list]", "/apis/g/v1/things", true),
            ("verbs: [list]", "/apis/g/v1/things/a", false),
            ("verbs: ['*']", "/apis/g/v1/things/a", false),
            ("verbs: [get]", "/healthz", true),
            ("resources: [{group: g}]", "/apis/g/v1/things", true),
            ("resources: [{group: g}]", "/healthz", false),
            ("resources: [{group: h}]", "/apis/g/v1/things", false),
            ("resources: [{group: '*'}]", "/apis/g/v1/things", true),
            ("resources: [{}]", "/api/v1/pods", true),
            ("resources: [{}]", "/apis/g/v1/things", false),
            ("resources: [{group: g, resources: [things]}]", "/apis/g/v1/things", true),
            ("resources: [{group: g, resources: [things]}]", "/apis/g/v1/things/a/status", false),
            ("resources: [{group: g, resources: [things/status]}]", "/apis/g/v1/things/a/status", true),
            ("resources: [{group: g, resources: [things/status]}]", "/apis/g/v1/things/a", false),
            ("resources: [{group: g, resources: ['things/*']}]", "/apis/g/v1/things/a/status", true),
            ("resources: [{group: g, resources: ['things/*']}]", "/apis/g/v1/things/a", true),
            ("resources: [{group: g, resources: ['*/status']}]", "/apis/g/v1/things/a/status", true),
            ("resources: [{group: g, resources: ['*/status']}]", "/apis/g/v1/things/a", false),
            ("resources: [{group: g, resources: ['*']}]", "/apis/g/v1/things/a/status", true),
            ("resources: [{group: g, resources: [things], resourceNames: [a]}]", "/apis/g/v1/things/a", true),
            (
                "resources: [{group: g, resources: [things], resourceNames: [a]}]",
                "/apis/g/v1/things/b",
                false,
            ),
            ("resources: [{group: h}, {group: g}]", "/apis/g/v1/things", true),
            ("namespaces: [n]", "/apis/g/v1/namespaces/n/things", true),
            ("namespaces: [n]", "/apis/g/v1/namespaces/m/things", false),
            ("namespaces: [n]", "/apis/g/v1/things", false),
            ("namespaces: ['']", "/apis/g/v1/things", true),
            ("namespaces: ['']", "/healthz", false),
            ("nonResourceURLs: ['/healthz*']", "/healthz/ping", true),
            ("nonResourceURLs: ['/healthz']", "/healthz/ping", false),
            ("nonResourceURLs: ['*']", "/healthz", true),
            ("nonResourceURLs: ['*']", "/apis/g/v1/things", false),
        ] {
            let fields = if rule == "{}" { String::new() } else { format!(", {rule}") };
            let policy = policy(&format!("rules: [{{level: Metadata{fields}}}]")).expect(rule);
            let logged = policy.omitted(Some(&jane), &info(&Method::GET, uri)).is_some();
            assert_eq!(logged, expected, "{rule} {uri}");
        }
    }

    #[test]
    fn who_is_not_known_is_matched_by_no_rule_that_names_users() {
        let read = |rule: &str| {
            let policy = policy(&format!("rules: [{{level: Metadata{rule}}}]")).expect(rule);
            policy.omitted(None, &info(&Method::GET, "/metrics")).is_some()
        };
        assert_eq!([read(""), read(", users: ['']"), read(", userGroups: ['']")], [true, false, false]);
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_stages_add_up() {
        let policy = policy(
            "omitStages: [RequestReceived]\nrules:\n- {level: None, verbs: [list]}\n\
             - {level: RequestResponse, verbs: [list, get], omitStages: [Panic]}\n",
        )
        .expect("valid");
        let read = |uri: &str| policy.omitted(None, &info(&Method::GET, uri));
        assert!(read("/apis/g/v1/things").is_none(), "the first rule");
        let omitted = read("/apis/g/v1/things/a").expect("the second rule");
        let stages = [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];
        assert_eq!(stages.map(|stage| omitted.contains(stage)), [true, false, false, true]);
        assert!(policy.omitted(None, &info(&Method::PUT, "/apis/g/v1/things/a")).is_none(), "no rule");
        assert!(policy.asks_for_bodies());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        for (text, expected) in [
            ("", "p: .: invalid type"),
            ("a: [", "p is not YAML: unclosed bracket '[' at line 1"),
            ("- a", "p: "),
            (
                "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]",
                "p: apiVersion: must be",
            ),
            ("apiVersion: audit.k8s.io/v1\nkind: Polcy\nrules: [{level: None}]", "p: kind: must be Policy"),
            (&format!("{head}rules: []"), "p: rules: there are none"),
            (head, "p: rules: there are none"),
            (&format!("{head}rulez: []"), "unknown field `rulez`"),
            (&format!("{head}rules: [{{level: None}}, {{levle: None}}]"), "p: rules[1].levle: unknown field"),
            (
                &format!("{head}rules: [{{level: Everything}}]"),
                "p: rules[0].level: unknown variant `Everything`",
            ),
            (&format!("{head}rules: [{{users: [a]}}]"), "p: rules[0]: missing field `level`"),
            (&format!("{head}rules: [{{level: None, users: jane}}]"), "p: rules[0].users: invalid type"),
            (
                &format!("{head}rules: [{{level: None, omitStages: [Soon]}}]"),
                "p: rules[0].omitStages[0]: unknown variant `Soon`",
            ),
            (
                &format!("{head}rules: [{{level: None, nonResourceURLs: [healthz]}}]"),
                "p: rules[0].nonResourceURLs[0]: \"healthz\" must begin",
            ),
            (
                &format!("{head}rules: [{{level: None, nonResourceURLs: ['/a*b']}}]"),
                "p: rules[0].nonResourceURLs[0]: \"/a*b\" may have",
            ),
            (
                &format!("{head}rules: [{{level: None, nonResourceURLs: ['/a'], namespaces: [n]}}]"),
                "p: rules[0].nonResourceURLs: a rule is for",
            ),
            (
                &format!("{head}rules: [{{level: None, resources: [{{resourceNames: [a]}}]}}]"),
                "p: rules[0].resources[0].resourceNames: needs",
            ),
            (
                &format!("{head}rules: [{{level: None, resources: [{{group: g/v1}}]}}]"),
                "p: rules[0].resources[0].group: \"g/v1\" is no group",
            ),
        ] {
            let error = Policy::parse("p", text).expect_err(text).to_string();
            assert!(error.contains(expected) && error.starts_with('p'), "{text:?}: {error}");
        }
        let missing = Policy::load(Path::new("/does/not/exist")).expect_err("no file").to_string();
        assert_eq!(missing, "cannot read /does/not/exist");
    }
}
