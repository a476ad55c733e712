//! Compares the catalogue with the health checks of Argo CD, kstatus and Flux. There is an input for each of their
//! branches, and `docs/health.md` explains each difference. This test generates the tables of that document.
//!
//! `GATEHOUSE_UPDATE=1` writes the tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use gatehouse_inventory::{Record, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::world::{World, documents};

/// A kind, and the branches of the other health checks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    /// `apiVersion Kind`.
    of: String,
    /// Another kind that has the same branches.
    r#as: Option<String>,
    /// Whether Flux has its own rule for the kind. If not, it uses kstatus.
    #[serde(default)]
    flux: bool,
    #[serde(default)]
    base: Map<String, Value>,
    #[serde(default)]
    cases: Vec<Branch>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Branch {
    is: String,
    argo: Option<String>,
    kstatus: Option<String>,
    /// The result of Flux, if it has a rule and its result differs from that of kstatus.
    flux: Option<String>,
    /// READY in `flux get`.
    get: Option<String>,
    /// The result that `flux reconcile` and `flux create` wait for.
    wait: Option<String>,
    /// The result in the report of the Flux operator.
    operator: Option<String>,
    ours: String,
    /// The outcome while an attempt is in progress.
    outcome: Option<String>,
    why: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    spec: Map<String, Value>,
    #[serde(default)]
    status: Map<String, Value>,
}

impl Branch {
    fn theirs(&self, row: &Judged) -> Vec<&str> {
        let flux = self.flux.as_ref().filter(|_| row.flux).or(self.kstatus.as_ref());
        let of_flux = [&self.get, &self.wait, &self.operator];
        let all = [self.argo.as_ref(), self.kstatus.as_ref(), flux];
        let all = if self.argo.is_some() { all } else { of_flux.map(Option::as_ref) };
        all.into_iter().flatten().map(String::as_str).collect()
    }

    /// Their results as the table shows them. Flux uses kstatus, except for some kinds.
    fn cells(&self, row: &Judged) -> Vec<String> {
        match self.theirs(row)[..] {
            [argo, kstatus, flux] if self.argo.is_some() && kstatus == flux => {
                vec![argo.into(), kstatus.into()]
            }
            [argo, kstatus, flux] if self.argo.is_some() => vec![argo.into(), format!("{kstatus}, {flux}")],
            ref others => others.iter().map(|&other| other.to_owned()).collect(),
        }
    }

    fn ours(&self) -> String {
        self.outcome
            .as_ref()
            .map_or_else(|| self.ours.clone(), |outcome| format!("{} ({outcome})", self.ours))
    }
}

/// The class of a result of any health check; `None` if the check does not cover the kind.
fn family(verdict: &str) -> Option<&'static str> {
    Some(match verdict {
        "–" => return None,
        "Healthy" | "Current" | "Ready" | "True" => "well",
        "Progressing" | "InProgress" | "Pending" => "under way",
        "Degraded" | "Failed" | "Failing" | "Stalled" | "Blocked" | "False" => "bad",
        "Suspended" => "held",
        "Terminating" => "going",
        "Unknown" => "unknown",
        other => panic!("{other:?} is no verdict"),
    })
}

fn judged(text: &str) -> Vec<Judged> {
    let mut rows: Vec<Judged> = serde_saphyr::from_str(text).expect("judges");
    let own: BTreeMap<_, _> = rows.iter().map(|row| (row.of.clone(), row.cases.clone())).collect();
    for row in &mut rows {
        if let Some(other) = &row.r#as {
            row.cases.clone_from(&own[other]);
        }
    }
    rows
}

fn object(row: &Judged, branch: &Branch) -> Value {
    let (api_version, kind) = row.of.split_once(' ').expect("apiVersion and kind");
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}});
    let parts = [("metadata", &branch.metadata), ("spec", &branch.spec), ("status", &branch.status)];
    for (part, own) in parts {
        let base = row.base.get(part).and_then(Value::as_object).into_iter().flatten();
        // An empty status means that there is none yet.
        let base = base.filter(|_| part != "status" || !own.is_empty());
        for (name, value) in base.chain(own) {
            object[part][name] = value.clone();
        }
    }
    object
}

/// The results of a comparison.
#[derive(Default)]
struct Sweep {
    branches: usize,
    wrong: Vec<String>,
    explained: BTreeSet<String>,
}

impl Sweep {
    /// Compares a file with the catalogue. Returns the lines of a table of all differences.
    fn differences(&mut self, text: &str, beside: &[Value]) -> String {
        let mut lines = String::new();
        for row in judged(text) {
            for branch in &row.cases {
                self.branches += 1;
                lines.extend(self.difference(&row, branch, beside));
            }
        }
        lines
    }

    fn difference(&mut self, row: &Judged, branch: &Branch, beside: &[Value]) -> Option<String> {
        let object = object(row, branch);
        let world = World::with(beside.iter().chain([&object]));
        let kind = row.of.split_once(' ').expect("a kind").1;
        let group = row.of.split_once('/').map_or("", |(group, _)| group);
        let mut found = world.cluster().records().filter(|record| {
            let of = world.kind(&record.key);
            of.kind == kind && of.group == group && &*record.key.name == "a"
        });
        let (state, outcome, reason) = match found.next() {
            Some(Record { verdict, .. }) => (verdict.state, verdict.outcome(), &*verdict.reason),
            // Pods that are well are not kept.
            None if kind == "Pod" => (State::Ready, State::Ready, ""),
            None => panic!("{} is no kind of the catalogue", row.of),
        };
        let (of, is) = (&row.of, &branch.is);
        let expected = branch.outcome.as_ref().unwrap_or(&branch.ours);
        if state.as_str() != branch.ours || branch.outcome.is_some() && outcome.as_str() != expected {
            self.wrong.push(format!("{of}, {is}: {state} ({outcome}) {reason}, not {}", branch.ours()));
        }
        let theirs = branch.theirs(row);
        let mut families = theirs.iter().filter_map(|theirs| family(theirs));
        let same = families.all(|theirs| Some(theirs) == family(&branch.ours)) && branch.outcome.is_none();
        match &branch.why {
            None if !same => self.wrong.push(format!("{of}, {is}: the judges differ, and nothing says why")),
            Some(why) if same => self.wrong.push(format!("{of}, {is}: {why} explains what does not differ")),
            Some(why) => {
                self.explained.insert(why.clone());
                let cells = branch.cells(row).join(" | ");
                return Some(format!("| {kind} | {is} | {cells} | {} | {why} |\n", branch.ours()));
            }
            None => {}
        }
        None
    }
}

#[test]
fn every_difference_to_other_judges_is_explained() {
    let classes = documents(
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: late}, volumeBindingMode: WaitForFirstConsumer}\n\
         ---\n{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: now}, volumeBindingMode: Immediate}",
    );
    let mut sweep = Sweep::default();
    let others = sweep.differences(include_str!("judges.yaml"), &classes);
    let flux = sweep.differences(include_str!("judges-flux.yaml"), &[]);
    println!("{} branches", sweep.branches);
    assert!(sweep.branches > 150, "{}", sweep.branches);
    assert!(sweep.wrong.is_empty(), "{}", sweep.wrong.join("\n"));
    let head = |theirs: &str, columns: usize| {
        format!("| kind | input | {theirs} | Gatehouse | why |\n{}|\n", "|---".repeat(columns + 4))
    };
    table("differences", &format!("{}{others}", head("Argo CD | kstatus, Flux", 2)));
    let theirs = "`flux get` | `flux` waits | Flux operator";
    let document = table("flux-differences", &format!("{}{flux}", head(theirs, 3)));
    let explained: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("**:").map(|(why, _)| why.to_owned()))
        .collect();
    assert_eq!(explained, sweep.explained, "docs/health.md explains what differs, and nothing else");
}

#[test]
fn the_document_lists_every_kind_with_its_layer_and_deadlines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/catalogue/builtin");
    let mut layers: BTreeMap<usize, String> = BTreeMap::new();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files {
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let rows = documents(&fs::read_to_string(&file).unwrap()).remove(0);
        for row in rows["kinds"].as_array().unwrap() {
            // All Flux kinds share one row, since one rule judges them.
            if row["judge"] == "Flux" {
                continue;
            }
            let elsewhere = &row["layers"][0]["layer"];
            let layer = row["layer"].as_str().or(elsewhere.as_str()).unwrap_or("–");
            let place = gatehouse_inventory::Layer::ALL.into_iter().position(|one| one.as_str() == layer);
            let group = row["group"].as_str().unwrap_or("core");
            let deadlines = row["deadlines"].as_array().into_iter().flatten().map(deadline);
            let deadlines: Vec<_> = deadlines.collect();
            let line = format!(
                "| {layer} | {} | {group} | {} |\n",
                row["kind"].as_str().unwrap(),
                if deadlines.is_empty() { "–".to_owned() } else { deadlines.join(" |\n| | | | ") },
            );
            layers.entry(place.unwrap_or(usize::MAX)).or_default().push_str(&line);
        }
    }
    let head = "| layer | kind | group | becomes bad by time |\n|---|---|---|---|\n";
    let lines: String = layers.into_values().collect();
    table("kinds", &format!("{head}| Flux | all of Flux and its operator | – | see views.md |\n{lines}"));
}

/// A deadline as text: its reason and its time.
fn deadline(form: &Value) -> String {
    let reason = form["reason"].as_str().unwrap_or("its reason");
    let after = match &form["after"] {
        Value::String(after) => format!("after {after}"),
        Value::Null => "at its time".to_owned(),
        _ => "after a time by state".to_owned(),
    };
    match (form["forget"].as_bool(), form["state"].as_str()) {
        (Some(true), _) => format!("no longer counts {after}"),
        (_, Some("Ready")) => format!("is over {after}"),
        _ => format!("{reason} {after}"),
    }
}

/// Compares a table in the document with the expected one. Returns the document.
fn table(name: &str, right: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/health.md");
    let document = fs::read_to_string(&path).expect("docs/health.md");
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) = document.split_once(&begin).expect("the table's beginning");
    let (now, after) = rest.split_once(&end).expect("the table's end");
    if now != right && std::env::var_os("GATEHOUSE_UPDATE").is_some() {
        fs::write(&path, format!("{before}{begin}{right}{end}{after}")).expect("docs/health.md");
        return document;
    }
    assert_eq!(now, right, "docs/health.md, {name}: GATEHOUSE_UPDATE=1 writes it");
    document
}
