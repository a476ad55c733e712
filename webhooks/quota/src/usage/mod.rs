//! Computes the usage of an object.
//!
//! **Invariant:** it is defined for everything that kube-apiserver may send: an object of any resource counts as one of
//! `count/RESOURCE.GROUP`; for the charged kinds the fields are read, and an invalid value is an error that names its
//! field. Absent fields have the meaning that their API defines.
//!
//! The usage of an object of Agones is computed here as if it stood alone, with the owner that it names.
//! [`crate::Families`] decides how much of that is counted if the owner is charged already.

mod agones;
mod autoscaler;
pub(crate) mod claim;
mod field;
mod kruise;
mod looks;
mod pod;
mod pteronimbus;

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_apiservice::{
    agones::{Claim, Member},
    policy::FieldError,
    quantity::Quantity,
};
use serde_json::Value;
use thiserror::Error;

pub use autoscaler::Ceiling;
use field::At;
pub use kruise::added_by_pod;
pub use looks::looks;
pub use pteronimbus::{template_of, template_usage};

use crate::{Amounts, Dimension, GroupResource};

/// The resources that are charged for more than their count, or that such charges depend on: group and plural.
pub const CHARGED: &[(&str, &str)] = &[
    (agones::GROUP, "fleets"),
    (agones::GROUP, "gameservers"),
    (agones::GROUP, "gameserversets"),
    (kruise::GROUP, "gameserversets"),
    ("", PODS),
    (pteronimbus::GROUP, "gameservers"),
    (pteronimbus::GROUP, "gametemplates"),
];

/// Pods. Those of OpenKruiseGame's sets use what a set's servers use, others nothing but their count.
pub const PODS: &str = "pods";

/// The usage of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// The amount of each dimension, limited or not.
    pub amounts: Amounts,
    /// The set or Fleet that it was created for, if it names one as Agones or OpenKruiseGame does.
    pub owner: Option<Owner>,
    /// Whether it is an object of Agones that is being deleted.
    pub is_going: bool,
    /// For a server of Agones: the capacity that it added at run time.
    pub grown: Amounts,
    /// The dimensions that it states no request for, and by whom: container names, or the missing field.
    pub unstated: BTreeMap<Dimension, Vec<String>>,
    /// For an autoscaler: how far it may scale. Checked at admission, and never charged.
    pub ceiling: Option<Ceiling>,
}

/// The owner that an object of Agones names in every way that Agones requires, or the set of a pod. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its resource.
    pub resource: GroupResource,
    /// Its name, in the object's own namespace.
    pub name: Arc<str>,
    /// Its uid; `None` if only the label is left, see [`Claim::uid`]. Empty for a set of OpenKruiseGame, whose pods belong
    /// to it by its name.
    pub uid: Option<Arc<str>>,
}

/// Why the usage of an object is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UsageError {
    /// A field is invalid.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The object uses a template that is not known, and may yet be created.
    #[error("{field}: Not found: GameTemplate \"{namespace}/{name}\"")]
    UnknownTemplate {
        /// The field that names it.
        field: String,
        /// The template's namespace.
        namespace: String,
        /// The template's name.
        name: String,
    },
}

/// Looks up objects that the usage of others depends on.
pub trait Templates {
    /// A GameTemplate of Pteronimbus, whose `spec` is read.
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value>;

    /// A RuntimeClass of `node.k8s.io/v1`, whose `overhead` is read.
    fn runtime_class(&self, name: &str) -> Option<Value>;
}

/// Nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct NoTemplates;

impl Templates for NoTemplates {
    fn game_template(&self, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }

    fn runtime_class(&self, _name: &str) -> Option<Value> {
        None
    }
}

impl Usage {
    /// The usage of an object that is only counted, or whose other usage is unknown.
    pub fn counted(resource: &GroupResource) -> Self {
        let count = (Dimension::Count(resource.clone()), Quantity::from_integer(1));
        Self { amounts: [count].into_iter().collect(), ..Self::default() }
    }

    /// The missing requests that are reported of an object that used `before`: all of them at its creation; on an update,
    /// those that it stated before, or all if it grows to more servers. Other objects without requests can still be
    /// updated and shrink.
    pub fn newly_unstated(&self, before: Option<&Self>) -> BTreeMap<Dimension, Vec<String>> {
        let servers = |usage: &Self| usage.amounts.get(&Dimension::GameServers);
        let is_new = |dimension: &Dimension| {
            before.is_none_or(|before| {
                !before.unstated.contains_key(dimension) || servers(self) > servers(before)
            })
        };
        let unstated = self.unstated.iter().filter(|(dimension, _)| is_new(dimension));
        unstated.map(|(dimension, who)| (dimension.clone(), who.clone())).collect()
    }

    /// Its usage without the object count.
    pub fn beside_count(&self) -> Amounts {
        crate::families::beside_count(&self.amounts)
    }
}

/// Whether objects of the resource may use more than their count.
pub fn is_charged(resource: &GroupResource) -> bool {
    CHARGED.contains(&(&resource.group, &resource.resource))
}

/// The usage of an object.
pub fn usage(
    resource: &GroupResource,
    object: &Value,
    templates: &dyn Templates,
) -> Result<Usage, UsageError> {
    of_object(resource, object, None, templates)
}

/// The usage of an object with so many replicas, as a request for its `scale` subresource asks for.
pub fn scaled(
    resource: &GroupResource,
    object: &Value,
    replicas: i64,
    templates: &dyn Templates,
) -> Result<Usage, UsageError> {
    of_object(resource, object, Some(replicas), templates)
}

/// How many replicas an object of `autoscaling/v1` Scale asks for.
pub fn scale_replicas(scale: &Value) -> Result<i64, UsageError> {
    Ok(At::root(scale).at("spec").at("replicas").count()?.unwrap_or(0))
}

fn of_object(
    resource: &GroupResource,
    object: &Value,
    replicas: Option<i64>,
    templates: &dyn Templates,
) -> Result<Usage, UsageError> {
    let mut usage = Usage::counted(resource);
    let root = At::root(object);
    let of_servers = match (&*resource.group, &*resource.resource) {
        (agones::GROUP, "fleets" | "gameserversets") => {
            agones::fleet(&root, replicas, templates, &mut usage.unstated)?
        }
        (agones::GROUP, "gameservers") => {
            let (amounts, grown) = agones::game_server(&root, templates, &mut usage.unstated)?;
            usage.grown = grown;
            amounts
        }
        (kruise::GROUP, "gameserversets") => {
            kruise::game_server_set(&root, replicas, templates, &mut usage.unstated)?
        }
        (pteronimbus::GROUP, "gameservers") => {
            pteronimbus::game_server(&root, templates, &mut usage.unstated)?
        }
        ("", claim::RESOURCE) => claim::storage(&root)?,
        ("", PODS) => match kruise::pod(&root, object, templates)? {
            Some(amounts) => amounts,
            None => return Ok(usage),
        },
        (autoscaler::GROUP, "fleetautoscalers") => {
            usage.ceiling = Some(autoscaler::ceiling(&root)?);
            Amounts::default()
        }
        _ => return Ok(usage),
    };
    usage.owner = owner(resource, object);
    usage.is_going = *resource.group == *agones::GROUP && agones::is_going(&root);
    usage.amounts = usage.amounts.checked_add(&of_servers).ok_or_else(|| root.at("spec").out_of_range())?;
    Ok(usage)
}

/// The owner that an object of this resource names in every way that Agones requires, and that it is deleted with; of a
/// pod, its set.
pub fn owner(resource: &GroupResource, object: &Value) -> Option<Owner> {
    if (&*resource.group, &*resource.resource) == ("", PODS) {
        return kruise::owner(object);
    }
    let member = Member::of_resource(&resource.group, &resource.resource)?;
    let Claim { name, uid, .. } = member.claim_of(object.get("metadata")?).filter(|claim| claim.is_sole)?;
    Some(Owner {
        resource: GroupResource::new(agones::GROUP, member.owner_resource()),
        name: name.into(),
        uid: uid.map(Arc::from),
    })
}

/// `each` times `replicas`; an error on overflow.
fn times(each: &Amounts, replicas: i64, at: &At<'_, '_>) -> Result<Amounts, UsageError> {
    each.checked_mul(replicas).ok_or_else(|| at.out_of_range())
}

#[cfg(test)]
mod tests;
