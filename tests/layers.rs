//! The direction of the crates: each depends only on crates of lower layers, so the servers know nothing of each other.

use std::{collections::HashMap, process::Command};

use serde_json::Value;

/// Every crate of the workspace, by layer. A crate may depend on those of lower layers alone.
const LAYERS: [&[&str]; 6] = [
    &["gatehouse-apiservice", "gatehouse-certs", "gatehouse-fake-api", "gatehouse-object"],
    &[
        "gatehouse-inventory",
        "gatehouse-installation",
        "gatehouse-plugin",
        "gatehouse-quota",
        "gatehouse-serving",
    ],
    &["gatehouse-policy"],
    &["gatehouse-apiserver", "gatehouse-check", "gatehouse-webhooks"],
    &["gatehouse"],
    &["gatehouse-conformance", "gatehouse-fuzz"],
];
/// Crates that decide and do nothing else: they neither wait, nor read or write anything.
const PURE: [&str; 3] = ["gatehouse-object", "gatehouse-quota", "gatehouse-policy"];
const IO: [&str; 3] = ["hyper", "reqwest", "tokio"];

/// The crates of the workspace, each with what its library and programs depend on, tests aside.
fn dependencies() -> Vec<(String, Vec<String>)> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter();
        all.filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect()
    };
    packages.map(|package| (text(&package["name"]), of(package))).collect()
}

#[test]
fn crates_depend_on_lower_layers_alone() {
    let layers =
        LAYERS.iter().enumerate().flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer)));
    let layers: HashMap<&str, usize> = layers.collect();
    for (name, dependencies) in dependencies() {
        let own = layers.get(&*name).unwrap_or_else(|| panic!("{name} has no layer in LAYERS"));
        for dependency in dependencies {
            let is_lower = layers.get(&*dependency).is_none_or(|layer| layer < own);
            assert!(is_lower, "{name} depends on {dependency}, which is not of a lower layer");
        }
    }
}

#[test]
fn crates_that_only_decide_have_no_io() {
    let dependencies: HashMap<_, _> = dependencies().into_iter().collect();
    for name in PURE {
        let io: Vec<_> = dependencies[name].iter().filter(|name| IO.contains(&&***name)).collect();
        assert!(io.is_empty(), "{name} depends on {io:?}");
    }
}
