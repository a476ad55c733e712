//! What an object takes up.
//!
//! Total over what kube-apiserver may send: an object of any resource is one of `count/RESOURCE.GROUP`; of the charged
//! kinds the fields are read, and one with a value that cannot be is an error that names it. Absent fields mean what
//! their API says they mean.
//!
//! What an object of Agones takes up is told here as if it stood alone, with the owner that it names. What of that is
//! counted, now that its owner is charged already, is for [`crate::Families`] to say.

mod agones;
mod autoscaler;
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
pub use looks::looks;

use crate::{Amounts, Dimension, GroupResource};

/// The resources of which more is charged than their count, or which that depends on: group and plural.
pub const CHARGED: &[(&str, &str)] = &[
    (agones::GROUP, "fleets"),
    (agones::GROUP, "gameservers"),
    (agones::GROUP, "gameserversets"),
    (kruise::GROUP, "gameserversets"),
    (pteronimbus::GROUP, "gameservers"),
    (pteronimbus::GROUP, "gametemplates"),
];

/// What an object takes up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of each dimension that there is, limited or not.
    pub amounts: Amounts,
    /// The set or fleet of Agones that it is made for, if it names one as Agones does.
    pub owner: Option<Owner>,
    /// It is an object of Agones, and is being deleted.
    pub is_going: bool,
    /// Of a server of Agones: room for players that it has made at run time, beyond what it was made with.
    pub grown: Quantity,
    /// What it states no request of, and who in it does not: containers by name, or the field where it would stand.
    pub unstated: BTreeMap<Dimension, Vec<String>>,
    /// Of an autoscaler: how far it may go. Checked when it is admitted, and never charged.
    pub ceiling: Option<Ceiling>,
}

/// The owner that an object of Agones names, in every way that Agones asks for. Whether it exists, others know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its resource.
    pub resource: GroupResource,
    /// Its name, in the object's own namespace.
    pub name: Arc<str>,
    /// Its uid; none where the label alone is left, see [`Claim::uid`].
    pub uid: Option<Arc<str>>,
}

/// Why it cannot be told what an object takes up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UsageError {
    /// A field makes no sense.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The object is made from a template that is not known; it may come to be.
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

/// What only the cluster knows.
pub trait Templates {
    /// A GameTemplate of Pteronimbus, of which `spec` is read.
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value>;
}

/// Nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct NoTemplates;

impl Templates for NoTemplates {
    fn game_template(&self, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }
}

impl Usage {
    /// Of an object that is merely counted, or of which nothing else can be told.
    pub fn counted(resource: &GroupResource) -> Self {
        let count = (Dimension::Count(resource.clone()), Quantity::from_integer(1));
        Self { amounts: [count].into_iter().collect(), ..Self::default() }
    }

    /// What it takes up beside being an object.
    pub fn beside_count(&self) -> Amounts {
        crate::families::beside_count(&self.amounts)
    }
}

/// Whether objects of the resource may take up more than their count.
pub fn is_charged(resource: &GroupResource) -> bool {
    CHARGED.contains(&(&resource.group, &resource.resource))
}

/// What an object takes up.
pub fn usage(
    resource: &GroupResource,
    object: &Value,
    templates: &dyn Templates,
) -> Result<Usage, UsageError> {
    of_object(resource, object, None, templates)
}

/// What an object would take up with so many replicas: what a request for its `scale` subresource asks for.
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
        (agones::GROUP, "fleets" | "gameserversets") => agones::fleet(&root, replicas, &mut usage.unstated)?,
        (agones::GROUP, "gameservers") => {
            let (amounts, grown) = agones::game_server(&root, &mut usage.unstated)?;
            usage.grown = grown;
            amounts
        }
        (kruise::GROUP, "gameserversets") => kruise::game_server_set(&root, replicas, &mut usage.unstated)?,
        (pteronimbus::GROUP, "gameservers") => {
            pteronimbus::game_server(&root, templates, &mut usage.unstated)?
        }
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

/// The owner that an object of this resource names in every way that Agones asks for, and that it goes with.
pub fn owner(resource: &GroupResource, object: &Value) -> Option<Owner> {
    let member = Member::of_resource(&resource.group, &resource.resource)?;
    let Claim { name, uid, .. } = member.claim_of(object.get("metadata")?).filter(|claim| claim.is_sole)?;
    Some(Owner {
        resource: GroupResource::new(agones::GROUP, member.owner_resource()),
        name: name.into(),
        uid: uid.map(Arc::from),
    })
}

/// `each` times `replicas`, which may be too much to count.
fn times(each: &Amounts, replicas: i64, at: &At<'_, '_>) -> Result<Amounts, UsageError> {
    each.checked_mul(replicas).ok_or_else(|| at.out_of_range())
}

#[cfg(test)]
mod tests;
