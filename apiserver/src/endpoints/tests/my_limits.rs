//! Tests of `mynamespaces` with more namespaces and users than are kept: what is not known is not shown.

use super::{
    my_namespaces::{MINE, Replica, Truth, change, pass, take},
    *,
};
use crate::callers::Limits;

const ROWS: [&str; 4] = ["a", "b", "c", "d"];

fn replica(users: &[&str], limits: Limits) -> (Truth, Replica) {
    let truth = Truth::default();
    for (user, row) in users.iter().flat_map(|user| ROWS.iter().map(move |row| (user, row))) {
        truth.set(row, user, true);
    }
    let replica = Replica::limited(1, &ROWS, &truth, Instant::now(), limits);
    (truth, replica)
}

#[tokio::test(start_paused = true)]
async fn who_has_rights_in_too_many_namespaces_sees_the_first() {
    // One question is about all namespaces.
    let limits = Limits { of_caller: 4, ..Limits::default() };
    let (truth, replica) = replica(&["jane"], limits);
    assert_eq!(replica.names("jane").await, ["a", "b", "c"]);
    assert_eq!(replica.names("jane").await, ["a", "b", "c"]);
    assert_eq!(replica.metrics.callers_left_out().get(), 1, "it is reported once");
    let mut watch = replica.watch("jane", &[]).await;
    assert_eq!(take(&mut watch, 3).await, ["ADDED a", "ADDED b", "ADDED c"]);
    change(&truth, &replica, "b", "jane", false);
    assert_eq!(take(&mut watch, 1).await, ["DELETED b"]);
    pass(&[&replica], Duration::from_secs(20)).await;
    assert_eq!(replica.names("jane").await.len(), 3, "there is room for d");
    assert_eq!(take(&mut watch, 1).await, ["ADDED d"]);
    change(&truth, &replica, "", "jane", true);
    assert_eq!(take(&mut watch, 1).await, ["ADDED b"], "one answer is enough for all");
}

#[tokio::test(start_paused = true)]
async fn users_without_a_watch_make_room_for_others() {
    // Five answers and four namespaces of each.
    let limits = Limits { of_all: 2 * 9, ..Limits::default() };
    let (_, replica) = replica(&["jane", "joe", "zoe"], limits);
    for user in ["jane", "joe", "zoe", "jane", "joe", "zoe"] {
        assert_eq!(replica.names(user).await, ROWS, "{user}");
        pass(&[&replica], Duration::from_millis(10)).await;
    }
    assert_eq!(replica.metrics.callers_left_out().get(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_is_refused_until_there_is_some() {
    let limits = Limits { of_all: 2 * 9, ..Limits::default() };
    let (truth, replica) = replica(&["jane", "joe", "zoe"], limits);
    let mut watches = Vec::new();
    for user in ["jane", "joe"] {
        let mut watch = replica.watch(user, &[]).await;
        take(&mut watch, 4).await;
        watches.push(watch);
    }
    for path in [MINE.to_owned(), format!("{MINE}?watch=true")] {
        assert_eq!(replica.code("zoe", &path).await, 503, "{path}");
    }
    assert_eq!(replica.metrics.callers_left_out().get(), 1);
    assert_eq!(replica.code("zoe", &format!("{MINE}/a")).await, 200, "a name is asked about by itself");
    assert_eq!(replica.code("zoe", &format!("{MINE}/none")).await, 404);
    assert_eq!(replica.names("jane").await, ROWS, "others are not concerned");
    drop(watches.pop());
    pass(&[&replica], Duration::from_millis(10)).await;
    assert_eq!(replica.names("zoe").await, ROWS);
    // A right that comes when there is no room ends the watch.
    let mut watch = watches.pop().expect("that of jane");
    let mut other = replica.watch("zoe", &[]).await;
    take(&mut other, 4).await;
    replica.put("e", "Ready");
    change(&truth, &replica, "e", "jane", true);
    assert_eq!(take(&mut watch, 1).await, ["ERROR"]);
    assert_eq!(replica.code("jane", MINE).await, 503);
    drop(other);
    change(&truth, &replica, "e", "jane", false);
    pass(&[&replica], Duration::from_millis(10)).await;
    assert_eq!(replica.names("jane").await, ROWS);
}
