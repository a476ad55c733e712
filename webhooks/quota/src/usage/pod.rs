//! The requests and limits of a pod, as the scheduler computes them: the larger of what runs at once and of what runs
//! first, plus the overhead of its sandbox: that of the pod's RuntimeClass, which kube-apiserver writes into a Pod at its
//! creation, or of the template if that is larger. If the pod states them as a whole, the larger of these and of its
//! containers' counts: a cluster without that feature runs the containers.

use std::collections::BTreeMap;

use gatehouse_apiservice::quantity::Quantity;

use super::{At, Templates, UsageError};
use crate::{Amounts, Dimension};

/// What a container states of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stated {
    /// Its request; without a request, its limit.
    Request,
    /// Its limit.
    Limit,
}

/// The dimensions of a pod, each with what it is computed from.
pub(super) const DIMENSIONS: [(Stated, &str, Dimension); 4] = [
    (Stated::Request, "cpu", Dimension::RequestsCpu),
    (Stated::Request, "memory", Dimension::RequestsMemory),
    (Stated::Limit, "cpu", Dimension::LimitsCpu),
    (Stated::Limit, "memory", Dimension::LimitsMemory),
];

/// The requests and limits of a pod of this `spec`. Containers without one are added to `unstated`: such a pod may use
/// as much as the node has.
pub(super) fn amounts(
    spec: &At<'_, '_>,
    templates: &dyn Templates,
    unstated: &mut BTreeMap<Dimension, Vec<String>>,
) -> Result<Amounts, UsageError> {
    spec.object()?;
    let class = spec.at("runtimeClassName");
    let of_class = class.text()?.and_then(|name| templates.runtime_class(name));
    let of_class = of_class.as_ref().map(|of_class| At::beneath(&class, of_class));
    let mut amounts = Amounts::default();
    for (stated, resource, dimension) in DIMENSIONS {
        let (containers, silent) = amount(spec, stated, resource)?;
        let sandbox = overhead(spec, of_class.as_ref(), resource)?;
        let quantity = match stated {
            // A limit of the sandbox alone would limit nothing.
            Stated::Limit if containers.is_zero() => containers,
            _ => containers.checked_add(sandbox).ok_or_else(|| spec.out_of_range())?,
        };
        if !silent.is_empty() {
            unstated.insert(dimension.clone(), silent);
        }
        amounts.set(dimension, quantity);
    }
    Ok(amounts)
}

/// What a container, or anything else with `resources`, states.
pub(super) fn of_resources(
    resources: &At<'_, '_>,
    stated: Stated,
    resource: &str,
) -> Result<Option<Quantity>, UsageError> {
    resources.object()?;
    let (requests, limits) = (resources.at("requests"), resources.at("limits"));
    requests.object()?;
    limits.object()?;
    // Both are always read: an invalid one is an error even beside the other.
    let (request, limit) = (requests.key(resource).quantity()?, limits.key(resource).quantity()?);
    Ok(match stated {
        Stated::Request => request.or(limit),
        Stated::Limit => limit,
    })
}

/// The amount of `resource` without the sandbox, and the containers that state none, unless the pod states one as a whole.
fn amount(spec: &At<'_, '_>, stated: Stated, resource: &str) -> Result<(Quantity, Vec<String>), UsageError> {
    let add = |sum: Quantity, more: Quantity| sum.checked_add(more).ok_or_else(|| spec.out_of_range());
    let mut silent = Vec::new();
    let mut has_stated = false;
    let mut of_container = |container: &At<'_, '_>| {
        let own = of_container(container, stated, resource, &mut silent)?;
        has_stated |= own.is_some();
        Ok::<_, UsageError>(own.unwrap_or_default())
    };
    let mut running = Quantity::ZERO;
    for container in spec.at("containers").items()? {
        running = add(running, of_container(&container)?)?;
    }
    let mut sidecars = Quantity::ZERO;
    let mut starting = Quantity::ZERO;
    for container in spec.at("initContainers").items()? {
        let own = of_container(&container)?;
        if container.at("restartPolicy").text()? == Some("Always") {
            // A sidecar keeps running beside everything that starts after it.
            sidecars = add(sidecars, own)?;
            running = add(running, own)?;
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(add(sidecars, own)?);
        }
    }
    let whole = spec.at("resources");
    let of_pod = of_resources(&whole, stated, resource)?;
    let is_request = whole.at("requests").key(resource).quantity()?.is_some();
    let whole = match stated {
        // kube-apiserver takes a limit of the pod for its request only if no container states one.
        Stated::Request if has_stated && !is_request => None,
        _ => of_pod,
    };
    if of_pod.is_some() {
        silent.clear();
    }
    Ok((running.max(starting).max(whole.unwrap_or_default()), silent))
}

/// The overhead of the sandbox. kube-apiserver rejects a Pod whose overhead is not that of its RuntimeClass, and a Pod of
/// a RuntimeClass that does not exist.
fn overhead(spec: &At<'_, '_>, class: Option<&At<'_, '_>>, resource: &str) -> Result<Quantity, UsageError> {
    let of = |overhead: &At<'_, '_>| {
        overhead.object()?;
        Ok::<_, UsageError>(overhead.key(resource).quantity()?.unwrap_or_default())
    };
    let stated = of(&spec.at("overhead"))?;
    let Some(class) = class else { return Ok(stated) };
    let of_class = class.at("overhead");
    of_class.object()?;
    Ok(stated.max(of(&of_class.at("podFixed"))?))
}

/// What a container states, if anything. The name of one that states nothing is added to `silent`.
fn of_container(
    container: &At<'_, '_>,
    stated: Stated,
    resource: &str,
    silent: &mut Vec<String>,
) -> Result<Option<Quantity>, UsageError> {
    container.object()?;
    let own = of_resources(&container.at("resources"), stated, resource)?;
    if own.is_none() {
        let name = container.at("name").text()?.filter(|name| !name.is_empty());
        silent.push(name.map_or_else(|| container.to_string(), str::to_owned));
    }
    Ok(own)
}
