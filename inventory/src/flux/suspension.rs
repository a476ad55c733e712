//! Decides whether an object of Flux is suspended, as its controller does.
//!
//! The rules come from the sources of the controllers (Flux 2.9, flux-operator 0.58, source-watcher 2.2). The
//! controllers of the toolkit read only `spec.suspend`; the operator and source-watcher read only their own annotation.
//! On an object of the toolkit, the operator's annotation means "leave this live object as it is" and does not suspend
//! it.
//!
//! **Invariant:** The result depends only on the kind, `spec.suspend` and that annotation. The views, the policy rules,
//! the end of suspensions and the freezes all use this decision.

/// The annotation of the Flux operator, on its own kinds.
pub const OPERATOR_ANNOTATION: &str = "fluxcd.controlplane.io/reconcile";
/// The annotation of source-watcher, on ArtifactGenerators.
pub const GENERATOR_ANNOTATION: &str = "source.extensions.fluxcd.io/reconcile";
/// The value of either annotation on a suspended object, in any case.
pub const DISABLED: &str = "disabled";

/// How objects of a kind are suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspension {
    /// By `spec.suspend: true`.
    Field,
    /// By an annotation with the value [`DISABLED`].
    Annotation(&'static str),
    /// They cannot be suspended, because no controller reconciles them.
    Never,
}

impl Suspension {
    /// The rule for a kind of Flux's toolkit, of its extensions, or of the Flux operator.
    pub fn of(group: &str, kind: &str) -> Self {
        match (group, kind) {
            ("fluxcd.controlplane.io", _) => Self::Annotation(OPERATOR_ANNOTATION),
            ("source.extensions.fluxcd.io", _) => Self::Annotation(GENERATOR_ANNOTATION),
            ("source.toolkit.fluxcd.io", "ExternalArtifact") => Self::Never,
            _ => Self::Field,
        }
    }

    /// Whether an object is suspended, given its `spec.suspend` and its annotations.
    pub fn is_in_force<'a>(
        self,
        suspend: Option<bool>,
        annotation: impl FnOnce(&'static str) -> Option<&'a str>,
    ) -> bool {
        match self {
            Self::Field => suspend == Some(true),
            Self::Annotation(name) => annotation(name).is_some_and(says_disabled),
            Self::Never => false,
        }
    }
}

/// Compares as the controllers do: Go's `strings.ToLower` of the text equals "disabled". That function maps each
/// character separately, and it maps one character outside ASCII to a letter of the word: the dotted capital İ.
fn says_disabled(text: &str) -> bool {
    let lower = text.chars().map(|char| if char == 'İ' { 'i' } else { char.to_ascii_lowercase() });
    lower.eq(DISABLED.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLKIT: [(&str, &str); 14] = [
        ("source.toolkit.fluxcd.io", "GitRepository"),
        ("source.toolkit.fluxcd.io", "OCIRepository"),
        ("source.toolkit.fluxcd.io", "HelmRepository"),
        ("source.toolkit.fluxcd.io", "HelmChart"),
        ("source.toolkit.fluxcd.io", "Bucket"),
        ("kustomize.toolkit.fluxcd.io", "Kustomization"),
        ("helm.toolkit.fluxcd.io", "HelmRelease"),
        ("notification.toolkit.fluxcd.io", "Alert"),
        ("notification.toolkit.fluxcd.io", "Provider"),
        ("notification.toolkit.fluxcd.io", "Receiver"),
        ("image.toolkit.fluxcd.io", "ImageRepository"),
        ("image.toolkit.fluxcd.io", "ImagePolicy"),
        ("image.toolkit.fluxcd.io", "ImageUpdateAutomation"),
        // A future version or kind is most likely to work as its siblings do.
        ("image.toolkit.fluxcd.io", "ImageSigner"),
    ];
    const OPERATOR: [&str; 4] = ["FluxInstance", "FluxReport", "ResourceSet", "ResourceSetInputProvider"];

    /// Whether an object with this value of the annotation is suspended.
    fn by_annotation(group: &str, kind: &str, name: &str, value: &str) -> bool {
        Suspension::of(group, kind).is_in_force(None, |asked| (asked == name).then_some(value))
    }

    fn by_field(group: &str, kind: &str, suspend: Option<bool>) -> bool {
        Suspension::of(group, kind).is_in_force(suspend, |_| None)
    }

    #[test]
    fn the_toolkit_looks_at_the_field_alone() {
        for (group, kind) in TOOLKIT {
            assert!(by_field(group, kind, Some(true)), "{kind}");
            assert!(!by_field(group, kind, Some(false)) && !by_field(group, kind, None), "{kind}");
            for name in [OPERATOR_ANNOTATION, GENERATOR_ANNOTATION] {
                assert!(!by_annotation(group, kind, name, "disabled"), "{kind}");
            }
        }
    }

    #[test]
    fn the_operator_and_source_watcher_look_at_their_own_annotation_alone() {
        let operator = OPERATOR.map(|kind| ("fluxcd.controlplane.io", kind, OPERATOR_ANNOTATION));
        let generator = ("source.extensions.fluxcd.io", "ArtifactGenerator", GENERATOR_ANNOTATION);
        for (group, kind, own) in operator.into_iter().chain([generator]) {
            assert!(!by_field(group, kind, Some(true)), "{kind}");
            for other in [OPERATOR_ANNOTATION, GENERATOR_ANNOTATION] {
                assert_eq!(by_annotation(group, kind, other, "disabled"), other == own, "{kind} {other}");
            }
        }
    }

    #[test]
    fn an_external_artifact_is_never_suspended() {
        let (group, kind) = ("source.toolkit.fluxcd.io", "ExternalArtifact");
        assert!(!by_field(group, kind, Some(true)));
        assert!(!by_annotation(group, kind, OPERATOR_ANNOTATION, "disabled"));
    }

    #[test]
    fn the_word_is_compared_as_go_lowers_it() {
        for value in ["disabled", "Disabled", "DISABLED", "dIsAbLeD", "dİsabled", "DİSABLED"] {
            assert!(says_disabled(value), "{value}");
        }
        for value in
            ["", "disable", " disabled", "disabled ", "disabledd", "enabled", "true", "di̇sabled", "ｄisabled"]
        {
            assert!(!says_disabled(value), "{value}");
        }
    }
}
