//! The requests of a pod, as the scheduler computes them: the larger of what runs at once and of what runs first, plus
//! the overhead of its sandbox. If the pod states requests as a whole, the larger of these and of its containers'
//! counts: a cluster without that feature runs the containers.

use std::collections::BTreeMap;

use gatehouse_apiservice::quantity::Quantity;

use super::{At, UsageError};
use crate::{Amounts, Dimension};

/// The requests of a pod of this `spec`. Containers without a request are added to `unstated`: such a pod may use as
/// much as the node has.
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

/// The request of a container, or of anything else with `resources`; without a request, its limit.
pub(super) fn of_resources(resources: &At<'_, '_>, resource: &str) -> Result<Option<Quantity>, UsageError> {
    resources.object()?;
    let (requests, limits) = (resources.at("requests"), resources.at("limits"));
    requests.object()?;
    limits.object()?;
    // The limit is always read: an invalid one is an error even beside a request.
    let limit = limits.key(resource).quantity()?;
    Ok(requests.key(resource).quantity()?.or(limit))
}

/// The request of `resource`, and the containers without one, unless the pod states one as a whole.
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
            // A sidecar keeps running beside everything that starts after it.
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

/// The request of a container. The name of one without a request is added to `silent`.
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
