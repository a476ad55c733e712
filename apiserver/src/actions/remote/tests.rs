//! Tests of what is sent to a remote cluster for an action, and what becomes of its answers.

use std::convert::Infallible;

use gatehouse_apiservice::UserInfo;
use http::{HeaderMap, Method, Response};
use serde_json::json;

use super::*;

const OBJECT: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/shop/kustomizations/web";

/// Method and path with the headers and the body, of each request.
type Asked = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// A cluster that answers so, apart from discovery: there its Gatehouse serves `reconcile`, if it acts.
fn cluster(acts: bool, code: u16, answer: &str) -> (RemoteCluster, Asked) {
    let asked = Asked::default();
    let (seen, answer) = (Arc::clone(&asked), answer.to_owned());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, answer) = (Arc::clone(&seen), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.expect("a body");
            let line = format!("{} {}", head.method, head.uri);
            let is_discovery = head.uri.path() == "/apis/view.gatehouse.dev/v1alpha1";
            seen.lock().expect("lock").push((
                line,
                head.headers,
                String::from_utf8_lossy(&body).into_owned(),
            ));
            let resources =
                json!({"resources": [{"name": "fluxresources"}, {"name": "fluxresources/reconcile"}]});
            let (code, text) = match (is_discovery, acts) {
                (true, true) => (200, resources.to_string()),
                (true, false) => (404, "404 page not found".to_owned()),
                _ => (code, answer),
            };
            Ok::<_, Infallible>(
                Response::builder().status(code).body(Body::from(text.into_bytes())).expect("an answer"),
            )
        }
    });
    let client = kube::Client::new(service, "default");
    (RemoteCluster::new("eu".into(), client, Arc::default()), asked)
}

fn call() -> Call {
    let user = UserInfo { name: "jane".to_owned(), groups: vec!["team".to_owned()], ..UserInfo::default() };
    Call { requester: Some(user), dry_run: true, field_manager: Some("my ci".to_owned()), audit_id: None }
}

fn handed(name: &str) -> Handed<'_> {
    let body = Some((JSON.to_owned(), b"{}".to_vec()));
    Handed { subresource: &SUBRESOURCES[0], method: Method::POST, namespace: "shop", name, body }
}

fn status(code: u16, reason: &str, message: &str) -> String {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": message, "details": {"name": "web", "kind": "kustomizations"},
    })
    .to_string()
}

#[tokio::test]
async fn an_object_is_read_and_patched_as_the_user() {
    let (cluster, asked) = cluster(false, 200, "{\"kind\": \"Kustomization\"}");
    let row = "local.kustomization.web";
    assert_eq!(cluster.hand_on(&handed(row), &call()).await.expect("asked"), None);
    cluster.get(OBJECT, &call()).await.expect("read");
    cluster.patch(OBJECT, &json!({"spec": {}}), &call()).await.expect("patched");
    let asked = asked.lock().expect("lock");
    let lines: Vec<_> = asked.iter().map(|(line, ..)| line.as_str()).collect();
    let patch = format!("PATCH {OBJECT}?fieldManager=my+ci&dryRun=All");
    assert_eq!(lines, ["GET /apis/view.gatehouse.dev/v1alpha1", &format!("GET {OBJECT}"), &patch]);
    assert!(
        !asked[0].1.contains_key("impersonate-user"),
        "whoever may be impersonated may not know discovery"
    );
    for (line, headers, _) in &asked[1..] {
        assert_eq!(headers["impersonate-user"], "jane", "{line}");
        assert_eq!(headers["impersonate-group"], "team", "{line}");
    }
}

#[tokio::test]
async fn a_patch_is_by_gatehouse_unless_the_user_names_another_field_manager() {
    let (cluster, asked) = cluster(false, 200, "{}");
    let call = Call { field_manager: None, dry_run: false, ..call() };
    cluster.patch(OBJECT, &json!({"spec": {}}), &call).await.expect("patched");
    assert_eq!(asked.lock().expect("lock")[0].0, format!("PATCH {OBJECT}?fieldManager=gatehouse"));
}

#[tokio::test]
async fn a_gatehouse_that_acts_gets_the_request_with_its_parameters() {
    let (cluster, asked) = cluster(true, 201, "{\"status\": {}}");
    for _ in 0..2 {
        let answer = cluster.hand_on(&handed("local.kustomization.web"), &call()).await.expect("handed on");
        assert_eq!(answer, Some(json!({"status": {}})));
    }
    {
        let asked = asked.lock().expect("lock");
        assert_eq!(asked.len(), 3, "it is asked once what it serves");
        let (line, headers, body) = &asked[1];
        let path = "/apis/view.gatehouse.dev/v1alpha1/namespaces/shop/fluxresources/local.kustomization.web/reconcile";
        assert_eq!(line, &format!("POST {path}?fieldManager=my+ci&dryRun=All"));
        assert_eq!((&headers["impersonate-user"], &**body), (&http::HeaderValue::from_static("jane"), "{}"));
    }
    // What it does not serve, it does not get.
    let suspend = Handed { subresource: &SUBRESOURCES[2], ..handed("local.kustomization.web") };
    assert_eq!(cluster.hand_on(&suspend, &call()).await.expect("known"), None);
}

#[tokio::test]
async fn errors_are_the_cluster_s_own_and_name_it() {
    for (code, reason) in [(403, "Forbidden"), (404, "NotFound"), (409, "Conflict"), (422, "Invalid")] {
        let (cluster, _) = cluster(true, code, &status(code, reason, "because"));
        let handed_on = cluster.hand_on(&handed("local.kustomization.web"), &call()).await.map(drop);
        let patched = cluster.patch(OBJECT, &json!({}), &call()).await.map(drop);
        for error in [handed_on, patched].map(|outcome| outcome.expect_err("refused")) {
            assert_eq!((error.code().as_u16(), error.reason()), (code, reason));
            assert_eq!(error.to_string(), "cluster eu: because");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_503() {
    let long = format!("\"{}\"", "x".repeat(LONGEST_ANSWER));
    let unauthorized = status(401, "Unauthorized", "Unauthorized");
    for (code, answer) in [(502, "<html>"), (401, &*unauthorized), (302, ""), (200, "<html>"), (200, &*long)]
    {
        let (cluster, _) = cluster(true, code, answer);
        let error = cluster.get(OBJECT, &call()).await.expect_err("no answer");
        assert_eq!(error.code(), StatusCode::SERVICE_UNAVAILABLE, "{code}");
        assert!(error.to_string().starts_with("cluster eu: "), "{error}");
    }
    // A Gatehouse that acts no longer is asked again what it serves.
    let (cluster, asked) = cluster(true, 404, "404 page not found");
    for _ in 0..2 {
        let error = cluster.hand_on(&handed("local.kustomization.web"), &call()).await.expect_err("gone");
        assert_eq!(error.code(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(asked.lock().expect("lock").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_not_answer_is_not_waited_for() {
    let service = tower::service_fn(|_: Request<Body>| async {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let client = kube::Client::new(service, "default");
    let cluster = RemoteCluster::new("eu".into(), client, Arc::default());
    let began = Instant::now();
    let error = cluster.hand_on(&handed("local.kustomization.web"), &call()).await.expect_err("no answer");
    assert_eq!(error.code(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.to_string().contains("did not answer in time; nothing is known to be done"), "{error}");
    assert_eq!(began.elapsed(), TO_SHOW);
    let error = cluster.patch(OBJECT, &json!({}), &call()).await.expect_err("no answer");
    assert_eq!((error.code(), began.elapsed()), (StatusCode::SERVICE_UNAVAILABLE, TO_SHOW + PATIENCE));
}

#[tokio::test]
async fn nothing_is_done_without_a_user_who_may_be_impersonated() {
    let (cluster, asked) = cluster(false, 200, "{}");
    assert!(cluster.get(OBJECT, &Call::default()).await.is_err());
    let masters = UserInfo { groups: vec!["system:masters".to_owned()], ..call().requester.expect("a user") };
    let masters = Call { requester: Some(masters), ..call() };
    let error = cluster.patch(OBJECT, &json!({}), &masters).await.expect_err("refused");
    assert_eq!(error.code(), StatusCode::FORBIDDEN);
    assert!(error.to_string().contains("\"system:masters\""), "{error}");
    assert!(asked.lock().expect("lock").is_empty());
}
