//! A file of findings that are known, so that only new ones are reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context;
use gatehouse_check::Report;
use serde::{Deserialize, Serialize};

/// The file: fingerprints, with what they stand for so that people can read a difference.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    version: u32,
    findings: BTreeMap<String, String>,
}

const VERSION: u32 = 1;

/// The fingerprints of a file.
pub(super) fn read(file: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let baseline: Baseline =
        serde_json::from_str(&text).with_context(|| format!("{} is no baseline", file.display()))?;
    anyhow::ensure!(baseline.version == VERSION, "{} is a baseline of another version", file.display());
    Ok(baseline.findings.into_keys().collect())
}

/// Writes the findings of a report.
pub(super) fn write(file: &Path, report: &Report) -> anyhow::Result<()> {
    let findings = report.findings.iter().map(|finding| {
        let object = [Some(&finding.kind), finding.namespace.as_ref(), Some(&finding.name)];
        let object = object.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/");
        let what = format!("{} {}/{} {object}", finding.spot.path, finding.policy, finding.rule_id);
        (finding.fingerprint.clone(), what)
    });
    let baseline = Baseline { version: VERSION, findings: findings.collect() };
    let text = serde_json::to_string_pretty(&baseline)?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}
