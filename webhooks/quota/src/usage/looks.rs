//! Which fields of an object say what it takes up, whatever its kind. Reviews and the world read these alone.
//!
//! A field that is not listed reads as if it were absent: what looks at another one has to list it. In tests every look
//! is held against this list.

use gatehouse_object::Shape;

/// What says how much a pod of the spec at a path takes up.
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
        ]
    };
}

/// The same of an Agones server.
macro_rules! server {
    ($server:literal) => {
        &[
            concat!($server, ".players.initialCapacity"),
            concat!($server, ".counters.*.capacity"),
            concat!($server, ".lists.*.capacity"),
        ]
    };
}

/// The shape with what says how much an object takes up beside the metadata.
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
            "spec.resources.requests.*",
            "spec.resources.limits.*",
            "status.allocatedReplicas",
            "status.reservedReplicas",
            "status.players.capacity",
            "status.counters.*.capacity",
            "status.lists.*.capacity",
        ])
        .and(server!("spec"))
        .and(server!("spec.template.spec"))
        .and(pod!("spec.template.spec"))
        .and(pod!("spec.template.spec.template.spec"))
        .and(pod!("spec.gameServerTemplate.spec"))
}

/// Whether what is at a place is read: names of fields, and `[]` for an element of a list.
#[cfg(debug_assertions)]
pub(super) fn covers<'p>(place: impl IntoIterator<Item = &'p str>) -> bool {
    use std::sync::LazyLock;

    static SHAPE: LazyLock<Shape> = LazyLock::new(|| looks(Shape::new(gatehouse_object::METADATA)));
    SHAPE.covers(place)
}
