//! Tests that the bundled example cluster is judged as its comments say, and that real manifests without a status are
//! Pending.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::Catalogue;
use crate::{End, Interner, Record, State};

/// A fixed time, so that the states in the snapshot do not depend on the clock.
const NOW: i64 = 1_788_000_000;

#[test]
fn the_example_cluster_is_judged_as_intended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/demo/example");
    let (catalogue, interner) = (Catalogue::builtin(), Interner::default());
    let mut rows = Vec::new();
    for file in files(&folder) {
        let text = replace_times(&fs::read_to_string(&file).unwrap());
        for document in serde_saphyr::from_multiple::<serde_json::Value>(&text).unwrap() {
            let record = observe(&catalogue, &interner, &document)
                .unwrap_or_else(|| panic!("{}: not in the catalogue: {document}", file.display()));
            assert_ne!(record.created, 0, "{document}");
            rows.push(row(&catalogue, &record));
        }
    }
    rows.sort();
    insta::assert_snapshot!(rows.concat());
}

#[test]
fn real_manifests_without_a_status_are_pending_ready_or_suspended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/real/endsys-gitops");
    if !folder.is_dir() {
        println!("{} is absent: nothing real was judged", folder.display());
        return;
    }
    let (catalogue, interner) = (Catalogue::builtin(), Interner::default());
    let mut judged = 0;
    for file in files(&folder) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        // Some files are Helm chart templates, which are not YAML.
        let Ok(documents) = serde_saphyr::from_multiple::<serde_json::Value>(&text) else { continue };
        for document in documents.iter().filter(|document| document.get("status").is_none()) {
            let Some(record) = observe(&catalogue, &interner, document) else { continue };
            let state = record.verdict.state;
            assert!(
                matches!(state, State::Pending | State::Ready | State::Suspended),
                "{}: {} {:?}",
                file.display(),
                state,
                record.verdict
            );
            judged += 1;
        }
    }
    println!("{judged} real objects judged");
    assert!(judged > 10, "{judged}");
}

/// All manifests below `folder`, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => found.extend(files(&path)),
            Some("yaml" | "yml") => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// Judges a document if it is an object of a kind in the catalogue.
fn observe(catalogue: &Catalogue, interner: &Interner, document: &serde_json::Value) -> Option<Record> {
    let api_version = document.get("apiVersion")?.as_str()?;
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let id = catalogue.find(group, document.get("kind")?.as_str()?)?;
    match catalogue.observe(id, &document.to_string(), interner, NOW) {
        Ok(record) => Some(record),
        // A patch may omit the name of its object.
        Err(error) => {
            assert!(error.message.contains("name"), "{error}: {document}");
            None
        }
    }
}

fn row(catalogue: &Catalogue, record: &Record) -> String {
    let verdict = &record.verdict;
    let mut row = format!(
        "{} {}/{} {}",
        catalogue.kind(record.key.kind).kind,
        record.key.namespace,
        record.key.name,
        verdict.state
    );
    if let Some(last) = verdict.last_outcome {
        write!(row, " (last {last})").unwrap();
    }
    if !verdict.reason.is_empty() {
        write!(row, " {}", verdict.reason).unwrap();
    }
    if let Some(deadline) = verdict.deadline.as_ref().filter(|deadline| !deadline.passed) {
        let (end, reason, left) = (deadline.end, &deadline.reason, deadline.at - NOW);
        match end {
            End::State(state) => write!(row, " [{state} {reason} in {left} s]").unwrap(),
            End::Forgotten => write!(row, " [forgotten in {left} s]").unwrap(),
        }
    }
    row.push('\n');
    row
}

/// Replaces `{{now-2h30m}}` with the timestamp that it means.
fn replace_times(text: &str) -> String {
    let mut parts = text.split("{{now");
    let mut replaced = parts.next().unwrap().to_owned();
    for part in parts {
        let (offset, rest) = part.split_once("}}").unwrap();
        let (sign, span) = offset.split_at(1);
        let seconds = span.split_inclusive(['d', 'h', 'm', 's']).fold(0, |sum, part| {
            let (number, unit) = part.split_at(part.len() - 1);
            let unit = match unit {
                "d" => 86_400,
                "h" => 3_600,
                "m" => 60,
                _ => 1,
            };
            sum + number.parse::<i64>().unwrap() * unit
        });
        let at = if sign == "-" { NOW - seconds } else { NOW + seconds };
        write!(replaced, "{}{rest}", jiff::Timestamp::from_second(at).unwrap()).unwrap();
    }
    replaced
}
