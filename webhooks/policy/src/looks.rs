//! Which fields of an object rules and defaults look at, whatever its kind. Reviews and the world read these alone.
//!
//! A field that is not listed reads as if it were absent: a rule that looks at another one has to list it. In tests
//! every look is held against this list. Conditions in CEL are not: where there are any, objects are read whole.

use gatehouse_object::Shape;

/// What of a pod template is looked at, as macros of the path that leads to its spec.
macro_rules! pod {
    ($pod:literal) => {
        &[
            concat!($pod, ".containers[].name"),
            concat!($pod, ".containers[].resources.requests.*"),
            concat!($pod, ".containers[].resources.limits.*"),
        ]
    };
}

/// The shape with what rules and defaults look at beside the metadata.
#[must_use]
pub fn looks(shape: Shape) -> Shape {
    // A template of objects as one text, which may be long.
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

/// Whether rules see what is at a place: names of fields, and `[]` for an element of a list.
#[cfg(debug_assertions)]
pub(crate) fn covers<'p>(place: impl IntoIterator<Item = &'p str>) -> bool {
    use std::sync::LazyLock;

    static SHAPE: LazyLock<Shape> = LazyLock::new(|| looks(Shape::new(gatehouse_object::METADATA)));
    SHAPE.covers(place)
}
