//! What an object takes up.
//!
//! Total over what kube-apiserver may send: an object of any resource is one of `count/RESOURCE.GROUP`; of the charged
//! kinds the fields are read, and one with a value that cannot be is an error that names it. Absent fields mean what
//! their API says they mean.
//!
//! A GameServer or GameServerSet that Agones made for a set or fleet takes up nothing of its own: the fleet did, when
//! it asked. It is counted where a quota counts the resource, but never denied: Agones would only try again for ever.

mod agones;
mod autoscaler;
mod field;
mod kruise;
mod looks;
mod pod;
mod pteronimbus;

use gatehouse_apiservice::{policy::FieldError, quantity::Quantity};
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
    /// Whether refusing the object would only make trouble: it was asked for by one that was admitted.
    pub never_denied: bool,
    /// Of an autoscaler: how far it may go. Checked when it is admitted, and never charged.
    pub ceiling: Option<Ceiling>,
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
    told(resource, object, None, templates)
}

/// What an object would take up with so many replicas: what a request for its `scale` subresource asks for.
pub fn scaled(
    resource: &GroupResource,
    object: &Value,
    replicas: i64,
    templates: &dyn Templates,
) -> Result<Usage, UsageError> {
    told(resource, object, Some(replicas), templates)
}

/// How many replicas an object of `autoscaling/v1` Scale asks for.
pub fn scale_replicas(scale: &Value) -> Result<i64, UsageError> {
    Ok(At::root(scale).at("spec").at("replicas").count()?.unwrap_or(0))
}

fn told(
    resource: &GroupResource,
    object: &Value,
    replicas: Option<i64>,
    templates: &dyn Templates,
) -> Result<Usage, UsageError> {
    let mut usage = Usage::counted(resource);
    let root = At::root(object);
    let of_servers = match (&*resource.group, &*resource.resource) {
        (agones::GROUP, "gameserversets") if is_owned(&root, "Fleet")? => {
            usage.never_denied = true;
            Amounts::default()
        }
        (agones::GROUP, "fleets" | "gameserversets") => agones::fleet(&root, replicas)?,
        (agones::GROUP, "gameservers") if is_owned(&root, "GameServerSet")? => {
            usage.never_denied = true;
            Amounts::default()
        }
        (agones::GROUP, "gameservers") => agones::game_server(&root)?,
        (kruise::GROUP, "gameserversets") => kruise::game_server_set(&root, replicas)?,
        (pteronimbus::GROUP, "gameservers") => pteronimbus::game_server(&root, templates)?,
        (autoscaler::GROUP, "fleetautoscalers") => {
            usage.ceiling = Some(autoscaler::ceiling(&root)?);
            Amounts::default()
        }
        _ => return Ok(usage),
    };
    usage.amounts = usage.amounts.checked_add(&of_servers).ok_or_else(|| root.at("spec").out_of_range())?;
    Ok(usage)
}

/// Whether Agones made the object, for one of its own of this kind. An owner of some other kind does not count: whoever
/// may write the object may write anything there, and what Agones does not own it does not remove.
fn is_owned(root: &At<'_, '_>, by: &str) -> Result<bool, UsageError> {
    let metadata = root.at("metadata");
    let owners = metadata.at("ownerReferences");
    for owner in owners.items()? {
        let group = owner
            .at("apiVersion")
            .text()?
            .and_then(|version| version.split_once('/'))
            .map(|(group, _)| group);
        let of_kind = owner.at("kind").text()? == Some(by) && group == Some(agones::GROUP);
        if of_kind && owner.at("controller").boolean()? == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `each` times `replicas`, which may be too much to count.
fn times(each: &Amounts, replicas: i64, at: &At<'_, '_>) -> Result<Amounts, UsageError> {
    each.checked_mul(replicas).ok_or_else(|| at.out_of_range())
}

#[cfg(test)]
mod tests;
