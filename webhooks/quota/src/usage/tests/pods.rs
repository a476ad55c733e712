//! What pods of a template take up: containers, resources of the pod, overhead and limits.

use super::*;

#[test]
fn a_pod_that_does_not_say_for_all_of_its_containers_is_told() {
    let unstated = |spec: Value| {
        let usage = usage(&resource("gameservers.agones.dev"), &pod(&spec), &NoTemplates).unwrap();
        let requests = usage.unstated.iter().filter(|(dimension, _)| **dimension >= Dimension::RequestsCpu);
        let list = requests.map(|(dimension, who)| format!("{dimension} for: {}", who.join(",")));
        list.collect::<Vec<_>>().join("; ")
    };
    let named = |name: &str, resources: Value| json!({"name": name, "resources": resources});
    assert_eq!(unstated(json!({"containers": [asks("1", "0")]})), "", "zero is said");
    let game = named("game", json!({"limits": {"cpu": "1"}}));
    let sidecar = named("sidecar", Value::Null);
    assert_eq!(
        unstated(json!({"containers": [game, {}], "initContainers": [sidecar]})),
        "requests.cpu for: spec.template.spec.containers[1],sidecar; \
         requests.memory for: game,spec.template.spec.containers[1],sidecar"
    );
    let whole = json!({"requests": {"cpu": "3"}, "limits": {"memory": "2Gi"}});
    assert_eq!(unstated(json!({"containers": [sidecar], "resources": whole})), "", "the pod says it");
}

#[test]
fn the_overhead_of_a_runtime_class_counts_for_each_pod() {
    let known = |overhead: Value| Known(json!({"handler": "runsc", "overhead": overhead}));
    let of = |of: &str, object: &Value, known: &Known| {
        usage(&resource(of), object, known).map(|usage| requested(&usage.beside_count()).to_string())
    };
    let class = known(json!({"podFixed": {"cpu": "250m", "memory": "120Mi"}}));
    let spec = json!({"containers": [asks("1", "1Gi")], "runtimeClassName": "gvisor"});
    let mut fleet = json!({"spec": {"replicas": 4, "template": {"spec": {"template": {"spec": spec}}}}});
    let four = "gameservers=4,requests.cpu=5,requests.memory=4576Mi";
    assert_eq!(of("fleets.agones.dev", &fleet, &class).as_deref(), Ok(four));
    let set = json!({"spec": {"replicas": 4, "gameServerTemplate": {"spec": spec}}});
    assert_eq!(of("gameserversets.game.kruise.io", &set, &class).as_deref(), Ok(four));
    let one = "gameservers=1,requests.cpu=1250m,requests.memory=1144Mi";
    assert_eq!(of("gameservers.agones.dev", &pod(&spec), &class).as_deref(), Ok(one));
    // kube-apiserver rejects a Pod with another overhead than its class has: the larger counts.
    let pod_spec = &mut fleet["spec"]["template"]["spec"]["template"]["spec"];
    pod_spec["overhead"] = json!({"cpu": "500m", "memory": "1Mi"});
    let four = "gameservers=4,requests.cpu=6,requests.memory=4576Mi";
    assert_eq!(of("fleets.agones.dev", &fleet, &class).as_deref(), Ok(four));
    // A class without overhead, one that does not exist, and none.
    for (class, name) in [(known(Value::Null), "gvisor"), (known(json!({"podFixed": {"cpu": 1}})), "other")] {
        let spec = json!({"containers": [asks("1", "1Gi")], "runtimeClassName": name});
        let alone = "gameservers=1,requests.cpu=1,requests.memory=1Gi";
        assert_eq!(of("gameservers.agones.dev", &pod(&spec), &class).as_deref(), Ok(alone));
    }
    // A class that cannot be read is an error, and not less than it asks for.
    let spec = json!({"containers": [asks("1", "1Gi")], "runtimeClassName": "gvisor"});
    for (class, field) in [
        (json!([]), "runtimeClassName.overhead"),
        (json!({"podFixed": {"cpu": "much"}}), "runtimeClassName.overhead.podFixed[cpu]"),
    ] {
        let error = of("gameservers.agones.dev", &pod(&spec), &known(class)).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    let spec = json!({"containers": [], "runtimeClassName": 5});
    let error = of("gameservers.agones.dev", &pod(&spec), &class).unwrap_err().to_string();
    assert!(error.contains("runtimeClassName"), "{error}");
}

#[test]
fn a_pod_asks_for_what_runs_at_once_or_what_runs_first() {
    let requests =
        |spec: Value| usage_text("gameservers.agones.dev", &pod(&spec)).replace("gameservers=1", "");
    let containers = json!([asks("200m", "0"), asks("300m", "0")]);
    // A first container that asks for more than all that run later.
    let init = json!([asks("2", "0")]);
    assert_eq!(requests(json!({"containers": containers, "initContainers": init})), ",requests.cpu=2");
    // A sidecar runs beside everything, and beside what starts after it.
    let mut sidecar = asks("1", "0");
    sidecar["restartPolicy"] = "Always".into();
    let init = json!([sidecar, asks("700m", "0")]);
    assert_eq!(requests(json!({"containers": containers, "initContainers": init})), ",requests.cpu=1700m");
    let init = json!([asks("700m", "0"), sidecar]);
    assert_eq!(requests(json!({"containers": containers, "initContainers": init})), ",requests.cpu=1500m");
    let overhead = json!({"cpu": "50m", "memory": "10Mi"});
    assert_eq!(
        requests(json!({"containers": containers, "overhead": overhead})),
        ",requests.cpu=550m,requests.memory=10Mi"
    );
    // What has a limit and no request asks for its limit.
    let limited = json!([{"resources": {"limits": {"cpu": 2, "memory": "1Gi"}, "requests": {"cpu": 0.5}}}]);
    assert_eq!(requests(json!({"containers": limited})), ",requests.cpu=500m,requests.memory=1Gi");
    // Of what the pod states and what its containers do the larger counts.
    let whole = json!({"requests": {"cpu": "3"}, "limits": {"cpu": "4", "memory": "2Gi"}});
    assert_eq!(
        requests(json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}], "resources": whole})),
        ",requests.cpu=3,requests.memory=2Gi"
    );
    assert_eq!(
        requests(json!({"containers": [asks("9", "1Gi")], "resources": {"requests": {"cpu": "1m"}}})),
        ",requests.cpu=9,requests.memory=1Gi"
    );
    // A limit of the pod bounds what its containers state, and stands for what none of them states.
    assert_eq!(
        requests(json!({"containers": [asks("1", "1Gi")], "resources": {"limits": {"memory": "2Gi"}}})),
        ",requests.cpu=1,requests.memory=1Gi"
    );
    let first = json!({"containers": [{}], "initContainers": [asks("1", "1Gi")],
        "resources": {"limits": {"cpu": "4", "memory": "2Gi"}}});
    assert_eq!(requests(first), ",requests.cpu=1,requests.memory=1Gi");
    assert_eq!(
        requests(json!({"containers": [{}], "resources": {"limits": {"cpu": "4"}}})),
        ",requests.cpu=4"
    );
}

#[test]
fn limits_are_what_containers_may_use_at_most() {
    let limits = |spec: Value| {
        let amounts = amounts("gameservers.agones.dev", &pod(&spec));
        let amounts =
            amounts.only(|dimension| matches!(dimension, Dimension::LimitsCpu | Dimension::LimitsMemory));
        amounts.to_string()
    };
    let limited = |cpu: &str, memory: &str| {
        json!({"name": "game", "resources": {"requests": {"cpu": "9", "memory": "9Gi"},
            "limits": {"cpu": cpu, "memory": memory}}})
    };
    let two = json!([limited("500m", "1Gi"), limited("1", "512Mi")]);
    assert_eq!(limits(json!({"containers": two})), "limits.cpu=1500m,limits.memory=1536Mi");
    let init = json!([limited("2", "1Mi")]);
    let with_init = json!({"containers": two, "initContainers": init});
    assert_eq!(limits(with_init), "limits.cpu=2,limits.memory=1536Mi");
    let overhead = json!({"cpu": "50m", "memory": "10Mi"});
    assert_eq!(
        limits(json!({"containers": two, "overhead": overhead})),
        "limits.cpu=1550m,limits.memory=1546Mi"
    );
    let requests = json!({"containers": [asks("1", "1Gi")], "overhead": overhead});
    assert_eq!(limits(requests.clone()), "", "what has no limit has no limit with its sandbox either");
    let whole = json!({"limits": {"cpu": "4"}, "requests": {"memory": "7Gi"}});
    assert_eq!(
        limits(json!({"containers": two, "resources": whole})),
        "limits.cpu=4,limits.memory=1536Mi",
        "a request is no limit"
    );
    let unstated = |spec: &Value| {
        let usage = usage(&resource("gameservers.agones.dev"), &pod(spec), &NoTemplates).unwrap();
        let of_limits = usage.unstated.into_iter().filter(|(dimension, _)| *dimension < Dimension::Players);
        of_limits.map(|(dimension, _)| dimension.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(unstated(&requests), ["limits.cpu", "limits.memory"]);
    let mut of_pod = requests;
    of_pod["resources"] = json!({"limits": {"cpu": "4"}});
    assert_eq!(unstated(&of_pod), ["limits.memory"], "the pod says it");
}
