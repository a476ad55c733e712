//! What a pod asks for, as the scheduler reckons: the larger of what runs at once and of what runs first, and the overhead
//! of its sandbox. Where the pod as a whole states something, the larger of that and of its containers' counts: a
//! cluster without that feature runs the containers.

use std::collections::BTreeMap;

use gatehouse_apiservice::quantity::Quantity;

use super::{At, UsageError};
use crate::{Amounts, Dimension};

/// What a pod of this `spec` asks for. Where it does not say for all of its containers, those are added to `unstated`: as
/// much as the node has is what such a pod may take.
pub(super) fn requests(
    spec: &At<'_, '_>,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    spec.object()?;
    let mut requests = Amounts::default();
    for (resource, dimension) in [("cpu", Dimension::RequestsCpu), ("memory", Dimension::RequestsMemory)] {
        let (quantity, silent) = request(spec, resource)?;
        if !silent.is_empty() {
            unstated.insert(dimension.clone(), silent);
        }
        requests.set(dimension, quantity);
    }
    Ok(requests)
}

/// What a container, or whatever else has `resources`, asks for: what has a limit and no request asks for the limit.
pub(super) fn of_resources(resources: &At<'_, '_>, resource: &str) -> Result<Option<Quantity>, UsageError> {
    resources.object()?;
    let (requests, limits) = (resources.at("requests"), resources.at("limits"));
    requests.object()?;
    limits.object()?;
    // The limit is read in any case: one that makes no sense is no better for being beside a request.
    let limit = limits.key(resource).quantity()?;
    Ok(requests.key(resource).quantity()?.or(limit))
}

/// How much of `resource`, and the containers that do not say, unless the pod does as a whole.
fn request(spec: &At<'_, '_>, resource: &str) -> Result<(Quantity, Vec<String>), UsageError> {
    let add = |sum: Quantity, more: Quantity| sum.checked_add(more).ok_or_else(|| spec.out_of_range());
    let mut silent = Vec::new();
    let mut running = Quantity::ZERO;
    for container in spec.at("containers").items()? {
        running = add(running, of_container(&container, resource, &mut silent)?)?;
    }
    let mut sidecars = Quantity::ZERO;
    let mut starting = Quantity::ZERO;
    for container in spec.at("initContainers").items()? {
        let own = of_container(&container, resource, &mut silent)?;
        if container.at("restartPolicy").text()? == Some("Always") {
            // It goes on running beside everything that starts after it.
            sidecars = add(sidecars, own)?;
            running = add(running, own)?;
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(add(sidecars, own)?);
        }
    }
    let whole = of_resources(&spec.at("resources"), resource)?;
    if whole.is_some() {
        silent.clear();
    }
    let overhead = spec.at("overhead");
    overhead.object()?;
    let overhead = overhead.key(resource).quantity()?.unwrap_or_default();
    Ok((add(running.max(starting).max(whole.unwrap_or_default()), overhead)?, silent))
}

/// What a container asks for. One that does not say is added to `silent`, by its name.
fn of_container(
    container: &At<'_, '_>,
    resource: &str,
    silent: &mut Vec<String>,
) -> Result<Quantity, UsageError> {
    container.object()?;
    let own = of_resources(&container.at("resources"), resource)?;
    if own.is_none() {
        let name = container.at("name").text()?.filter(|name| !name.is_empty());
        silent.push(name.map_or_else(|| container.to_string(), str::to_owned));
    }
    Ok(own.unwrap_or_default())
}
