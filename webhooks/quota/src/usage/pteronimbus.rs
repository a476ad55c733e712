//! Pteronimbus: a `GameServer` is one server of the size that its GameTemplate states.
//!
//! No definition of these kinds is published. `spec.templateRef` is read as a name or as `{name, namespace}`; the
//! template's `spec.resources` as `{cpu, memory}` or as `{requests, limits}`. An edit of a template would change the usage
//! of its servers without a request for them, while their pods keep what they were made with; a quota that denies refuses
//! it while there are any.

use std::collections::BTreeMap;

use gatehouse_apiservice::quantity::Quantity;
use serde_json::Value;

use super::{At, Templates, UsageError, pod};
use crate::{Amounts, Dimension};

pub(super) const GROUP: &str = "pteronimbus.io";

pub(super) fn game_server(
    root: &At<'_, '_>,
    templates: &dyn Templates,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    let spec = root.at("spec");
    spec.object()?;
    let reference = spec.at("templateRef");
    let (namespace, name) = referenced(root, &reference)?;
    let Some(template) = templates.game_template(&namespace, &name) else {
        return Err(UsageError::UnknownTemplate { field: reference.to_string(), namespace, name });
    };
    let mut amounts = of_template(&At::beneath(&reference, &template), unstated)?;
    amounts.set(Dimension::GameServers, Quantity::from_integer(1));
    Ok(amounts)
}

/// Namespace and name of the template that a server refers to.
fn referenced(root: &At<'_, '_>, reference: &At<'_, '_>) -> Result<(String, String), UsageError> {
    let own = root.at("metadata").at("namespace").text()?.unwrap_or_default().to_owned();
    match reference.object() {
        Ok(None) => Err(reference.required()),
        Ok(Some(_)) => {
            let namespace = reference.at("namespace").text()?.map_or(own, str::to_owned);
            let name = reference.at("name");
            Ok((namespace, name.text()?.ok_or_else(|| name.required())?.to_owned()))
        }
        Err(_) => match reference.text() {
            Ok(Some(name)) => Ok((own, name.to_owned())),
            _ => Err(reference.wrong("must be a name, or an object with a name")),
        },
    }
}

/// Namespace and name of the GameTemplate that a GameServer refers to, if it can be read.
pub fn template_of(server: &Value) -> Option<(String, String)> {
    let root = At::root(server);
    referenced(&root, &root.at("spec").at("templateRef")).ok()
}

/// The usage of a server of this GameTemplate, beside that it is one.
pub fn template_usage(template: &Value) -> Result<Amounts, UsageError> {
    of_template(&At::root(template), &mut BTreeMap::new())
}

/// The usage by a template.
fn of_template(
    template: &At<'_, '_>,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    let spec = template.at("spec");
    spec.object()?;
    let resources = spec.at("resources");
    resources.object()?;
    let mut amounts = Amounts::default();
    for (stated, resource, dimension) in pod::DIMENSIONS {
        let plain = resources.at(resource).quantity()?;
        let asked = pod::of_resources(&resources, stated, resource)?.or(plain);
        if asked.is_none() {
            unstated.insert(dimension.clone(), vec![resources.to_string()]);
        }
        amounts.set(dimension, asked.unwrap_or_default());
    }
    Ok(amounts)
}
