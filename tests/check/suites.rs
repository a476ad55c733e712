//! `gatehouse test`: what is printed, and the exit code; and the tests of the example policies.

use std::process::Command;

use crate::{Checked, Files, GOOD, STRICT};

const SUITE: &str = "\
apiVersion: test.gatehouse.dev/v1alpha1
kind: PolicyTest
metadata: {name: mine}
policies: [strict.yaml]
cases:
- name: good
  object: good.yaml
  expect: {decision: Allowed}
- name: too short
  object: good.yaml
  patch: {spec: {interval: 1s}}
  expect: {decision: Denied, violations: [{policy: strict, rule: interval}]}
- name: wrong <on> purpose
  object: good.yaml
  patch: {spec: {interval: 1s}}
  expect: {decision: Allowed}
";

fn files(suite: &str) -> Files {
    let files = Files::new(&[("policies/good.yaml", GOOD), ("policies/t/suite.yaml", suite)]);
    files.write("policies/strict.yaml", std::fs::read(STRICT).unwrap());
    files
}

fn suite() -> String {
    SUITE.replace("strict.yaml", "../strict.yaml").replace("good.yaml", "../good.yaml")
}

fn test(files: &Files, args: &[&str]) -> Checked {
    Checked::from(files.subcommand("test", args).output().unwrap())
}

#[test]
fn the_tests_of_the_example_policies_pass() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(["test", "examples/policies"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let tested = Checked::from(command.output().unwrap());
    tested.expect(0, &["29 cases: 29 passed, 0 failed"]);
}

#[test]
fn results_are_told_as_a_table() {
    let tested = test(&files(&suite()), &["policies"]);
    tested.expect(1, &["3 cases: 2 passed, 1 failed"]);
    insta::assert_snapshot!("suites-table", tested.out);
}

#[test]
fn results_are_told_as_json_junit_and_githubs_commands() {
    let files = files(&suite());
    let json = test(&files, &["policies", "-o", "json"]);
    json.expect(1, &[]);
    insta::assert_json_snapshot!("suites-json", json.json());
    insta::assert_snapshot!("suites-junit", test(&files, &["policies", "-o", "junit"]).out);
    insta::assert_snapshot!("suites-github", test(&files, &["policies", "-o", "github"]).out);
}

#[test]
fn cases_are_selected_by_name() {
    let files = files(&suite());
    test(&files, &["policies", "--run", "mine/(good|too short)"]).expect(0, &["2 cases: 2 passed"]);
    test(&files, &["policies", "--run", "other/"]).expect(2, &["no case is selected by --run"]);
    test(&files, &["policies", "--run", "("]).expect(2, &["not a regular expression"]);
}

#[test]
fn what_cannot_be_run_is_bad_input() {
    let files = files(&suite().replace("rule: interval", "rule: intervals"));
    let reported = "policies/t/suite.yaml:12:60: error: cases[1].expect.violations[0].rule: strict has no rule \"intervals\"";
    test(&files, &["policies"]).expect(2, &[reported, "1 error"]);
    let github = test(&files, &["policies", "-o", "github"]);
    assert!(github.out.starts_with("::error file=policies/t/suite.yaml,line=12,col=60,"), "{github:?}");
    test(&files, &["absent"]).expect(2, &["absent: error: does not exist"]);
    test(&files, &["policies/good.yaml"]).expect(2, &["holds no PolicyTest"]);
    test(&files, &[]).expect(2, &["required arguments were not provided"]);
    // A policy that does not compile is reported at its own place.
    files.write("policies/strict.yaml", "apiVersion: policy.gatehouse.dev/v1alpha1\nkind: ReconcilePolicy\nmetadata: {name: strict}\nspec:\n  rules: {interval: {min: often}}\n");
    test(&files, &["policies"])
        .expect(2, &["policies/strict.yaml:5:22: error: ReconcilePolicy strict: spec.rules.interval.min"]);
}
