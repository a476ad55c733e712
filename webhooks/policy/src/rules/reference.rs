//! `ref`: the form of reference that something is fetched by, and whether it means the latest version.
//!
//! If several fields are set, the rule judges the one that Flux uses: a commit before a name, a version range, a tag
//! and a branch; a digest before a version range and a tag. If none is set, a GitRepository fetches the branch
//! `master`, an OCIRepository the tag `latest`, and a chart the latest version.

use gatehouse_apiservice::policy::{Latest, RefForm, RefRule};

use super::{Errors, Report, verify::is_fetched_by_itself};
use crate::{
    Kind, Subject,
    look::{Look, WrongType},
};

#[derive(Debug)]
pub(crate) struct References {
    allowed: Vec<RefForm>,
    forbids_latest: bool,
}

/// A reference, by the field that Flux uses.
struct Reference<'a> {
    form: RefForm,
    /// `None` if no field is set.
    text: Option<&'a str>,
    path: String,
}

/// Whether objects of a kind have a reference.
pub(crate) fn has_reference(kind: Kind) -> bool {
    matches!(kind, Kind::GitRepository | Kind::OciRepository | Kind::HelmChart | Kind::HelmRelease)
}

impl References {
    pub(crate) fn compile(rule: &RefRule, errors: &mut Errors) -> Self {
        let forbids_latest = rule.latest == Some(Latest::Forbid);
        if rule.allowed.is_empty() && !forbids_latest {
            errors.refuse("spec.rules.ref", "{}", "must set allowed, or latest to Forbid");
        }
        Self { allowed: rule.allowed.clone(), forbids_latest }
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        let Some(Reference { form, text, path }) = reference(subject)? else { return Ok(()) };
        if !self.allowed.is_empty() && !self.allowed.contains(&form) {
            let why = match text {
                Some(_) => format!("{} is not an allowed form of reference", name(form)),
                None => format!("is not set, which means a {}", name(form)),
            };
            let forms: Vec<_> = self.allowed.iter().copied().map(name).collect();
            report.broken(path, why, format!("use {}", forms.join(", ")));
        } else if self.forbids_latest && is_latest(form, text) {
            let why = match text {
                Some(text) => {
                    format!("{:?} is whatever is newest", text.chars().take(256).collect::<String>())
                }
                None => "is not set, so that whatever is newest is fetched".to_owned(),
            };
            report.broken(path, why, "name a version");
        }
        Ok(())
    }
}

fn reference(subject: &Subject) -> Result<Option<Reference<'_>>, WrongType> {
    use RefForm::{Branch, Commit, Digest, Name, SemVer, Tag};
    let spec = Look::spec(&subject.object);
    let (place, fields, otherwise): (_, &[(&str, RefForm)], _) = match subject.kind {
        Kind::GitRepository => {
            let fields =
                &[("commit", Commit), ("name", Name), ("semver", SemVer), ("tag", Tag), ("branch", Branch)];
            (spec.field("ref")?, fields, Branch)
        }
        Kind::OciRepository => {
            (spec.field("ref")?, &[("digest", Digest), ("semver", SemVer), ("tag", Tag)], Tag)
        }
        kind if has_reference(kind) && !is_fetched_by_itself(kind, &spec)? => return Ok(None),
        Kind::HelmChart => (spec, &[("version", SemVer)], SemVer),
        Kind::HelmRelease => (spec.at(&["chart", "spec"])?, &[("version", SemVer)], SemVer),
        _ => return Ok(None),
    };
    for (name, form) in fields {
        let field = place.field(name)?;
        if let Some(text) = field.string()?.filter(|text| !text.is_empty()) {
            return Ok(Some(Reference { form: *form, text: Some(text), path: field.path().to_owned() }));
        }
    }
    let path =
        if let [(name, _)] = fields { place.field(name)?.path().to_owned() } else { place.path().to_owned() };
    Ok(Some(Reference { form: otherwise, text: None, path }))
}

/// Whether a reference means the latest version. A branch that is named does not count, though its tip moves.
fn is_latest(form: RefForm, text: Option<&str>) -> bool {
    let text = text.map(str::trim);
    match form {
        RefForm::Tag => text.is_none_or(|tag| tag.eq_ignore_ascii_case("latest")),
        RefForm::SemVer => text.is_none_or(is_any_version),
        RefForm::Branch => text.is_none(),
        RefForm::Name | RefForm::Commit | RefForm::Digest => false,
    }
}

/// Whether one of the alternatives of a range contains every version, or every one from zero on.
fn is_any_version(range: &str) -> bool {
    range.split("||").any(|alternative| bounds(alternative).split([',', ' ']).all(is_any_bound))
}

/// An alternative whose operators stand at their versions: `>= 1.0.0` as `>=1.0.0`.
fn bounds(alternative: &str) -> String {
    let mut bounds = String::with_capacity(alternative.len());
    for c in alternative.trim().chars() {
        if !(c.is_whitespace() && bounds.ends_with(['>', '<', '=', '!', '~', '^'])) {
            bounds.push(c);
        }
    }
    bounds
}

/// Whether a bound leaves out no version, or single ones.
fn is_any_bound(bound: &str) -> bool {
    let version = bound.trim_start_matches(['>', '=', '!', 'v', '~', '^']);
    let operator = &bound[..bound.len() - version.len()];
    let version = version.split('-').next().unwrap_or_default();
    let is_any = |part: &str| matches!(part, "" | "*" | "x" | "X");
    let is_from_zero = || version.split('.').all(|part| is_any(part) || part == "0");
    version.split('.').all(is_any)
        || operator.starts_with('!')
        || matches!(operator.trim_end_matches('v'), ">" | ">=" | "=>") && is_from_zero()
}

fn name(form: RefForm) -> &'static str {
    match form {
        RefForm::Branch => "Branch",
        RefForm::Tag => "Tag",
        RefForm::SemVer => "SemVer",
        RefForm::Name => "Name",
        RefForm::Commit => "Commit",
        RefForm::Digest => "Digest",
    }
}
