//! `suspension`: a suspension requires a reason and an author, and may be limited in time.
//!
//! The rule does not apply to Flux's controllers under their own accounts, which apply what was decided in Git.
//!
//! **Invariant:** the start of a suspension is set by admission or by the controller that resumes; people cannot
//! change it.

use gatehouse_apiservice::policy::SuspensionRule;
use jiff::{SignedDuration, Timestamp};

use super::{Errors, Report};
use crate::{Case, Subject, annotation, visible::is_not_blank};
use gatehouse_apiservice::duration;

/// The most that the clock of the writer may differ from ours.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug)]
pub(crate) struct Suspension {
    require_reason: bool,
    pub(crate) max_duration: Option<SignedDuration>,
}

impl Suspension {
    pub(crate) fn compile(rule: &SuspensionRule, errors: &mut Errors) -> Self {
        let max_duration = rule.max_duration.as_deref();
        let max_duration =
            max_duration.and_then(|text| errors.duration("spec.rules.suspension.maxDuration", text));
        Self { require_reason: rule.require_reason, max_duration }
    }

    /// Judges a creation or an update.
    pub(crate) fn check(&self, case: &Case<'_>, object: &Subject, report: &mut Report<'_>) {
        if !object.kind.is_flux() || !object.is_suspended() {
            return;
        }
        let was_suspended = case.old.is_some_and(Subject::is_suspended);
        if self.require_reason {
            self.reason(case, object, was_suspended, report);
        }
        if self.max_duration.is_some() {
            beginning(case, object, was_suspended, report);
        }
    }

    fn reason(&self, case: &Case<'_>, object: &Subject, was_suspended: bool, report: &mut Report<'_>) {
        let needed = [
            (annotation::SUSPEND_REASON, "a suspension must say why", "say why in the annotation"),
            (annotation::SUSPENDED_BY, "a suspension must say who suspended", "say who in the annotation"),
        ];
        for (name, message, hint) in needed {
            let has_text = |object: &Subject| object.annotation(name).is_some_and(is_not_blank);
            // An object that was suspended without a reason may still be changed; a given reason may not be removed.
            if !has_text(object) && (!was_suspended || case.old.is_some_and(has_text)) {
                let limit = match self.max_duration.filter(|_| name == annotation::SUSPEND_REASON) {
                    Some(limit) => format!("; it ends after {}", duration::show(limit)),
                    None => String::new(),
                };
                report.broken(field(name), message, format!("{hint} {name}{limit}"));
            }
        }
    }
}

/// Whether the start of the suspension is correct. What an earlier suspension left is replaced at admission: whoever may
/// annotate an object would otherwise choose when somebody else's suspension ends.
fn beginning(case: &Case<'_>, object: &Subject, was_suspended: bool, report: &mut Report<'_>) {
    let name = annotation::SUSPENDED_AT;
    let (now, before) = (object.annotation(name), case.old.and_then(|old| old.annotation(name)));
    let is_honest = match now {
        // The controller adds it when it sees the object.
        None => !was_suspended || before.is_none(),
        Some(_) if was_suspended && now == before => true,
        Some(_) if was_suspended && before.is_some() => false,
        Some(text) => text.parse::<Timestamp>().is_ok_and(|at| case.now.duration_since(at).abs() <= CLOCKS),
    };
    if !is_honest {
        report.broken(
            field(name),
            "says since when the object is suspended, which is noted at admission",
            format!("leave the annotation {name} as it is"),
        );
    }
}

/// The path of an annotation.
pub(crate) fn field(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}
