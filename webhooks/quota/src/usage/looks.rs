//! Lists the fields of an object that its usage depends on, for all kinds. Reviews and the world read only these.
//!
//! **Invariant:** code that reads a field must list it here, because a field that is not listed reads as absent. Tests
//! check every read against this list.

use gatehouse_object::Shape;

/// The fields that the usage of a pod depends on, for a pod spec at a path.
macro_rules! pod {
    ($pod:literal) => {
        &[
            concat!($pod, ".containers[].name"),
            concat!($pod, ".containers[].resources.requests.*"),
            concat!($pod, ".containers[].resources.limits.*"),
            concat!($pod, ".initContainers[].name"),
            concat!($pod, ".initContainers[].restartPolicy"),
            concat!($pod, ".initContainers[].resources.requests.*"),
            concat!($pod, ".initContainers[].resources.limits.*"),
            concat!($pod, ".resources.requests.*"),
            concat!($pod, ".resources.limits.*"),
            concat!($pod, ".overhead.*"),
            concat!($pod, ".runtimeClassName"),
        ]
    };
}

/// The same for an Agones server.
macro_rules! server {
    ($server:literal) => {
        &[
            concat!($server, ".players.initialCapacity"),
            concat!($server, ".counters.*.capacity"),
            concat!($server, ".lists.*.capacity"),
        ]
    };
}

/// The shape with the fields that the usage of an object depends on, in addition to the metadata.
#[must_use]
pub fn looks(shape: Shape) -> Shape {
    shape
        .and(&[
            "spec.replicas",
            "spec.fleetName",
            "spec.policy.**",
            "spec.templateRef.name",
            "spec.templateRef.namespace",
            "spec.resources.cpu",
            "spec.resources.memory",
            "status.allocatedReplicas",
            "status.allocatedResources.*",
            "status.reservedReplicas",
            "status.players.capacity",
            "status.counters.*.capacity",
            "status.lists.*.capacity",
        ])
        .and(server!("spec"))
        .and(server!("spec.template.spec"))
        .and(&["overhead.podFixed.*"])
        .and(pod!("spec"))
        .and(pod!("spec.template.spec"))
        .and(pod!("spec.template.spec.template.spec"))
        .and(pod!("spec.gameServerTemplate.spec"))
}

/// Whether a place is read; it is given by field names, and `[]` for a list element.
#[cfg(debug_assertions)]
pub(super) fn covers<'p>(place: impl IntoIterator<Item = &'p str>) -> bool {
    use std::sync::LazyLock;

    static SHAPE: LazyLock<Shape> = LazyLock::new(|| looks(Shape::new(gatehouse_object::METADATA)));
    SHAPE.covers(place)
}
