//! The verdict on objects: what they would use of each limit of a quota, and whether that is left.
//!
//! An object that exists already is an update: as at admission it is charged with what it uses beyond that. All others
//! count as created, beside those that exist. As at admission, an autoscaler is judged by how
//! far it may scale its fleet, and charged nothing; here beside all the other objects, in whichever order they come.

use std::collections::{HashMap, HashSet};

use gatehouse_apiservice::{
    quantity::Quantity,
    view::{FitLimit, QuotaFitStatus},
};
use gatehouse_quota::{Amounts, Ceiling, Dimension, GroupResource, Usage, UsageError, usage};
use gatehouse_serving::ApiError;
use serde::Deserialize;
use serde_json::Value;

use super::objects::{Asked, Objects, wrong};

/// The most objects that the answer names.
const MOST_NAMED: usize = 10;

/// A quota, as its row shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Quota {
    enforcement: String,
    limits: Vec<Limit>,
}

#[derive(Debug, Deserialize)]
struct Limit {
    name: String,
    hard: String,
    used: Option<String>,
    reserved: Option<String>,
}

/// The quota of a row, given as its object.
pub(super) fn quota(row: &[u8]) -> Result<Quota, ApiError> {
    #[derive(Deserialize)]
    struct Row {
        status: Quota,
    }
    let row: Row = serde_json::from_slice(row).map_err(ApiError::internal)?;
    Ok(row.status)
}

/// Objects, and what each would use.
pub(super) struct Question<'a> {
    quota: &'a Quota,
    objects: &'a Objects,
    limited: Vec<Option<Dimension>>,
    usages: Vec<Usage>,
}

/// The resource, namespace and name of an object.
type Key<'a> = (&'a GroupResource, &'a str, &'a str);

impl<'a> Question<'a> {
    /// Errors: an object makes no sense.
    pub(super) fn new(quota: &'a Quota, objects: &'a Objects) -> Result<Self, ApiError> {
        let limited = quota.limits.iter().map(|limit| limit.name.parse().ok()).collect();
        let usages = objects.all.iter().enumerate().map(|(index, asked)| {
            usage(&asked.resource, &asked.value, objects).map_err(|error| wrong(index, &error.to_string()))
        });
        let usages = usages.collect::<Result<_, _>>()?;
        Ok(Self { quota, objects, limited, usages })
    }

    /// The objects whose existing usage matters, each once, with their numbers.
    pub(super) fn charged(&self) -> impl Iterator<Item = (usize, &'a Asked)> {
        let mut known = HashSet::new();
        let all = self.objects.all.iter().zip(&self.usages).enumerate();
        all.filter(move |(_, (asked, usage))| {
            self.concerns(usage) && !asked.name.is_empty() && known.insert(key(asked))
        })
        .map(|(index, (asked, _))| (index, asked))
    }

    fn concerns(&self, usage: &Usage) -> bool {
        let uses = |dimension: &Dimension| {
            !usage.amounts.get(dimension).is_zero() || usage.unstated.contains_key(dimension)
        };
        usage.ceiling.is_some() || self.limited.iter().flatten().any(uses)
    }

    /// Judges the objects, given those that exist already by their numbers.
    pub(super) fn judge(&self, existing: &HashMap<usize, Value>) -> Result<QuotaFitStatus, ApiError> {
        let Self { quota, objects, limited, usages } = self;
        let mut before: HashMap<Key<'_>, Usage> = existing
            .iter()
            .map(|(index, value)| {
                let asked = &objects.all[*index];
                // As at admission, one that makes no sense was only counted.
                let counted = |_| Usage::counted(&asked.resource);
                (key(asked), usage(&asked.resource, value, *objects).unwrap_or_else(counted))
            })
            .collect();
        let (mut requested, mut growth, mut must_specify) =
            (Amounts::default(), Amounts::default(), Vec::new());
        for (index, (asked, usage)) in objects.all.iter().zip(usages).enumerate() {
            let at = |error: &UsageError| wrong(index, &error.to_string());
            // What is in the list twice is created, and then updated.
            let before = if asked.name.is_empty() { None } else { before.insert(key(asked), usage.clone()) };
            let sum = requested.checked_add(&grown(usage, before.as_ref()));
            requested = sum.ok_or_else(|| wrong(index, "spec: out of range"))?;
            let unstated = usage.newly_unstated(before.as_ref()).into_iter();
            for (dimension, who) in unstated.filter(|(one, _)| limited.contains(&Some(one.clone()))) {
                must_specify.push(format!("{}: {dimension} for: {}", named(asked), who.join(",")));
            }
            let Some(ceiling) = &usage.ceiling else { continue };
            let is_as_before = before.is_some_and(|before| before.ceiling.as_ref() == Some(ceiling));
            if is_as_before || !is_judged(ceiling, limited) {
                continue;
            }
            match objects.fleet(&asked.namespace, &ceiling.fleet) {
                Some(fleet) => {
                    growth = growth.max(&grows(ceiling, fleet, objects).map_err(|error| at(&error))?);
                }
                None => {
                    must_specify.push(format!("{}: its Fleet {:?} in the list", named(asked), ceiling.fleet));
                }
            }
        }
        let limits = quota.limits.iter().zip(limited);
        let limits: Vec<_> =
            limits.map(|(limit, dimension)| limit.fit(dimension.as_ref(), &requested, &growth)).collect();
        let fits = must_specify.is_empty() && limits.iter().all(|limit| limit.fits == Some(true));
        must_specify.truncate(MOST_NAMED);
        let (enforcement, objects) = (quota.enforcement.clone(), objects.all.len());
        Ok(QuotaFitStatus { fits, enforcement, objects, existing: existing.len(), limits, must_specify })
    }
}

fn key(asked: &Asked) -> Key<'_> {
    (&asked.resource, &asked.namespace, &asked.name)
}

/// What an object uses beyond what it used. Nothing is given back for what becomes less: at admission, that counts once
/// it is observed.
fn grown(usage: &Usage, before: Option<&Usage>) -> Amounts {
    match before {
        Some(before) => usage.amounts.saturating_sub(&before.amounts).max(&Amounts::default()),
        None => usage.amounts.clone(),
    }
}

fn named(asked: &Asked) -> String {
    format!("{} {:?}", asked.resource, asked.name)
}

/// Whether an autoscaler may reach a limit of game servers.
fn is_judged(ceiling: &Ceiling, limited: &[Option<Dimension>]) -> bool {
    ceiling.is_bounded() && limited.iter().flatten().any(|dimension| dimension.counted().is_none())
}

/// What a fleet uses at an autoscaler's ceiling, beyond what it uses as it is.
fn grows(ceiling: &Ceiling, fleet: &Value, objects: &Objects) -> Result<Amounts, UsageError> {
    let Some(most) = ceiling.amounts(Some(fleet))? else { return Ok(Amounts::default()) };
    let now = usage(&GroupResource::new("agones.dev", "fleets"), fleet, objects)?.beside_count();
    Ok(most.saturating_sub(&now).max(&Amounts::default()))
}

impl Limit {
    fn fit(&self, dimension: Option<&Dimension>, requested: &Amounts, growth: &Amounts) -> FitLimit {
        let amount = dimension.map(|dimension| requested.get(dimension));
        let more = dimension.map(|dimension| growth.get(dimension)).filter(|more| !more.is_zero());
        let most = match (amount, more) {
            (Some(amount), Some(more)) => Some(amount.checked_add(more)),
            (amount, _) => amount.map(Some),
        };
        let fits = match most {
            // What asks for nothing more is admitted over the limit, too.
            Some(Some(amount)) if amount.is_zero() => Some(true),
            Some(Some(amount)) => self.has_room(amount),
            Some(None) => Some(false),
            None => None,
        };
        let text = |amount: Option<Quantity>| dimension.zip(amount).map(|(of, amount)| of.text(amount));
        FitLimit {
            name: self.name.clone(),
            hard: self.hard.clone(),
            used: self.used.clone(),
            reserved: self.reserved.clone(),
            requested: text(amount).unwrap_or_default(),
            ceiling: more.and_then(|_| text(most.flatten())),
            fits,
        }
    }

    fn has_room(&self, requested: Quantity) -> Option<bool> {
        let parse = |text: &str| text.parse::<Quantity>().ok();
        let used = parse(self.used.as_deref()?)?;
        let reserved = self.reserved.as_deref().map_or(Some(Quantity::ZERO), parse)?;
        let sum = used.checked_add(reserved)?.checked_add(requested)?;
        Some(sum <= parse(&self.hard)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arena() -> Quota {
        let row = json!({"status": {"enforcement": "Deny", "limits": [
            {"name": "gameservers", "hard": "10", "used": "4", "reserved": "1"},
            {"name": "requests.memory", "hard": "4Gi", "used": "1Gi"},
            {"name": "players", "hard": "100"},
            {"name": "requests.storage", "hard": "1Gi", "used": "2Gi"},
        ]}});
        quota(row.to_string().as_bytes()).unwrap()
    }

    fn fleet(replicas: i64, requests: &Value) -> Value {
        let containers = json!([{"name": "game", "resources": {"requests": requests}}]);
        json!({
            "apiVersion": "agones.dev/v1", "kind": "Fleet", "metadata": {"name": "lobby"},
            "spec": {"replicas": replicas, "template": {"spec": {"template": {"spec": {"containers": containers}}}}},
        })
    }

    fn judged(namespace: &str, objects: Value) -> Result<Value, String> {
        judged_beside(namespace, objects, &[])
    }

    /// The same where these exist, by their numbers in the list.
    fn judged_beside(namespace: &str, objects: Value, existing: &[(usize, Value)]) -> Result<Value, String> {
        let existing = existing.iter().cloned().collect();
        let judged = Objects::read(namespace, objects)
            .and_then(|objects| Question::new(&arena(), &objects)?.judge(&existing));
        let fit = judged.map_err(|error| error.status()["message"].to_string())?;
        Ok(serde_json::to_value(fit).unwrap())
    }

    #[test]
    fn objects_fit_together_or_not_at_all() {
        let stated = json!({"memory": "512Mi"});
        let fit = judged("eu", fleet(5, &stated)).unwrap();
        let expected = json!({"name": "gameservers", "hard": "10", "used": "4", "reserved": "1", "requested": "5", "fits": true});
        assert_eq!(fit["limits"][0], expected, "exactly what is left");
        assert_eq!(
            (&fit["fits"], &fit["objects"], &fit["enforcement"]),
            (&json!(true), &json!(1), &json!("Deny"))
        );
        let mut other = fleet(1, &stated);
        other["metadata"]["name"] = json!("other");
        let fit = judged("eu", list(&[fleet(5, &stated), other])).unwrap();
        assert_eq!((&fit["fits"], &fit["limits"][0]["fits"]), (&json!(false), &json!(false)));
        assert_eq!(fit["limits"][1]["requested"], "3Gi");
        assert_eq!(fit["limits"][3]["fits"], true, "over the limit, and asked for nothing");
        let nothing = judged("eu", json!({"kind": "List", "items": []})).unwrap();
        assert_eq!((&nothing["fits"], &nothing["objects"]), (&json!(true), &json!(0)));
    }

    #[test]
    fn what_exists_is_charged_with_the_difference() {
        let stated = json!({"memory": "512Mi"});
        let amounts = |fit: &Value, limit: usize| fit["limits"][limit]["requested"].clone();
        let fit = judged_beside("eu", fleet(8, &stated), &[(0, fleet(4, &stated))]).unwrap();
        assert_eq!((&fit["fits"], &fit["existing"]), (&json!(true), &json!(1)));
        assert_eq!((amounts(&fit, 0), amounts(&fit, 1)), (json!("4"), json!("2Gi")));
        let larger = json!({"memory": "1Gi"});
        let fit = judged_beside("eu", fleet(4, &larger), &[(0, fleet(4, &stated))]).unwrap();
        assert_eq!((amounts(&fit, 0), amounts(&fit, 1)), (json!("0"), json!("2Gi")));
        let mut other = fleet(4, &stated);
        other["metadata"]["name"] = json!("other");
        let both = list(&[fleet(1, &stated), other]);
        let fit = judged_beside("eu", both, &[(0, fleet(4, &stated))]).unwrap();
        assert_eq!((amounts(&fit, 0), &fit["fits"]), (json!("4"), &json!(true)), "nothing is given back");
        let broken = fleet(-1, &stated);
        let fit = judged_beside("eu", fleet(3, &stated), &[(0, broken)]).unwrap();
        assert_eq!(amounts(&fit, 0), "3", "it was only counted");
    }

    #[test]
    fn an_object_that_is_named_twice_is_updated() {
        let stated = json!({"memory": "512Mi"});
        let fit = judged("eu", list(&[fleet(3, &stated), fleet(5, &stated)])).unwrap();
        assert_eq!((&fit["limits"][0]["requested"], &fit["existing"]), (&json!("5"), &json!(0)));
        let mut generated = fleet(3, &stated);
        generated["metadata"] = json!({"generateName": "lobby-"});
        let fit = judged("eu", list(&[generated.clone(), generated])).unwrap();
        assert_eq!(fit["limits"][0]["requested"], "6", "each is another");
    }

    #[test]
    fn what_exists_may_go_on_without_stating_a_request_and_with_its_autoscaler() {
        let unstated = fleet(2, &json!({}));
        let fit = judged_beside("eu", unstated.clone(), &[(0, unstated.clone())]).unwrap();
        assert_eq!((fit.get("mustSpecify"), &fit["fits"]), (None, &json!(true)));
        let fit = judged_beside("eu", fleet(3, &json!({})), &[(0, unstated)]).unwrap();
        assert_eq!(fit["fits"], false, "it grows");
        let scaler = autoscaler("other", &json!({"maxReplicas": 5}));
        let fit = judged_beside("eu", scaler.clone(), &[(0, scaler)]).unwrap();
        assert_eq!(fit["fits"], true, "as far as before");
    }

    #[test]
    fn only_what_is_limited_is_looked_for() {
        let (quota, secret) =
            (arena(), json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}));
        let mut nameless = fleet(1, &json!({}));
        nameless["metadata"] = json!({});
        let items = [secret, fleet(1, &json!({})), nameless, fleet(2, &json!({}))];
        let objects = Objects::read("eu", list(&items)).unwrap();
        let question = Question::new(&quota, &objects).unwrap();
        assert_eq!(question.charged().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_is_unknown_or_unstated_does_not_fit() {
        let mut players = fleet(1, &json!({"memory": "1Mi"}));
        players["spec"]["template"]["spec"]["counters"] = json!({"players": {"capacity": 1}});
        let fit = judged("eu", players).unwrap();
        assert_eq!((&fit["fits"], &fit["limits"][2].get("fits")), (&json!(false), &None));
        let fit = judged("eu", fleet(1, &json!({}))).unwrap();
        assert_eq!(fit["mustSpecify"], json!([r#"fleets.agones.dev "lobby": requests.memory for: game"#]));
        assert_eq!(fit["fits"], false);
    }

    fn autoscaler(fleet: &str, buffer: &Value) -> Value {
        json!({
            "apiVersion": "autoscaling.agones.dev/v1", "kind": "FleetAutoscaler", "metadata": {"name": "scaler"},
            "spec": {"fleetName": fleet, "policy": {"type": "Buffer", "buffer": buffer}},
        })
    }

    fn list(items: &[Value]) -> Value {
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }

    #[test]
    fn an_autoscaler_counts_as_far_as_it_may_scale() {
        let (small, buffer) =
            (fleet(1, &json!({"memory": "512Mi"})), |most: i64| json!({"maxReplicas": most}));
        let fit = judged("eu", list(&[autoscaler("lobby", &buffer(5)), small.clone()])).unwrap();
        assert_eq!((&fit["fits"], &fit["limits"][0]["requested"]), (&json!(true), &json!("1")));
        assert_eq!(
            (&fit["limits"][0]["ceiling"], &fit["limits"][1]["ceiling"]),
            (&json!("5"), &json!("2560Mi"))
        );
        let fit = judged("eu", list(&[small.clone(), autoscaler("lobby", &buffer(6))])).unwrap();
        assert_eq!((&fit["fits"], &fit["limits"][0]["fits"]), (&json!(false), &json!(false)));
        assert_eq!(fit["limits"][1]["fits"], true);
        let two = [small.clone(), autoscaler("lobby", &buffer(5)), autoscaler("lobby", &buffer(5))];
        assert_eq!(judged("eu", list(&two)).unwrap()["fits"], true, "each by itself, as at admission");
        let low = judged("eu", list(&[small.clone(), autoscaler("lobby", &buffer(1))])).unwrap();
        assert_eq!(
            (low["limits"][0].get("ceiling"), &low["fits"]),
            (None, &json!(true)),
            "no higher than the fleet"
        );
        let webhook = autoscaler("lobby", &json!(null));
        assert_eq!(judged("eu", webhook).unwrap()["fits"], true, "it states no maximum");
    }

    #[test]
    fn the_fleet_of_an_autoscaler_must_be_in_the_list() {
        let fit = judged("eu", autoscaler("other", &json!({"maxReplicas": 1}))).unwrap();
        let expected =
            json!([r#"fleetautoscalers.autoscaling.agones.dev "scaler": its Fleet "other" in the list"#]);
        assert_eq!((&fit["mustSpecify"], &fit["fits"]), (&expected, &json!(false)));
        let wrong = autoscaler("other", &json!({"maxReplicas": "many"}));
        let message = judged("eu", wrong).unwrap_err();
        assert!(message.contains("items[0].spec.policy.buffer.maxReplicas: Invalid value"), "{message}");
    }

    #[test]
    fn a_server_of_pteronimbus_is_as_large_as_its_template_in_the_list() {
        let server = json!({
            "apiVersion": "pteronimbus.io/v1", "kind": "GameServer", "metadata": {"name": "one"},
            "spec": {"templateRef": {"name": "large"}},
        });
        let template = |namespace: &str| {
            json!({
                "apiVersion": "pteronimbus.io/v1", "kind": "GameTemplate",
                "metadata": {"name": "large", "namespace": namespace},
                "spec": {"resources": {"cpu": "2", "memory": "1Gi"}},
            })
        };
        let fit = judged("eu", list(&[server.clone(), template("eu")])).unwrap();
        assert_eq!((&fit["fits"], &fit["limits"][1]["requested"]), (&json!(true), &json!("1Gi")));
        let message = judged("eu", server.clone()).unwrap_err();
        assert!(
            message.contains(r#"items[0].spec.templateRef: Not found: GameTemplate \"eu/large\""#),
            "{message}"
        );
        let mut at_home = server;
        at_home["metadata"]["namespace"] = json!("us");
        let message = judged("", list(&[at_home, template("eu")])).unwrap_err();
        assert!(message.contains("us/large"), "{message}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let claim = |namespace: &str| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace}});
        assert!(judged("eu", claim("eu")).is_ok() && judged("", claim("eu")).is_ok());
        assert_eq!(judged("eu", json!({"apiVersion": "v1", "kind": "List"})).unwrap()["objects"], 0);
        for (namespace, objects, why) in [
            ("eu", claim("us"), "items[0].metadata.namespace: Invalid value"),
            ("", claim(""), "items[0].metadata.namespace: Required value"),
            ("eu", json!([1]), "must be a List"),
            ("eu", json!({"items": [claim("eu"), 7]}), "items[1]: Invalid value: must be an object"),
            ("eu", json!({"kind": "List", "items": {}}), "items: Invalid value: must be a list"),
            ("eu", json!({"apiVersion": "v1"}), "items[0].kind: Required value"),
            ("eu", fleet(-1, &json!({})), "items[0].spec.replicas: Invalid value"),
            ("eu", json!({"items": vec![1; 10_000]}), "items: Too many: 10000"),
        ] {
            let message = judged(namespace, objects).unwrap_err();
            assert!(message.contains(why), "{message} lacks {why}");
        }
    }
}
