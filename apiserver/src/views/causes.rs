//! Shared by the views that name what explains a problem.

use gatehouse_apiservice::view::{ProblemCause, ProblemsStatus};
use gatehouse_inventory::{Cause, Cluster, Problems, Record, Root, catalogue::Catalogue};

use super::common;

/// How many problems there are, and what explains the worst. Whoever shows this renders it again when the delta names
/// the namespace among [`Delta::problems`](gatehouse_inventory::Delta::problems), or the cluster: also when only the
/// cause looks otherwise.
pub(super) fn in_short(
    catalogue: &Catalogue,
    cluster: &Cluster,
    problems: Option<&Problems>,
) -> ProblemsStatus {
    let worst = problems.and_then(Problems::worst).and_then(|key| cluster.record(key));
    ProblemsStatus {
        problems: problems.map_or(0, |problems| u32::try_from(problems.len()).unwrap_or(u32::MAX)),
        worst_cause: worst
            .map(|record| end(catalogue, &cluster.cause(record)).unwrap_or_else(|| known(catalogue, record))),
    }
}

fn known(catalogue: &Catalogue, record: &Record) -> ProblemCause {
    ProblemCause {
        object: common::reference(catalogue, &record.key),
        state: Some(record.verdict.outcome().as_str().into()),
        reason: record.verdict.reason.to_string(),
        message: record.verdict.message.to_string(),
    }
}

/// What a walk ends at, if that is not the object where it began.
pub(super) fn end(catalogue: &Catalogue, cause: &Cause<'_>) -> Option<ProblemCause> {
    let known = |record| known(catalogue, record);
    let missing = |key| ProblemCause {
        object: common::reference(catalogue, key),
        state: Some("Missing".into()),
        // The object that looks for it says more.
        reason: String::new(),
        message: String::new(),
    };
    Some(match &cause.lacks {
        None => known(cause.path.last()?),
        Some(Root::Missing(key) | Root::MissingSource(key)) => missing(key),
        Some(Root::NotEnough { dependency, waiting }) => {
            ProblemCause { message: waiting.verdict.message.to_string(), ..known(dependency) }
        }
        Some(Root::Dependency(record) | Root::Source(record)) => known(record),
        Some(Root::Unseen(unseen)) => ProblemCause {
            object: common::any_reference(catalogue, unseen),
            state: None,
            reason: String::new(),
            message: "objects of this kind cannot be seen".into(),
        },
        Some(Root::Cycle(key)) => ProblemCause {
            object: common::reference(catalogue, key),
            state: None,
            reason: "DependencyCycle".into(),
            message: "the dependencies form a cycle".into(),
        },
    })
}
