//! The whole server on loopback with TLS and raw HTTPS, against a fake cluster.

use bytes::Bytes;
use gatehouse_certs::issue::{Authority, KeyPair, Leaf, Usage};
use gatehouse_certs::load;
use gatehouse_serving::authn::{AuthenticationConfig, Authenticator, CaBundle};
use gatehouse_serving::authz::Authorizer;
use gatehouse_serving::metrics::RequestMetrics;
use gatehouse_serving::pipeline::{Limits, Observers};
use gatehouse_serving::serve::MAX_CONNECTIONS;
use gatehouse_serving::shutdown::ShutdownTiming;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::review::MAX_BODY;
use gatehouse_fake_api::FakeApi;

const TIMING: ShutdownTiming =
    ShutdownTiming { delay: Duration::from_secs(3), grace: Duration::from_secs(5) };
const GROUP: &str = "policy.gatehouse.dev";
const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

struct Site {
    address: SocketAddr,
    authority: Authority,
    client_ca: Authority,
    api: FakeApi,
    running: Option<Running>,
}

type Connection = http1::SendRequest<Full<Bytes>>;

impl Site {
    async fn start(credential: Credential) -> Self {
        let (authority, client_ca) = (authority("server-ca"), authority("client-ca"));
        let api = FakeApi::new();
        api.serve("coordination.k8s.io", "v1", "leases", "Lease");
        let serving = issue(&authority, "localhost", Usage::ServerAuth);
        let ca = CaBundle::from_pem("test", client_ca.certificate_pem().as_bytes()).expect("PEM");
        let config = AuthenticationConfig { client_ca: Some(ca), request_header: None };
        let (_, configs) = watch::channel(Arc::new(config));
        let parts = Parts {
            client: api.client(),
            review: api.client(),
            watching: WatchSettings::default(),
            credential,
            server: ServerBuilder {
                address: ([127, 0, 0, 1], 0).into(),
                keys: watch::channel(load::issued(&serving).expect("key")).1,
                authenticator: Authenticator::new(configs, None, true),
                authorizer: Arc::new(Authorizer::CertificateHolders),
                metrics: Arc::new(RequestMetrics::new(&[])),
                limits: Limits::default(),
                max_connections: MAX_CONNECTIONS,
                observers: Observers::default(),
                shutdown: TIMING,
            },
            own_user: OwnUser::unknown("flux-system", "agones-system"),
            identity: "me".to_owned(),
            lease_namespace: "gatehouse-system".to_owned(),
            lease_name: "gatehouse-webhooks".to_owned(),
            certificates: None,
            request_timeout: Duration::from_mins(1),
        };
        let running = Running::start(parts).await.expect("started");
        Self { address: running.address(), authority, client_ca, api, running: Some(running) }
    }

    async fn connect(&self, certificate: Option<&KeyPair>) -> Connection {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).expect("PEM");
        roots.add(root).expect("root");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let tls = match certificate {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate_pem.as_bytes());
                let chain = chain.map(|der| der.expect("PEM")).collect();
                let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("key")
            }
        };
        let socket = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("name");
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, socket).await.expect("handshake");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender
    }

    /// Starts the shutdown; the returned task ends with it.
    fn end(&mut self) -> JoinHandle<Result<(), EndError>> {
        let running = self.running.take().expect("runs");
        tokio::spawn(running.until(async {}))
    }

    fn lease_holder(&self) -> Option<String> {
        let lease =
            self.api.get("coordination.k8s.io", "leases", "gatehouse-system", "gatehouse-webhooks")?;
        Some(lease["spec"]["holderIdentity"].as_str()?.to_owned())
    }
}

fn authority(name: &str) -> Authority {
    Authority::new(name).expect("authority")
}

fn issue(authority: &Authority, name: &str, usage: Usage) -> KeyPair {
    let leaf = Leaf {
        common_name: name.to_owned(),
        organization: None,
        dns_names: vec!["localhost".to_owned()],
        ips: vec![[127, 0, 0, 1].into()],
        usage,
        lifetime: Duration::from_hours(1),
    };
    authority.issue(&leaf).expect("leaf")
}

fn quota(hard: &Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "TenantQuota", "metadata": {"name": "a"},
        "spec": {"namespaceSelector": {"matchLabels": {"tenant": "a"}}, "hard": hard},
    })
}

/// The review of the creation of a quota.
fn review(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": GROUP, "version": "v1alpha1", "kind": "TenantQuota"},
            "resource": {"group": GROUP, "version": "v1alpha1", "resource": "tenantquotas"},
            "name": "a",
            "operation": "CREATE",
            "userInfo": {"username": "jane"},
            "object": object,
        },
    })
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
    request.body(Full::new(body.into())).expect("request")
}

async fn send(connection: &mut Connection, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
    let response = connection.send_request(request).await.expect("answered");
    let code = response.status();
    (code, json(response).await)
}

async fn json(response: Response<Incoming>) -> Value {
    let bytes = response.into_body().collect().await.expect("whole").to_bytes();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}

#[tokio::test]
async fn a_quota_is_judged_over_https_and_the_uid_comes_back() {
    let site = Site::start(Credential::None).await;
    let mut connection = site.connect(None).await;
    let good = review(&quota(&json!({"gameservers": "10"}))).to_string();
    let (code, answer) = send(&mut connection, post("/validate?timeout=5s", good)).await;
    let expected = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": UID, "allowed": true},
    });
    assert_eq!((code, answer), (StatusCode::OK, expected));

    let bad = review(&quota(&json!({"gameservers": "-1", "players": "many"}))).to_string();
    let (code, answer) = send(&mut connection, post("/validate?timeout=5s", bad)).await;
    let response = &answer["response"];
    assert_eq!((code, &response["uid"], &response["allowed"]), (StatusCode::OK, &json!(UID), &json!(false)));
    let status = &response["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")));
    let fields: Vec<_> =
        status["details"]["causes"].as_array().expect("causes").iter().map(|c| &c["field"]).collect();
    assert_eq!(fields, ["spec.hard[gameservers]", "spec.hard[players]"]);
    assert!(
        status["message"]
            .as_str()
            .expect("text")
            .starts_with("TenantQuota.policy.gatehouse.dev \"a\" is invalid: [")
    );
    assert_eq!(response.get("patch"), None);
}

#[tokio::test]
async fn what_is_no_review_gets_a_status_and_is_never_admitted() {
    let site = Site::start(Credential::None).await;
    let mut connection = site.connect(None).await;
    let good = review(&quota(&json!({"gameservers": "10"}))).to_string();
    let with = |pointer: &str, value: Value| {
        let mut review = review(&quota(&json!({"gameservers": "10"})));
        *review.pointer_mut(pointer).expect("there") = value;
        review.to_string()
    };
    let typed = |content_type: Option<&str>, encoding: Option<&str>| {
        let mut request = post("/validate", good.clone());
        request.headers_mut().remove("content-type");
        for (name, value) in [("content-type", content_type), ("content-encoding", encoding)] {
            if let Some(value) = value {
                request.headers_mut().insert(name, value.parse().expect("value"));
            }
        }
        request
    };
    let mut get = post("/validate", "");
    *get.method_mut() = http::Method::GET;
    let huge = with("/request/object", json!({"metadata": {"annotations": {"a": "x".repeat(MAX_BODY)}}}));
    for (request, code, problem) in [
        (post("/validate", ""), 400, "the body is empty"),
        (post("/quota", "}{"), 400, "not an AdmissionReview"),
        (post("/mutate", "null"), 400, "not an AdmissionReview"),
        (post("/validate", with("/kind", json!("Pod"))), 400, "found kind \"Pod\""),
        (post("/validate", with("/apiVersion", json!("admission.k8s.io/v2"))), 400, "admission.k8s.io/v2"),
        (post("/validate", with("/request", Value::Null)), 400, "has no request"),
        (post("/validate", with("/request/uid", json!(""))), 400, "request.uid"),
        (post("/validate?timeout=soon", good.clone()), 400, "timeout: Invalid value"),
        (typed(None, None), 415, "only application/json"),
        (typed(Some("application/yaml"), None), 415, "application/yaml"),
        (typed(Some("application/json"), Some("gzip")), 415, "gzip"),
        (post("/validate", huge), 413, "larger than 7340032 bytes"),
        (get, 405, "it takes POST"),
        (post("/validate/", good.clone()), 403, "cannot post path"),
        (post("/admit", good.clone()), 403, "cannot post path"),
    ] {
        if connection.is_closed() {
            connection = site.connect(None).await;
        }
        let uri = request.uri().clone();
        let (found, status) = send(&mut connection, request).await;
        assert_eq!(found.as_u16(), code, "{uri}: {status}");
        assert_eq!(status["kind"], "Status", "{uri}: {status}");
        assert!(status["message"].as_str().expect("text").contains(problem), "{uri}: {status}");
        // A response before the request was read closes the connection.
        connection = site.connect(None).await;
    }
    let allowed_elsewhere = issue(&site.client_ca, "jane", Usage::ClientAuth);
    let mut connection = site.connect(Some(&allowed_elsewhere)).await;
    assert_eq!(send(&mut connection, post("/admit", good)).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_review_that_makes_no_sense_is_answered_with_its_uid() {
    let site = Site::start(Credential::None).await;
    let mut connection = site.connect(None).await;
    for (pointer, value, code, problem) in [
        ("/request/object", Value::Null, 400, "request.object: Required value"),
        ("/request/object", json!("text"), 400, "request.object: Invalid value: must be an object"),
        ("/request/operation", json!("CONNECT"), 400, "CONNECT is not supported"),
        ("/request/operation", json!("UPDATE"), 400, "request.oldObject: Required value"),
        ("/request/userInfo", json!({}), 400, "request.userInfo: Invalid value: missing field `username`"),
        ("/request/object/spec", json!("x"), 422, "spec: Invalid value: invalid type"),
        (
            "/request/object/spec/hard",
            json!({"gameservers": {}}),
            422,
            "spec.hard.gameservers: Invalid value",
        ),
        ("/request/object/metadata", json!(3), 422, "metadata: Invalid value"),
    ] {
        let mut review = review(&quota(&json!({"gameservers": "10"})));
        review["request"]["oldObject"] = Value::Null;
        *review.pointer_mut(pointer).expect("there") = value;
        let (found, answer) = send(&mut connection, post("/validate", review.to_string())).await;
        let response = &answer["response"];
        assert_eq!((found, &response["uid"]), (StatusCode::OK, &json!(UID)), "{pointer}: {answer}");
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(code)),
            "{answer}"
        );
        assert!(
            response["status"]["message"].as_str().expect("text").contains(problem),
            "{pointer}: {answer}"
        );
        // The mutating webhook never denies: the validating ones receive the same request.
        let (found, answer) = send(&mut connection, post("/mutate", review.to_string())).await;
        let expected = json!({"uid": UID, "allowed": true});
        assert_eq!((found, &answer["response"]), (StatusCode::OK, &expected), "{pointer}: {answer}");
    }
}

#[tokio::test]
async fn where_a_certificate_is_asked_for_nobody_else_is_answered() {
    let site = Site::start(Credential::Certificate).await;
    let good = review(&quota(&json!({"gameservers": "10"}))).to_string();
    let stranger = issue(&authority("stranger-ca"), "kube-apiserver", Usage::ClientAuth);
    for certificate in [None, Some(&stranger)] {
        let mut connection = site.connect(certificate).await;
        assert_eq!(send(&mut connection, post("/validate", good.clone())).await.0, StatusCode::UNAUTHORIZED);
    }
    let caller = issue(&site.client_ca, "kube-apiserver", Usage::ClientAuth);
    let mut connection = site.connect(Some(&caller)).await;
    assert_eq!(send(&mut connection, post("/validate", good)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn one_page_of_metrics_tells_of_requests_and_reviews() {
    let site = Site::start(Credential::None).await;
    let caller = issue(&site.client_ca, "prometheus", Usage::ClientAuth);
    let mut connection = site.connect(Some(&caller)).await;
    let good = review(&quota(&json!({"gameservers": "10"}))).to_string();
    send(&mut connection, post("/validate", good)).await;
    send(&mut connection, post("/quota", "")).await;
    let mut connection = site.connect(Some(&caller)).await;
    let mut get = post("/metrics", "");
    *get.method_mut() = http::Method::GET;
    let (_, text) = send(&mut connection, get).await;
    let text = text.as_str().expect("text");
    for expected in [
        r#"gatehouse_admission_reviews_total{dry_run="",operation="CREATE",outcome="allowed",webhook="validate"} 1"#,
        r#"gatehouse_admission_reviews_total{dry_run="",operation="",outcome="unreadable",webhook="quota"} 1"#,
        r#"gatehouse_admission_duration_seconds_count{webhook="validate"} 1"#,
        r#"subresource="/validate",verb="POST",version=""} 1"#,
        "gatehouse_lease_held",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[tokio::test]
async fn the_end_closes_connections_one_answer_later_and_gives_the_lease_back_last() {
    let mut site = Site::start(Credential::None).await;
    let good = review(&quota(&json!({"gameservers": "10"}))).to_string();
    let mut kept = site.connect(None).await;
    let answer = kept.send_request(post("/validate", good.clone())).await.expect("answered");
    assert_eq!(answer.headers().get("connection"), None, "connections are kept");
    json(answer).await;
    while site.lease_holder().as_deref() != Some("me") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let mut ended = site.end();
    // During the shutdown delay the server is not ready, and still serves.
    let mut get = post("/readyz", "");
    *get.method_mut() = http::Method::GET;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut other = site.connect(None).await;
    assert_eq!(send(&mut other, get).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let answer = kept.send_request(post("/validate", good)).await.expect("answered");
    assert_eq!((answer.status(), answer.headers()["connection"].as_bytes()), (StatusCode::OK, &b"close"[..]));
    assert_eq!(json(answer).await["response"]["allowed"], true);
    assert_eq!(site.lease_holder().as_deref(), Some("me"), "still at work");

    tokio::time::timeout(TIMING.delay * 3, &mut ended)
        .await
        .expect("no longer")
        .expect("no panic")
        .expect("in order");
    assert_eq!(site.lease_holder().as_deref(), Some(""));
    TcpStream::connect(site.address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn until_the_cluster_says_who_we_are_it_listens_and_judges_nothing() {
    let site = Site::start(Credential::None).await;
    let mut connection = site.connect(None).await;
    for (path, code) in [("/livez", 200), ("/readyz/own-user", 500), ("/readyz", 500)] {
        let mut get = post(path, "");
        *get.method_mut() = http::Method::GET;
        assert_eq!(send(&mut connection, get).await.0.as_u16(), code, "{path}");
    }
    let mut review = review(&json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {}}));
    let group = "kustomize.toolkit.fluxcd.io";
    review["request"]["kind"] = json!({"group": group, "version": "v1", "kind": "Kustomization"});
    review["request"]["resource"] = json!({"group": group, "version": "v1", "resource": "kustomizations"});
    review["request"]["namespace"] = json!("n");
    let (_, answer) = send(&mut connection, post("/validate", review.to_string())).await;
    let response = &answer["response"];
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(429)), "{answer}");
    assert!(
        response["status"]["message"].as_str().expect("text").contains("own identity is unknown"),
        "{answer}"
    );
    // The mutating webhook never denies.
    let (_, answer) = send(&mut connection, post("/mutate", review.to_string())).await;
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}
