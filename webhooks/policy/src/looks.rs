//! Lists the fields of an object that rules and defaults read, for any kind. Reviews and the world read only these.
//!
//! **Invariant:** a field that is not listed reads as absent, so a rule that reads another field has to list it. Debug
//! builds assert this on every access. CEL conditions are an exception: if a policy has any, objects are read whole.

use gatehouse_object::Shape;

/// The fields of a pod template, for a path that leads to its spec.
macro_rules! pod {
    ($pod:literal) => {
        &[
            concat!($pod, ".containers[].name"),
            concat!($pod, ".containers[].resources.requests.*"),
            concat!($pod, ".containers[].resources.limits.*"),
        ]
    };
}

/// Adds the fields that rules and defaults read beside the metadata to a shape.
#[must_use]
pub fn looks(shape: Shape) -> Shape {
    // A template of objects is one text, which may be long.
    shape
        .and(&["-spec.resourcesTemplate", "spec.*"])
        .and(&[
            "spec.chart.spec.*",
            "spec.chart.spec.sourceRef.*",
            "spec.chart.spec.verify.**",
            "spec.chartRef.*",
            "spec.decryption.*",
            "spec.dependsOn[].*",
            "spec.distribution.*",
            "spec.eventSources[].*",
            "spec.imageRepositoryRef.*",
            "spec.kubeConfig.secretRef.*",
            "spec.policy.**",
            "spec.ref.*",
            "spec.resources[].*",
            "spec.sourceRef.*",
            "spec.sources[].*",
            "spec.sync.*",
            "spec.template.spec.*",
            "spec.verify.**",
        ])
        .and(pod!("spec.template.spec"))
        .and(pod!("spec.template.spec.template.spec"))
        .and(pod!("spec.gameServerTemplate.spec"))
}

/// Whether a path is read: names of fields, and `[]` for an element of a list.
#[cfg(debug_assertions)]
pub(crate) fn covers<'p>(place: impl IntoIterator<Item = &'p str>) -> bool {
    use std::sync::LazyLock;

    static SHAPE: LazyLock<Shape> = LazyLock::new(|| looks(Shape::new(gatehouse_object::METADATA)));
    SHAPE.covers(place)
}
