//! The pipeline without sockets.

use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;
use tokio::sync::watch;

use super::testing::*;
use super::*;
use crate::authn::testing::{Authorities, PROXY_NAME, peer, peer_without_certificate};

struct Server {
    pipeline: Arc<Pipeline<Fake>>,
    shutdown: Arc<Shutdown>,
    jane: Peer,
    proxy: Peer,
}

impl Server {
    fn new() -> Self {
        Self::with_credential(Credential::Certificate)
    }

    fn with_credential(credential: Credential) -> Self {
        Self::with_limits(credential, LIMITS)
    }

    fn with_limits(credential: Credential, limits: Limits) -> Self {
        let authorities = Authorities::new();
        let shutdown = Shutdown::new(TIMING);
        let config = watch::channel(authorities.config()).1;
        Self {
            pipeline: limited(config, &shutdown, credential, Observers::default(), limits),
            shutdown,
            jane: peer(&authorities.client, "jane", None),
            proxy: peer(&authorities.proxy, PROXY_NAME, None),
        }
    }

    async fn ask(&self, peer: &Peer, uri: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let request =
            headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        self.pipeline.handle(request.body(Empty::<Bytes>::new()).expect("request"), peer).await
    }

    async fn get(&self, uri: &str) -> Response<Body> {
        self.ask(&self.jane, uri, &[]).await
    }

    async fn call(&self, peer: &Peer, headers: &[(&str, &str)]) -> Response<Body> {
        let request = headers
            .iter()
            .fold(Request::post(CALLED), |request, (name, value)| request.header(*name, *value));
        let body = Full::new(Bytes::from_static(b"what was sent"));
        self.pipeline.handle(request.body(body).expect("request"), peer).await
    }

    async fn metrics(&self) -> String {
        text(self.get("/metrics").await).await
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("infallible").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

async fn status(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).expect("a Status")
}

#[tokio::test]
async fn the_handler_sees_the_user_and_no_credentials() {
    let server = Server::new();
    let headers =
        [("x-remote-user", "joe"), ("x-remote-group", "a"), ("authorization", "Bearer x"), ("accept", "*")];
    let response = server.ask(&server.proxy, THINGS, &headers).await;
    assert_eq!(text(response).await, "joe accept");
    assert_eq!(text(server.get(THINGS).await).await, "jane ");
}

#[tokio::test]
async fn strangers_get_a_status_and_health() {
    let server = Server::new();
    let nobody = peer_without_certificate();
    let refused = server.ask(&nobody, THINGS, &[("x-remote-user", "system:admin")]).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(status(refused).await["reason"], "Unauthorized");
    let forbidden = server.ask(&nobody, THINGS, &[]).await;
    assert_eq!(forbidden.status(), 403);
    assert_eq!(status(forbidden).await["details"]["kind"], "things");
    assert_eq!(server.ask(&nobody, "/metrics", &[]).await.status(), 403);
    assert_eq!(text(server.ask(&nobody, "/readyz", &[]).await).await, "ok");
}

#[tokio::test]
async fn every_answer_carries_an_audit_id() {
    let server = Server::new();
    for uri in [THINGS, PANIC, "/healthz", "/apis/g/v1/watch", "/apis/g/v1/%ff"] {
        let response = server.ask(&server.jane, uri, &[("audit-id", "abc")]).await;
        assert_eq!(response.headers()["audit-id"], "abc", "{uri}");
    }
    assert_eq!(server.get("/healthz").await.headers()["audit-id"].len(), 36);
}

#[tokio::test]
async fn unreadable_paths_are_bad_requests() {
    let server = Server::new();
    for uri in ["/apis/g/v1/watch", "/apis/g/v1/%ff"] {
        assert_eq!(server.get(uri).await.status(), 400, "{uri}");
    }
}

#[tokio::test]
async fn a_panic_is_one_request_s_end() {
    let server = Server::new();
    let response = server.get(PANIC).await;
    assert_eq!(response.status(), 500);
    assert_eq!(status(response).await["reason"], "InternalError");
    assert_eq!(server.get(THINGS).await.status(), 200);
    let metrics = server.metrics().await;
    assert!(metrics.contains("gatehouse_request_panics_total 1"), "{metrics}");
    assert!(
        metrics.contains(r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    let server = Server::new();
    let start = tokio::time::Instant::now();
    let response = server.get(SILENT).await;
    assert_eq!((response.status().as_u16(), start.elapsed()), (504, LIMITS.request_timeout));
    assert_eq!(status(response).await["reason"], "Timeout");
    assert!(server.metrics().await.contains("apiserver_request_terminations_total{code=\"504\""));
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_requests_are_turned_away_and_watches_and_health_are_not() {
    let server = Server::new();
    let full = async {
        tokio::task::yield_now().await;
        let refused = server.get(THINGS).await;
        assert_eq!(
            (refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()),
            (429, &b"1"[..])
        );
        assert_eq!(status(refused).await["reason"], "TooManyRequests");
        assert_eq!(server.get(WATCH).await.status(), 200);
        assert_eq!(server.get("/readyz").await.status(), 200);
    };
    let (first, second, ()) = tokio::join!(server.get(SILENT), server.get(SILENT), full);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (504, 504));
    assert_eq!(server.get(THINGS).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_are_in_flight_until_they_are_given_up() {
    let server = Server::new();
    let mut unread = [server.get(LONG).await, server.get(LONG).await];
    for answer in &mut unread {
        answer.body_mut().frame().await.expect("a piece").expect("whole");
    }
    assert_eq!(server.get(THINGS).await.status(), 429, "both places are taken");
    tokio::time::sleep(LIMITS.request_timeout + Duration::from_secs(1)).await;
    assert_eq!(server.get(THINGS).await.status(), 200);
    unread[0].body_mut().frame().await.expect("no end").expect_err("what is left of it is gone");
}

/// Sends requests, and reads only the first chunk of each response, until the server refuses one. Returns the
/// responses.
async fn hoard(server: &Server, peer: &Peer, headers: &[(&str, &str)]) -> Vec<Response<Body>> {
    let mut hoarded = Vec::new();
    loop {
        let mut answer = server.ask(peer, LONG, headers).await;
        if answer.status() == 429 {
            return hoarded;
        }
        answer.body_mut().frame().await.expect("a piece").expect("whole");
        hoarded.push(answer);
    }
}

#[tokio::test(start_paused = true)]
async fn one_user_s_unread_answers_leave_slots_for_others_and_are_given_up_soon() {
    let limits = Limits { max_requests_in_flight: 40, ..LIMITS };
    let server = Server::with_limits(Credential::Certificate, limits);
    let as_user = |name: &'static str| [("x-remote-user", name), ("x-remote-group", "g")];
    let mut greedy = hoard(&server, &server.proxy, &as_user("greedy")).await;
    assert_eq!(greedy.len(), 30, "three quarters");
    // Another user on the same connection still has a share.
    assert_eq!(server.ask(&server.proxy, THINGS, &as_user("joe")).await.status(), 200);
    assert_eq!(server.get(THINGS).await.status(), 200);
    assert!(!hoard(&server, &server.proxy, &as_user("second")).await.is_empty());
    let since = tokio::time::Instant::now();
    while server.pipeline.slots.is_nearly_exhausted() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(since.elapsed() < 2 * SHORT_STALL_TIMEOUT, "{:?}", since.elapsed());
    greedy[0].body_mut().frame().await.expect("no end").expect_err("what is left of it is gone");
}

#[tokio::test(start_paused = true)]
async fn service_accounts_of_a_namespace_and_anonymous_users_share_as_one() {
    let limits = Limits { max_requests_in_flight: 40, ..LIMITS };
    let server = Server::with_limits(Credential::Certificate, limits);
    let account = |name| [("x-remote-user", name), ("x-remote-group", "g")];
    let held = hoard(&server, &server.proxy, &account("system:serviceaccount:team-a:one")).await;
    let more = hoard(&server, &server.proxy, &account("system:serviceaccount:team-a:two")).await;
    assert_eq!((held.len(), more.len()), (30, 0));
    let other = server.ask(&server.proxy, THINGS, &account("system:serviceaccount:team-b:one")).await;
    assert_eq!(other.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn callers_whom_nobody_names_share_by_address() {
    let limits = Limits { max_requests_in_flight: 40, ..LIMITS };
    let server = Server::with_limits(Credential::None, limits);
    let from = |address: [u8; 4]| Peer::new((address, 1).into(), Vec::new());
    let (stranger, apiserver) = (from([10, 0, 0, 1]), from([10, 0, 0, 2]));
    let unread = hoard_calls(&server, &stranger).await;
    assert_eq!(unread.len(), 30);
    assert_eq!(server.call(&apiserver, &[]).await.status(), 200);
    assert_eq!((stranger.trust(), apiserver.trust()), (Trust::WebhookCaller, Trust::WebhookCaller));
    // A client with a certificate has its own share, even if none is required and other clients have the same address.
    let more = hoard_calls(&server, &peer_without_certificate()).await;
    assert!(!more.is_empty() && server.jane.address() == peer_without_certificate().address());
    assert_eq!(server.call(&server.jane, &[]).await.status(), 200);
    assert_eq!(server.jane.trust(), Trust::Authenticated);
}

/// Calls a webhook path, and keeps each response unread, until the server refuses a call. Returns the responses.
async fn hoard_calls(server: &Server, peer: &Peer) -> Vec<Response<Body>> {
    let mut hoarded = Vec::new();
    loop {
        let answer = server.call(peer, &[]).await;
        if answer.status() == 429 {
            return hoarded;
        }
        hoarded.push(answer);
    }
}

#[tokio::test]
async fn trust_is_earned_by_what_is_shown() {
    let server = Server::new();
    let nobody = peer_without_certificate();
    server.ask(&nobody, "/readyz", &[]).await;
    server.ask(&nobody, THINGS, &[("authorization", "Bearer x")]).await;
    server.call(&nobody, &[]).await;
    assert_eq!(nobody.trust(), Trust::Unknown);
    assert!(!server.pipeline.is_verified(&nobody));
    for known in [&server.jane, &server.proxy] {
        assert!(server.pipeline.is_verified(known));
    }
    server.get(THINGS).await;
    assert_eq!(server.jane.trust(), Trust::Authenticated);
    let stranger = peer(&Authorities::new().client, "jane", None);
    assert!(!server.pipeline.is_verified(&stranger));
}

#[tokio::test]
async fn callers_without_the_certificate_are_refused_where_one_is_asked_for() {
    let server = Server::new();
    assert_eq!(text(server.call(&server.jane, &[]).await).await, "what was sent");
    let stranger = peer(&Authorities::new().client, "jane", None);
    let proxied = [("x-remote-user", "system:admin"), ("x-remote-group", "system:masters")];
    for (peer, headers) in [
        (&stranger, &[][..]),
        (&peer_without_certificate(), &[]),
        (&peer_without_certificate(), &[("authorization", "Bearer x")]),
        (&server.proxy, &proxied),
    ] {
        assert_eq!(server.call(peer, headers).await.status(), 401, "{headers:?}");
    }
}

#[tokio::test]
async fn callers_are_let_in_whatever_they_show_where_nothing_is_asked_for() {
    let server = Server::with_credential(Credential::None);
    let stranger = peer(&Authorities::new().client, "jane", None);
    for headers in [&[][..], &[("authorization", "Bearer x")], &[("x-remote-user", "system:admin")]] {
        for peer in [&stranger, &peer_without_certificate(), &server.jane] {
            assert_eq!(server.call(peer, headers).await.status(), 200, "{headers:?}");
        }
    }
    let other = server.ask(&peer_without_certificate(), "/called/", &[]).await;
    assert_eq!(other.status(), 403, "another path is not theirs");
}

#[tokio::test(start_paused = true)]
async fn connections_are_given_up_as_soon_as_the_end_begins() {
    let server = Server::new();
    let connection = |response: &Response<Body>| response.headers().get("connection").cloned();
    assert_eq!(connection(&server.get(THINGS).await), None);
    let end = async {
        tokio::task::yield_now().await;
        let answer = server.get(THINGS).await;
        assert_eq!(
            (answer.status().as_u16(), connection(&answer)),
            (200, Some("close".parse().expect("value")))
        );
    };
    tokio::join!(server.shutdown.run(), end);
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_is_not_ready_and_answers_what_still_reaches_it() {
    let server = Server::new();
    server.shutdown.run().await;
    assert_eq!(server.call(&server.jane, &[]).await.status(), 200);
    let answer = server.get(THINGS).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close");
    assert_eq!(server.get("/livez").await.status(), 200);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status(), 500);
    assert!(text(ready).await.contains("[-]shutdown failed"));
}

#[tokio::test]
async fn a_watch_is_open_until_its_body_ends() {
    let server = Server::new();
    let open = r#"resource="things",scope="cluster",subresource="",verb="WATCH",version="v1"} "#;
    let gauge = |metrics: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with("apiserver_longrunning_requests") && line.contains(open));
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    let response = server.get(WATCH).await;
    assert_eq!(gauge(&server.metrics().await).as_deref(), Some("1"));
    drop(response);
    let metrics = server.metrics().await;
    assert_eq!(gauge(&metrics).as_deref(), Some("0"));
    assert!(!metrics.contains(
        "apiserver_request_duration_seconds_count{component=\"apiserver\",dry_run=\"\",group=\"g\""
    ));
}

#[tokio::test]
async fn response_sizes_are_those_of_the_body() {
    let server = Server::new();
    let length = text(server.get(THINGS).await).await.len();
    let metrics = server.metrics().await;
    let sum = metrics
        .lines()
        .find(|line| line.starts_with("apiserver_response_sizes_sum") && line.contains("things"))
        .expect("observed");
    assert!(sum.ends_with(&format!(" {length}")), "{sum}");
}

#[tokio::test]
async fn flux_s_objects_have_a_path_only_where_they_are_told() {
    // The pipeline answers only `/metrics` itself; the handler answers paths below it.
    let server = Server::new();
    assert_eq!(text(server.get("/metrics/flux").await).await, "jane ");
    assert_eq!(server.ask(&peer_without_certificate(), "/metrics/flux", &[]).await.status(), 403);
}

#[tokio::test]
async fn health_and_metrics_are_only_read() {
    let server = Server::new();
    for uri in ["/healthz", "/metrics"] {
        let request = Request::post(uri).body(Empty::<Bytes>::new()).expect("request");
        assert_eq!(server.pipeline.handle(request, &server.jane).await.status(), 405, "{uri}");
    }
}
