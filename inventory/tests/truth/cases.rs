//! States that other dashboards show wrongly. Each file in `cases` has the expected result, then the objects.
//!
//! If the folder with the reported snapshots exists beside the repository, a case is also run with its reported
//! snapshot.

use std::{collections::BTreeMap, fs, path::Path};

use gatehouse_inventory::Layer;
use serde::Deserialize;
use serde_json::Value;

use crate::world::{World, documents};

/// The first document of a case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The name of the reported snapshot.
    shared: Option<String>,
    /// The expected results, at first and after periods without any change.
    right: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Minutes since the previous step.
    #[serde(default)]
    after: i64,
    /// The health of the cluster.
    health: Option<String>,
    #[serde(default)]
    layers: BTreeMap<Layer, String>,
    #[serde(default)]
    objects: BTreeMap<String, Object>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    state: String,
    /// The outcome, if it differs from the state.
    outcome: Option<String>,
    reason: Option<String>,
    /// A part of the message.
    says: Option<String>,
    since: Option<String>,
    /// The root cause; empty if there is none.
    cause: Option<String>,
    /// The end of the walk to what explains it; empty if it explains itself.
    explained: Option<String>,
    /// Whether the object counts towards a layer.
    counts: Option<bool>,
}

/// The name and the documents of every case.
pub(crate) fn all() -> impl Iterator<Item = (String, Vec<Value>)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/cases");
    fs::read_dir(own).expect("the folder of the cases").map(|file| {
        let file = file.expect("an entry").path();
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, documents(&fs::read_to_string(&file).expect("text")))
    })
}

#[test]
fn every_case_is_shown_as_it_is() {
    let reported = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases");
    let (mut wrong, mut judged, mut also) = (Vec::new(), 0, 0);
    for (name, mut objects) in all() {
        let case: Case =
            serde_json::from_value(objects.remove(0)).unwrap_or_else(|error| panic!("{name}: {error}"));
        wrong.extend(judge(&name, &case, &objects));
        judged += 1;
        let Some(shared) = &case.shared else { continue };
        let folder = reported.join(shared).join("snapshot");
        if folder.is_dir() {
            let files = fs::read_dir(folder)
                .unwrap()
                .map(|file| fs::read_to_string(file.expect("an entry").path()).unwrap());
            let objects: Vec<_> = files.flat_map(|text| documents(&text)).collect();
            wrong.extend(judge(&format!("{shared} (reported)"), &case, &objects));
            also += 1;
        }
    }
    println!("{judged} cases, {also} of them as reported too");
    assert!(judged > 15, "{judged}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge(name: &str, case: &Case, objects: &[Value]) -> Vec<String> {
    let mut world = World::with(objects);
    let mut wrong = Vec::new();
    for step in &case.right {
        world.wait(step.after * 60);
        let place = format!("{name}, after {} minutes", step.after);
        let mut differs = |what: &str, right: &str, got: &str| {
            if right != got {
                wrong.push(format!("{place}: {what} is {got:?}, not {right:?}"));
            }
        };
        if let Some(health) = &step.health {
            differs("the cluster", health, world.overall());
        }
        for (layer, health) in &step.layers {
            differs(layer.as_str(), health, world.health(*layer));
        }
        for (of, right) in &step.objects {
            let (record, verdict) = (world.record(of), world.verdict(of));
            differs(of, &right.state, verdict.state.as_str());
            if let Some(outcome) = &right.outcome {
                differs(&format!("{of}: outcome"), outcome, verdict.outcome().as_str());
            }
            if let Some(reason) = &right.reason {
                differs(&format!("{of}: reason"), reason, &verdict.reason);
            }
            if let Some(says) = right.says.as_ref().filter(|says| !verdict.message.contains(says.as_str())) {
                differs(&format!("{of}: message"), says, &verdict.message);
            }
            if let Some(since) = &right.since {
                differs(&format!("{of}: since"), since, &instant(verdict.since));
            }
            if let Some(cause) = &right.cause {
                differs(&format!("{of}: root cause"), cause, &world.cause(of));
            }
            if let Some(explained) = &right.explained {
                differs(&format!("{of}: explained by"), explained, &world.explained(of));
            }
            if let Some(counts) = right.counts {
                differs(&format!("{of}: counts"), &counts.to_string(), &record.layer.is_some().to_string());
            }
        }
    }
    wrong
}

fn instant(at: Option<i64>) -> String {
    at.and_then(|at| jiff::Timestamp::from_second(at).ok()).map(|at| at.to_string()).unwrap_or_default()
}
