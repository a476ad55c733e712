//! What a pod asks for, by Kubernetes' rules: the scheduler reserves the larger of what runs at once and of what runs
//! first, and the overhead of its sandbox; a request for the pod as a whole stands above those of its containers.

use gatehouse_apiservice::quantity::Quantity;

use super::{At, UsageError};
use crate::{Amounts, Dimension};

/// What a pod of this `spec` asks for.
pub(super) fn requests(spec: &At<'_, '_>) -> Result<Amounts, UsageError> {
    spec.object()?;
    let mut requests = Amounts::default();
    for (resource, dimension) in [("cpu", Dimension::RequestsCpu), ("memory", Dimension::RequestsMemory)] {
        requests.set(dimension, request(spec, resource)?);
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

fn request(spec: &At<'_, '_>, resource: &str) -> Result<Quantity, UsageError> {
    let add = |sum: Quantity, more: Quantity| sum.checked_add(more).ok_or_else(|| spec.out_of_range());
    let mut asked = false;
    let mut running = Quantity::ZERO;
    for container in spec.at("containers").items()? {
        let own = of_container(&container, resource)?;
        asked |= own.is_some();
        running = add(running, own.unwrap_or_default())?;
    }
    let mut sidecars = Quantity::ZERO;
    let mut starting = Quantity::ZERO;
    for container in spec.at("initContainers").items()? {
        let own = of_container(&container, resource)?;
        asked |= own.is_some();
        let own = own.unwrap_or_default();
        if container.at("restartPolicy").text()? == Some("Always") {
            // It goes on running beside everything that starts after it.
            sidecars = add(sidecars, own)?;
            running = add(running, own)?;
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(add(sidecars, own)?);
        }
    }
    let containers = running.max(starting);
    let pod = spec.at("resources");
    pod.object()?;
    let (requests, limits) = (pod.at("requests"), pod.at("limits"));
    requests.object()?;
    limits.object()?;
    let limit = limits.key(resource).quantity()?;
    let whole = match requests.key(resource).quantity()? {
        Some(request) => request,
        // Defaulted from the containers where these ask for something, else from the limit.
        None if asked => containers,
        None => limit.unwrap_or(containers),
    };
    let overhead = spec.at("overhead");
    overhead.object()?;
    add(whole, overhead.key(resource).quantity()?.unwrap_or_default())
}

fn of_container(container: &At<'_, '_>, resource: &str) -> Result<Option<Quantity>, UsageError> {
    container.object()?;
    of_resources(&container.at("resources"), resource)
}
