//! The answers to single requests.

use super::*;

const COUNT: &str = "count/configmaps";

#[tokio::test(start_paused = true)]
async fn a_request_is_charged_before_it_is_admitted_and_settled_when_it_is_seen() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "2"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    let owner = &api.get(POLICY, "quotaledgers", "", "a").unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("TenantQuota"), &json!("a")));

    let verdict = replica.create_of(&configmaps(), &configmap("one"), false).await;
    assert_eq!(verdict, Ok(Admission { warnings: Vec::new(), quotas: vec!["a".into()], decision: None }));
    let spec = ledger(&api, "a");
    let text = spec["entries"].as_object().unwrap().iter().find(|(name, _)| **name != "seal").unwrap().1;
    let block: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!((&block["peak"], &block["reserved"]), (&json!({COUNT: "1"}), &json!({COUNT: "1"})));
    until("reported", || reserved(&api, "a") == json!({COUNT: "1"})).await;

    api.put(configmap("one"));
    until("settled", || blocks(&api, "a") == 0).await;
    assert_eq!(ledger(&api, "a")["used"], json!({COUNT: "1"}));
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_is_refused_in_the_words_of_resourcequota_and_counted() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("one").await));
    let asked = Instant::now();
    let message = r#"configmaps "two" is forbidden: exceeded quota: a, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"#;
    assert_eq!(
        replica.create("two").await,
        Err(Refusal::Exceeded { message: message.into(), quota: "a".into() })
    );
    assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    let status = || api.get(POLICY, "tenantquotas", "", "a").unwrap()["status"].clone();
    until("counted", || status()["denied"] == 1).await;
    assert!(status()["lastDenial"]["message"].as_str().unwrap().starts_with("exceeded quota: a"));
    let here = status()["byNamespace"]["games"].clone();
    assert_eq!(here["lastDenials"], json!([status()["lastDenial"]]), "{here}");
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn room_that_was_made_a_moment_ago_is_found() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("one").await));
    until("settled", || blocks(&api, "a") == 0).await;
    api.delete("", "configmaps", "games", "one");
    let asked = Instant::now();
    assert!(is_admitted(&replica.create("two").await));
    assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_only_tried_is_told_the_truth_and_writes_nothing() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    let before = writes(&api);
    assert!(is_admitted(&replica.create_of(&configmaps(), &configmap("one"), true).await));
    assert_eq!((blocks(&api, "a"), writes(&api)), (0, before));
    assert!(is_admitted(&replica.create("one").await));
    until("settled", || blocks(&api, "a") == 0).await;
    let before = writes(&api);
    assert!(is_exceeded(&replica.create_of(&configmaps(), &configmap("two"), true).await));
    assert_eq!(writes(&api), before);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        api.get(POLICY, "tenantquotas", "", "a").unwrap()["status"]["denied"].as_i64().unwrap_or(0),
        0
    );
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_admitted_and_never_came_gives_its_room_back() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create_of(&configmaps(), &configmap("lost"), false).await));
    sleep(Duration::from_secs(70)).await;
    assert!(is_exceeded(&replica.create("one").await), "it may still come");
    sleep(Duration::from_secs(10)).await;
    assert!(is_admitted(&replica.create("one").await));
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_quota_that_refuses_takes_back_what_an_earlier_one_has_charged() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "5"}), "Deny");
    put_quota(&api, "b", &json!({COUNT: "0"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    let Err(Refusal::Exceeded { quota, .. }) = replica.create("one").await else { panic!("refused") };
    assert_eq!(quota, "b");
    until("taken back", || reserved(&api, "a").is_null() && blocks(&api, "a") == 0).await;
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_warns_admits_charges_and_says_so() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "0"}), "Warn");
    let replica = Replica::start(&api, true).ready().await;
    let Ok(Admission { warnings, decision, .. }) = replica.create("one").await else { panic!("admitted") };
    assert_eq!(decision, Some("warned"));
    assert!(warnings[0].contains("exceeded quota: a, requested: count/configmaps=1"), "{warnings:?}");
    until("seen", || ledger(&api, "a")["used"] == json!({COUNT: "1"})).await;
    let status = || api.get(POLICY, "tenantquotas", "", "a").unwrap()["status"].clone();
    until("reported", || status()["overcommit"] == json!({COUNT: "1"})).await;
    let over = status()["conditions"][1].clone();
    assert_eq!((&over["type"], &over["status"]), (&json!("Overcommitted"), &json!("True")));
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_is_scaled_as_far_as_there_is_room() {
    let api = server_api();
    put_quota(&api, "a", &json!({"gameservers": "10", "requests.cpu": "4"}), "Deny");
    let stored = api.put(fleet("lobby", 2));
    let replica = Replica::start(&api, true).ready().await;
    let fleets = GroupResource::new("agones.dev", "fleets");
    let scale = |of: &Value, replicas: u64| {
        json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": replicas},
        "metadata": {"name": "lobby", "namespace": "games", "uid": "uid-lobby",
                     "resourceVersion": of["metadata"]["resourceVersion"]}})
    };
    let old = scale(&stored, 2);
    assert!(is_admitted(&replica.update(&fleets, &old, &scale(&stored, 8), "scale").await));
    let Err(Refusal::Exceeded { message, .. }) =
        replica.update(&fleets, &old, &scale(&stored, 9), "scale").await
    else {
        panic!("refused")
    };
    assert_eq!(
        message,
        r#"fleets.agones.dev "lobby" is forbidden: exceeded quota: a, requested: requests.cpu=3500m, used: requests.cpu=1, limited: requests.cpu=4"#
    );
    assert!(is_admitted(&replica.update(&fleets, &old, &scale(&stored, 0), "scale").await));
    // What is scaled is newer than what was seen of it: it is looked up.
    api.hold_watches(true);
    let mut newer = fleet("lobby", 2);
    newer["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] =
        "1m".into();
    let newer = api.put(newer);
    let old = scale(&newer, 2);
    let Err(Refusal::Exceeded { message, .. }) =
        replica.update(&fleets, &old, &scale(&newer, 11), "scale").await
    else {
        panic!("refused")
    };
    assert!(
        message.contains("requested: gameservers=9, used: gameservers=2, limited: gameservers=10"),
        "{message}"
    );
    api.hold_watches(false);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_makes_no_sense_is_refused_by_field() {
    let api = server_api();
    put_quota(&api, "a", &json!({"gameservers": "10"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    let mut odd = fleet("lobby", 2);
    odd["spec"]["replicas"] = "many".into();
    let fleets = GroupResource::new("agones.dev", "fleets");
    assert_eq!(
        replica.create_of(&fleets, &odd, false).await,
        Err(Refusal::Invalid(r#"spec.replicas: Invalid value: "many": must be an integer"#.into()))
    );
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_is_held_to_the_limit_and_not_charged() {
    let api = server_api();
    put_quota(&api, "a", &json!({"gameservers": "10"}), "Deny");
    api.put(fleet("lobby", 3));
    api.put(fleet("arena", 4));
    let replica = Replica::start(&api, true).ready().await;
    let scalers = GroupResource::new("autoscaling.agones.dev", "fleetautoscalers");
    let scaler = |most: u64| {
        json!({
        "metadata": {"name": "s", "namespace": "games", "uid": "uid-s", "resourceVersion": "9"},
        "spec": {"fleetName": "lobby", "policy": {"type": "Buffer", "buffer": {"maxReplicas": most}}}})
    };
    let before = writes(&api);
    assert!(is_admitted(&replica.create_of(&scalers, &scaler(6), false).await));
    let Err(Refusal::Exceeded { message, .. }) = replica.create_of(&scalers, &scaler(7), false).await else {
        panic!("refused")
    };
    assert!(
        message.contains("requested: gameservers=4, used: gameservers=7, limited: gameservers=10"),
        "{message}"
    );
    // As far as before, whatever is used.
    assert!(is_admitted(&replica.update(&scalers, &scaler(70), &scaler(69), "").await));
    assert_eq!(writes(&api), before);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_grow_asks_nobody() {
    let api = server_api();
    put_quota(&api, "a", &json!({"gameservers": "1"}), "Deny");
    let stored = api.put(fleet("lobby", 5));
    let replica = Replica::start(&api, true).ready().await;
    api.fail(true);
    let mut smaller = stored.clone();
    smaller["spec"]["replicas"] = 4.into();
    let fleets = GroupResource::new("agones.dev", "fleets");
    assert!(is_admitted(&replica.update(&fleets, &stored, &smaller, "").await));
    assert!(is_admitted(&replica.update(&fleets, &stored, &stored, "").await));
    api.fail(false);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_template_that_was_made_a_moment_ago_is_looked_up() {
    let api = server_api();
    for (plural, kind) in [("gametemplates", "GameTemplate"), ("gameservers", "GameServer")] {
        api.serve("pteronimbus.io", "v1", plural, kind);
    }
    put_quota(&api, "a", &json!({"requests.cpu": "4"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    api.hold_watches(true);
    api.put(json!({"apiVersion": "pteronimbus.io/v1", "kind": "GameTemplate",
                   "metadata": {"name": "large", "namespace": "games"}, "spec": {"resources": {"cpu": "5"}}}));
    let servers = GroupResource::new("pteronimbus.io", "gameservers");
    let server = |template: &str| json!({"metadata": {"name": "s", "namespace": "games", "uid": "uid-s"}, "spec": {"templateRef": template}});
    let Err(Refusal::Exceeded { message, .. }) = replica.create_of(&servers, &server("large"), false).await
    else {
        panic!("refused")
    };
    assert!(message.contains("requested: requests.cpu=5, "), "{message}");
    assert_eq!(
        replica.create_of(&servers, &server("none"), false).await,
        Err(Refusal::Invalid(r#"spec.templateRef: Not found: GameTemplate "games/none""#.into()))
    );
    api.hold_watches(false);
    replica.stop().await;
}

/// kube-apiserver would say so after it was charged.
#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_charges_nothing() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "2"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("one").await));
    until("seen", || ledger(&api, "a")["used"] == json!({COUNT: "1"})).await;
    for _ in 0..3 {
        let verdict = replica.create("one").await;
        assert_eq!(verdict, Err(Refusal::Exists("configmaps \"one\" already exists".into())));
    }
    // The world does not know yet that it has gone.
    api.hold_watches(true);
    api.delete("", "configmaps", "games", "one");
    assert!(is_admitted(&replica.create_of(&configmaps(), &configmap("one"), false).await));
    api.hold_watches(false);
    replica.stop().await;
}
