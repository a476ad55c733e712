//! What real controllers wrote, recorded on a real kube-apiserver and replayed here: `recorded/*.jsonl`.
//!
//! A line is an event, or an object that a controller wrote, with the seconds since the beginning (`at`). The spec is
//! given where it changes. Fields that no rule reads are left out, and so are most of the reconciliations between two
//! events in which nothing happened.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::World;

const FLUX: &str = include_str!("recorded/flux.jsonl");

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Beginning { from: jiff::Timestamp, by: String },
    Event { at: f64, happens: String },
    Write(Write),
}

#[derive(Deserialize)]
struct Write {
    at: f64,
    kind: String,
    name: String,
    generation: i64,
    spec: Option<Value>,
    deleted: Option<String>,
    #[serde(default)]
    gone: bool,
    #[serde(default)]
    status: Value,
}

impl Write {
    fn place(&self) -> String {
        format!("{} apps/{}", self.kind, self.name)
    }

    fn object(&self, created: &str, spec: &Value) -> Value {
        let api_version = match self.kind.as_str() {
            "GitRepository" => "source.toolkit.fluxcd.io/v1",
            "Kustomization" => "kustomize.toolkit.fluxcd.io/v1",
            _ => "apps/v1",
        };
        let mut status = self.status.clone();
        if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
            for condition in conditions {
                *condition = self::condition(condition);
            }
        }
        json!({
            "apiVersion": api_version, "kind": self.kind, "spec": spec, "status": status,
            "metadata": {"name": self.name, "namespace": "apps", "generation": self.generation,
                "creationTimestamp": created, "deletionTimestamp": self.deleted},
        })
    }
}

/// `Ready=False 2026-11-29T12:00:00Z BuildFailed: no such file`
fn condition(text: &Value) -> Value {
    let text = text.as_str().expect("a text");
    let mut parts = text.splitn(4, ' ');
    let mut next = || parts.next().unwrap_or_default();
    let (type_, status) = next().split_once('=').expect("a type and a status");
    let (time, reason, message) = (next(), next().trim_end_matches(':'), next());
    json!({"type": type_, "status": status, "lastTransitionTime": time, "reason": reason, "message": message})
}

/// Whether an object is well (`+`), broken (`-`) or neither (`?`).
fn shown(world: &World, place: &str) -> char {
    let verdict = world.verdict(place);
    match verdict.outcome() {
        _ if verdict.is_well() => '+',
        state if state.is_failure() => '-',
        state if state.as_str() == "Ready" => '+',
        _ => '?',
    }
}

/// An event, and how each object and the cluster were shown until the next one.
type Shown = (String, BTreeMap<String, String>);

/// What was shown from each event to the next one, without repetitions.
fn replay(lines: &str) -> Vec<Shown> {
    let (mut world, mut from) = (World::with([]), jiff::Timestamp::UNIX_EPOCH);
    let (mut specs, mut created) = (BTreeMap::new(), BTreeMap::new());
    let (mut told, mut present) = (Vec::<Shown>::new(), BTreeSet::<String>::new());
    let go_on = |world: &mut World, from: jiff::Timestamp, at: f64| {
        #[allow(clippy::cast_possible_truncation, reason = "minutes")]
        let now = from.as_second() + at as i64;
        world.wait(now - world.now);
    };
    for (number, line) in lines.lines().enumerate() {
        match serde_json::from_str(line).unwrap_or_else(|error| panic!("line {}: {error}", number + 1)) {
            Line::Beginning { from: beginning, by } => {
                assert!(by.contains("controller"), "whose writes these are");
                from = beginning;
            }
            Line::Event { at, happens } => {
                go_on(&mut world, from, at);
                let before =
                    present.iter().map(|place: &String| (place.clone(), shown(&world, place).to_string()));
                let cluster = told.last().map(|_| ("cluster".to_owned(), world.overall().to_owned()));
                told.push((happens, before.chain(cluster).collect()));
            }
            Line::Write(write) => {
                go_on(&mut world, from, write.at);
                let place = write.place();
                if let Some(spec) = &write.spec {
                    specs.insert(place.clone(), spec.clone());
                }
                let born: &String = created.entry(place.clone()).or_insert_with(|| world_time(&world));
                let object = write.object(born, &specs[&place]);
                let rows = &mut told.last_mut().expect("something happens first").1;
                if write.gone {
                    world.delete(&object);
                    present.remove(&place);
                } else {
                    world.apply(&object);
                    present.insert(place.clone());
                    let row = rows.entry(place.clone()).or_default();
                    let now = shown(&world, &place);
                    if !row.ends_with(now) {
                        row.push(now);
                    }
                }
                let (row, now) = (rows.entry("cluster".to_owned()).or_default(), world.overall());
                if !row.ends_with(now) {
                    let arrow = if row.is_empty() { "" } else { " " };
                    *row = format!("{row}{arrow}{now}");
                }
            }
        }
    }
    told
}

fn world_time(world: &World) -> String {
    jiff::Timestamp::from_second(world.now).expect("a time").to_string()
}

/// What is expected of four objects, by kind and name.
type Expected<'a> = [(&'a str, &'a str); 4];

#[test]
fn health_changes_once_for_each_thing_that_happens() {
    let (app, web) = ("Kustomization apps/app", "Kustomization apps/web");
    let (git, deployment) = ("GitRepository apps/app", "Deployment apps/web");
    let told = replay(FLUX);
    let expected: &[(&str, &str, Expected)] = &[
        ("install", "Progressing Healthy", [(git, "?+"), (app, "?+"), (web, "?+"), (deployment, "?+")]),
        ("upgrade", "Healthy", [(git, "+"), (app, "+"), (web, "+"), (deployment, "+")]),
        ("the build breaks", "Healthy Degraded", [(git, "+"), (app, "+-"), (web, "+-"), (deployment, "+")]),
        (
            "the build is mended",
            "Degraded Healthy",
            [(git, "+"), (app, "-+"), (web, "-+"), (deployment, "+")],
        ),
        ("health checks fail", "Healthy Degraded", [(git, "+"), (app, "+"), (web, "+-"), (deployment, "+-")]),
        ("health checks pass", "Degraded Healthy", [(git, "+"), (app, "+"), (web, "-+"), (deployment, "-+")]),
        (
            "the source cannot be fetched",
            "Healthy Degraded",
            [(git, "+-"), (app, "+"), (web, "+"), (deployment, "+")],
        ),
        ("the source is back", "Degraded Healthy", [(git, "-+"), (app, "+"), (web, "+"), (deployment, "+")]),
        ("suspended", "Healthy", [(git, "+"), (app, "+"), (web, "+"), (deployment, "+")]),
        ("resumed", "Healthy", [(git, "+"), (app, "+"), (web, "+"), (deployment, "+")]),
        ("scaled up", "Healthy", [(git, "+"), (app, "+"), (web, "+"), (deployment, "+")]),
        ("deleted", "Healthy Progressing Healthy", [(git, "+"), (app, "+"), (web, "+?"), (deployment, "+")]),
    ];
    let happened: Vec<_> = told.iter().map(|(happens, _)| happens.as_str()).collect();
    assert_eq!(happened, expected.iter().map(|(happens, ..)| *happens).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for ((happens, rows), (_, cluster, objects)) in told.iter().zip(expected) {
        for (place, expected) in objects.iter().copied().chain([("cluster", *cluster)]) {
            let shown = rows.get(place).map_or("", String::as_str);
            if shown != expected {
                wrong.push(format!("{happens}: {place}: {shown:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
