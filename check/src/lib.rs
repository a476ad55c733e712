//! Admission on files: what a cluster with these policies and quotas would say to these objects, without the cluster.
//!
//! Input: manifests with the places of their fields, policies and quotas from files or from a live cluster. Each object
//! is judged as if it were created, after the defaults were filled in as admission does: what a default fills is no
//! violation. Quotas are held against the sum over a tenant's namespaces. Where something cannot be known from files,
//! policies are taken to apply, quotas are not, and a note says so.

mod files;
mod graph;
mod judge;
mod kustomize;
mod live;
mod output;
mod place;
mod report;
mod ruleset;
mod sarif;
mod sums;

pub use files::{Files, Role};
pub use live::{Live, LiveObject};
pub use output::{json, remarks, text};
pub use report::{Finding, Note, Problem, Report, Severity, Spot, Summary};
pub use ruleset::Labels;
pub use sarif::sarif;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    judge::{Placed, Verdicts, judge},
    kustomize::Layout,
    ruleset::{Namespaces, Ruleset},
};

/// Checks the files. `said`: labels of namespaces, over what files and cluster say.
pub fn check(files: &Files, live: &Live, said: &BTreeMap<String, Labels>, now: Timestamp) -> Report {
    let layout = Layout::of(files);
    let namespaces = Namespaces::of(files, &layout, live, said);
    let ruleset = Ruleset::of(files, live);
    let placed = Placed::all(files, &layout);
    let summary = Summary {
        files: files.texts.len(),
        objects: files.objects.iter().filter(|object| object.role == Role::Judged).count(),
        judged: 0,
        policies: ruleset.policies.len(),
        quotas: ruleset.quotas.len(),
    };
    let Verdicts { mut findings, notes, mut judged } =
        judge(files, &placed, &ruleset.policies, &namespaces, live, now);
    let sums = sums::exceeded(files, &placed, &ruleset, &namespaces, live, now);
    findings.extend(sums.findings);
    judged.extend(sums.judged);
    findings.sort();
    // An object that goes to several namespaces is wrong in each for the same reason.
    findings.dedup_by(|one, other| {
        let same = |finding: &Finding| Finding { namespace: None, ..finding.clone() };
        same(one) == same(other)
    });
    let mut notes: Vec<Note> =
        files.notes.iter().cloned().chain(ruleset.notes).chain(notes).chain(sums.notes).collect();
    notes.sort();
    notes.dedup();
    let mut problems: Vec<Problem> = files.problems.iter().cloned().chain(ruleset.problems).collect();
    if ruleset.policies.is_empty() && ruleset.quotas.is_empty() && problems.is_empty() && !live.asked {
        let message = "neither a ReconcilePolicy nor a TenantQuota to check by (--policies)".to_owned();
        problems.push(Problem { spot: Spot::file("gatehouse".to_owned()), message });
    }
    problems.sort();
    problems.dedup();
    Report { findings, notes, problems, summary: Summary { judged: judged.len(), ..summary } }
}
