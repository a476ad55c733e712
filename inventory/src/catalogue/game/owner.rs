//! Which object of a game engine another one belongs to.

use gatehouse_apiservice::agones::{Member, Reference};
use kube_cel::cel::Value;

use super::Object;

/// The owner, whose status includes it, if Agones treats it as part of another object: the owner's name.
pub(super) fn made_for(object: Object<'_>, member: Member) -> Result<Option<&str>, String> {
    let references = owners(object)?.map(|owner| {
        let text = |field| owner.text(&[field]).unwrap_or_default();
        Reference {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
            controller: matches!(owner.get(&["controller"]), Some(Value::Bool(true))),
        }
    });
    let label = object.text(&["metadata", "labels", member.label()]).unwrap_or_default();
    let claim = member.claim(Some(label), references);
    Ok(claim.filter(|claim| claim.uid.is_some()).map(|claim| claim.name))
}

/// The name of an object of this kind, in any version, that owns this one.
pub(super) fn owned_by<'a>(object: Object<'a>, group: &str, kind: &str) -> Result<Option<&'a str>, String> {
    let mut owners = owners(object)?;
    let owner = owners.find(|owner| {
        let version = owner.text(&["apiVersion"]).unwrap_or_default();
        let of_group = version.split_once('/').is_some_and(|(name, _)| name == group);
        of_group && owner.text(&["kind"]) == Ok(kind)
    });
    Ok(owner.map(|owner| owner.text(&["name"]).unwrap_or_default()))
}

fn owners(object: Object<'_>) -> Result<impl Iterator<Item = Object<'_>>, String> {
    object.list(&["metadata", "ownerReferences"])
}
