//! What there is to say.

use gatehouse_apiservice::policy::Enforcement;
use serde::Serialize;

/// Everything a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// What breaks a policy or exceeds a quota, by place.
    pub findings: Vec<Finding>,
    /// What was left out or taken for granted, and why.
    pub notes: Vec<Note>,
    /// What makes the check incomplete: files that do not parse, policies that do not compile.
    pub problems: Vec<Problem>,
    /// Findings that an object says are meant to be, and why.
    pub ignored: Vec<Ignored>,
    /// How much was read.
    pub summary: Summary,
}

/// A finding that an object says is meant to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ignored {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// Why the object says it may be.
    pub reason: String,
}

/// How much was read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Files.
    pub files: usize,
    /// Objects to judge in them.
    pub objects: usize,
    /// Those that a policy or quota applied to.
    pub judged: usize,
    /// Policies, those of the cluster too.
    pub policies: usize,
    /// Quotas, those of the cluster too.
    pub quotas: usize,
    /// Findings that objects say are meant to be.
    pub ignored: usize,
    /// Findings that were there before, by a baseline or by another revision.
    pub known: usize,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Spot {
    /// The file, as it was named.
    pub path: String,
    /// From 1; 0 for the file as a whole.
    pub line: usize,
    /// From 1, in characters; 0 for the line as a whole.
    pub column: usize,
}

impl Spot {
    /// A file as a whole.
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

/// A rule that an object breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Where: the field, else the object.
    #[serde(flatten)]
    pub spot: Spot,
    /// What a cluster would do about it.
    #[serde(serialize_with = "by_name")]
    pub enforcement: Severity,
    /// The ReconcilePolicy or TenantQuota.
    pub policy: String,
    /// Its rule, for example `interval`; of a quota, the limit.
    pub rule: String,
    /// The object's kind.
    pub kind: String,
    /// Its namespace, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The field that is wrong or missing; empty for the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: String,
    /// The rule by a name that stays the same: an expression without a name has one by what it says.
    pub rule_id: String,
    /// Stays the same while the object, its file and the rule do, wherever in the file it is.
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
    /// As policies write it.
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

/// Something worth knowing that breaks nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// Where, if anywhere.
    #[serde(flatten)]
    pub spot: Option<Spot>,
    /// What.
    pub message: String,
}

/// Input that cannot be judged, or judged by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where.
    #[serde(flatten)]
    pub spot: Spot,
    /// What is wrong.
    pub message: String,
}

/// What makes a check fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum FailOn {
    /// What would be refused.
    #[default]
    Deny,
    /// What would be warned of, too.
    Warn,
    /// What would be audited, too.
    Audit,
    /// Anything, notes too.
    Note,
}

impl FailOn {
    /// Whether a finding of this severity makes a check fail.
    pub fn fails(self, severity: Severity) -> bool {
        match severity {
            Severity::Deny => true,
            Severity::Warn => self >= Self::Warn,
            Severity::Audit => self >= Self::Audit,
        }
    }
}

impl Report {
    /// 0: nothing wrong; 1: something that makes the check fail; 2: bad input.
    pub fn exit_code(&self, fail_on: FailOn) -> u8 {
        if self.problems.is_empty() {
            let found = self.findings.iter().any(|finding| fail_on.fails(finding.enforcement));
            u8::from(found || (fail_on == FailOn::Note && !self.notes.is_empty()))
        } else {
            2
        }
    }

    /// Takes out the findings that were there before.
    pub fn without(&mut self, known: &std::collections::BTreeSet<String>) {
        let before = self.findings.len();
        self.findings.retain(|finding| !known.contains(&finding.fingerprint));
        self.summary.known += before - self.findings.len();
    }

    /// How many findings there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.enforcement == severity).count()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn by_name<S: serde::Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(severity.name())
}

impl Finding {
    /// Gives findings their fingerprints. Of several that would have the same one, each is counted.
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

/// The first bytes of a digest, in hexadecimal.
pub(crate) fn short_digest(text: &str, bytes: usize) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    Sha256::digest(text).iter().take(bytes).fold(String::new(), |mut digest, byte| {
        // Writing to a string does not fail.
        let _ = write!(digest, "{byte:02x}");
        digest
    })
}
