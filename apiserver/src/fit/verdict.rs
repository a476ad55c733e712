//! The verdict on objects: what they would use of each limit of a quota, and whether that is left.
//!
//! Each object counts as one that is created, beside those that exist.

use gatehouse_apiservice::quantity::Quantity;
use gatehouse_quota::{Amounts, Dimension, GroupResource, NoTemplates, usage};
use gatehouse_serving::ApiError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most objects of a request.
const MOST_OBJECTS: usize = 1000;
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

/// Whether objects fit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fit {
    /// Whether all of them fit together. False if that is unknown.
    fits: bool,
    /// What happens to a request that would exceed a limit.
    enforcement: String,
    /// How many objects were asked about.
    objects: usize,
    limits: Vec<FitLimit>,
    /// What objects must specify, and do not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    must_specify: Vec<String>,
}

/// What the objects would use of a limit.
#[derive(Debug, Serialize)]
struct FitLimit {
    name: String,
    hard: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved: Option<String>,
    requested: String,
    /// Whether that is left; absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    fits: Option<bool>,
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

/// Judges a List of objects, or one object. `namespace` is that of the row: objects are in it, or name none; empty if
/// the row is of no namespace, and then each object names its own.
pub(super) fn judge(quota: &Quota, namespace: &str, objects: Value) -> Result<Fit, ApiError> {
    let objects = match objects {
        Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => {
            list.remove("items").and_then(|items| items.as_array().cloned()).unwrap_or_default()
        }
        object @ Value::Object(_) => vec![object],
        _ => return Err(ApiError::bad_request("the body must be a List, or an object")),
    };
    if objects.len() > MOST_OBJECTS {
        let many = format!("items: Too many: {}: must have at most {MOST_OBJECTS} items", objects.len());
        return Err(ApiError::unprocessable(many));
    }
    let limited: Vec<Option<Dimension>> = quota.limits.iter().map(|limit| limit.name.parse().ok()).collect();
    let (mut requested, mut must_specify) = (Amounts::default(), Vec::new());
    for (index, object) in objects.iter().enumerate() {
        let at = |why: &str| ApiError::unprocessable(format!("items[{index}].{why}"));
        let resource = resource(object).map_err(at)?;
        in_namespace(object, namespace).map_err(|why| at(&why))?;
        let usage = usage(&resource, object, &NoTemplates).map_err(|error| at(&error.to_string()))?;
        requested = requested.checked_add(&usage.amounts).ok_or_else(|| at("spec: out of range"))?;
        let unstated = usage.unstated.iter().filter(|(one, _)| limited.contains(&Some((*one).clone())));
        for (dimension, who) in unstated {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            must_specify.push(format!("{resource} {name:?}: {dimension} for: {}", who.join(",")));
        }
    }
    let limits: Vec<_> =
        quota.limits.iter().zip(&limited).map(|(limit, of)| limit.fit(of.as_ref(), &requested)).collect();
    let fits = must_specify.is_empty() && limits.iter().all(|limit| limit.fits == Some(true));
    must_specify.truncate(MOST_NAMED);
    Ok(Fit { fits, enforcement: quota.enforcement.clone(), objects: objects.len(), limits, must_specify })
}

impl Limit {
    fn fit(&self, dimension: Option<&Dimension>, requested: &Amounts) -> FitLimit {
        let amount = dimension.map(|dimension| requested.get(dimension));
        let fits = match amount {
            // What asks for nothing more is admitted over the limit, too.
            Some(amount) if amount.is_zero() => Some(true),
            Some(amount) => self.has_room(amount),
            None => None,
        };
        let requested = dimension.zip(amount).map(|(dimension, amount)| dimension.text(amount));
        FitLimit {
            name: self.name.clone(),
            hard: self.hard.clone(),
            used: self.used.clone(),
            reserved: self.reserved.clone(),
            requested: requested.unwrap_or_default(),
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

/// The resource of an object, by the usual rule for plurals.
fn resource(object: &Value) -> Result<GroupResource, &'static str> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let api_version = text("apiVersion").ok_or("apiVersion: Required value")?;
    let kind = text("kind").ok_or("kind: Required value")?.to_lowercase();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    };
    Ok(GroupResource::new(group, &plural))
}

fn in_namespace(object: &Value, namespace: &str) -> Result<(), String> {
    let own = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    match (own, namespace) {
        ("", "") => Err("metadata.namespace: Required value".to_owned()),
        (own, namespace) if own.is_empty() || namespace.is_empty() || own == namespace => Ok(()),
        (own, namespace) => {
            Err(format!("metadata.namespace: Invalid value: {own:?}: must be {namespace:?} or left out"))
        }
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
        let fit =
            judge(&arena(), namespace, objects).map_err(|error| error.status()["message"].to_string())?;
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
        let list =
            json!({"apiVersion": "v1", "kind": "List", "items": [fleet(5, &stated), fleet(1, &stated)]});
        let fit = judged("eu", list).unwrap();
        assert_eq!((&fit["fits"], &fit["limits"][0]["fits"]), (&json!(false), &json!(false)));
        assert_eq!(fit["limits"][1]["requested"], "3Gi");
        assert_eq!(fit["limits"][3]["fits"], true, "over the limit, and asked for nothing");
        let nothing = judged("eu", json!({"kind": "List", "items": []})).unwrap();
        assert_eq!((&nothing["fits"], &nothing["objects"]), (&json!(true), &json!(0)));
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

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let claim = |namespace: &str| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace}});
        assert!(judged("eu", claim("eu")).is_ok() && judged("", claim("eu")).is_ok());
        for (namespace, objects, why) in [
            ("eu", claim("us"), "items[0].metadata.namespace: Invalid value"),
            ("", claim(""), "items[0].metadata.namespace: Required value"),
            ("eu", json!([1]), "must be a List"),
            ("eu", json!({"items": [claim("eu"), 7]}), "items[1].apiVersion: Required value"),
            ("eu", json!({"apiVersion": "v1"}), "items[0].kind: Required value"),
            ("eu", fleet(-1, &json!({})), "items[0].spec.replicas: Invalid value"),
            ("eu", json!({"items": vec![1; 10_000]}), "items: Too many: 10000"),
        ] {
            let message = judged(namespace, objects).unwrap_err();
            assert!(message.contains(why), "{message} lacks {why}");
        }
    }
}
