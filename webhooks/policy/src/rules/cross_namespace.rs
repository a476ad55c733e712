//! `crossNamespaceRefs`: references to objects in other namespaces.

use super::Report;
use crate::{
    Kind, Subject,
    look::{Look, WrongType},
};

/// The fields of a kind that refer to other objects: single references, and lists of them.
fn references(kind: Kind) -> (&'static [&'static [&'static str]], &'static [&'static str]) {
    match kind {
        Kind::Kustomization => (&[&["sourceRef"]], &["dependsOn"]),
        Kind::HelmRelease => (&[&["chart", "spec", "sourceRef"], &["chartRef"]], &["dependsOn"]),
        Kind::HelmChart | Kind::ExternalArtifact | Kind::ImageUpdateAutomation => (&[&["sourceRef"]], &[]),
        Kind::ImagePolicy => (&[&["imageRepositoryRef"]], &[]),
        // Their names may be `*`; the namespace is that of the referenced objects.
        Kind::Alert => (&[], &["eventSources"]),
        Kind::Receiver => (&[], &["resources"]),
        Kind::ArtifactGenerator => (&[], &["sources"]),
        Kind::ResourceSet => (&[], &["dependsOn"]),
        _ => (&[], &[]),
    }
}

/// Whether objects of a kind have references.
pub(crate) fn has_references(kind: Kind) -> bool {
    references(kind) != (&[], &[])
}

pub(crate) fn check(subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
    let (single, lists) = references(subject.kind);
    let spec = Look::spec(&subject.object);
    for path in single {
        own_namespace(subject, &spec.at(path)?, report)?;
    }
    for list in lists {
        for element in spec.field(list)?.elements()? {
            own_namespace(subject, &element, report)?;
        }
    }
    Ok(())
}

fn own_namespace(subject: &Subject, reference: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
    let field = reference.field("namespace")?;
    let Some(namespace) = field.string()?.filter(|namespace| !namespace.is_empty()) else { return Ok(()) };
    if namespace != subject.namespace {
        let name = reference.field("name")?.string()?.unwrap_or_default();
        report.broken(
            field.path(),
            format!("refers to {namespace}/{name}, in another namespace"),
            format!("refer to an object of {}, or leave the namespace out", subject.namespace),
        );
    }
    Ok(())
}
