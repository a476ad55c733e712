//! What is printed, and the exit code.

use std::fs;

use serde_json::Value;

use crate::{BAD, Files, GOOD, NAMESPACE, STRICT};

#[test]
fn findings_are_told_as_text_with_their_places() {
    let files =
        Files::new(&[("apps/bad.yaml", BAD), ("apps/good.yaml", GOOD), ("namespace.yaml", NAMESPACE)]);
    let checked = files.strict(&["-f", "."]);
    insta::assert_snapshot!(
        "text",
        format!("{}\n--\n{}exit code {}", checked.out, checked.err, checked.code)
    );
}

#[test]
fn findings_are_told_as_json() {
    let files = Files::new(&[("bad.yaml", BAD), ("broken.yaml", "apiVersion: v1\nkind: [\n")]);
    let checked = files.strict(&["-f", ".", "-o", "json"]);
    checked.expect(2, &["broken.yaml"]);
    insta::assert_json_snapshot!("json", checked.json());
}

#[test]
fn findings_are_told_as_sarif() {
    let audit = fs::read_to_string(STRICT).unwrap().replace("enforcement: Deny", "enforcement: Audit");
    let audit = audit.replace("name: strict", "name: lenient");
    let files = Files::new(&[("a b/bad.yaml", BAD), ("policies/audit.yaml", &audit)]);
    let checked = files.strict(&["-f", ".", "-o", "sarif"]);
    checked.expect(1, &[]);
    let mut sarif = checked.json();
    has_the_shape_of_sarif(&sarif);
    sarif["runs"][0]["tool"]["driver"]["semanticVersion"] = "(version)".into();
    insta::assert_json_snapshot!("sarif", sarif);
}

#[test]
fn findings_are_told_as_githubs_commands_and_as_junit() {
    let audit = fs::read_to_string(STRICT).unwrap().replace("enforcement: Deny", "enforcement: Warn");
    let audit = audit.replace("name: strict", "name: lenient");
    let files = Files::new(&[
        ("a,b/bad.yaml", BAD),
        ("policies/audit.yaml", &audit),
        ("broken.yaml", "apiVersion: v1\nkind: [\n"),
    ]);
    let github = files.strict(&["-f", ".", "-o", "github"]);
    github.expect(2, &[]);
    insta::assert_snapshot!("github", github.out);
    let junit = files.strict(&["-f", ".", "-o", "junit"]);
    insta::assert_snapshot!("junit", junit.out);
    let fine = Files::new(&[("good.yaml", GOOD)]).strict(&["-f", ".", "-o", "junit"]);
    assert!(fine.out.contains("tests=\"1\" failures=\"0\" errors=\"0\""), "{fine:?}");
}

#[test]
fn the_help_of_a_rule_is_that_of_all_its_findings() {
    // A hint speaks of one finding; code hosts show the help of a rule for each of them.
    let files = Files::new(&[("bad.yaml", BAD)]);
    let sarif = files.strict(&["bad.yaml", "-o", "sarif"]).json();
    for rule in sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap() {
        assert!(rule["fullDescription"]["text"].as_str().is_some_and(|text| text.len() > 20), "{rule}");
        assert!(!rule["help"]["text"].as_str().unwrap().contains("apps"), "{rule}");
    }
}

/// What the schema of SARIF 2.1.0 asks of the parts that are used.
fn has_the_shape_of_sarif(sarif: &Value) {
    assert_eq!(sarif["version"], "2.1.0");
    let only = |value: &Value, known: &[&str]| {
        for field in value.as_object().unwrap().keys() {
            assert!(known.contains(&field.as_str()), "{field} in {value}");
        }
    };
    only(sarif, &["$schema", "version", "runs"]);
    let run = &sarif["runs"][0];
    only(run, &["tool", "columnKind", "invocations", "results"]);
    assert!(["utf16CodeUnits", "unicodeCodePoints"].contains(&run["columnKind"].as_str().unwrap()));
    let driver = &run["tool"]["driver"];
    only(driver, &["name", "semanticVersion", "rules"]);
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        only(
            rule,
            &[
                "id",
                "name",
                "shortDescription",
                "fullDescription",
                "help",
                "defaultConfiguration",
                "properties",
            ],
        );
        assert!(!rule["help"]["text"].as_str().unwrap().is_empty());
    }
    let levels = ["none", "note", "warning", "error"];
    assert!(run["invocations"][0]["executionSuccessful"].is_boolean());
    for result in run["results"].as_array().unwrap() {
        only(result, &["ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"]);
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(levels.contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].is_string());
        let physical = &result["locations"][0]["physicalLocation"];
        let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.contains(' ') && !uri.starts_with("./"), "{uri}");
        assert!(physical["region"]["startLine"].as_u64().unwrap() >= 1);
        assert!(physical["region"]["startColumn"].as_u64().unwrap() >= 1);
    }
}

#[test]
fn nothing_wrong_is_silent_and_0() {
    let checked = Files::new(&[("good.yaml", GOOD)]).strict(&["-f", "good.yaml"]);
    checked.expect(0, &["1 object in 2 files", "0 to be denied"]);
    assert_eq!(checked.out, "");
}

#[test]
fn warnings_and_audits_fail_only_if_strict() {
    for enforcement in ["Warn", "Audit"] {
        let policy = fs::read_to_string(STRICT).unwrap().replace("Deny", enforcement);
        let files = Files::new(&[("bad.yaml", BAD), ("policy.yaml", &policy)]);
        let checked = files.check(&["-f", "bad.yaml", "--policies", "policy.yaml"]);
        checked.expect(0, &["0 to be denied"]);
        assert!(
            checked.out.contains(&format!("strict/interval ({enforcement}): spec.interval: ")),
            "{checked:?}"
        );
        files.check(&["-f", "bad.yaml", "--policies", "policy.yaml", "--strict"]).expect(1, &[]);
    }
}
