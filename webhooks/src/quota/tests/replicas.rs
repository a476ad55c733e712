//! Several requests, several replicas, and an API server that is not always there.

use futures::future::join_all;

use super::*;

const COUNT: &str = "count/configmaps";

async fn create_many(replicas: &[&Replica], count: usize) -> Vec<Verdict> {
    let creations = (0..count).map(|index| {
        let replica = replicas[index % replicas.len()];
        async move { replica.create(&format!("c{index}")).await }
    });
    join_all(creations).await
}

fn admitted(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| is_admitted(verdict)).count()
}

#[tokio::test(start_paused = true)]
async fn many_requests_ride_on_few_writes() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1000"}), "Deny");
    let replica = Replica::start(&api, false);
    let leader = Replica::start(&api, true).ready().await;
    let replica = replica.ready().await;
    let before = writes(&api);
    assert_eq!(admitted(&create_many(&[&replica], 200).await), 200);
    assert!(writes(&api) - before <= 10, "{} writes", writes(&api) - before);
    until("settled", || blocks(&api, "a") == 0).await;
    assert_eq!(ledger(&api, "a")["used"], json!({COUNT: "200"}));
    for replica in [replica, leader] {
        replica.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_promise_together_what_there_is_and_no_more() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "25"}), "Deny");
    let one = Replica::start(&api, true);
    let two = Replica::start(&api, false);
    let three = Replica::start(&api, false);
    let (one, two, three) = (one.ready().await, two.ready().await, three.ready().await);
    let verdicts = create_many(&[&one, &two, &three], 60).await;
    assert_eq!(admitted(&verdicts), 25);
    assert!(verdicts.iter().all(|verdict| is_admitted(verdict) || is_exceeded(verdict)), "{verdicts:?}");
    until("settled", || blocks(&api, "a") == 0).await;
    assert_eq!(ledger(&api, "a")["used"], json!({COUNT: "25"}));
    for replica in [one, two, three] {
        replica.stop().await;
    }
}

/// What a replica knows of the ledger is old, and there was room then.
#[tokio::test(start_paused = true)]
async fn a_conflict_has_everything_evaluated_anew() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
    let one = Replica::start(&api, true);
    let two = Replica::start(&api, false);
    let (one, two) = (one.ready().await, two.ready().await);
    // Both know the ledger.
    assert!(is_admitted(&one.create("first").await) && is_admitted(&two.create("second").await));
    api.hold_watches(true);
    assert!(is_admitted(&one.create("third").await));
    // The other replica does not hear that it is asked for what it does not need, but by a conflict of its own.
    let verdicts = join_all([two.create("fourth"), two.create("fifth")]).await;
    assert!(verdicts.iter().all(|verdict| !is_admitted(verdict)), "{verdicts:?}");
    api.hold_watches(false);
    let verdicts = join_all([two.create("fourth"), two.create("fifth")]).await;
    assert!(verdicts.iter().all(is_exceeded), "{verdicts:?}");
    for replica in [one, two] {
        replica.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_ledger_requests_are_to_be_tried_again() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
    let replica = Replica::start(&api, false);
    replica.seen("seen", |world| world.readiness().is_ok() && !world.quotas.is_empty()).await;
    let asked = Instant::now();
    let verdict = replica.create("one").await;
    assert_eq!(
        verdict,
        Err(Refusal::Contended("quota \"a\" could not be charged in time: try again".into()))
    );
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_secs(5), "{waited:?}");
    assert!(api.get(POLICY, "quotaledgers", "", "a").is_none(), "only the leader makes it");
    // It does so while somebody waits.
    let (verdict, ()) = tokio::join!(replica.create("two"), async {
        sleep(Duration::from_secs(1)).await;
        replica.leading.send_replace(true);
    });
    assert!(is_admitted(&verdict), "{verdict:?}");
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_fails_is_contention_and_never_admission_nor_refusal() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("one").await));
    until("settled", || blocks(&api, "a") == 0).await;
    api.fail(true);
    let verdicts = join_all([replica.create("two"), replica.create("three")]).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Err(Refusal::Contended(_)))), "{verdicts:?}");
    let asked = api.asked().len();
    assert!(asked < 2000, "{asked} requests");
    api.fail(false);
    until("back", || !api.asked().is_empty()).await;
    assert!(is_exceeded(&replica.create("four").await));
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_does_not_settle() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "9"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    replica.leading.send_replace(false);
    assert!(is_admitted(&replica.create("one").await));
    sleep(Duration::from_mins(3)).await;
    assert_eq!((blocks(&api, "a"), &ledger(&api, "a")["used"]), (1, &json!({COUNT: "0"})));
    replica.leading.send_replace(true);
    until("settled", || blocks(&api, "a") == 0).await;
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_nothing_changes() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "9"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("one").await));
    until("settled", || blocks(&api, "a") == 0).await;
    let status = || api.get(POLICY, "tenantquotas", "", "a").unwrap()["status"].clone();
    until("reported", || status()["used"] == json!({COUNT: "1"})).await;
    let written = || api.asked().iter().filter(|asked| !asked.starts_with("GET ")).count();
    sleep(Duration::from_secs(10)).await;
    let before = written();
    sleep(Duration::from_mins(2)).await;
    assert_eq!(written(), before);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_made_anew_has_a_ledger_of_its_own() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("one").await));
    until("settled", || blocks(&api, "a") == 0).await;
    // The ledger of before is still there when the new quota is.
    api.delete(POLICY, "tenantquotas", "", "a");
    put_quota(&api, "a", &json!({COUNT: "2"}), "Deny");
    let uid = api.get(POLICY, "tenantquotas", "", "a").unwrap()["metadata"]["uid"].clone();
    until("rebuilt", || ledger(&api, "a")["quotaUid"] == uid).await;
    assert_eq!(ledger(&api, "a")["used"], json!({COUNT: "1"}));
    replica.seen("seen", |world| world.quotas.iter().any(|quota| quota.uid == uid.as_str().unwrap())).await;
    assert!(is_admitted(&replica.create("two").await));
    assert!(is_exceeded(&replica.create("three").await));
    replica.stop().await;
}

/// The API server knows what it had promised, or has forgotten it.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_somebody_deletes_is_put_back_or_made_anew_when_nothing_of_it_can_come_any_more() {
    for is_forgotten in [false, true] {
        let api = server_api();
        put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
        let replica = Replica::start(&api, true).ready().await;
        assert!(is_admitted(&replica.create("one").await));
        until("settled", || blocks(&api, "a") == 0).await;
        let status = || api.get(POLICY, "tenantquotas", "", "a").unwrap()["status"].clone();
        until("reported", || status()["used"] == json!({COUNT: "1"})).await;
        // Admitted, and not made yet.
        assert!(is_admitted(&replica.create_of(&configmaps(), &configmap("late"), false).await));
        let deleted = Instant::now();
        api.delete(POLICY, "quotaledgers", "", "a");
        if is_forgotten {
            api.compact();
            assert!(matches!(replica.create("two").await, Err(Refusal::Contended(_))));
            until("reported", || status()["conditions"][0]["reason"] == "NoLedger").await;
            until("rebuilt", || ledger(&api, "a")["used"] == json!({COUNT: "1"})).await;
            assert!(deleted.elapsed() > Duration::from_secs(70), "{:?}", deleted.elapsed());
            assert!(is_admitted(&replica.create("three").await));
        } else {
            assert_eq!(admitted(&create_many(&[&replica], 3).await), 1);
            assert!(deleted.elapsed() < Duration::from_secs(5), "{:?}", deleted.elapsed());
            api.put(configmap("late"));
            until("counted", || ledger(&api, "a")["used"] == json!({COUNT: "3"})).await;
        }
        replica.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_does_not_compile_says_so() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "many"}), "Deny");
    let replica = Replica::start(&api, true);
    let condition = || api.get(POLICY, "tenantquotas", "", "a").unwrap()["status"]["conditions"][0].clone();
    until("reported", || condition()["reason"] == "Invalid").await;
    assert!(condition()["message"].as_str().unwrap().starts_with("spec.hard[count/configmaps]: "));
    replica.stop().await;
}

/// What a block covers waits for no write: neither for that of a count nor for one that fills the block up.
#[tokio::test(start_paused = true)]
async fn what_a_block_covers_is_admitted_while_the_ledger_is_written() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1000"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("first").await));
    // What is counted after a second is written for as long as a write may take.
    api.hang(POLICY, "quotaledgers");
    sleep(Duration::from_millis(1500)).await;
    let asked = Instant::now();
    for index in 0..8 {
        assert!(is_admitted(&replica.create(&format!("c{index}")).await), "{index}");
    }
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    replica.stop().await;
}

/// Of a tenant that has room, replicas write little; what they hold and do not need, they give back when another asks.
#[tokio::test(start_paused = true)]
async fn the_last_room_is_found_wherever_it_is_held() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "400"}), "Deny");
    let one = Replica::start(&api, true);
    let two = Replica::start(&api, false);
    let (one, two) = (one.ready().await, two.ready().await);
    // Both hold blocks by now, larger than what they have admitted.
    let verdicts = create_many(&[&one, &two], 150).await;
    assert_eq!(admitted(&verdicts), 150);
    let mut admitted_by_one = 0;
    for index in 0..300 {
        let verdict = one.create(&format!("d{index}")).await;
        assert!(is_admitted(&verdict) || is_exceeded(&verdict), "{index}: {verdict:?}");
        admitted_by_one += usize::from(is_admitted(&verdict));
        if admitted_by_one < index + 1 {
            break;
        }
    }
    assert_eq!(admitted_by_one, 250);
    until("settled", || blocks(&api, "a") == 0).await;
    assert_eq!(ledger(&api, "a")["used"], json!({COUNT: "400"}));
    for replica in [one, two] {
        replica.stop().await;
    }
}

/// What it had admitted may still come, for as long as requests last; then it is counted.
#[tokio::test(start_paused = true)]
async fn a_replica_that_dies_leaves_its_block_charged_until_nothing_of_it_can_come() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
    let one = Replica::start(&api, true);
    let two = Replica::start(&api, false);
    let (one, two) = (one.ready().await, two.ready().await);
    // Admitted, and not made yet.
    for name in ["late", "lost"] {
        assert!(is_admitted(&two.create_of(&configmaps(), &configmap(name), false).await));
    }
    for task in &two.tasks {
        task.abort();
    }
    let died = Instant::now();
    assert!(is_admitted(&one.create("own").await));
    let verdict = one.create("more").await;
    assert!(
        matches!(verdict, Err(Refusal::Contended(_))),
        "others stand in the way, and cannot be asked: {verdict:?}"
    );
    sleep(Duration::from_mins(1)).await;
    api.put(configmap("late"));
    until("given back", || blocks(&api, "a") == 0).await;
    assert!(died.elapsed() > Duration::from_secs(85), "{:?}", died.elapsed());
    assert!(died.elapsed() < Duration::from_secs(110), "{:?}", died.elapsed());
    assert_eq!(ledger(&api, "a")["used"], json!({COUNT: "2"}));
    assert!(is_admitted(&one.create("more").await));
    assert!(is_exceeded(&one.create("too many").await));
    one.stop().await;
}

/// Whatever somebody makes of a ledger, nothing is admitted by it, and it is put back as it was; where the API server has
/// forgotten that, it is counted anew.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_somebody_has_written_is_put_back_or_counted_anew() {
    for bad in [
        json!({"entries": {"x": "{"}}),
        json!({"entries": {}}),
        json!({"used": {COUNT: "0"}}),
        json!({"used": {COUNT: "-5"}}),
        json!({"used": {COUNT: "many"}}),
        json!({"revisions": {"configmaps": "99999999999"}}),
        json!({"quotaUid": "another"}),
        json!({"quotaUid": "another", "entries": {}}),
        json!({"used": {}, "revisions": {}, "entries": {}}),
    ] {
        for is_forgotten in [false, true] {
            has_written(&bad, is_forgotten).await;
        }
    }
}

async fn has_written(bad: &Value, is_forgotten: bool) {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
    let one = Replica::start(&api, true);
    let two = Replica::start(&api, false);
    let (one, two) = (one.ready().await, two.ready().await);
    assert!(is_admitted(&one.create("seen").await));
    until("seen", || ledger(&api, "a")["used"] == json!({COUNT: "1"})).await;
    for (replica, name) in [(&one, "one"), (&two, "two")] {
        assert!(is_admitted(&replica.create_of(&configmaps(), &configmap(name), false).await), "{bad}");
    }
    let mut object = api.get(POLICY, "quotaledgers", "", "a").unwrap();
    for (field, value) in bad.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    let began = Instant::now();
    api.put(object);
    if is_forgotten {
        api.compact();
    }
    for replica in [&one, &two] {
        let verdict = replica.create("four").await;
        assert_eq!(is_exceeded(&verdict), !is_forgotten, "{bad}: {verdict:?}");
        assert!(!is_admitted(&verdict), "{bad}: {verdict:?}");
    }
    // Written late, upon what was admitted before.
    api.put(configmap("one"));
    api.put(configmap("two"));
    until("mended", || ledger(&api, "a")["used"] == json!({COUNT: "3"})).await;
    let took = began.elapsed();
    assert!(if is_forgotten { took.as_secs() > 85 } else { took.as_secs() < 10 }, "{bad}: {took:?}");
    assert!(is_exceeded(&two.create("four").await), "{bad}");
    api.delete("", "configmaps", "games", "one");
    assert!(is_admitted(&two.create("five").await), "{bad}");
    for replica in [one, two] {
        replica.stop().await;
    }
}

/// A replica that has not seen what another holds admits nothing upon a ledger that somebody has emptied since.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_somebody_has_emptied_deceives_nobody() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
    let one = Replica::start(&api, true);
    let two = Replica::start(&api, false);
    let (one, two) = (one.ready().await, two.ready().await);
    // The other knows the ledger, and looks at it no more until it is asked again.
    assert!(is_admitted(&two.create("first").await));
    until("given back", || blocks(&api, "a") == 0).await;
    sleep(Duration::from_mins(1)).await;
    for name in ["late", "lost"] {
        assert!(is_admitted(&one.create_of(&configmaps(), &configmap(name), false).await));
    }
    let mut object = api.get(POLICY, "quotaledgers", "", "a").unwrap();
    object["spec"]["entries"] = json!({});
    api.put(object);
    let emptied = |world: &Snapshot| world.ledgers.get("a").is_some_and(|seen| seen.spec.entries.is_empty());
    two.seen("emptied", emptied).await;
    // Its question for room meets the ledger being put back, and is asked again.
    let verdict = two.create("second").await;
    assert!(is_exceeded(&verdict), "{verdict:?}");
    for replica in [one, two] {
        replica.stop().await;
    }
}

/// Nor does a replica that has seen nothing of what a dead one held, if the seal was broken before the ledger was emptied.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_emptied_after_its_seal_was_broken_is_put_back() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
    let one = Replica::start(&api, true);
    let two = Replica::start(&api, false);
    let (one, two) = (one.ready().await, two.ready().await);
    assert!(is_admitted(&two.create("first").await));
    until("given back", || blocks(&api, "a") == 0).await;
    sleep(Duration::from_mins(1)).await;
    for name in ["late", "lost"] {
        assert!(is_admitted(&one.create_of(&configmaps(), &configmap(name), false).await));
    }
    for task in &one.tasks {
        task.abort();
    }
    let died = Instant::now();
    for edit in [json!({"used": {COUNT: "0"}}), json!({"entries": {}})] {
        let mut object = api.get(POLICY, "quotaledgers", "", "a").unwrap();
        for (field, value) in edit.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        api.put(object);
    }
    let verdict = two.create("second").await;
    assert!(matches!(verdict, Err(Refusal::Contended(_))), "{verdict:?}");
    two.leading.send_replace(true);
    until("put back", || blocks(&api, "a") == 1).await;
    assert!(!is_admitted(&two.create("second").await));
    api.put(configmap("late"));
    until("counted", || ledger(&api, "a")["used"] == json!({COUNT: "2"}) && blocks(&api, "a") == 0).await;
    assert!(died.elapsed() > Duration::from_secs(85), "{:?}", died.elapsed());
    assert!(is_admitted(&two.create("second").await));
    two.stop().await;
}

/// What a version without blocks has written is held on to, until nothing of it can come.
#[tokio::test(start_paused = true)]
async fn a_ledger_of_entries_is_taken_over() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "3"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    let mut object = api.get(POLICY, "quotaledgers", "", "a").unwrap();
    let entry = |name: &str| json!({"resource": "configmaps", "namespace": "games", "name": name, "ticket": 1, "peak": {COUNT: "1"}});
    object["spec"]["entries"] = json!({"uid-a": entry("a").to_string(), "uid-b": entry("b").to_string()});
    object["spec"]["tickets"] = json!(2);
    api.put(object);
    let verdict = replica.create("one").await;
    assert!(is_admitted(&verdict), "{verdict:?}");
    assert!(matches!(replica.create("two").await, Err(Refusal::Contended(_))));
    api.put(configmap("a"));
    until("taken over", || blocks(&api, "a") == 0).await;
    assert_eq!(ledger(&api, "a")["used"], json!({COUNT: "2"}));
    assert!(is_admitted(&replica.create("two").await));
    replica.stop().await;
}

/// A full ledger grows no further: requests that need more room are retried, and admitted when there is a place again.
#[tokio::test(start_paused = true)]
async fn a_full_ledger_grows_no_further() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1000"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    let mut object = api.get(POLICY, "quotaledgers", "", "a").unwrap();
    let entry = |name: &str| json!({"resource": "configmaps", "namespace": "games", "name": name, "ticket": 1, "peak": {COUNT: "1"}});
    let mut entries = serde_json::Map::new();
    while json!(entries).to_string().len() < gatehouse_quota::MAX_BYTES - 300 {
        let name = format!("e{}", entries.len());
        entries.insert(format!("uid-{name}"), json!(entry(&name).to_string()));
    }
    object["spec"]["tickets"] = json!(entries.len());
    object["spec"]["entries"] = json!(entries);
    api.put(object);
    let verdict = replica.create("one").await;
    assert!(matches!(verdict, Err(Refusal::Contended(_))), "{verdict:?}");
    let bytes = ledger(&api, "a").to_string().len();
    assert!(bytes <= gatehouse_quota::MAX_BYTES + 512, "{bytes}");
    until("a place again", || blocks(&api, "a") == 0).await;
    assert!(is_admitted(&replica.create("one").await));
    replica.stop().await;
}

/// Whatever is asked, a ledger is small, and written a few times a second.
#[tokio::test(start_paused = true)]
async fn creations_that_come_to_nothing_are_bounded_by_user_and_write_little() {
    let api = server_api();
    put_quota(&api, "a", &json!({COUNT: "1000000"}), "Deny");
    let replica = Replica::start(&api, true).ready().await;
    assert!(is_admitted(&replica.create("there").await));
    until("settled", || blocks(&api, "a") == 0).await;
    let (began, before) = (Instant::now(), writes(&api));
    let mut taken = 0;
    let mut contended = 0;
    for index in 0..2_500 {
        let verdict = replica.create_of(&configmaps(), &configmap(&format!("x{index}")), false).await;
        contended += usize::from(matches!(verdict, Err(Refusal::Contended(_))));
        let again = replica.create_of(&configmaps(), &configmap("there"), false).await;
        taken += usize::from(matches!(again, Err(Refusal::Exists(_))));
        sleep(Duration::from_millis(4)).await;
    }
    assert_eq!((taken, contended), (2_500, 2_500 - gatehouse_quota::MAX_OF_USER));
    let written = writes(&api) - before;
    let most = 5 * usize::try_from(began.elapsed().as_secs()).unwrap() + 5;
    assert!(written <= most, "{written} writes in {:?}", began.elapsed());
    assert!(ledger(&api, "a").to_string().len() < 2048, "{}", ledger(&api, "a"));
    replica.stop().await;
}
