//! The audit events of requests to a pipeline without sockets.

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::{
    Body,
    authn::{
        Peer,
        testing::{Authorities, PROXY_NAME, peer, peer_without_certificate},
    },
    pipeline::{Credential, Observers, Pipeline, testing::*},
    shutdown::Shutdown,
};

const EVERYTHING: &str = "rules: [{level: RequestResponse}]";

struct Server {
    pipeline: Arc<Pipeline<Fake>>,
    auditor: Arc<Auditor>,
    jane: Peer,
    proxy: Peer,
    folder: tempfile::TempDir,
}

impl Server {
    fn new(rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}");
        let policy = Policy::parse("policy.yaml", &policy).expect("valid");
        let file = std::fs::File::create(folder.path().join("audit.log")).expect("created");
        let auditor = Arc::new(Auditor::start(policy, Box::new(file), &Registry::new()).expect("starts"));
        let authorities = Authorities::new();
        let config = watch::channel(authorities.config()).1;
        #[allow(clippy::needless_update, reason = "traces are a field too, where they are built")]
        let observers = Observers { auditor: Some(Arc::clone(&auditor)), ..Observers::default() };
        let pipeline = observed(config, &Shutdown::new(TIMING), Credential::None, observers);
        Self {
            pipeline,
            auditor,
            jane: peer(&authorities.client, "jane", None),
            proxy: peer(&authorities.proxy, PROXY_NAME, None),
            folder,
        }
    }

    async fn send(&self, peer: &Peer, request: (Method, &str), headers: &[(&str, &str)]) -> Response<Body> {
        let (method, uri) = request;
        let request = Request::builder().method(method).uri(uri).header("audit-id", "one");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let body = Full::new(Bytes::from_static(b"what was sent"));
        self.pipeline.handle(request.body(body).expect("request"), peer).await
    }

    async fn get(&self, peer: &Peer, uri: &str) -> Response<Body> {
        self.send(peer, (Method::GET, uri), &[]).await
    }

    async fn text(&self) -> String {
        self.auditor.flush().await;
        std::fs::read_to_string(self.folder.path().join("audit.log")).expect("read")
    }

    /// The stage and code of each event so far.
    async fn stages(&self) -> Vec<String> {
        let stage = |event: &Value| {
            let stage = event["stage"].as_str().expect("a stage");
            format!("{stage} {}", event["responseStatus"]["code"])
        };
        self.events().await.iter().map(stage).collect()
    }

    async fn events(&self) -> Vec<Value> {
        self.text().await.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[tokio::test]
async fn a_read_is_logged_as_upstream_would_log_it() {
    let server = Server::new(EVERYTHING);
    let uri = "/apis/g/v1/namespaces/n/things/a/status?pretty=1";
    let headers = [
        ("x-remote-user", "joe"),
        ("x-remote-group", "devs"),
        ("x-remote-extra-scopes", "view"),
        ("x-forwarded-for", "192.0.2.7"),
        ("user-agent", "kubectl/v1"),
    ];
    drop(server.send(&server.proxy, (Method::GET, uri), &headers).await);
    let mut events = server.events().await;
    for event in &mut events {
        let received = event["requestReceivedTimestamp"].take();
        for time in [&received, &event["stageTimestamp"].take()] {
            let time = time.as_str().expect("a time");
            assert!(time.len() == "2026-11-21T15:04:05.000000Z".len() && time.ends_with('Z'), "{time}");
        }
        for field in ["requestReceivedTimestamp", "stageTimestamp"] {
            event.as_object_mut().expect("an object").remove(field);
        }
    }
    let common = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "one",
        "stage": "RequestReceived", "requestURI": uri, "verb": "get",
        "user": { "username": "joe", "groups": ["devs", "system:authenticated"], "extra": { "scopes": ["view"] } },
        "sourceIPs": ["192.0.2.7", server.proxy.address().ip()], "userAgent": "kubectl/v1",
        "objectRef": { "resource": "things", "namespace": "n", "name": "a", "apiGroup": "g", "apiVersion": "v1",
            "subresource": "status" },
    });
    let mut complete = common.clone();
    complete["stage"] = "ResponseComplete".into();
    complete["responseStatus"] = json!({ "metadata": {}, "code": 200 });
    complete["annotations"] = json!({ "authorization.k8s.io/decision": "allow" });
    assert_eq!(events, [common, complete]);
}

#[tokio::test]
async fn a_refusal_says_why() {
    let server = Server::new(EVERYTHING);
    drop(server.get(&peer_without_certificate(), THINGS).await);
    let event = server.events().await.pop().expect("an event");
    assert_eq!(
        (&event["stage"], &event["user"]["username"]),
        (&json!("ResponseComplete"), &json!("system:anonymous"))
    );
    let status = &event["responseStatus"];
    assert_eq!(
        (&status["status"], &status["reason"], &status["code"]),
        (&json!("Failure"), &json!("Forbidden"), &json!(403))
    );
    let why = status["message"].as_str().expect("a message");
    assert!(why.contains("cannot list resource \"things\""), "{why}");
    assert_eq!(event["annotations"][DECISION], "forbid");
    assert_eq!(event["annotations"][REASON], why);
}

#[tokio::test]
async fn who_is_not_believed_leaves_one_event_without_a_user() {
    let server = Server::new(EVERYTHING);
    let stranger = peer(&Authorities::new().client, "jane", None);
    drop(server.get(&stranger, THINGS).await);
    let events = server.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["stage"], &events[0]["user"]), (&json!("ResponseStarted"), &json!({})));
    let expected =
        json!({ "metadata": {}, "status": "Failure", "message": "Authentication failed", "code": 401 });
    assert_eq!(events[0]["responseStatus"], expected);
}

#[tokio::test]
async fn a_watch_is_complete_when_its_body_ends() {
    let server = Server::new(EVERYTHING);
    let response = server.get(&server.jane, WATCH).await;
    assert_eq!(server.stages().await, ["RequestReceived null", "ResponseStarted 200"]);
    drop(response);
    assert_eq!(server.stages().await[2..], ["ResponseComplete 200"]);
}

#[tokio::test]
async fn a_panic_is_the_last_of_its_request() {
    let server = Server::new(EVERYTHING);
    drop(server.get(&server.jane, PANIC).await);
    assert_eq!(server.stages().await, ["RequestReceived null", "Panic 500"]);
}

#[tokio::test]
async fn a_client_that_goes_away_completes_its_request() {
    let server = Server::new(EVERYTHING);
    assert!(server.get(&server.jane, SILENT).now_or_never().is_none(), "it is not answered");
    assert_eq!(server.stages().await, ["RequestReceived null", "ResponseComplete null"]);
    let event = server.events().await.pop().expect("an event");
    assert_eq!(event["responseStatus"]["message"], "Connection closed early");
}

#[tokio::test]
async fn what_is_turned_away_is_logged_with_its_user() {
    let server = Server::new(EVERYTHING);
    // These responses are not read, so they stay in flight and use up the limit.
    let held = [server.get(&server.jane, LONG).await, server.get(&server.jane, LONG).await];
    drop(server.get(&server.jane, THINGS).await);
    assert_eq!(
        server.stages().await,
        ["RequestReceived null", "RequestReceived null", "RequestReceived null", "ResponseComplete 429"]
    );
    let event = server.events().await.pop().expect("an event");
    assert_eq!(event["user"]["username"], "jane", "places are shared by user, so the user is known by then");
    drop(held);
}

#[tokio::test]
async fn bodies_and_credentials_are_never_logged() {
    let server = Server::new(EVERYTHING);
    let headers = [("authorization", "Bearer s3cret"), ("content-type", "application/json")];
    let answer = server.send(&server.jane, (Method::POST, CALLED), &headers).await;
    assert_eq!(answer.into_body().collect().await.expect("infallible").to_bytes(), "what was sent");
    let text = server.text().await;
    assert_eq!(server.stages().await, ["RequestReceived null", "ResponseComplete 200"]);
    assert!(!text.contains("s3cret") && !text.contains("what was sent"), "{text}");
    assert!(text.contains(r#""level":"Metadata""#) && text.contains(r#""verb":"post""#), "{text}");
}

#[tokio::test]
async fn the_policy_chooses_requests_and_stages() {
    let server = Server::new(
        "omitStages: [RequestReceived]\nrules:\n- {level: None, users: [jane], verbs: [list]}\n- {level: Metadata, verbs: [list, watch]}\n",
    );
    drop(server.get(&server.jane, THINGS).await);
    drop(server.get(&server.jane, "/healthz").await);
    drop(server.get(&server.jane, WATCH).await);
    assert_eq!(server.stages().await, ["ResponseStarted 200", "ResponseComplete 200"]);
}
