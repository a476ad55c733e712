//! The kubectl plugin over the example, word for word, but for ages.

use serde_json::Value;

use super::*;

/// Ages change while the test runs.
fn without_ages(text: &str) -> String {
    let is_age = |word: &str| {
        word.ends_with(['s', 'm', 'h', 'd', 'y'])
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_digit() || b"smhdy".contains(&byte))
    };
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').map(|word| if is_age(word) { "AGE" } else { word }).collect();
        // Columns are as wide as their ages.
        let mut line = words.join(" ");
        while let Some(at) = line.find("AGE    ") {
            line.remove(at + 3);
        }
        line + "\n"
    };
    text.lines().map(line).collect()
}

fn all(commands: &[&str]) -> String {
    without_ages(&printed(commands))
}

/// What commands print and how they exit. One demo for all, since each takes a while to start.
fn printed(commands: &[&str]) -> String {
    let script: Vec<String> = commands
        .iter()
        .map(|command| {
            let typed = format!("kubectl gatehouse {command}");
            format!("echo '$ {typed}'; {typed} 2>&1 || echo \"[exit $?]\"; echo")
        })
        .collect();
    ok(&demo(&[], &script.join("\n")))
}

#[test]
fn why_follows_the_causes_to_their_end() {
    insta::assert_snapshot!(all(&[
        "why ks/apps -n flux-system",
        "why Kustomization/games-eu/lobby",
        "why kustomizations/ingest -n team-b --exit-code",
        "why ks/flux-system -n flux-system --exit-code",
        "why fluxresource.view.gatehouse.dev/local.helmrelease.warehouse -n team-b",
        "why hr/checkout -n team-a",
        "why deploy/checkout -n team-a",
        "why ks/apps -n flux-system -o name",
        "why -A",
    ]));
}

#[test]
fn tree_shows_each_dependency_and_source() {
    insta::assert_snapshot!(all(&[
        "tree ks/apps -n flux-system",
        "tree ks/lobby -n games-eu",
        "tree ks/ingest -n team-b",
        "tree ks/shop -n team-a",
    ]));
}

#[test]
fn quota_shows_what_is_left() {
    // Quantities look like ages.
    insta::assert_snapshot!(printed(&[
        "quota -A",
        "quota -n games-eu",
        "quota arena -A -o wide --exit-code",
        "quota team-b -n team-b --exit-code",
        "quota -n default",
    ]));
}

#[test]
fn clusters_are_listed_as_kubectl_lists_them() {
    let listed = ok(&demo(&[], "kubectl gatehouse clusters; echo; {} get clusterhealths"));
    let (plugin, kubectl) = listed.split_once("\n\n").unwrap();
    let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(plugin.trim_end()), trimmed(kubectl.trim_end()));
    let names = ok(&demo(&[], "kubectl gatehouse clusters -o name; {} get clusterhealths -o name"));
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names[..3], names[3..]);
}

#[test]
fn errors_read_as_those_of_kubectl_and_exit_codes_tell_them_apart() {
    insta::assert_snapshot!(all(&[
        "why ks/nothing",
        "why deploy/nothing -n team-a",
        "why ks",
        "why ks/apps --context nowhere",
        "quota nothing -A",
        "reconcile ks/apps -n flux-system --wait",
        "suspend ks/apps --as-group g",
        "suspend --all -n flux-system",
        "why -A --cluster-name typo",
    ]));
}

#[test]
fn programs_get_the_rows_as_a_list() {
    let shell = "kubectl gatehouse why ks/apps -n flux-system -o json; echo ---; \
                 kubectl gatehouse why ks/apps -n flux-system -o yaml";
    let printed = ok(&demo(&[], shell));
    let (json, yaml) = printed.split_once("---\n").unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!((&json["kind"], &json["apiVersion"]), (&"List".into(), &"v1".into()));
    let names: Vec<&str> = json["items"].as_array().unwrap().iter().map(name).collect();
    let kustomizations =
        ["apps", "platform", "infra-storage"].map(|name| format!("local.kustomization.{name}"));
    assert_eq!(names[..3], kustomizations);
    assert_eq!(names[3], "local.gitrepository.storage");
    let yaml: Value = serde_saphyr::from_str(yaml).unwrap();
    assert_eq!(yaml["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>(), names);
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// kubectl's own completion, as a shell asks for it.
#[test]
fn kubectl_completes_commands_and_objects() {
    let ask = |words: &str| {
        let shell = format!("kubectl __complete gatehouse {words} 2>/dev/null");
        let answer = ok(&demo(&[], &shell));
        answer.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ask("re"), ["reconcile", "resume", ":4"]);
    assert_eq!(ask("why -n team-b ks/re"), ["ks/reports", ":4"]);
    assert_eq!(ask("tree -n flux"), ["flux-system", ":4"]);
}

#[test]
fn the_flux_command_finds_it_too() {
    let help = ok(&demo(&[], "flux-gatehouse why --help"));
    assert!(help.contains("Usage: flux gatehouse why"), "{help}");
}
