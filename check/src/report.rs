//! The report of a check: findings, notes and problems.

use gatehouse_apiservice::policy::Enforcement;
use serde::Serialize;

/// The result of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// Violations of policies and exceeded quotas, sorted by position.
    pub findings: Vec<Finding>,
    /// What was skipped or assumed, and why.
    pub notes: Vec<Note>,
    /// Errors that make the check incomplete: files that do not parse, policies that do not compile.
    pub problems: Vec<Problem>,
    /// Findings that an object declares as intended, with the reason.
    pub ignored: Vec<Ignored>,
    /// The number of inputs and results.
    pub summary: Summary,
}

/// A finding that an object declares as intended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ignored {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// The reason that the object gives.
    pub reason: String,
}

/// The number of inputs and results.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Number of files.
    pub files: usize,
    /// Number of objects to judge in them.
    pub objects: usize,
    /// Number of objects that a policy or quota applied to.
    pub judged: usize,
    /// Number of policies, including those of the cluster.
    pub policies: usize,
    /// Number of quotas, including those of the cluster.
    pub quotas: usize,
    /// Number of findings that objects declare as intended.
    pub ignored: usize,
    /// Number of findings that existed before, according to a baseline or another revision.
    pub known: usize,
}

/// A position in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Spot {
    /// The file, as it was named.
    pub path: String,
    /// From 1; 0 for the whole file.
    pub line: usize,
    /// From 1, in characters; 0 for the whole line.
    pub column: usize,
}

impl Spot {
    /// The position of a whole file.
    pub fn file(path: String) -> Self {
        Self { path, line: 0, column: 0 }
    }
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { path, line: 0, .. } => write!(f, "{path}"),
            Self { path, line, column: 0 } => write!(f, "{path}:{line}"),
            Self { path, line, column } => write!(f, "{path}:{line}:{column}"),
        }
    }
}

/// A violation of a rule by an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The position of the field, else of the object.
    #[serde(flatten)]
    pub spot: Spot,
    /// How a cluster would enforce it.
    #[serde(serialize_with = "by_name")]
    pub enforcement: Severity,
    /// The name of the ReconcilePolicy or TenantQuota.
    pub policy: String,
    /// The rule, for example `interval`; for a quota, the limit.
    pub rule: String,
    /// The object's kind.
    pub kind: String,
    /// Its namespace, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The invalid or missing field; empty for the whole object.
    pub field: String,
    /// The violation.
    pub message: String,
    /// How to fix it.
    pub hint: String,
    /// A stable identifier of the rule: an expression without a name is identified by its text.
    pub rule_id: String,
    /// Stable while the object, its file and the rule stay the same, regardless of the position in the file.
    pub fingerprint: String,
}

/// [`Enforcement`], worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object would be refused.
    Deny,
    /// It would be admitted with a warning.
    Warn,
    /// It would be admitted and noted.
    Audit,
}

impl Severity {
    /// The name that policies use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "Deny",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}

impl From<Enforcement> for Severity {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Deny => Self::Deny,
            Enforcement::Warn => Self::Warn,
            Enforcement::Audit => Self::Audit,
        }
    }
}

/// Information that is no violation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// The position, if any.
    #[serde(flatten)]
    pub spot: Option<Spot>,
    /// The text.
    pub message: String,
}

/// Input that cannot be judged, or a policy or quota that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The position.
    #[serde(flatten)]
    pub spot: Spot,
    /// The error.
    pub message: String,
}

/// The lowest severity that makes a check fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum FailOn {
    /// Denials.
    #[default]
    Deny,
    /// Also warnings.
    Warn,
    /// Also audited findings.
    Audit,
    /// Also notes.
    Note,
}

impl FailOn {
    /// Whether a finding of this severity makes the check fail.
    pub fn fails(self, severity: Severity) -> bool {
        match severity {
            Severity::Deny => true,
            Severity::Warn => self >= Self::Warn,
            Severity::Audit => self >= Self::Audit,
        }
    }
}

impl Report {
    /// 0: success; 1: something makes the check fail; 2: invalid input.
    pub fn exit_code(&self, fail_on: FailOn) -> u8 {
        if self.problems.is_empty() {
            let found = self.findings.iter().any(|finding| fail_on.fails(finding.enforcement));
            u8::from(found || (fail_on == FailOn::Note && !self.notes.is_empty()))
        } else {
            2
        }
    }

    /// Removes the findings that existed before.
    pub fn without(&mut self, known: &std::collections::BTreeSet<String>) {
        let before = self.findings.len();
        self.findings.retain(|finding| !known.contains(&finding.fingerprint));
        self.summary.known += before - self.findings.len();
    }

    /// The number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.enforcement == severity).count()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn by_name<S: serde::Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(severity.name())
}

impl Finding {
    /// Sets the fingerprints. Findings that would have the same one are numbered.
    pub(crate) fn number(findings: &mut [Self]) {
        let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for finding in findings {
            let Self { spot, policy, rule_id, kind, namespace, name, field, .. } = &*finding;
            let namespace = namespace.as_deref().unwrap_or_default();
            let text =
                [&spot.path, policy, rule_id, kind, namespace, name, field].map(|part: &str| part).join("\0");
            let count = seen.entry(text.clone()).and_modify(|count| *count += 1).or_default();
            finding.fingerprint = short_digest(&format!("{text}\0{count}"), 16);
        }
    }
}

/// The first bytes of the SHA-256 digest, in hexadecimal.
pub(crate) fn short_digest(text: &str, bytes: usize) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    Sha256::digest(text).iter().take(bytes).fold(String::new(), |mut digest, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digest, "{byte:02x}");
        digest
    })
}
