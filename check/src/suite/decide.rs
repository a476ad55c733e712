//! Decides about a request with the code that the webhooks use.

use std::{collections::HashMap, iter::once, sync::Arc};

use gatehouse_apiservice::agones::{Claim, orphans_dependents};
use gatehouse_inventory::yaml::{At, Node};
use gatehouse_policy::{
    Accounts, Case, Dependencies, ObjectName, Operation, Policy, Subject, Verb,
    freeze::{self, Hold},
    mutation,
};
use serde_json::Value;

use super::{format::Decision, request::Request, world::World};
use crate::{
    Live, LiveObject, build::Built, graph::Graph, judge::Placed, report::Severity, rulesets::Ruleset, sums,
};

/// The decision about a request.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) decision: Decision,
    pub(super) broken: Vec<Broken>,
    /// The admitted object; `None` for a deletion.
    pub(super) object: Option<Value>,
}

/// A violated rule or an exceeded limit.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) policy: String,
    pub(super) rule: String,
    pub(super) field: String,
    pub(super) message: String,
    severity: Severity,
}

/// The policy and rule of denials by Gatehouse itself.
pub(super) const OWN: (&str, &str) = ("gatehouse", "reserved");

/// The decision about a request; the error says why it cannot be decided.
pub(super) fn decide(world: &World, request: &Request<'_>) -> Result<Decided, String> {
    let policies: Vec<&Ruleset<Policy>> = world.policies_over(&request.namespace);
    let mut decided = match request.kind {
        Some(kind) => {
            let within = world.namespaces.named(&request.namespace).object(&request.namespace).map(Arc::new);
            let subject = |value: &Value| {
                let subject = Subject::new(kind, &request.namespace, &request.id.name, value.clone());
                match &within {
                    Some(namespace) => subject.within(Arc::clone(namespace)),
                    None => subject,
                }
            };
            let (object, old) = (request.object.as_ref().map(subject), request.old.as_ref().map(subject));
            judged(world, request, &policies, object.as_ref(), old.as_ref())?
        }
        None => Decided { decision: Decision::Allowed, broken: Vec::new(), object: request.object.clone() },
    };
    if let Some(object) = decided.object.as_ref().filter(|_| request.operation != Operation::Delete) {
        let exceeded = exceeded(world, request, object);
        decided.broken.extend(exceeded);
    }
    if let Some(worst) = decided.broken.iter().map(|broken| broken.severity).min() {
        decided.decision = decided.decision.max(match worst {
            Severity::Deny => Decision::Denied,
            Severity::Warn => Decision::Warned,
            Severity::Audit => Decision::Audited,
        });
    }
    Ok(decided)
}

/// Applies the mutating webhook, then the policies.
fn judged(
    world: &World,
    request: &Request<'_>,
    rulesets: &[&Ruleset<Policy>],
    object: Option<&Subject>,
    old: Option<&Subject>,
) -> Result<Decided, String> {
    let accounts = Accounts::default();
    let policies: Vec<&Policy> = rulesets.iter().map(|ruleset| &ruleset.compiled).collect();
    let is_scale = request.scaling.is_some();
    let asked = Case {
        operation: request.operation,
        subresource: is_scale.then_some("scale"),
        object,
        // A scale request carries Scale objects, not the objects themselves.
        old: old.filter(|_| !is_scale),
        scaling: request.scaling,
        user: Some(&request.user),
        field_manager: request.case.field_manager.as_deref(),
        now: request.now,
        accounts: &accounts,
    };
    let hold = if is_scale { None } else { freeze::hold(&policies, &asked) };
    let mut written = match &hold {
        Some(Hold { stays: true, .. }) => old.cloned(),
        _ => object.cloned(),
    };
    if let Some(written) =
        written.as_mut().filter(|_| !is_scale && !hold.as_ref().is_some_and(|hold| hold.stays))
    {
        let patch = mutation(&policies, &asked, hold.as_ref());
        json_patch::patch(&mut written.object, &patch)
            .map_err(|error| format!("what policies fill in does not apply: {error}"))?;
    }
    let case = Case { object: written.as_ref(), ..asked };
    let deps = RelatedObjects::of(world, request, written.as_ref());
    let mut broken = Vec::new();
    if let Some(name) = freeze::forged(&policies, &case).filter(|_| !is_scale) {
        broken.push(Broken {
            policy: OWN.0.to_owned(),
            rule: OWN.1.to_owned(),
            field: format!("metadata.annotations[{name}]"),
            message: format!("the annotation {name} is reserved for Gatehouse and must not be changed"),
            severity: Severity::Deny,
        });
    }
    for policy in &policies {
        for violation in policy.judge(&case, &deps) {
            let severity = Severity::from(policy.enforcement_of(&violation.rule));
            broken.push(Broken {
                policy: policy.name.clone(),
                rule: violation.rule.into_owned(),
                field: violation.field,
                message: violation.message,
                severity,
            });
        }
        let required = policy.required_verbs(&case);
        let missing = required.into_iter().find(|verb| !request.case.authorized.contains(verb));
        broken.extend(missing.map(|verb| missing_right(policy, verb, &request.user.name)));
    }
    let decision = if hold.is_some() { Decision::Held } else { Decision::Allowed };
    let mut object = written.map(|written| written.object);
    if let (Some(scaling), Some(object)) = (request.scaling, &mut object) {
        object["spec"]["replicas"] = scaling.to.into();
    }
    Ok(Decided { decision, broken, object })
}

fn missing_right(policy: &Policy, verb: Verb, user: &str) -> Broken {
    let (rule, what) =
        if verb == Verb::Exempt { ("exempt", "objects from the policy") } else { ("verbs", "it") };
    Broken {
        policy: policy.name.clone(),
        rule: rule.to_owned(),
        field: String::new(),
        message: format!("{user} has no right to {} {what}", verb.as_str()),
        severity: Severity::from(policy.enforcement_of(rule)),
    }
}

/// The quotas that the request exceeds, given the existing objects.
fn exceeded(world: &World, request: &Request<'_>, object: &Value) -> Vec<Broken> {
    let mut live = Live { asked: true, objects: others(world, request), ..Live::default() };
    if let Some(old) = &request.old {
        live.objects.push(LiveObject {
            group: request.id.group.clone(),
            kind: request.id.kind.clone(),
            namespace: request.namespace.clone(),
            name: request.id.name.clone(),
            value: old.clone(),
        });
    }
    let at = At::default();
    let built = Built::new(request.id.clone(), Some(Arc::new(Node::of(object, at))), at);
    let placed = Placed::all(std::slice::from_ref(&built));
    let sums = sums::exceeded(&world.files, &placed, &world.rulesets, &world.namespaces, &live, request.now);
    let broken = sums.findings.into_iter().map(|finding| Broken {
        policy: finding.policy,
        rule: finding.rule,
        field: finding.field,
        message: finding.message,
        severity: finding.enforcement,
    });
    broken.collect()
}

/// The existing objects other than that of the request.
fn others(world: &World, request: &Request<'_>) -> Vec<LiveObject> {
    let is_itself = |object: &&LiveObject| {
        (&object.group, &object.kind, &object.namespace, &object.name)
            == (&request.id.group, &request.id.kind, &request.namespace, &request.id.name)
    };
    world.existing.iter().filter(|object| !is_itself(object)).cloned().collect()
}

/// The objects that an object depends on: dependencies, Fleets and owners.
struct RelatedObjects {
    graph: Graph,
    /// By plural name, namespace and name of objects of Agones: the UID, and whether it orphans its dependents.
    owners: HashMap<(&'static str, String, String), (String, bool)>,
}

impl RelatedObjects {
    fn of(world: &World, request: &Request<'_>, object: Option<&Subject>) -> Self {
        let objects = others(world, request);
        let mut owners = HashMap::new();
        for object in objects.iter().filter(|object| object.group == gatehouse_apiservice::agones::GROUP) {
            let resource = match object.kind.as_str() {
                "Fleet" => "fleets",
                "GameServerSet" => "gameserversets",
                _ => continue,
            };
            let metadata = &object.value["metadata"];
            let uid = metadata["uid"].as_str().unwrap_or_default().to_owned();
            let key = (resource, object.namespace.clone(), object.name.clone());
            owners.insert(key, (uid, orphans_dependents(metadata)));
        }
        let live = Live { objects, ..Live::default() };
        let graph = Graph::of(object.into_iter().flat_map(|object| once(object.clone())), &live);
        Self { graph, owners }
    }
}

impl Dependencies for RelatedObjects {
    fn depends_on(&self, of: &ObjectName) -> Option<Vec<ObjectName>> {
        self.graph.depends_on(of)
    }

    fn owns(&self, namespace: &str, claim: &Claim<'_>) -> bool {
        let key = (claim.member.owner_resource(), namespace.to_owned(), claim.name.to_owned());
        self.owners.get(&key).is_some_and(|(known, orphans)| claim.uid.map_or(*orphans, |uid| uid == known))
    }

    fn fleet(&self, namespace: &str, name: &str) -> Option<Value> {
        self.graph.fleet(namespace, name)
    }
}
