//! Offline admission: predicts how a cluster with these policies and quotas would decide about these objects.
//!
//! Input: manifests with the positions of their fields, and policies and quotas from files or from a live cluster. Each
//! object is judged as a creation, after defaulting as in admission, so a field that a default fills is no violation.
//! Quotas are compared with the sum over the namespaces of a tenant.
//!
//! **Invariant:** If files do not contain enough information, policies are assumed to apply and quotas are not, and a
//! note says so.

mod applied;
mod build;
mod external;
mod files;
mod flux;
mod github;
mod graph;
mod ignored;
mod judge;
mod junit;
mod live;
mod open;
mod output;
mod plan;
mod read;
mod report;
mod repository;
mod resource_set;
mod rules;
mod rulesets;
mod sarif;
mod suite;
mod sums;
mod template;

pub use applied::{Applied, applied, files, has_kustomizations};
pub use files::{Content, Files, Role, is_address};
pub use github::github;
pub use junit::junit;
pub use live::{Live, LiveObject};
pub use output::{json, remarks, text};
pub use report::{FailOn, Finding, Ignored, Note, Problem, Report, Severity, Spot, Summary};
pub use rulesets::Labels;
pub use sarif::sarif;
pub use suite::{
    CaseResult, Decision, Filter, Tested, Tests, tested_github, tested_json, tested_junit, tested_remarks,
    tested_table,
};

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    judge::{Placed, Verdicts, judge},
    plan::Plan,
    rulesets::{Namespaces, Rulesets},
};

/// The options of a check.
#[derive(Debug, Default)]
pub struct Options {
    /// The state of a live cluster.
    pub live: Live,
    /// Labels of namespaces, which override those of files and of the cluster.
    pub namespace_labels: BTreeMap<String, Labels>,
    /// Also judge files that no kustomization names.
    pub all_files: bool,
}

/// Checks the files as of the time `now`.
pub fn check(files: &mut Files, options: &Options, now: Timestamp) -> Report {
    let Options { live, namespace_labels, all_files } = options;
    let Plan { objects, notes: planned, problems: unbuilt } = plan::plan(files, *all_files);
    files.release();
    let files = &*files;
    let placed = Placed::all(&objects);
    let namespaces = Namespaces::of(files, &placed, live, namespace_labels);
    let rulesets = Rulesets::of(files, &placed, live);
    let summary = Summary {
        files: files.texts.len(),
        objects: objects.len(),
        judged: 0,
        policies: rulesets.policies.len(),
        quotas: rulesets.quotas.len(),
        ..Summary::default()
    };
    let Verdicts { mut findings, mut ignored, mut notes, mut judged } =
        judge(files, &placed, &rulesets.policies, &namespaces, live, now);
    let sums = sums::exceeded(files, &placed, &rulesets, &namespaces, live, now);
    findings.extend(sums.findings);
    judged.extend(sums.judged);
    ignored.extend(sums.ignored);
    notes.extend(unreasoned(files, &placed));
    findings.sort();
    // An object that is applied to several namespaces violates a rule in each for the same reason.
    findings.dedup_by(|one, other| {
        let same = |finding: &Finding| Finding { namespace: None, ..finding.clone() };
        same(one) == same(other)
    });
    Finding::number(&mut findings);
    ignored.sort();
    ignored.dedup();
    let of_files = files.notes.iter().cloned().chain(planned);
    let mut notes: Vec<Note> = of_files.chain(rulesets.notes).chain(notes).chain(sums.notes).collect();
    notes.sort();
    notes.dedup();
    let mut problems: Vec<Problem> =
        files.problems.iter().cloned().chain(unbuilt).chain(rulesets.problems).collect();
    if rulesets.policies.is_empty() && rulesets.quotas.is_empty() && problems.is_empty() {
        let nor = if live.asked { ", nor is there one in the cluster" } else { "" };
        let message = format!("neither a ReconcilePolicy nor a TenantQuota to check by (--policies){nor}");
        problems.push(Problem { spot: Spot::file("gatehouse".to_owned()), message });
    }
    problems.sort();
    problems.dedup();
    let summary = Summary { judged: judged.len(), ignored: ignored.len(), ..summary };
    Report { findings, notes, problems, ignored, summary }
}

/// A note for each object that ignores a rule without giving a reason.
fn unreasoned(files: &Files, placed: &[Placed<'_>]) -> Vec<Note> {
    let objects = placed.iter().map(|placed| placed.object).filter(|object| ignored::lacks_reason(object));
    let field = format!("metadata.annotations[\"{}\"]", ignored::ANNOTATION);
    let message = "ignores nothing: each line has to be RULE: REASON".to_owned();
    objects
        .map(|object| Note { spot: Some(files.spot_of(object, &[&field])), message: message.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_policies_checks_nothing_and_that_is_told() {
        let options = Options { live: Live { asked: true, ..Live::default() }, ..Options::default() };
        let report = check(&mut Files::default(), &options, Timestamp::UNIX_EPOCH);
        assert_eq!(report.exit_code(FailOn::Deny), 2);
        assert!(
            report.problems[0].message.ends_with("nor is there one in the cluster"),
            "{:?}",
            report.problems
        );
    }
}
