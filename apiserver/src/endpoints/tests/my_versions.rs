//! Tests of `mynamespaces`: clients that resume, here or at another replica, and later pages of a list.

use super::{my_namespaces::*, *};
use crate::clock::{is_vouched, twin};

#[tokio::test(start_paused = true)]
async fn a_client_goes_on_where_it_was_and_gets_what_changed_meanwhile() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    let listed = version_of(&replica.list("jane", &[]).await);
    change(&truth, &replica, "b", "jane", true);
    assert_eq!(replica.names("jane").await, ["a", "b"]);
    replica.put("b", "Failed");
    change(&truth, &replica, "a", "jane", false);
    let all = ["ADDED b", "MODIFIED b", "DELETED a"];
    let mut watch = replica.watch_from("jane", listed).await;
    let mut versions = Vec::new();
    for expected in all {
        let event = watch.next().await.expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().expect("a name");
        assert_eq!(format!("{} {name}", event["type"].as_str().expect("a type")), expected);
        versions.push(version_of(&event["object"]));
    }
    for (n, version) in versions.iter().enumerate() {
        let mut watch = replica.watch_from("jane", *version).await;
        assert_eq!(take(&mut watch, 2 - n).await, all[n + 1..], "from {version}");
        assert!(watch.is_quiet().await);
    }
    let then = [("resourceVersion", &*versions[0].to_string()), ("resourceVersionMatch", "Exact")];
    assert_eq!(names(&replica.list("jane", &then).await), ["b"]);
    let now = replica.list("jane", &[("resourceVersion", &versions[2].to_string())]).await;
    assert_eq!(names(&now), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn later_pages_are_of_the_same_moment_without_what_is_no_longer_seen() {
    let truth = Truth::default();
    truth.set("", "jane", true);
    let replica = Replica::new(1, &ROWS, &truth);
    let first = replica.list("jane", &[("limit", "1")]).await;
    replica.put("e", "Ready");
    let token = first["metadata"]["continue"].as_str().expect("more");
    let rest = [("continue", token)];
    assert_eq!(names(&replica.list("jane", &rest).await), ["b", "c", "d"]);
    change(&truth, &replica, "d", "jane", true);
    change(&truth, &replica, "", "jane", false);
    assert_eq!(names(&replica.list("jane", &rest).await), ["d"]);
}

#[tokio::test(start_paused = true)]
async fn what_happened_after_a_right_was_lost_is_not_shown_to_who_comes_back() {
    let truth = Truth::default();
    for namespace in ["a", "b", "c"] {
        truth.set(namespace, "jane", true);
    }
    let replica = Replica::new(1, &ROWS, &truth);
    let selected = [("fieldSelector", "status.tenant=Ready")];
    let version = version_of(&replica.list("jane", &selected).await);
    for namespace in ["a", "b"] {
        change(&truth, &replica, namespace, "jane", false);
    }
    for name in ["a", "c"] {
        replica.put(name, "Failed");
    }
    let from = version.to_string();
    let mut watch = replica.watch("jane", &[("resourceVersion", &from)]).await;
    let told: Vec<_> =
        [watch.next().await, watch.next().await, watch.next().await].into_iter().flatten().collect();
    let reported: Vec<_> = told
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(reported, [("MODIFIED", "c"), ("DELETED", "a"), ("DELETED", "b")]);
    assert!(told[1..].iter().all(|event| event["object"]["status"].is_null()), "{told:?}");
    let selected = [selected[0], ("resourceVersion", &*from)];
    let mut watch = replica.watch("jane", &selected).await;
    assert_eq!(take(&mut watch, 4).await, ["DELETED a", "DELETED c", "DELETED a", "DELETED b"]);
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_step_can_be_cut_anywhere() {
    let truth = Truth::default();
    let replica = Replica::new(1, &ROWS, &truth);
    let mut watch = replica.watch("jane", &[]).await;
    change(&truth, &replica, "", "jane", true);
    let first = watch.next().await.expect("an event");
    let version = version_of(&first["object"]);
    assert_eq!(twin(version), version, "there is more of it");
    assert_eq!(take(&mut watch, 3).await, ["ADDED b", "ADDED c", "ADDED d"]);
    let mut again = replica.watch_from("jane", version).await;
    assert_eq!(take(&mut again, 4).await, ["ADDED a", "ADDED b", "ADDED c", "ADDED d"]);
}

#[tokio::test(start_paused = true)]
async fn another_replica_continues_a_client_whose_rights_have_not_changed() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    truth.set("", "root", true);
    let [one, other] = [1, 2].map(|number| Replica::new(number, &ROWS, &truth));
    pass(&[&one, &other], Duration::from_mins(5)).await;
    let version = version_of(&one.list("jane", &[]).await);
    assert!(is_vouched(version));
    other.put("a", "Failed");
    other.put("b", "Failed");
    let mut watch = other.watch_from("jane", version).await;
    assert_eq!(take(&mut watch, 1).await, ["MODIFIED a"]);
    pass(&[&one, &other], Duration::from_secs(35)).await;
    for replica in [&one, &other] {
        change(&truth, replica, "b", "jane", true);
    }
    assert_eq!(take(&mut watch, 1).await, ["ADDED b"], "what is granted here is told here");

    let version = version_of(&one.list("jane", &[]).await);
    let mut watch = other.watch_from("jane", version).await;
    assert_eq!(take(&mut watch, 1).await, ["ERROR"], "it is not known what she was shown");
    let version = version_of(&one.list("root", &[]).await);
    let mut watch = other.watch_from("root", version).await;
    assert!(watch.is_quiet().await || !take(&mut watch, 1).await.contains(&"ERROR".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn rights_that_do_not_follow_from_bindings_are_listed_again_on_another_replica() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let [one, other] = [1, 2].map(|number| Replica::new(number, &ROWS, &truth));
    truth.set("a", "jane", false);
    pass(&[&one, &other], Duration::from_mins(5)).await;
    let version = version_of(&one.list("jane", &[]).await);
    let mut watch = other.watch_from("jane", version).await;
    assert_eq!(take(&mut watch, 1).await, ["ERROR"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_rights_while_a_client_catches_up_ends_its_watch() {
    let truth = Truth::default();
    truth.set("a", "jane", true);
    let [one, other] = [1, 2].map(|number| Replica::new(number, &ROWS, &truth));
    pass(&[&one, &other], Duration::from_mins(5)).await;
    let version = version_of(&one.list("jane", &[]).await);
    let mut watch = other.watch_from("jane", version).await;
    change(&truth, &other, "b", "jane", true);
    assert_eq!(take(&mut watch, 1).await, ["ERROR"]);
}
