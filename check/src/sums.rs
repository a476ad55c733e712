//! Sums the usage in the namespaces of each tenant and compares it with the quotas.
//!
//! The sum starts with the usage in the cluster and adds the files in order.
//!
//! **Invariant:** As in admission, only an increase can exceed a limit: an object that requests no more than it already
//! has is never rejected.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Write,
    sync::Arc,
};

use gatehouse_apiservice::agones;
use gatehouse_policy::Kind;
use gatehouse_quota::{
    Amounts, CompiledQuota, Dimension, Families, GroupResource, Name, Quantity, Templates, Usage, UsageError,
    usage,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Files, Live, flux,
    judge::{Placed, Verdicts, filled, list},
    report::{Finding, Note, Severity},
    rulesets::{Namespaces, Rulesets, Selected},
};

/// The key of an object.
type Key = (GroupResource, String, String);

/// The violations of all quotas.
pub(crate) fn exceeded(
    files: &Files,
    placed: &[Placed<'_>],
    rulesets: &Rulesets,
    namespaces: &Namespaces,
    live: &Live,
    now: Timestamp,
) -> Verdicts {
    let mut verdicts = Verdicts::default();
    if rulesets.quotas.is_empty() {
        return verdicts;
    }
    let filled = |placed: &Placed<'_>| filled(placed, &rulesets.policies, namespaces, now);
    let counted = Counted::of(files, placed, &filled, live);
    for ruleset in &rulesets.quotas {
        let mut sum = Sum { quota: &ruleset.compiled, counted: &counted, files, verdicts: &mut verdicts };
        let selects = |namespace: Option<&str>| {
            ruleset.selects(namespace.map(|name| namespaces.named(name)).as_ref(), CompiledQuota::selects)
        };
        sum.hold(&selects, live);
    }
    verdicts
}

/// The usage of every object.
struct Counted<'a> {
    /// The objects of the files, in order.
    files: Vec<(&'a Placed<'a>, Key, Value, Result<Usage, UsageError>)>,
    live: HashMap<Key, Existing>,
    known: Known,
}

/// An object of the cluster.
struct Existing {
    /// Its counted usage.
    amounts: Amounts,
    /// The dimensions for which it states no request.
    unstated: BTreeSet<Dimension>,
}

/// Lookups that need all objects.
struct Known {
    /// The plural names of kinds.
    resources: HashMap<(String, String), String>,
    /// GameTemplates of Pteronimbus and Fleets of Agones, by namespace and name.
    templates: HashMap<(String, String), Value>,
    fleets: HashMap<(String, String), Value>,
    /// RuntimeClasses by name.
    runtime_classes: HashMap<String, Value>,
}

impl<'a> Counted<'a> {
    fn of(
        files: &Files,
        placed: &'a [Placed<'a>],
        filled: &dyn Fn(&Placed<'_>) -> Value,
        live: &Live,
    ) -> Self {
        let mut known = Known {
            resources: live.resources.iter().map(|(kind, plural)| (kind.clone(), plural.clone())).collect(),
            templates: HashMap::new(),
            fleets: HashMap::new(),
            runtime_classes: HashMap::new(),
        };
        for object in files.objects.iter().filter(|object| object.id.kind == "CustomResourceDefinition") {
            let spec = object.node.as_deref().and_then(|node| node.get("spec"));
            let text = |path: &[&str]| spec.and_then(|spec| spec.at_path(path)?.as_str()).map(str::to_owned);
            let names = (text(&["group"]), text(&["names", "kind"]), text(&["names", "plural"]));
            if let (Some(group), Some(kind), Some(plural)) = names {
                known.resources.insert((group, kind), plural);
            }
        }
        for object in &live.objects {
            known.learn(&object.group, &object.kind, (&object.namespace, &object.name), &object.value);
        }
        let values: Vec<Value> = placed.iter().map(filled).collect();
        for (placed, value) in placed.iter().zip(&values) {
            let namespace = placed.namespace.as_deref().unwrap_or_default();
            known.learn(
                &placed.object.id.group,
                &placed.object.id.kind,
                (namespace, &placed.object.id.name),
                value,
            );
        }
        let of_files = placed.iter().zip(values).map(|(placed, value)| {
            let resource = known.resource(&placed.object.id.group, &placed.object.id.kind);
            let usage = usage(&resource, &value, &known);
            let key = (resource, placed.namespace.clone().unwrap_or_default(), placed.object.id.name.clone());
            (placed, key, value, usage)
        });
        let of_files = of_files.collect();
        let of_cluster = known.cluster(live);
        Self { files: of_files, live: of_cluster, known }
    }
}

impl Known {
    fn learn(&mut self, group: &str, kind: &str, (namespace, name): (&str, &str), value: &Value) {
        let of = match (group, kind) {
            ("node.k8s.io", "RuntimeClass") => {
                self.runtime_classes.insert(name.to_owned(), value.clone());
                return;
            }
            ("pteronimbus.io", "GameTemplate") => &mut self.templates,
            ("agones.dev", "Fleet") => &mut self.fleets,
            _ => return,
        };
        of.insert((namespace.to_owned(), name.to_owned()), value.clone());
    }

    /// The resource of a kind: from its definition, else by the usual rule for plurals.
    fn resource(&self, group: &str, kind: &str) -> GroupResource {
        if let Some(plural) = self.resources.get(&(group.to_owned(), kind.to_owned())) {
            return GroupResource::new(group, plural);
        }
        if let Some(kind) = Kind::of_kind(group, kind) {
            return GroupResource::new(group, kind.resource());
        }
        GroupResource::of_kind(group, kind)
    }
}

impl Known {
    /// The usage in the cluster. Objects that Agones created for a counted object are counted with that object.
    fn cluster(&self, live: &Live) -> HashMap<Key, Existing> {
        let mut families = Families::default();
        let mut existing = HashMap::new();
        for object in &live.objects {
            let resource = self.resource(&object.group, &object.kind);
            // Objects that the cluster cannot count are not counted against these files.
            let Ok(usage) = usage(&resource, &object.value, self) else { continue };
            let usage = Arc::new(usage);
            if *resource.group == *agones::GROUP {
                let metadata = &object.value["metadata"];
                let uid = metadata["uid"].as_str().unwrap_or_default();
                let name = member(&resource, &object.namespace, &object.name);
                families.put(&name, uid, agones::orphans_dependents(metadata), &usage);
            }
            existing.insert((resource, object.namespace.clone(), object.name.clone()), usage);
        }
        let count = |((resource, namespace, name), usage): (Key, Arc<Usage>)| {
            let counted = families.counted(&member(&resource, &namespace, &name)).unwrap_or(&usage);
            let unstated = usage.unstated.keys().cloned().collect();
            ((resource, namespace, name), Existing { amounts: counted.amounts.clone(), unstated })
        };
        existing.into_iter().map(count).collect()
    }
}

fn member(resource: &GroupResource, namespace: &str, name: &str) -> Name {
    Name { resource: resource.clone(), namespace: namespace.into(), name: name.into() }
}

impl Templates for Known {
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value> {
        self.templates.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn runtime_class(&self, name: &str) -> Option<Value> {
        self.runtime_classes.get(name).cloned()
    }
}

/// The sum for one quota.
struct Sum<'a> {
    quota: &'a CompiledQuota,
    counted: &'a Counted<'a>,
    files: &'a Files,
    verdicts: &'a mut Verdicts,
}

impl Sum<'_> {
    fn hold(&mut self, selects: &dyn Fn(Option<&str>) -> Selected, live: &Live) {
        let quota = self.quota;
        let mut used = Amounts::default();
        let mut of_each: HashMap<&Key, Amounts> = HashMap::new();
        for (key, existing) in &self.counted.live {
            if selects(Some(&key.1)) == Selected::Yes {
                let amounts = quota.relevant(&existing.amounts);
                used = used.saturating_add(&amounts);
                of_each.insert(key, amounts);
            }
        }
        let mut unknown: Vec<&str> = Vec::new();
        // For each limit, the object that exceeded it.
        let mut beyond: BTreeMap<&Dimension, &Placed<'_>> = BTreeMap::new();
        let mut seen: HashSet<&Key> = HashSet::new();
        for (placed, key, _, counted_usage) in &self.counted.files {
            let selected = selects(placed.namespace.as_deref());
            let usage = match counted_usage {
                Ok(usage) => usage,
                Err(error) if selected == Selected::Yes => {
                    self.untold(placed, error, live);
                    continue;
                }
                Err(_) => continue,
            };
            let mut amounts = quota.relevant(&usage.amounts);
            let is_unstated = usage.unstated.keys().any(|dimension| quota.hard.contains_key(dimension));
            if amounts.is_empty() && usage.ceiling.is_none() && !is_unstated {
                continue;
            }
            if selected == Selected::Unknown {
                unknown.push(placed.namespace.as_deref().unwrap_or("objects that name none"));
            }
            if selected != Selected::Yes {
                continue;
            }
            self.verdicts.judged.insert(placed.index);
            self.ceiling(placed, usage);
            self.unstated(placed, key, usage);
            let before = of_each.get(key).cloned().unwrap_or_default();
            // If one object is in several files, the larger usage counts, whichever file is applied.
            if !seen.insert(key) {
                amounts = amounts.max(&before);
            }
            used = used.saturating_sub(&before).saturating_add(&amounts);
            for (dimension, hard) in &quota.hard {
                let more = amounts.get(dimension) > before.get(dimension);
                if more && used.get(dimension) > *hard {
                    beyond.entry(dimension).or_insert(*placed);
                }
            }
            of_each.insert(key, amounts);
        }
        for (dimension, placed) in beyond {
            self.beyond(dimension, placed, &used, &of_each);
        }
        self.note_unknown(unknown);
    }

    fn beyond(
        &mut self,
        dimension: &Dimension,
        placed: &Placed<'_>,
        used: &Amounts,
        of_each: &HashMap<&Key, Amounts>,
    ) {
        const SHOWN: usize = 3;
        let hard = self.quota.hard.get(dimension).copied().unwrap_or(Quantity::ZERO);
        let mut largest: Vec<_> =
            of_each.iter().map(|(key, amounts)| (amounts.get(dimension), *key)).collect();
        largest.retain(|(amount, _)| *amount > Quantity::ZERO);
        largest.sort_by(|one, other| (other.0, one.1).cmp(&(one.0, other.1)));
        let mut hint = format!("ask for less, or raise spec.hard[{dimension}] of the quota; the largest:");
        for (amount, (resource, namespace, name)) in largest.iter().take(SHOWN) {
            // Writing to a string cannot fail.
            let _ = write!(hint, " {}/{namespace}/{name} {amount},", resource.resource);
        }
        hint.pop();
        if matches!(dimension, Dimension::Count(_)) {
            hint = format!("remove some, or raise spec.hard[{dimension}] of the quota");
        }
        let message = format!(
            "exceeds the limit {dimension}={hard} of the tenant's namespaces, which take up {} in all",
            used.get(dimension)
        );
        let fields: &[&str] = match dimension {
            Dimension::Count(_) => &[],
            Dimension::RequestsStorage => &["spec.resources"],
            _ => &["spec.replicas"],
        };
        self.found(placed, dimension.to_string(), fields, message, hint);
    }

    /// Reports an autoscaler whose maximum exceeds the quota, regardless of other objects.
    fn ceiling(&mut self, placed: &Placed<'_>, usage: &Usage) {
        let Some(ceiling) = &usage.ceiling else { return };
        let namespace = placed.namespace.clone().unwrap_or_default();
        let fleet = self.counted.known.fleets.get(&(namespace, ceiling.fleet.clone()));
        let Ok(Some(amounts)) = ceiling.amounts(fleet) else { return };
        for (dimension, hard) in &self.quota.hard {
            let most = amounts.get(dimension);
            if most > *hard {
                let message =
                    format!("may scale {} up to {dimension}={most}; the limit is {hard}", ceiling.fleet);
                let hint = "lower the ceiling of the autoscaler".to_owned();
                self.found(placed, dimension.to_string(), &["spec.policy"], message, hint);
            }
        }
    }

    /// Reports limited dimensions for which the object states no request, unless the object in the cluster already
    /// lacks it.
    fn unstated(&mut self, placed: &Placed<'_>, key: &Key, usage: &Usage) {
        let before = self.counted.live.get(key);
        for (dimension, who) in &usage.unstated {
            if !self.quota.hard.contains_key(dimension)
                || before.is_some_and(|before| before.unstated.contains(dimension))
            {
                continue;
            }
            let message = format!("must specify {dimension} for: {}", who.join(","));
            let hint =
                format!("state a request, or have a policy's defaults fill it in: {dimension} is limited");
            self.found(
                placed,
                dimension.to_string(),
                &["spec.template", "spec.gameServerTemplate"],
                message,
                hint,
            );
        }
    }

    /// Reports an object whose usage cannot be computed: it would be denied.
    fn untold(&mut self, placed: &Placed<'_>, error: &UsageError, live: &Live) {
        match error {
            UsageError::UnknownTemplate { .. } if !live.asked => {
                let spot = Some(self.files.spot_of(placed.object, &[]));
                let message = format!("{error} in the files: {} does not count it", self.quota.name);
                self.verdicts.notes.push(Note { spot, message });
            }
            UsageError::UnknownTemplate { field, .. } => {
                let hint = "create the template first".to_owned();
                self.found(placed, "usage".to_owned(), &[field], error.to_string(), hint);
            }
            UsageError::Field(wrong) if flux::is_open(&wrong.value) => {
                let spot = Some(self.files.spot_of(placed.object, &[&wrong.field]));
                let text = &wrong.value;
                let message = format!(
                    "{}: {text} is filled in by Flux, so {} cannot count it",
                    wrong.field, self.quota.name
                );
                self.verdicts.notes.push(Note { spot, message });
            }
            UsageError::Field(wrong) => {
                let message = format!("{:?}: {}", wrong.value, wrong.message);
                let hint = "what cannot be counted is refused".to_owned();
                self.found(placed, "usage".to_owned(), &[&wrong.field], message, hint);
            }
        }
    }

    fn found(&mut self, placed: &Placed<'_>, rule: String, fields: &[&str], message: String, hint: String) {
        let node = placed.object.node.as_deref();
        let field = fields.iter().find(|field| node.is_some_and(|node| node.field(field).is_some()));
        let rule_id = rule.clone();
        self.verdicts.take(
            placed.object,
            Finding {
                spot: self.files.spot_of(placed.object, fields),
                enforcement: Severity::from(self.quota.enforcement),
                policy: self.quota.name.clone(),
                rule,
                kind: placed.object.id.kind.clone(),
                namespace: placed.namespace.clone(),
                name: placed.object.id.name.clone(),
                field: field.map(|field| (*field).to_owned()).unwrap_or_default(),
                message,
                hint,
                rule_id,
                fingerprint: String::new(),
            },
        );
    }

    fn note_unknown(&mut self, mut namespaces: Vec<&str>) {
        namespaces.sort_unstable();
        namespaces.dedup();
        if !namespaces.is_empty() {
            let message = format!(
                "{} selects namespaces by labels, and those of {} are not known: it does not count them \
                 (--namespace-labels NAMESPACE:KEY=VALUE tells)",
                self.quota.name,
                list(&namespaces)
            );
            self.verdicts.notes.push(Note { spot: None, message });
        }
    }
}
