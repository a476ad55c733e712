//! Writes a report as JUnit XML, which most CI servers display as test results: a failed case for each finding that
//! makes the run fail, a passed one for each other finding, an error for each invalid input.

use std::io::{self, Write};

use super::{
    output::subject,
    report::{FailOn, Finding, Problem, Report},
};

/// Writes the report as one test suite. `fail_on`: the severities that fail.
pub fn junit(report: &Report, fail_on: FailOn, out: &mut impl Write) -> io::Result<()> {
    let failures = report.findings.iter().filter(|finding| fail_on.fails(finding.enforcement)).count();
    let errors = report.problems.len();
    let tests = (report.findings.len() + errors).max(1);
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>")?;
    writeln!(out, "  <testsuite name=\"gatehouse check\" {counts}>")?;
    for Problem { spot, message } in &report.problems {
        case(out, &spot.path, "input", Some(("error", &format!("{spot}: {message}"), "")))?;
    }
    for finding in &report.findings {
        let Finding { spot, policy, rule, kind, namespace, name, message, hint, enforcement, .. } = finding;
        let object = [Some(kind), namespace.as_ref(), Some(name)].into_iter().flatten();
        let object = object.map(String::as_str).collect::<Vec<_>>().join("/");
        let message = format!("{spot}: {}: {message}", subject(finding));
        let outcome = if fail_on.fails(*enforcement) { "failure" } else { "system-out" };
        case(out, &spot.path, &format!("{policy}/{rule} {object}"), Some((outcome, &message, hint)))?;
    }
    if report.findings.is_empty() && errors == 0 {
        case(out, "gatehouse", "check", None)?;
    }
    writeln!(out, "  </testsuite>\n</testsuites>")
}

/// Writes one case: passed, or the outcome with a message and details.
pub(crate) fn case(
    out: &mut impl Write,
    class: &str,
    name: &str,
    outcome: Option<(&str, &str, &str)>,
) -> io::Result<()> {
    let (class, name) = (escaped(class), escaped(name));
    match outcome {
        None => writeln!(out, "    <testcase classname=\"{class}\" name=\"{name}\"/>"),
        Some((outcome, message, more)) => {
            writeln!(out, "    <testcase classname=\"{class}\" name=\"{name}\">")?;
            let (message, more) = (escaped(message), escaped(more));
            if outcome == "system-out" {
                writeln!(out, "      <system-out>{message}\n{more}</system-out>")?;
            } else {
                writeln!(out, "      <{outcome} message=\"{message}\">{more}</{outcome}>")?;
            }
            writeln!(out, "    </testcase>")
        }
    }
}

/// XML does not allow control characters, not even escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}
