//! Which object of Agones belongs to which: the one place that decides it.
//!
//! Agones lists the GameServerSets of a Fleet by the label `agones.dev/fleet`, the GameServers of a set by
//! `agones.dev/gameserverset`, and keeps those whose controlling owner reference has the owner's uid. What lacks either
//! it neither counts nor removes. So an object that names an owner in only one of the two ways, or an owner of another
//! kind or version, is nobody's; and one that names an owner in both ways is the owner's only where that exists.

use serde_json::Value;

/// The API group.
pub const GROUP: &str = "agones.dev";
/// The only version of it, which the references that Agones writes name.
const API_VERSION: &str = "agones.dev/v1";

/// A kind whose objects Agones makes for an object of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Member {
    /// Made for a Fleet.
    GameServerSet,
    /// Made for a GameServerSet.
    GameServer,
}

/// The owner that an object names, in every way that Agones asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim<'a> {
    /// What kind of object makes the claim, and so of which kind the owner is.
    pub member: Member,
    /// The owner's name; it is in the object's own namespace.
    pub name: &'a str,
    /// The owner's uid. None where no owner controls the object and the label alone is left: the garbage collector takes
    /// the reference away from the dependents of an owner that is deleted with `--cascade=orphan`.
    pub uid: Option<&'a str>,
    /// Whether the object goes with the owner: there is no other reference. With one the garbage collector leaves the
    /// object when its owner is deleted, and Agones makes another in its place.
    pub is_sole: bool,
}

/// An owner reference, as far as it matters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference<'a> {
    /// `apiVersion`.
    pub api_version: &'a str,
    /// `kind`.
    pub kind: &'a str,
    /// `name`.
    pub name: &'a str,
    /// `uid`.
    pub uid: &'a str,
    /// `controller`.
    pub controller: bool,
}

impl Member {
    /// The kind of this resource of Agones, if its objects may belong to others.
    pub fn of_resource(group: &str, resource: &str) -> Option<Self> {
        match (group, resource) {
            (GROUP, "gameserversets") => Some(Self::GameServerSet),
            (GROUP, "gameservers") => Some(Self::GameServer),
            _ => None,
        }
    }

    /// The kind of this name.
    pub fn of_kind(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            (GROUP, "GameServerSet") => Some(Self::GameServerSet),
            (GROUP, "GameServer") => Some(Self::GameServer),
            _ => None,
        }
    }

    /// The label that names the owner.
    pub fn label(self) -> &'static str {
        match self {
            Self::GameServerSet => "agones.dev/fleet",
            Self::GameServer => "agones.dev/gameserverset",
        }
    }

    /// The owner's kind.
    pub fn owner_kind(self) -> &'static str {
        match self {
            Self::GameServerSet => "Fleet",
            Self::GameServer => "GameServerSet",
        }
    }

    /// The owner's resource, of the same group.
    pub fn owner_resource(self) -> &'static str {
        match self {
            Self::GameServerSet => "fleets",
            Self::GameServer => "gameserversets",
        }
    }

    /// The owner that an object of this kind names by its `label` and its owner `references`.
    pub fn claim<'a>(
        self,
        label: Option<&'a str>,
        references: impl IntoIterator<Item = Reference<'a>>,
    ) -> Option<Claim<'a>> {
        let label = label.filter(|label| !label.is_empty())?;
        // kube-apiserver allows one that controls.
        let (mut number, mut controller) = (0, None);
        for reference in references {
            number += 1;
            controller = controller.or(Some(reference).filter(|reference| reference.controller));
        }
        let Some(owner) = controller else {
            return Some(Claim { member: self, name: label, uid: None, is_sole: number == 0 });
        };
        let is_named = owner.api_version == API_VERSION
            && owner.kind == self.owner_kind()
            && owner.name == label
            && !owner.uid.is_empty();
        is_named.then_some(Claim { member: self, name: label, uid: Some(owner.uid), is_sole: number == 1 })
    }

    /// The same, from the `metadata` of an object. What has another type than Kubernetes gives it names nobody.
    pub fn claim_of(self, metadata: &Value) -> Option<Claim<'_>> {
        let label = metadata.get("labels").and_then(|labels| labels.get(self.label()));
        let references = metadata.get("ownerReferences").and_then(Value::as_array);
        let read = |reference| {
            let text = |field: &str| Value::get(reference, field).and_then(Value::as_str).unwrap_or_default();
            Reference {
                api_version: text("apiVersion"),
                kind: text("kind"),
                name: text("name"),
                uid: text("uid"),
                controller: reference.get("controller") == Some(&Value::Bool(true)),
            }
        };
        self.claim(label.and_then(Value::as_str), references.into_iter().flatten().map(read))
    }
}

/// Whether an owner with this `metadata` is being deleted so that its dependents stay: what the garbage collector has
/// let go of it is still its own until it is gone, since Agones does nothing for an owner that is being deleted.
pub fn orphans_dependents(metadata: &Value) -> bool {
    let finalizers = metadata.get("finalizers").and_then(Value::as_array);
    metadata.get("deletionTimestamp").is_some_and(|time| !time.is_null())
        && finalizers.into_iter().flatten().any(|finalizer| finalizer == "orphan")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The owner's uid, `label` where there is none, and `nobody` without an owner.
    fn uid_of(metadata: &Value) -> &str {
        Member::GameServerSet.claim_of(metadata).map_or("nobody", |claim| claim.uid.unwrap_or("label"))
    }

    fn metadata(label: &str, change: &Value) -> Value {
        let mut owner = json!({"apiVersion": "agones.dev/v1", "kind": "Fleet", "name": "f", "uid": "u", "controller": true});
        for (field, value) in change.as_object().into_iter().flatten() {
            owner[field] = value.clone();
        }
        json!({"labels": {"agones.dev/fleet": label}, "ownerReferences": [owner]})
    }

    #[test]
    fn label_and_controlling_reference_name_the_owner_together() {
        let whole = metadata("f", &Value::Null);
        let claim = Member::GameServerSet.claim_of(&whole).unwrap();
        assert_eq!((claim.name, claim.uid), ("f", Some("u")));
        assert_eq!(Member::GameServer.claim_of(&whole), None, "of another kind, by another label");
    }

    #[test]
    fn what_agones_would_not_have_written_names_nobody() {
        for change in [
            json!({"apiVersion": "agones.dev/v9"}),
            json!({"apiVersion": "agones.dev"}),
            json!({"apiVersion": "game.kruise.io/v1alpha1"}),
            json!({"kind": "GameServerSet"}),
            json!({"kind": "fleet"}),
            json!({"name": "g"}),
            json!({"uid": ""}),
            json!({"uid": 1}),
        ] {
            assert_eq!(uid_of(&metadata("f", &change)), "nobody", "{change}");
        }
        assert_eq!(uid_of(&metadata("g", &Value::Null)), "nobody", "the label of another fleet");
        let mut unlabelled = metadata("f", &Value::Null);
        unlabelled["labels"] = json!({"agones.dev/Fleet": "f"});
        assert_eq!(uid_of(&unlabelled), "nobody");
        assert_eq!(uid_of(&metadata("", &json!({"name": ""}))), "nobody");
    }

    #[test]
    fn only_the_owner_that_controls_counts_among_several() {
        let mut several = metadata("f", &Value::Null);
        let other =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c", "controller": false});
        several["ownerReferences"].as_array_mut().unwrap().insert(0, other);
        assert_eq!(uid_of(&several), "u");
        assert!(!Member::GameServerSet.claim_of(&several).unwrap().is_sole);
        assert!(Member::GameServerSet.claim_of(&metadata("f", &Value::Null)).unwrap().is_sole);
        several["ownerReferences"][0]["controller"] = true.into();
        several["ownerReferences"][1]["controller"] = false.into();
        assert_eq!(uid_of(&several), "nobody", "somebody else controls it");
    }

    #[test]
    fn without_a_controlling_owner_the_label_is_left_of_a_claim() {
        let orphan = metadata("f", &json!({"controller": false}));
        assert_eq!(uid_of(&orphan), "label");
        assert_eq!(uid_of(&json!({"labels": {"agones.dev/fleet": "f"}})), "label");
        assert_eq!(uid_of(&json!({})), "nobody");
    }

    #[test]
    fn dependents_stay_with_an_owner_that_is_deleted_as_orphaning() {
        let time = "2026-11-29T00:00:00Z";
        assert!(orphans_dependents(&json!({"deletionTimestamp": time, "finalizers": ["a", "orphan"]})));
        assert!(!orphans_dependents(
            &json!({"deletionTimestamp": time, "finalizers": ["foregroundDeletion"]})
        ));
        assert!(!orphans_dependents(&json!({"finalizers": ["orphan"]})), "nobody deletes it");
    }
}
