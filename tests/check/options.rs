//! What a CI run may ask for: paths, what is left out, what was known before, what makes it fail.

use std::{fs, process::Command};

use crate::{BAD, Files, GOOD, STRICT};

#[test]
fn files_are_left_out_by_patterns() {
    let files = Files::new(&[("d/bad.yaml", BAD), ("d/vendor/bad.yaml", BAD), ("d/good.yaml", GOOD)]);
    files.strict(&["d", "--ignore", "bad.yaml"]).expect(0, &["1 object in"]);
    files.write("d/.gatehouseignore", "# not ours\n/vendor/\nbad.*\n!good.yaml\n");
    files.strict(&["d"]).expect(0, &["1 object in"]);
    files.write("d/.gatehouseignore", "/vendor/\n");
    let checked = files.strict(&["d"]);
    checked.expect(1, &["3 objects in"]);
    assert!(!checked.out.contains("vendor"), "{checked:?}");
}

#[test]
fn an_annotation_with_a_reason_takes_a_finding_out() {
    let bad = BAD.replace("  name: bad\n", "  name: bad\n  annotations:\n    gatehouse.dev/check-ignore: |\n      prune, strict/serviceAccountName: moved by hand\n      crossNamespaceRefs\n");
    let files = Files::new(&[("bad.yaml", &bad)]);
    let checked = files.strict(&["bad.yaml"]);
    checked.expect(
        1,
        &[
            "2 ignored by annotation",
            "bad.yaml:17:5: note: ignores nothing: each line has to be RULE: REASON",
        ],
    );
    assert!(
        !checked.out.contains("strict/prune") && checked.out.contains("crossNamespaceRefs"),
        "{checked:?}"
    );
    let report = files.strict(&["bad.yaml", "-o", "json"]).json();
    assert_eq!(report["ignored"][0]["reason"], "moved by hand");
    let sarif = files.strict(&["bad.yaml", "-o", "sarif"]).json();
    let suppressed = sarif["runs"][0]["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|result| result["suppressions"].is_array());
    assert_eq!(suppressed.count(), 2);
}

#[test]
fn a_baseline_holds_what_is_known_wherever_it_moves_in_its_file() {
    let files = Files::new(&[("bad.yaml", BAD)]);
    files.strict(&["bad.yaml", "--write-baseline", "known.json"]).expect(0, &[]);
    let again = files.strict(&["bad.yaml", "--baseline", "known.json"]);
    again.expect(0, &["known before"]);
    assert_eq!(again.out, "");
    files.write(
        "bad.yaml",
        format!("# moved\n\n\n{BAD}---\n{}", GOOD.replace("spec:", "spec:\n  interval: 1s")),
    );
    let more = files.strict(&["bad.yaml", "--baseline", "known.json"]);
    more.expect(1, &[]);
    assert_eq!(more.findings().len(), 1, "{more:?}");
    files.write("known.json", "{}");
    files.strict(&["bad.yaml", "--baseline", "known.json"]).expect(2, &["known.json is no baseline"]);
}

#[test]
fn against_a_revision_only_what_the_change_brings_is_found() {
    let files = Files::new(&[("apps/bad.yaml", BAD), ("apps/good.yaml", GOOD)]);
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
            .args(arguments)
            .current_dir(files.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    let checked = files.strict(&["apps", "--against", "main"]);
    checked.expect(0, &["known before"]);
    files.write("apps/good.yaml", GOOD.replace("spec:", "spec:\n  interval: 1s"));
    let checked = files.strict(&["apps", "--against", "HEAD"]);
    checked.expect(1, &["known before"]);
    assert!(checked.findings()[0].starts_with("apps/good.yaml:5:3: strict/interval"), "{checked:?}");
    assert_eq!(checked.findings().len(), 1, "{checked:?}");
    files.strict(&["apps", "--against", "nowhere"]).expect(2, &["--against nowhere"]);
    files.strict(&["apps", "--against", "--output=x"]).expect(2, &[]);
    files.strict(&["-f", "-", "--against", "main"]).expect(2, &["not -"]);
    let status =
        Command::new("git").args(["status", "--porcelain"]).current_dir(files.path("")).output().unwrap();
    assert_eq!(String::from_utf8(status.stdout).unwrap(), " M apps/good.yaml\n");
}

#[test]
fn what_fails_is_chosen() {
    let policy = fs::read_to_string(STRICT).unwrap();
    let files = Files::new(&[("bad.yaml", BAD)]);
    for (enforcement, codes) in [("Deny", [1, 1, 1, 1]), ("Warn", [0, 1, 1, 1]), ("Audit", [0, 0, 1, 1])] {
        files.write(
            "policy.yaml",
            policy.replace("enforcement: Deny", &format!("enforcement: {enforcement}")),
        );
        for (level, code) in ["deny", "warn", "audit", "note"].into_iter().zip(codes) {
            files.check(&["bad.yaml", "--policies", "policy.yaml", "--fail-on", level]).expect(code, &[]);
        }
    }
    let files = Files::new(&[("note.yaml", &GOOD.replace("spec:", "spec:\n  interval: ${X}"))]);
    files.strict(&["note.yaml", "--fail-on", "audit"]).expect(0, &["note:"]);
    files.strict(&["note.yaml", "--fail-on", "note"]).expect(1, &["note:"]);
}

#[test]
fn options_may_stand_in_a_file() {
    let files = Files::new(&[("apps/bad.yaml", BAD), ("apps/good.yaml", GOOD)]);
    files.write(
        ".gatehouse.yaml",
        format!("files: [apps]\npolicies: [{STRICT}]\nignore: [bad.yaml]\nnamespaceLabels: {{apps: {{a: b}}}}\nfailOn: note\noutput: json\n"),
    );
    let checked = files.check(&[]);
    checked.expect(0, &[]);
    assert_eq!(checked.json()["summary"]["objects"], 1);
    files.check(&["apps/bad.yaml", "-o", "text"]).expect(1, &[]);
    files.write(".gatehouse.yaml", "filez: [apps]\n");
    files.check(&[]).expect(2, &[".gatehouse.yaml: ", "filez"]);
    Files::new(&[]).check(&[]).expect(2, &["nothing to check"]);
}
