//! Tests each rule about the content of an object: admitted and denied examples, on every kind that has the field.

use super::*;

#[test]
fn interval() {
    const RULE: &str = "{interval: {min: 1m, max: 1h}}";
    for spec in [
        "{interval: 1m}",
        "{interval: 1h}",
        "{interval: 60s}",
        "{interval: 0h59m60s}",
        "{interval: null}",
        "{}",
    ] {
        check(RULE, Kind::Kustomization, spec, &[]);
    }
    check(RULE, Kind::Kustomization, "{interval: 59s}", &["interval spec.interval: 59s is shorter than 1m"]);
    check(RULE, Kind::Kustomization, "{interval: 60.000000001s}", &[]);
    check(
        RULE,
        Kind::GitRepository,
        "{interval: 3600.000000001s}",
        &["interval spec.interval: 3600.000000001s is longer than 1h"],
    );
    check(RULE, Kind::HelmRelease, "{interval: 2h}", &["interval spec.interval: 2h is longer than 1h"]);
    check(
        RULE,
        Kind::HelmRelease,
        "{interval: 5m, chart: {spec: {interval: 1s}}}",
        &["interval spec.chart.spec.interval: 1s is shorter than 1m"],
    );
    check(RULE, Kind::Receiver, "{interval: -5m}", &["interval spec.interval: -5m is shorter than 1m"]);
    check(
        RULE,
        Kind::Bucket,
        "{interval: often}",
        &["interval spec.interval: \"often\" must be a duration such as 30s, 10m or 1h30m"],
    );
    check(
        RULE,
        Kind::Kustomization,
        "{interval: 60}",
        &["interval spec.interval: must be a string, is a number"],
    );
    check(RULE, Kind::HelmRelease, "{chart: x}", &["interval spec.chart: must be a map, is a string"]);
    check(RULE, Kind::Alert, "{interval: 1s}", &[]);
    check("{interval: {min: 1m}}", Kind::ImageRepository, "{interval: 100h}", &[]);
    check("{interval: {max: 1m}}", Kind::ImageRepository, "{interval: 1ns}", &[]);
}

#[test]
fn a_spec_of_the_wrong_type_passes_no_rule() {
    let policy =
        policy("rules: {interval: {min: 1m}, prune: Required, serviceAccountName: {required: true}}");
    for spec in ["[]", "5", "text"] {
        let subject = subject(Kind::Kustomization, &format!("spec: {spec}"));
        let judged = Request::create(subject).judged(&policy);
        assert_eq!(judged.len(), 3, "{judged:?}");
        assert!(judged.iter().all(|line| line.contains(" spec: must be a map, is a")), "{judged:?}");
    }
}

#[test]
fn service_account_name() {
    const RULE: &str = "{serviceAccountName: {required: true, allowed: [flux-*, ops]}}";
    for kind in [Kind::Kustomization, Kind::HelmRelease, Kind::ResourceSet] {
        check(RULE, kind, "{serviceAccountName: flux-tenant}", &[]);
        check(RULE, kind, "{serviceAccountName: ops}", &[]);
        check(
            RULE,
            kind,
            "{serviceAccountName: admin}",
            &["serviceAccountName spec.serviceAccountName: admin is not allowed"],
        );
        check(
            RULE,
            kind,
            "{}",
            &["serviceAccountName spec.serviceAccountName: a service account must be named"],
        );
        check(
            RULE,
            kind,
            "{serviceAccountName: ''}",
            &["serviceAccountName spec.serviceAccountName: a service account must be named"],
        );
    }
    check(
        RULE,
        Kind::Kustomization,
        "{serviceAccountName: [ops]}",
        &["serviceAccountName spec.serviceAccountName: must be a string, is a list"],
    );
    check(RULE, Kind::OciRepository, "{serviceAccountName: puller}", &[]);
    check("{serviceAccountName: {allowed: [ops]}}", Kind::Kustomization, "{}", &[]);
    check("{serviceAccountName: {required: true}}", Kind::Kustomization, "{serviceAccountName: any}", &[]);
}

#[test]
fn cross_namespace_refs() {
    const RULE: &str = "{crossNamespaceRefs: Forbid}";
    let refused = |field: &str, name: &str| {
        format!("crossNamespaceRefs {field}.namespace: refers to other/{name}, in another namespace")
    };
    let foreign = "{name: a, namespace: other}";
    for (kind, spec, field) in [
        (Kind::Kustomization, "{sourceRef: REF}", "spec.sourceRef"),
        (Kind::Kustomization, "{dependsOn: [{name: b}, REF]}", "spec.dependsOn[1]"),
        (Kind::HelmRelease, "{chart: {spec: {sourceRef: REF}}}", "spec.chart.spec.sourceRef"),
        (Kind::HelmRelease, "{chartRef: REF}", "spec.chartRef"),
        (Kind::HelmRelease, "{dependsOn: [REF]}", "spec.dependsOn[0]"),
        (Kind::Alert, "{eventSources: [REF]}", "spec.eventSources[0]"),
        (Kind::Receiver, "{resources: [REF]}", "spec.resources[0]"),
        (Kind::ImagePolicy, "{imageRepositoryRef: REF}", "spec.imageRepositoryRef"),
        (Kind::ImageUpdateAutomation, "{sourceRef: REF}", "spec.sourceRef"),
        (Kind::ArtifactGenerator, "{sources: [REF]}", "spec.sources[0]"),
        (Kind::ExternalArtifact, "{sourceRef: REF}", "spec.sourceRef"),
        (Kind::ResourceSet, "{dependsOn: [REF]}", "spec.dependsOn[0]"),
    ] {
        check(RULE, kind, &spec.replace("REF", foreign), &[&refused(field, "a")]);
        check(RULE, kind, &spec.replace("REF", "{name: a, namespace: team-a}"), &[]);
        check(RULE, kind, &spec.replace("REF", "{name: a}"), &[]);
        check("{crossNamespaceRefs: Allow}", kind, &spec.replace("REF", foreign), &[]);
    }
    check(
        RULE,
        Kind::Alert,
        "{eventSources: [{name: '*', namespace: other}]}",
        &[&refused("spec.eventSources[0]", "*")],
    );
    check(
        RULE,
        Kind::Kustomization,
        "{sourceRef: {name: a, namespace: 5}}",
        &["crossNamespaceRefs spec.sourceRef.namespace: must be a string, is a number"],
    );
    check(
        RULE,
        Kind::Kustomization,
        "{dependsOn: {name: a}}",
        &["crossNamespaceRefs spec.dependsOn: must be a list, is a map"],
    );
    check(
        RULE,
        Kind::Kustomization,
        "{sourceRef: a}",
        &["crossNamespaceRefs spec.sourceRef: must be a map, is a string"],
    );
}

#[test]
fn target_namespaces() {
    const OWN: &str = "{targetNamespaces: Own}";
    const SOME: &str = "{targetNamespaces: {allowed: [team-a-*]}}";
    for kind in [Kind::Kustomization, Kind::HelmRelease] {
        for rule in [OWN, SOME] {
            check(rule, kind, "{}", &[]);
            check(rule, kind, "{targetNamespace: team-a}", &[]);
            check(
                rule,
                kind,
                "{targetNamespace: kube-system}",
                &["targetNamespaces spec.targetNamespace: kube-system is not allowed"],
            );
            check(
                rule,
                kind,
                "{targetNamespace: 1}",
                &["targetNamespaces spec.targetNamespace: must be a string, is a number"],
            );
        }
        check(SOME, kind, "{targetNamespace: team-a-dev}", &[]);
        check(
            OWN,
            kind,
            "{targetNamespace: team-a-dev}",
            &["targetNamespaces spec.targetNamespace: team-a-dev is not allowed"],
        );
    }
    check(
        OWN,
        Kind::HelmRelease,
        "{storageNamespace: other}",
        &["targetNamespaces spec.storageNamespace: other is not allowed"],
    );
    check(OWN, Kind::ResourceSet, "{targetNamespace: other}", &[]);
}

#[test]
fn prune() {
    check("{prune: Required}", Kind::Kustomization, "{prune: true}", &[]);
    check("{prune: Required}", Kind::Kustomization, "{prune: false}", &["prune spec.prune: must be true"]);
    check("{prune: Required}", Kind::Kustomization, "{}", &["prune spec.prune: must be true"]);
    check(
        "{prune: Required}",
        Kind::Kustomization,
        "{prune: 'true'}",
        &["prune spec.prune: must be a boolean, is a string"],
    );
    check("{prune: Required}", Kind::HelmRelease, "{}", &[]);
    check("{prune: Optional}", Kind::Kustomization, "{prune: false}", &[]);
}

#[test]
fn replicas() {
    const RULE: &str = "{replicas: {max: 50}}";
    for kind in [Kind::Fleet, Kind::GameServerSet, Kind::KruiseGameServerSet] {
        check(RULE, kind, "{replicas: 50}", &[]);
        check(RULE, kind, "{}", &[]);
        check(RULE, kind, "{replicas: 51}", &["replicas spec.replicas: 51 is more than 50"]);
        check(
            RULE,
            kind,
            "{replicas: '51'}",
            &["replicas spec.replicas: must be a whole number, is a string"],
        );
        check(
            RULE,
            kind,
            "{replicas: 5.5}",
            &["replicas spec.replicas: must be a whole number, is a fraction"],
        );
        check(
            RULE,
            kind,
            "{replicas: 18446744073709551615}",
            &["replicas spec.replicas: must be a whole number, is a number"],
        );
    }
    let autoscaler = |policy: &str, expected: &[&str]| {
        check(RULE, Kind::FleetAutoscaler, &format!("{{fleetName: f, policy: {policy}}}"), expected);
    };
    autoscaler("{type: Buffer, buffer: {maxReplicas: 50}}", &[]);
    // Only the part that `type` names is in force.
    autoscaler(
        "{type: Webhook, buffer: {maxReplicas: 51}, schedule: {policy: {type: Buffer, buffer: {maxReplicas: 51}}}}",
        &[],
    );
    autoscaler(
        "{type: Buffer, buffer: {maxReplicas: 1}, chain: [{type: Buffer, buffer: {maxReplicas: 51}}]}",
        &[],
    );
    autoscaler("{type: Counter, counter: {key: rooms, maxCapacity: 100000}}", &[]);
    autoscaler(
        "{type: Buffer, buffer: {maxReplicas: 51}}",
        &["replicas spec.policy.buffer.maxReplicas: 51 is more than 50"],
    );
    autoscaler(
        "{type: Schedule, schedule: {policy: {type: Buffer, buffer: {maxReplicas: 99}}}}",
        &["replicas spec.policy.schedule.policy.buffer.maxReplicas: 99 is more than 50"],
    );
    autoscaler(
        "{type: Chain, chain: [{type: Buffer, buffer: {maxReplicas: 1}}, {type: Schedule, schedule: {policy: {type: Buffer, buffer: {maxReplicas: 99}}}}]}",
        &["replicas spec.policy.chain[1].schedule.policy.buffer.maxReplicas: 99 is more than 50"],
    );
    autoscaler("{type: Chain, chain: {a: b}}", &["replicas spec.policy.chain: must be a list, is a map"]);
    check(RULE, Kind::GameServer, "{replicas: 99}", &[]);
}

#[test]
fn dependency_cycles() {
    let policy = policy("rules: {dependencyCycles: Forbid}");
    let known = Known(HashMap::from([("b", vec!["c"]), ("c", vec!["x"])]));
    let subject = subject(Kind::Kustomization, "spec: {dependsOn: [{name: b}]}");
    let request = Request::create(subject.clone());
    let judged: Vec<_> = policy.judge(&request.case(), &known).iter().map(line).collect();
    assert_eq!(judged, ["dependencyCycles spec.dependsOn: closes a cycle: x → b → c → x"]);
    assert_eq!(policy.audit(&subject, &known).len(), 1);
    assert_eq!(request.judged(&policy), [] as [&str; 0]);
    check(
        "{dependencyCycles: Forbid}",
        Kind::HelmRelease,
        "{dependsOn: [{name: 5}]}",
        &["dependencyCycles spec.dependsOn[0].name: must be a string, is a number"],
    );
    check("{dependencyCycles: Allow}", Kind::HelmRelease, "{dependsOn: [{name: x}]}", &[]);
}

/// A Fleet whose servers have ten rooms each, as a counter and as a list.
struct Rooms;

impl Dependencies for Rooms {
    fn depends_on(&self, _of: &ObjectName) -> Option<Vec<ObjectName>> {
        None
    }

    fn fleet(&self, namespace: &str, name: &str) -> Option<Value> {
        let rooms = json!({"rooms": {"capacity": 10}, "unsaid": {}, "none": {"capacity": 0}});
        let template = json!({"spec": {"counters": rooms, "lists": rooms}});
        ((namespace, name) == ("team-a", "lobby")).then(|| json!({"spec": {"template": template}}))
    }
}

#[test]
fn counters_and_lists_are_as_many_replicas_as_they_need() {
    let policy = policy("rules: {replicas: {max: 50}}");
    let judged = |fleet: &str, text: &str| {
        let object = subject(Kind::FleetAutoscaler, &format!("spec: {{fleetName: {fleet}, policy: {text}}}"));
        Request::create(object).judged_among(&policy, &Rooms)
    };
    let counter =
        |key: &str, most: u32| format!("{{type: Counter, counter: {{key: {key}, maxCapacity: {most}}}}}");
    assert_eq!(judged("lobby", &counter("rooms", 509)), [""; 0]);
    let message = "510 are 51 replicas of the fleet, more than 50";
    assert_eq!(
        judged("lobby", &counter("rooms", 510)),
        [format!("replicas spec.policy.counter.maxCapacity: {message}")]
    );
    assert_eq!(
        judged(
            "lobby",
            &format!(
                "{{type: Chain, chain: [{{type: Schedule, schedule: {{policy: {}}}}}]}}",
                counter("rooms", 510)
            )
        ),
        [format!("replicas spec.policy.chain[0].schedule.policy.counter.maxCapacity: {message}")]
    );
    assert_eq!(
        judged("lobby", "{type: List, list: {key: rooms, maxCapacity: 510}}"),
        [format!("replicas spec.policy.list.maxCapacity: {message}")]
    );
    assert_eq!(judged("lobby", &counter("unsaid", 51_000)).len(), 1, "as the API fills it in");
    for (fleet, key) in [("lobby", "none"), ("lobby", "others"), ("unknown", "rooms")] {
        assert_eq!(judged(fleet, &counter(key, 999_999)), [""; 0], "nothing to reckon by");
    }
    assert_eq!(judged("lobby", "{type: List, counter: {key: rooms, maxCapacity: 510}}"), [""; 0]);
}
