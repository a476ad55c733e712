//! Writes a report as GitHub workflow commands, which GitHub displays at the lines of a pull request.

use std::io::{self, Write};

use super::{
    output::subject,
    report::{Finding, Problem, Report, Severity, Spot},
};

/// Writes one command a line. Notes are omitted, because GitHub displays only ten for each step, which findings need.
pub fn github(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for Problem { spot, message } in &report.problems {
        command(out, "error", spot, "gatehouse", message)?;
    }
    for finding in &report.findings {
        let Finding { spot, enforcement, policy, rule, message, hint, .. } = finding;
        let level = match enforcement {
            Severity::Deny => "error",
            Severity::Warn => "warning",
            Severity::Audit => "notice",
        };
        let mut text = format!("{}: {message}", subject(finding));
        if !hint.is_empty() {
            text.push('\n');
            text.push_str(hint);
        }
        command(out, level, spot, &format!("{policy}/{rule}"), &text)?;
    }
    Ok(())
}

/// Writes one command.
pub(crate) fn command(
    out: &mut impl Write,
    level: &str,
    spot: &Spot,
    title: &str,
    message: &str,
) -> io::Result<()> {
    write!(out, "::{level} file={}", property(&spot.path))?;
    if spot.line > 0 {
        write!(out, ",line={}", spot.line)?;
        if spot.column > 0 {
            write!(out, ",col={}", spot.column)?;
        }
    }
    writeln!(out, ",title={}::{}", property(title), data(message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
