//! Writes a report as SARIF 2.1.0, which code hosts display at the affected lines.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::{
    output::subject,
    report::{Finding, Ignored, Note, Problem, Report, Severity, Spot},
    rules,
};

/// The characters of a path that are not escaped in a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Writes the report as one SARIF log with one run.
pub fn sarif(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut rules: BTreeMap<String, &Finding> = BTreeMap::new();
    for finding in report.findings.iter().chain(report.ignored.iter().map(|ignored| &ignored.finding)) {
        rules.entry(id(finding)).or_insert(finding);
    }
    let index: BTreeMap<&str, usize> =
        rules.keys().enumerate().map(|(index, id)| (id.as_str(), index)).collect();
    let found = report.findings.iter().map(|finding| result(finding, &index));
    // A code host closes suppressed results and displays the reason.
    let ignored = report.ignored.iter().map(|Ignored { finding, reason }| {
        let mut result = result(finding, &index);
        result["suppressions"] = json!([{"kind": "inSource", "justification": reason}]);
        result
    });
    let results: Vec<Value> = found.chain(ignored).collect();
    let notifications: Vec<Value> = report
        .problems
        .iter()
        .map(|Problem { spot, message }| notification("error", Some(spot), message))
        .chain(report.notes.iter().map(|Note { spot, message }| notification("note", spot.as_ref(), message)))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "gatehouse",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|(id, finding)| rule(id, finding)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": report.problems.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)
}

fn id(finding: &Finding) -> String {
    format!("{}/{}", finding.policy, finding.rule_id)
}

fn rule(id: &str, finding: &Finding) -> Value {
    let rules::Description { short, full, help } = rules::description(&finding.rule_id);
    json!({
        "id": id,
        "name": finding.rule_id,
        "shortDescription": {"text": short},
        "fullDescription": {"text": format!("{full} Rule {} of {}.", finding.rule_id, finding.policy)},
        "help": {"text": help},
        "defaultConfiguration": {"level": level(finding.enforcement)},
        "properties": {"enforcement": finding.enforcement.name(), "tags": ["gitops", "admission"]},
    })
}

fn result(finding: &Finding, index: &BTreeMap<&str, usize>) -> Value {
    let Finding { spot, enforcement, kind, namespace, name, message, hint, .. } = finding;
    let id = id(finding);
    let mut text = format!("{}: {message}", subject(finding));
    if !hint.is_empty() {
        text.push('\n');
        text.push_str(hint);
    }
    let object = [Some(kind), namespace.as_ref(), Some(name)].into_iter().flatten();
    let object = object.map(String::as_str).collect::<Vec<_>>().join("/");
    json!({
        "ruleIndex": index.get(id.as_str()),
        "ruleId": id,
        "level": level(*enforcement),
        "message": {"text": text},
        "partialFingerprints": {"gatehouse/v1": finding.fingerprint},
        "locations": [{
            "physicalLocation": physical(spot),
            "logicalLocations": [{"fullyQualifiedName": object, "kind": "object"}],
        }],
    })
}

fn notification(level: &str, spot: Option<&Spot>, message: &str) -> Value {
    let mut notification = json!({"level": level, "message": {"text": message}});
    if let Some(spot) = spot {
        notification["locations"] = json!([{"physicalLocation": physical(spot)}]);
    }
    notification
}

fn physical(spot: &Spot) -> Value {
    let mut location = json!({"artifactLocation": {"uri": uri(&spot.path)}});
    if spot.line > 0 {
        location["region"] = json!({"startLine": spot.line});
        if spot.column > 0 {
            location["region"]["startColumn"] = spot.column.into();
        }
    }
    location
}

/// Relative to the folder where the check ran, if the path was, else absolute.
fn uri(path: &str) -> String {
    let scheme = if path.starts_with('/') { "file://" } else { "" };
    let path = path.strip_prefix("./").unwrap_or(path);
    format!("{scheme}{}", utf8_percent_encode(path, PATH))
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Deny => "error",
        Severity::Warn => "warning",
        Severity::Audit => "note",
    }
}
