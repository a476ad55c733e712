//! The cluster state for the requests of a test: policies and quotas, namespaces, and existing objects.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use gatehouse_policy::Policy;
use gatehouse_quota::CompiledQuota;

use super::find::Suite;
use crate::{
    Files, Live, LiveObject, Role,
    build::Built,
    files::{Content, absolute, is_address},
    report::Problem,
    rulesets::{Namespaces, Ruleset, Rulesets, Selected, texts_of},
};

/// The cluster state for the requests of a test.
pub(super) struct World {
    pub(super) files: Files,
    pub(super) rulesets: Rulesets,
    pub(super) namespaces: Namespaces,
    pub(super) existing: Vec<LiveObject>,
}

impl World {
    /// Reads everything that a test names; the error lists what is invalid.
    pub(super) fn of(
        suite: &Suite,
        fetched: &BTreeMap<String, Result<Content, String>>,
    ) -> Result<Self, Vec<Problem>> {
        let (files, mut problems) =
            read(suite, "policies", &suite.test.policies, Some(fetched), Files::default());
        let (existing, unread) = read(suite, "existing", &suite.test.existing, None, Files::whole());
        problems.extend(unread);
        let mut live = Live::default();
        for object in &existing.objects {
            let key = (object.id.namespace.clone().unwrap_or_default(), object.id.name.clone());
            match (object.id.group.as_str(), object.id.kind.as_str()) {
                ("", "Namespace") => {
                    live.annotations.insert(object.id.name.clone(), texts_of(object, "annotations"));
                    live.namespaces.insert(object.id.name.clone(), texts_of(object, "labels"));
                }
                ("", "ConfigMap") => {
                    live.config_maps.insert(key, object.value());
                }
                _ => {}
            }
        }
        let rulesets = Rulesets::of(&files, &[], &live);
        problems.extend(rulesets.problems.iter().cloned());
        if rulesets.policies.is_empty() && rulesets.quotas.is_empty() && problems.is_empty() {
            problems.push(suite.problem("policies", "holds neither a ReconcilePolicy nor a TenantQuota"));
        }
        let lacks = rulesets.policies.iter().filter(|ruleset| ruleset.parameters_unknown);
        for policy in lacks.map(|ruleset| &ruleset.compiled) {
            let name =
                policy.param_ref().map(|of| format!("{}/{}", of.namespace, of.name)).unwrap_or_default();
            let message =
                format!("{} takes parameters from the ConfigMap {name}, which is in no file", policy.name);
            problems.push(suite.problem("existing", message));
        }
        let mut labels_of = BTreeMap::new();
        for (index, namespace) in suite.test.namespaces.iter().enumerate() {
            if labels_of.insert(namespace.name.clone(), namespace.labels.clone()).is_some() {
                let message = format!("{:?} is there already", namespace.name);
                problems.push(suite.problem(&format!("namespaces[{index}].name"), message));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let namespaces = Namespaces::of(&files, &[], &live, &labels_of);
        let existing = existing.objects.iter().filter_map(object).collect();
        Ok(Self { files, rulesets, namespaces, existing })
    }
}

impl World {
    /// The policies that select a namespace.
    pub(super) fn policies_over(&self, namespace: &str) -> Vec<&Ruleset<Policy>> {
        let namespace = self.namespaces.named(namespace);
        let selects =
            |ruleset: &&Ruleset<Policy>| ruleset.selects(Some(&namespace), Policy::selects) == Selected::Yes;
        self.rulesets.policies.iter().filter(selects).collect()
    }

    /// Whether it is known which policies and quotas select a namespace; the error says why not.
    pub(super) fn selects(&self, name: &str) -> Result<(), String> {
        let namespace = self.namespaces.named(name);
        let policies = self
            .rulesets
            .policies
            .iter()
            .map(|ruleset| (&ruleset.compiled.name, ruleset.selects(Some(&namespace), Policy::selects)));
        let quotas = self.rulesets.quotas.iter().map(|ruleset| {
            (&ruleset.compiled.name, ruleset.selects(Some(&namespace), CompiledQuota::selects))
        });
        match policies.chain(quotas).find(|(_, selected)| *selected == Selected::Unknown) {
            Some((policy, _)) => Err(format!(
                "{policy} selects namespaces by labels, and those of {name} are not known: name them in namespaces"
            )),
            None if namespace.object(name).is_none()
                && self.policies_over(name).iter().any(|ruleset| ruleset.compiled.asks_for_namespace()) =>
            {
                Err(format!("a policy asks for the Namespace {name}: name it in namespaces, or in existing"))
            }
            None => Ok(()),
        }
    }

    /// Whether the result depends on the time of a request.
    pub(super) fn has_freezes(&self) -> bool {
        self.rulesets.policies.iter().any(|ruleset| ruleset.rules.iter().any(|rule| rule == "freezes"))
    }
}

/// Reads the files and folders of a field; and what was fetched, if the field takes addresses.
fn read(
    suite: &Suite,
    field: &str,
    paths: &[String],
    fetched: Option<&BTreeMap<String, Result<Content, String>>>,
    mut files: Files,
) -> (Files, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for (index, path) in paths.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let full = absolute(&suite.folder.join(path));
        let key = if is_address(path) { PathBuf::from(path) } else { full.clone() };
        if path.is_empty() || path == "-" || (is_address(path) && fetched.is_none()) {
            problems.push(suite.problem(&field, "must be the path of a file or folder"));
        } else if !seen.insert(key) {
            problems.push(suite.problem(&field, format!("{path} is there already")));
        } else if is_address(path) {
            match fetched.and_then(|fetched| fetched.get(path)) {
                Some(Ok(content)) => {
                    for (name, bytes) in content {
                        files.add(name, bytes, Role::Policies);
                    }
                }
                Some(Err(why)) => problems.push(suite.problem(&field, format!("{path}: {why}"))),
                None => problems.push(suite.problem(&field, format!("{path} was not fetched"))),
            }
        } else if !full.exists() {
            problems.push(suite.problem(&field, format!("{path} does not exist")));
        } else {
            files.read(Path::new(&full), Role::Policies);
        }
    }
    problems.extend(files.problems.iter().cloned());
    (files, problems)
}

fn object(object: &Built) -> Option<LiveObject> {
    Some(LiveObject {
        group: object.id.group.clone(),
        kind: object.id.kind.clone(),
        namespace: object.id.namespace.clone().unwrap_or_default(),
        name: object.id.name.clone(),
        value: object.node.as_deref()?.to_value(),
    })
}
