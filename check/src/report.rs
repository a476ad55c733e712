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
    /// How much was read.
    pub summary: Summary,
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

impl Report {
    /// 0: nothing wrong; 1: something that would be refused, or, if `strict`, anything at all; 2: bad input.
    pub fn exit_code(&self, strict: bool) -> u8 {
        if self.problems.is_empty() {
            u8::from(self.findings.iter().any(|finding| strict || finding.enforcement == Severity::Deny))
        } else {
            2
        }
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
