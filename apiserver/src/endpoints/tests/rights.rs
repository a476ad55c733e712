//! Tests that a watch ends when its user loses the right to it.

use super::*;
use gatehouse_fake_api::Reviews;
use gatehouse_serving::authz::DelegatedAuthorizer;
use gatehouse_serving::metrics::RequestMetrics;

fn server(places: &[&str]) -> (Server, Arc<Reviews>) {
    let (cluster, client) = Reviews::new();
    let metrics = Arc::new(RequestMetrics::new(&[]));
    let authorizer = DelegatedAuthorizer::new(client, DelegatedAuthorizer::DEADLINE, metrics);
    (Server { authorizer: Arc::new(authorizer.into()), ..Server::with(places) }, cluster)
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_410_within_ten_seconds_of_the_right_being_taken_away() {
    for busy in [false, true] {
        let (server, cluster) = server(&["a/x"]);
        let mut watch = server.watch(&[]).await;
        assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
        assert!(timeout(Duration::from_mins(2), watch.next()).await.is_err(), "as long as it is there");
        cluster.allow(false);
        let taken = Instant::now();
        let last = loop {
            if busy {
                server.put("a/x", if server.version() % 32 < 16 { "Failed" } else { "Ready" });
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let event = watch.next().await.expect("a word of farewell");
            if event["type"] != "MODIFIED" {
                break event;
            }
        };
        assert_eq!((&last["type"], &last["object"]["code"]), (&"ERROR".into(), &410.into()));
        assert_eq!(
            (&last["object"]["kind"], &last["object"]["reason"]),
            (&"Status".into(), &"Expired".into())
        );
        assert!(taken.elapsed() <= Duration::from_secs(10), "{:?}", taken.elapsed());
        assert!(watch.next().await.is_none(), "nothing follows");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_did_not_read_is_told_nothing_it_has_lost_the_right_to() {
    let (server, cluster) = server(&["a/x"]);
    let mut watch = server.watch(&[]).await;
    assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    cluster.allow(false);
    tokio::time::sleep(Duration::from_secs(20)).await;
    server.put("a/x", "Failed");
    assert_eq!(watch.rest().await.0, ["ERROR 410"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_while_the_cluster_cannot_be_asked_for_a_minute() {
    let (server, cluster) = server(&["a/x"]);
    let mut watch = server.watch(&[]).await;
    assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    cluster.reach(false);
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(999)).await;
        server.put("a/x", "Failed");
        server.put("a/x", "Ready");
        assert_eq!(watch.take(2).await, ["MODIFIED a/x Failed", "MODIFIED a/x Ready"]);
    }
    let (events, lasted) = watch.rest().await;
    assert_eq!(events, ["ERROR 410"]);
    assert!((1..=12).contains(&lasted.as_secs()), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_given_back_needs_no_more_than_another_watch() {
    let (server, cluster) = server(&["a/x"]);
    let mut watch = server.watch(&[]).await;
    assert_eq!(watch.take(1).await, ["ADDED a/x Ready"]);
    cluster.allow(false);
    assert_eq!(watch.rest().await.0, ["ERROR 410"]);
    cluster.allow(true);
    let mut again = server.watch(&[]).await;
    // The authorizer caches the denial for ten seconds. In a server, the pipeline would refuse the request
    // until then.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(again.take(1).await, ["ADDED a/x Ready"]);
}
