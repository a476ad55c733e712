//! Writes a report as text and as JSON. [`crate::sarif`] writes SARIF.

use std::io::{self, Write};

use serde::Serialize;

use crate::report::{Finding, Ignored, Note, Problem, Report, Severity, Summary};

/// Writes one finding a line, its hint on the next: `path:line:column: policy/rule: field: message`. `colour`: for a
/// terminal.
pub fn text(report: &Report, colour: bool, out: &mut impl Write) -> io::Result<()> {
    let [strong, red, yellow, dim, plain] =
        if colour { ["\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"] } else { [""; 5] };
    for finding in &report.findings {
        let Finding { spot, enforcement, policy, rule, message, hint, .. } = finding;
        let severity = match enforcement {
            Severity::Deny => String::new(),
            other => format!(" ({})", other.name()),
        };
        let tone = if *enforcement == Severity::Deny { red } else { yellow };
        let subject = subject(finding);
        writeln!(out, "{strong}{spot}{plain}: {tone}{policy}/{rule}{severity}{plain}: {subject}: {message}")?;
        if !hint.is_empty() {
            writeln!(out, "{dim}    {hint}{plain}")?;
        }
    }
    Ok(())
}

/// Writes invalid input, notes if requested, and the summary.
pub fn remarks(report: &Report, out: &mut impl Write, notes: bool) -> io::Result<()> {
    for Problem { spot, message } in &report.problems {
        writeln!(out, "{spot}: error: {message}")?;
    }
    for Note { spot, message } in report.notes.iter().filter(|_| notes) {
        match spot {
            Some(spot) => writeln!(out, "{spot}: note: {message}")?,
            None => writeln!(out, "note: {message}")?,
        }
    }
    let Summary { files, objects, judged, policies, quotas, ignored, known } = report.summary;
    let [denied, warned, audited] =
        [Severity::Deny, Severity::Warn, Severity::Audit].map(|s| report.count(s));
    let problems = match report.problems.len() {
        0 => String::new(),
        count => format!("; {}", many(count, "error")),
    };
    let mut left_out = String::new();
    for (count, what) in [(ignored, "ignored by annotation"), (known, "known before")] {
        if count > 0 {
            left_out = format!("{left_out}, {count} {what}");
        }
    }
    writeln!(
        out,
        "{} in {}, {judged} judged by {} and {}: {denied} to be denied, {warned} to be warned of, {audited} to be \
         audited{left_out}{problems}",
        many(objects, "object"),
        many(files, "file"),
        many_of(policies, "policy", "policies"),
        many(quotas, "quota"),
    )
}

/// Writes the report as one JSON object.
pub fn json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Json<'a> {
        findings: &'a [Finding],
        notes: &'a [Note],
        problems: &'a [Problem],
        ignored: &'a [Ignored],
        summary: Summary,
    }
    let Report { findings, notes, problems, ignored, summary } = report;
    serde_json::to_writer_pretty(&mut *out, &Json { findings, notes, problems, ignored, summary: *summary })?;
    writeln!(out)
}

/// The field, or the object if the finding is about the whole object.
pub(crate) fn subject(finding: &Finding) -> String {
    if finding.field.is_empty() {
        format!("{} {}", finding.kind, finding.name)
    } else {
        finding.field.clone()
    }
}

/// A count with its noun.
pub(crate) fn many(count: usize, what: &str) -> String {
    many_of(count, what, &format!("{what}s"))
}

fn many_of(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}
