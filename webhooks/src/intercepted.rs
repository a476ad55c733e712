//! The resources in the static webhook configurations. Further resources that TenantQuotas count are in a configuration
//! that Gatehouse writes itself.

use gatehouse_apiservice::registration::webhooks::Intercepted;
use gatehouse_policy::{GOVERNED, Kind};

/// Charged by quotas, but not reviewed by policies.
const PTERONIMBUS: (&str, &str) = ("pteronimbus.io", "gameservers");

/// The resources that policies review.
pub fn governed() -> Vec<Intercepted> {
    GOVERNED.iter().map(|&kind| of(kind)).collect()
}

/// The resources that quotas charge for their content, such as game servers and CPU.
pub fn charged() -> Vec<Intercepted> {
    let games = GOVERNED.iter().filter(|kind| !kind.is_flux()).map(|&kind| of(kind));
    games.chain([Intercepted::new(PTERONIMBUS.0, PTERONIMBUS.1)]).collect()
}

/// The resources that quotas may only count.
pub fn counted() -> Vec<Intercepted> {
    GOVERNED.iter().filter(|kind| kind.is_flux()).map(|&kind| of(kind)).collect()
}

/// Whether the static configurations include a resource.
pub fn is_static(group: &str, plural: &str) -> bool {
    gatehouse_policy::governed(group, plural) || (group, plural) == PTERONIMBUS
}

/// The resources that Gatehouse suspends or freezes.
pub fn suspended() -> Vec<(String, String)> {
    let flux = GOVERNED.iter().filter(|kind| kind.is_flux());
    flux.map(|kind| (kind.group().to_owned(), kind.resource().to_owned())).collect()
}

/// The resources that are observed, in addition to those of Gatehouse, and those that only quotas count.
pub fn read() -> Vec<(String, String)> {
    let governed = GOVERNED.iter().map(|kind| (kind.group(), kind.resource()));
    let others = [
        PTERONIMBUS,
        (PTERONIMBUS.0, "gametemplates"),
        ("node.k8s.io", "runtimeclasses"),
        ("", "pods"),
        ("", "persistentvolumeclaims"),
    ];
    governed.chain(others).map(|(group, plural)| (group.to_owned(), plural.to_owned())).collect()
}

fn of(kind: Kind) -> Intercepted {
    let intercepted = Intercepted::new(kind.group(), kind.resource());
    match kind {
        Kind::Fleet | Kind::GameServerSet | Kind::KruiseGameServerSet => intercepted.scaled(),
        _ => intercepted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_or_counted_is_static_and_read() {
        let read = read();
        for Intercepted { group, resource, .. } in charged().into_iter().chain(counted()) {
            assert!(is_static(&group, &resource), "{group} {resource}");
            assert!(read.contains(&(group, resource)));
        }
        assert!(!is_static("", "configmaps"));
    }

    #[test]
    fn every_fleet_is_intercepted_when_it_is_scaled() {
        let scaled: Vec<_> = charged().into_iter().filter(|one| one.scale).map(|one| one.resource).collect();
        assert_eq!(scaled, ["fleets", "gameserversets", "gameserversets"]);
    }
}
