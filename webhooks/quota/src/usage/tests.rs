//! What objects take up, by kind.

mod kruise;
mod pods;

use serde_json::json;

use super::*;

struct Known(Value);

impl Templates for Known {
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value> {
        ((namespace, name) == ("games", "minecraft")).then(|| self.0.clone())
    }

    fn runtime_class(&self, name: &str) -> Option<Value> {
        (name == "gvisor").then(|| self.0.clone())
    }
}

fn resource(text: &str) -> GroupResource {
    text.parse().unwrap()
}

/// What an object takes up, as it is written, beside the count of itself, capacities and limits.
fn usage_text(of: &str, object: &Value) -> String {
    requested(&amounts(of, object)).to_string()
}

/// What an object takes up, beside the count of itself.
fn amounts(of: &str, object: &Value) -> Amounts {
    let usage = usage(&resource(of), object, &NoTemplates).unwrap();
    assert_eq!(usage.amounts.get(&Dimension::Count(resource(of))), Quantity::from_integer(1));
    usage.beside_count()
}

fn requested(amounts: &Amounts) -> Amounts {
    use Dimension::{Capacity, LimitsCpu, LimitsMemory};
    amounts.only(|dimension| !matches!(dimension, Capacity(_) | LimitsCpu | LimitsMemory))
}

fn refused(of: &str, object: &Value) -> String {
    usage(&resource(of), object, &NoTemplates).unwrap_err().to_string()
}

fn pod(spec: &Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

fn asks(cpu: &str, memory: &str) -> Value {
    json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

fn owned(kind: &str, api_version: &str, is_controller: bool) -> Value {
    json!({
        "metadata": {"ownerReferences": [
            {"apiVersion": api_version, "kind": kind, "name": "a", "uid": "u", "controller": is_controller},
        ]},
        "spec": {"replicas": 3},
    })
}

#[test]
fn anything_counts_as_one() {
    assert_eq!(usage_text("configmaps", &json!({"data": {"a": 1}})), "");
    assert_eq!(usage_text("kustomizations.kustomize.toolkit.fluxcd.io", &json!({"spec": []})), "");
}

#[test]
fn a_fleet_takes_up_its_template_so_many_times() {
    let fleet = json!({"spec": {"replicas": 4, "template": {"spec": {
        "counters": {"players": {"capacity": 16}, "rooms": {"capacity": 99}},
        "template": {"spec": {"containers": [asks("500m", "1Gi"), asks("100m", "256Mi")]}},
    }}}});
    assert_eq!(
        usage_text("fleets.agones.dev", &fleet),
        "gameservers=4,players=64,requests.cpu=2400m,requests.memory=5Gi"
    );
    let scaled = |replicas| scaled(&resource("fleets.agones.dev"), &fleet, replicas, &NoTemplates);
    let ten = scaled(10).unwrap().amounts;
    assert_eq!(ten.get(&Dimension::RequestsCpu).to_string(), "6");
    assert!(scaled(-1).unwrap_err().to_string().contains("spec.replicas"));
    assert!(scaled(i64::MAX).is_ok());
    assert_eq!(usage_text("fleets.agones.dev", &json!({"spec": {}})), "", "no replicas are none");
}

#[test]
fn what_is_made_for_an_owner_takes_up_what_it_would_alone_and_names_it() {
    let server = pod(&json!({"containers": [asks("1", "1Gi")]}));
    assert_eq!(
        usage_text("gameservers.agones.dev", &server),
        "gameservers=1,requests.cpu=1,requests.memory=1Gi"
    );
    let usage_of = |of: &str, object: &Value| usage(&resource(of), object, &NoTemplates).unwrap();
    let mut owned = owned("GameServerSet", "agones.dev/v1", true);
    assert_eq!(usage_of("gameservers.agones.dev", &owned).owner, None, "the label is missing");
    owned["metadata"]["labels"] = json!({"agones.dev/gameserverset": "a"});
    let of_set = usage_of("gameservers.agones.dev", &owned);
    assert_eq!(of_set.amounts.get(&Dimension::GameServers), Quantity::from_integer(1));
    let sets = resource("gameserversets.agones.dev");
    assert_eq!(of_set.owner, Some(Owner { resource: sets, name: "a".into(), uid: Some("u".into()) }));
    assert_eq!(usage_of("fleets.agones.dev", &owned).owner, None, "a fleet is nobody's");
    assert_eq!(usage_text("gameserversets.agones.dev", &json!({"spec": {"replicas": 3}})), "gameservers=3");
}

#[test]
fn servers_that_are_played_on_or_reserved_are_no_fewer_for_a_scale_down() {
    let fleet = |replicas: i64, status: Value| {
        usage_text("fleets.agones.dev", &json!({"spec": {"replicas": replicas}, "status": status}))
    };
    let played = json!({"replicas": 9, "readyReplicas": 2, "allocatedReplicas": 6, "reservedReplicas": 1});
    assert_eq!(fleet(0, played.clone()), "gameservers=7");
    assert_eq!(fleet(9, played), "gameservers=9");
    for odd in [json!({"allocatedReplicas": "9"}), json!({"allocatedReplicas": -9}), json!([1])] {
        assert_eq!(fleet(2, odd), "gameservers=2", "no status takes anything off");
    }
    assert_eq!(
        fleet(2, json!({"allocatedReplicas": i64::MAX, "reservedReplicas": 9})),
        "gameservers=2147483647"
    );
    let set = json!({"spec": {"replicas": 1}, "status": {"allocatedReplicas": 4}});
    assert_eq!(usage_text("gameserversets.agones.dev", &set), "gameservers=4");
    let scaled = scaled(&resource("fleets.agones.dev"), &set, 2, &NoTemplates).unwrap();
    assert_eq!(scaled.amounts.get(&Dimension::GameServers), Quantity::from_integer(4));
}

#[test]
fn room_for_players_that_a_server_has_made_since_counts() {
    let players = |status: &Value| {
        let server = json!({"spec": {"lists": {"players": {"capacity": 10}}}, "status": status});
        usage(&resource("gameservers.agones.dev"), &server, &NoTemplates)
            .unwrap()
            .amounts
            .get(&Dimension::Players)
    };
    for (status, expected) in [
        (json!({}), 10),
        (json!({"lists": {"players": {"capacity": 64}}}), 64),
        (json!({"counters": {"players": {"capacity": 32}}, "lists": {"players": {"capacity": 4}}}), 32),
        (json!({"players": {"capacity": 16}}), 16),
        (json!({"lists": {"players": {"capacity": 1}, "rooms": {"capacity": 99}}}), 10),
        (json!({"lists": [1], "players": {"capacity": "9"}, "counters": {"players": {"capacity": -9}}}), 10),
    ] {
        assert_eq!(players(&status), Quantity::from_integer(expected), "{status}");
    }
}

#[test]
fn what_is_being_deleted_is_going_whatever_its_state_says() {
    let is_going = |kind: &str, object: Value| {
        usage(&resource(&format!("{kind}.agones.dev")), &object, &NoTemplates).unwrap().is_going
    };
    let going = json!({"deletionTimestamp": "2026-11-29T00:00:00Z"});
    for kind in ["fleets", "gameserversets", "gameservers"] {
        assert!(is_going(kind, json!({"metadata": going})));
        assert!(!is_going(kind, json!({"metadata": {"deletionTimestamp": null}})));
    }
    assert!(
        !is_going("gameservers", json!({"status": {"state": "Shutdown"}})),
        "its pod runs, and it may be written back"
    );
}

#[test]
fn players_are_what_a_server_has_room_for() {
    let players = |spec: Value| usage_text("gameservers.agones.dev", &json!({"spec": spec}));
    assert_eq!(
        players(json!({"counters": {"players": {"count": 1, "capacity": 10}}})),
        "gameservers=1,players=10"
    );
    assert_eq!(
        players(json!({"lists": {"players": {"capacity": 12, "values": ["a"]}}})),
        "gameservers=1,players=12"
    );
    assert_eq!(players(json!({"players": {"initialCapacity": 8}})), "gameservers=1,players=8");
    assert_eq!(
        players(json!({"counters": {"players": {}}})),
        "gameservers=1,players=1k",
        "the API's default"
    );
    assert_eq!(
        players(json!({"counters": {"players": {"capacity": 5}}, "lists": {"players": {"capacity": 7}}})),
        "gameservers=1,players=7",
        "the same players, told twice"
    );
    assert_eq!(players(json!({"counters": {"rooms": {"capacity": 5}}, "lists": null})), "gameservers=1");
}

#[test]
fn a_set_of_openkruisegame_takes_up_its_pod_template() {
    let set =
        json!({"spec": {"replicas": 2, "gameServerTemplate": {"spec": {"containers": [asks("1", "1Gi")]}}}});
    assert_eq!(
        usage_text("gameserversets.game.kruise.io", &set),
        "gameservers=2,requests.cpu=2,requests.memory=2Gi"
    );
}

#[test]
fn a_server_of_pteronimbus_takes_up_what_its_template_says() {
    let servers = resource("gameservers.pteronimbus.io");
    let server =
        |reference: Value| json!({"metadata": {"namespace": "games"}, "spec": {"templateRef": reference}});
    let templates =
        |resources: Value| Known(json!({"spec": {"gameType": "minecraft", "resources": resources}}));
    for resources in [
        json!({"cpu": "2", "memory": "4Gi"}),
        json!({"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "9"}}),
        json!({"limits": {"cpu": 2, "memory": "4Gi"}}),
    ] {
        for reference in [
            json!("minecraft"),
            json!({"name": "minecraft"}),
            json!({"name": "minecraft", "namespace": "games"}),
        ] {
            let usage = usage(&servers, &server(reference), &templates(resources.clone())).unwrap();
            let amounts = requested(&usage.amounts).to_string();
            assert_eq!(
                amounts,
                "count/gameservers.pteronimbus.io=1,gameservers=1,requests.cpu=2,requests.memory=4Gi"
            );
        }
    }
    let error =
        |object: &Value, resources: Value| usage(&servers, object, &templates(resources)).unwrap_err();
    assert_eq!(
        error(&server(json!("terraria")), json!({})).to_string(),
        r#"spec.templateRef: Not found: GameTemplate "games/terraria""#
    );
    assert!(error(&server(Value::Null), json!({})).to_string().starts_with("spec.templateRef: "));
    assert!(error(&server(json!({"name": 1})), json!({})).to_string().starts_with("spec.templateRef.name: "));
    assert_eq!(
        error(&server(json!("minecraft")), json!({"cpu": "lots"})).to_string(),
        r#"spec.templateRef.spec.resources.cpu: Invalid value: "lots": quantities must be a number with an optional suffix, such as 500m, 2 or 1.5Gi"#
    );
}

#[test]
fn an_autoscaler_may_go_as_far_as_its_policies_say() {
    let fleet = json!({"spec": {"replicas": 1, "template": {"spec": {
        "counters": {"players": {"capacity": 10}, "rooms": {"capacity": 4}},
        "lists": {"none": {"capacity": 0}},
        "template": {"spec": {"containers": [asks("1", "0")]}},
    }}}});
    let most = |policy: &Value, fleet: Option<&Value>| {
        let object = json!({"spec": {"fleetName": "lobby", "policy": policy}});
        let usage =
            usage(&resource("fleetautoscalers.autoscaling.agones.dev"), &object, &NoTemplates).unwrap();
        assert_eq!(
            usage.amounts,
            Usage::counted(&resource("fleetautoscalers.autoscaling.agones.dev")).amounts
        );
        let ceiling = usage.ceiling.unwrap();
        assert_eq!(ceiling.fleet, "lobby");
        ceiling.amounts(fleet).unwrap()
    };
    let all = |policy: &Value, fleet: Option<&Value>| most(policy, fleet).map(|most| most.to_string());
    let most = |policy: &Value, fleet: Option<&Value>| Some(requested(&most(policy, fleet)?).to_string());
    let buffer = |most: i64| json!({"type": "Buffer", "buffer": {"bufferSize": "20%", "maxReplicas": most}});
    let counter = json!({"type": "Counter", "counter": {"key": "rooms", "maxCapacity": 30}});
    assert_eq!(most(&buffer(8), Some(&fleet)).unwrap(), "gameservers=8,players=80,requests.cpu=8");
    assert_eq!(most(&counter, Some(&fleet)).unwrap(), "gameservers=7,players=70,requests.cpu=7");
    let schedule = |policy: Value| json!({"type": "Schedule", "schedule": {"policy": policy}});
    let chain = json!({"type": "Chain", "chain": [
        {"id": "weekend", "type": "Schedule", "schedule": {"policy": buffer(12)}},
        {"id": "else", "type": "Counter", "counter": {"key": "rooms", "maxCapacity": 8}},
        {"id": "hook", "type": "Webhook", "webhook": {"url": "https://example.org"}},
    ]});
    assert_eq!(most(&chain, Some(&fleet)).unwrap(), "gameservers=12,players=120,requests.cpu=12");
    assert_eq!(most(&schedule(buffer(3)), Some(&fleet)).unwrap(), "gameservers=3,players=30,requests.cpu=3");
    assert_eq!(most(&json!({"type": "Webhook", "buffer": {"maxReplicas": 9}}), Some(&fleet)), None);
    let list = json!({"type": "List", "list": {"key": "none", "maxCapacity": 9}});
    assert_eq!(most(&list, Some(&fleet)), None, "no capacity makes no server");
    assert_eq!(most(&buffer(8), None).unwrap(), "gameservers=8", "of a fleet that is yet to come");
    let players = json!({"type": "Counter", "counter": {"key": "players", "maxCapacity": 30}});
    assert_eq!(most(&players, None).unwrap(), "players=30");
    assert_eq!(all(&counter, None).unwrap(), "capacity/rooms=30");
    let expected = "capacity/players=70,capacity/rooms=28,gameservers=7,players=70,requests.cpu=7";
    assert_eq!(all(&counter, Some(&fleet)).unwrap(), expected);
}

#[test]
fn a_server_of_pteronimbus_is_limited_by_its_template() {
    let server = json!({"metadata": {"namespace": "games"}, "spec": {"templateRef": "minecraft"}});
    let of = |resources: Value| {
        let template = Known(json!({"spec": {"resources": resources}}));
        usage(&resource("gameservers.pteronimbus.io"), &server, &template).unwrap()
    };
    let cpu = |resources: Value| of(resources).amounts.get(&Dimension::LimitsCpu);
    let two = Quantity::from_integer(2);
    assert_eq!(cpu(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})), two);
    assert_eq!(cpu(json!({"cpu": "2"})), two);
    assert!(of(json!({"requests": {"cpu": "1"}})).unstated.contains_key(&Dimension::LimitsCpu));
}

#[test]
fn capacities_of_counters_and_lists_count_by_name() {
    let capacity = |object: &Value| {
        let amounts = amounts("gameservers.agones.dev", object);
        amounts.only(|dimension| matches!(dimension, Dimension::Capacity(_))).to_string()
    };
    let spec = json!({"counters": {"rooms": {"capacity": 5}, "a b": {"capacity": 9}, "none": null},
        "lists": {"rooms": {"capacity": 7}, "bots": {}, "players": {"capacity": 3}}});
    let expected = "capacity/bots=1k,capacity/players=3,capacity/rooms=7";
    assert_eq!(capacity(&json!({"spec": spec})), expected, "the larger, and the API's default");
    let status =
        json!({"counters": {"rooms": {"capacity": 20}, "late": {"capacity": 2}, "bots": {"capacity": "x"}}});
    let grown = json!({"spec": spec, "status": status});
    assert_eq!(capacity(&grown), "capacity/bots=1k,capacity/late=2,capacity/players=3,capacity/rooms=20");
    let usage = usage(&resource("gameservers.agones.dev"), &grown, &NoTemplates).unwrap();
    assert_eq!(usage.grown.to_string(), "capacity/late=2,capacity/rooms=13");
    let fleet = json!({"spec": {"replicas": 3, "template": {"spec": spec}}});
    let of_fleet = amounts("fleets.agones.dev", &fleet);
    assert_eq!(of_fleet.get(&"capacity/rooms".parse().unwrap()), Quantity::from_integer(21));
    let names = |most: usize| (0..most).map(|name| (format!("n{name}"), json!({}))).collect::<Value>();
    let full = |most: usize| json!({"spec": {"lists": names(most)}});
    assert_eq!(amounts("gameservers.agones.dev", &full(64)).iter().count(), 65);
    assert_eq!(
        refused("gameservers.agones.dev", &full(65)),
        r#"spec.lists: Invalid value: "{…}": must have at most 64 entries"#
    );
}

#[test]
fn a_claim_uses_the_storage_that_it_requests_or_that_is_allocated_to_it() {
    let storage = |object: Value| amounts("persistentvolumeclaims", &object).to_string();
    let spec = json!({"resources": {"requests": {"storage": "10Gi"}, "limits": {"storage": "99Gi"}}});
    assert_eq!(storage(json!({"spec": spec})), "requests.storage=10Gi");
    let status =
        |storage: &str| json!({"allocatedResources": {"storage": storage}, "capacity": {"storage": "1Ti"}});
    assert_eq!(storage(json!({"spec": spec, "status": status("20Gi")})), "requests.storage=20Gi");
    assert_eq!(storage(json!({"spec": spec, "status": status("many")})), "requests.storage=10Gi");
    assert_eq!(storage(json!({"spec": {}})), "");
    assert_eq!(
        refused("persistentvolumeclaims", &json!({"spec": {"resources": {"requests": {"storage": "-1"}}}})),
        r#"spec.resources.requests[storage]: Invalid value: "-1": must not be negative"#
    );
}

#[test]
fn a_field_that_makes_no_sense_is_named() {
    let fleet = |spec: Value| refused("fleets.agones.dev", &json!({"spec": spec}));
    for (spec, error) in [
        (json!([]), r#"spec: Invalid value: "[…]": must be an object"#),
        (json!({"replicas": "4"}), r#"spec.replicas: Invalid value: "4": must be an integer"#),
        (json!({"replicas": 1.5}), r#"spec.replicas: Invalid value: "1.5": must be an integer"#),
        (json!({"replicas": -4}), r#"spec.replicas: Invalid value: "-4": must not be negative"#),
        (json!({"replicas": 1e300}), r#"spec.replicas: Invalid value: "1e+300": must be an integer"#),
        (json!({"template": 1}), r#"spec.template: Invalid value: "1": must be an object"#),
        (
            json!({"template": {"spec": {"counters": []}}}),
            r#"spec.template.spec.counters: Invalid value: "[…]": must be an object"#,
        ),
        (
            json!({"template": {"spec": {"lists": {"players": {"capacity": -1}}}}}),
            r#"spec.template.spec.lists[players].capacity: Invalid value: "-1": must not be negative"#,
        ),
    ] {
        assert_eq!(fleet(spec), error);
    }
    let container = |resources: Value| {
        refused("gameservers.agones.dev", &pod(&json!({"containers": [{}, {"resources": resources}]})))
    };
    let at = "spec.template.spec.containers[1].resources";
    for (resources, error) in [
        (json!(1), r#": Invalid value: "1": must be an object"#),
        (json!({"requests": []}), r#".requests: Invalid value: "[…]": must be an object"#),
        (json!({"requests": {"cpu": "-1"}}), r#".requests[cpu]: Invalid value: "-1": must not be negative"#),
        (
            json!({"requests": {"cpu": true}}),
            r#".requests[cpu]: Invalid value: "true": must be a quantity, such as 500m, 2 or 1.5Gi"#,
        ),
        (json!({"limits": {"memory": "1e30"}}), r#".limits[memory]: Invalid value: "1e30": out of range"#),
        (
            json!({"requests": {"memory": "1e99"}}),
            r#".requests[memory]: Invalid value: "1e99": out of range"#,
        ),
    ] {
        assert_eq!(container(resources), format!("{at}{error}"));
    }
    assert_eq!(
        refused("gameservers.agones.dev", &pod(&json!({"containers": {"a": 1}}))),
        r#"spec.template.spec.containers: Invalid value: "{…}": must be a list"#
    );
}

#[test]
fn a_scale_says_how_many() {
    assert_eq!(scale_replicas(&json!({"spec": {"replicas": 7}})).unwrap(), 7);
    assert_eq!(scale_replicas(&json!({"spec": {}})).unwrap(), 0);
    assert!(scale_replicas(&json!({"spec": {"replicas": -7}})).is_err());
    assert!(scale_replicas(&json!({"spec": {"replicas": "7"}})).is_err());
}
