//! Sums held against quotas.

use crate::{Files, NAMESPACE, QUOTA};

fn fleet(name: &str, replicas: u32) -> String {
    format!(
        "---
apiVersion: agones.dev/v1
kind: Fleet
metadata: {{name: {name}, namespace: apps}}
spec:
  replicas: {replicas}
  template:
    spec:
      template:
        spec:
          containers:
          - name: game
            image: game
            resources: {{requests: {{cpu: 500m, memory: 1Gi}}}}
"
    )
}

#[test]
fn quotas_are_held_against_the_sum_over_all_files() {
    let files = Files::new(&[
        ("namespace.yaml", NAMESPACE),
        ("a.yaml", &fleet("a", 50)),
        ("b.yaml", &fleet("b", 30)),
    ]);
    let args = ["-f", ".", "--policies", QUOTA];
    files.check(&args).expect(0, &["2 judged", "1 quota"]);
    files.write("b.yaml", fleet("b", 31));
    let checked = files.check(&args);
    checked.expect(1, &[]);
    assert_eq!(checked.findings().len(), 1, "{checked:?}");
    let finding = checked.findings()[0];
    assert!(finding.starts_with("b.yaml:6:3: team-a/gameservers: spec.replicas: "), "{finding}");
    assert!(finding.contains("81") && finding.contains("80"), "{finding}");
}

#[test]
fn a_quota_does_not_count_namespaces_whose_labels_are_not_known() {
    let files = Files::new(&[("a.yaml", &fleet("a", 500))]);
    let args = ["-f", ".", "--policies", QUOTA];
    files
        .check(&args)
        .expect(0, &["note: team-a selects namespaces by labels, and those of apps are not known"]);
}

#[test]
fn an_amount_that_is_none_is_a_finding() {
    let broken = fleet("a", 1).replace("500m", "half");
    let checked = Files::new(&[("namespace.yaml", NAMESPACE), ("a.yaml", &broken)]).check(&[
        "-f",
        ".",
        "--policies",
        QUOTA,
    ]);
    checked.expect(1, &[]);
    assert!(checked.out.starts_with("a.yaml:14:"), "{checked:?}");
}
