//! `prune`: a Kustomization must delete objects that are no longer in its source.

use super::Report;
use crate::{
    Kind, Subject,
    look::{Look, WrongType},
};

pub(crate) fn check(subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
    if subject.kind != Kind::Kustomization {
        return Ok(());
    }
    let field = Look::spec(&subject.object).field("prune")?;
    if field.boolean()? != Some(true) {
        report.broken(field.path(), "must be true", "set spec.prune: true");
    }
    Ok(())
}
