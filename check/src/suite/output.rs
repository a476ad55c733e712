//! Writes test results as a table, as JSON, as JUnit XML and as GitHub workflow commands.

use std::io::{self, Write};

use super::{CaseResult, Tested};
use crate::{github::command, junit::case, output::many, report::Problem};

/// Writes a line for each case, followed by its differences. `colour`: for a terminal.
pub fn table(tested: &Tested, colour: bool, out: &mut impl Write) -> io::Result<()> {
    let [green, red, dim, plain] =
        if colour { ["\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"] } else { [""; 4] };
    let width = |title: &str, of: fn(&CaseResult) -> &str| {
        let longest = tested.results.iter().map(|result| of(result).chars().count()).max();
        longest.unwrap_or(0).max(title.len())
    };
    let (test, name_width) = (width("TEST", |result| &result.test), width("CASE", |result| &result.case));
    if !tested.results.is_empty() {
        writeln!(out, "RESULT   {:test$}   {:name_width$}   DECISION", "TEST", "CASE")?;
    }
    for result in &tested.results {
        let (word, tone) = if result.differences.is_empty() { ("pass", green) } else { ("FAIL", red) };
        let CaseResult { test: of, case: name, decision, .. } = result;
        writeln!(out, "{tone}{word}{plain}     {of:test$}   {name:name_width$}   {decision:?}")?;
        if !result.differences.is_empty() {
            writeln!(out, "{dim}    {}{plain}", result.spot)?;
        }
        for line in &result.differences {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

/// Writes errors and the summary.
pub fn remarks(tested: &Tested, out: &mut impl Write) -> io::Result<()> {
    for Problem { spot, message } in &tested.problems {
        writeln!(out, "{spot}: error: {message}")?;
    }
    let (count, failed) = (tested.results.len(), tested.failed());
    let problems = match tested.problems.len() {
        0 => String::new(),
        problems => format!("; {}", many(problems, "error")),
    };
    writeln!(out, "{}: {} passed, {failed} failed{problems}", many(count, "case"), count - failed)
}

/// Writes the results as one JSON object.
pub fn json(tested: &Tested, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, tested)?;
    writeln!(out)
}

/// Writes an annotation for each failed case and each error.
pub fn github(tested: &Tested, out: &mut impl Write) -> io::Result<()> {
    for Problem { spot, message } in &tested.problems {
        command(out, "error", spot, "gatehouse test", message)?;
    }
    for result in tested.results.iter().filter(|result| !result.differences.is_empty()) {
        let title = format!("{}/{}", result.test, result.case);
        command(out, "error", &result.spot, &title, &result.differences.join("\n"))?;
    }
    Ok(())
}

/// Writes one JUnit test suite with a JUnit case for each case.
pub fn junit(tested: &Tested, out: &mut impl Write) -> io::Result<()> {
    let (failures, errors) = (tested.failed(), tested.problems.len());
    let tests = tested.results.len() + errors;
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>")?;
    writeln!(out, "  <testsuite name=\"gatehouse test\" {counts}>")?;
    for Problem { spot, message } in &tested.problems {
        case(out, &spot.path, "input", Some(("error", &format!("{spot}: {message}"), "")))?;
    }
    for result in &tested.results {
        let difference =
            format!("{}: {}", result.spot, result.differences.first().map_or("", String::as_str));
        let all = result.differences.join("\n");
        let outcome = (!result.differences.is_empty()).then_some(("failure", &*difference, &*all));
        case(out, &result.test, &result.case, outcome)?;
    }
    writeln!(out, "  </testsuite>\n</testsuites>")
}
