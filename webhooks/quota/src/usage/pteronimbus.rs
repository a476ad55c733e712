//! Pteronimbus: a `GameServer` is one server of the size that its GameTemplate states.
//!
//! No definition of these kinds is published. `spec.templateRef` is read as a name or as `{name, namespace}`; the
//! template's `spec.resources` as `{cpu, memory}` or as `{requests, limits}`. An edit of a template changes the usage
//! of its servers without a request for them: that is observed, and reported as overcommit.

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
    let own = root.at("metadata").at("namespace").text()?.unwrap_or_default().to_owned();
    let (namespace, name) = match reference.object() {
        Ok(None) => return Err(reference.required()),
        Ok(Some(_)) => {
            let namespace = reference.at("namespace").text()?.map_or(own, str::to_owned);
            (namespace, reference.at("name").text()?.ok_or_else(|| reference.at("name").required())?)
        }
        Err(_) => match reference.text() {
            Ok(Some(name)) => (own, name),
            _ => return Err(reference.wrong("must be a name, or an object with a name")),
        },
    };
    let Some(template) = templates.game_template(&namespace, name) else {
        let (field, name) = (reference.to_string(), name.to_owned());
        return Err(UsageError::UnknownTemplate { field, namespace, name });
    };
    let mut amounts = of_template(&reference, &template, unstated)?;
    amounts.set(Dimension::GameServers, Quantity::from_integer(1));
    Ok(amounts)
}

/// The usage by a template. Errors name the template's fields by way of the server's reference.
fn of_template(
    reference: &At<'_, '_>,
    template: &Value,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    let template = At::beneath(reference, template);
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
