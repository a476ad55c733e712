//! Tests of which paths and methods are served, and when.

use super::*;

const GROUP_PATH: &str = "/apis/view.gatehouse.dev/v1alpha1";

async fn code(server: &Server, method: Method, uri: &str) -> u16 {
    match server.send(method, uri, "application/json").await {
        Ok(response) => response.status().as_u16(),
        Err(error) => error.code().as_u16(),
    }
}

/// Endpoints with a cache for every resource, of which only `fluxsummaries` has synced.
fn only_summaries_synced() -> (Server, Vec<Arc<WatchCache>>) {
    let clock = Arc::new(Clock::new(0));
    let caches: Vec<_> = gatehouse_apiservice::view::RESOURCES
        .iter()
        .map(|resource| Arc::new(WatchCache::new(resource, Arc::clone(&clock))))
        .collect();
    let summaries = caches.iter().find(|cache| cache.resource.plural == "fluxsummaries").unwrap();
    summaries.publish([Update::Apply(row("a/x", "Ready"))]);
    summaries.mark_synced();
    let endpoints = Endpoints::new(caches.iter().cloned(), view_metrics());
    (Server::over(endpoints, Arc::clone(summaries)), caches)
}

#[tokio::test(start_paused = true)]
async fn paths_that_are_no_resource_of_the_group_return_404() {
    let server = Server::with(&["a/x"]);
    for path in [
        "/apis/view.gatehouse.dev/v1alpha1/pods",
        "/apis/view.gatehouse.dev/v1/fluxsummaries",
        "/apis/other.dev/v1alpha1/fluxsummaries",
        "/api/v1/fluxsummaries",
        "/apis/view.gatehouse.dev/v1alpha1/FluxSummaries",
        "/apis/view.gatehouse.dev/v1alpha1/namespaces",
        "/apis/view.gatehouse.dev/v1alpha1/namespaces/a",
        "/apis/view.gatehouse.dev/v1alpha1/namespaces/a/fluxsummaries/x/status",
        "/apis/view.gatehouse.dev/v1alpha1/namespaces/a/fluxsummaries/x/scale",
        "/apis/view.gatehouse.dev/v1alpha1/namespaces/a/fluxsummaries/x/status/more",
        "/apis/view.gatehouse.dev/v1alpha1/fluxsummaries/x",
        "/nowhere",
    ] {
        let (code, reason, message) = server.refuses(path).await;
        assert_eq!((code, reason.as_str()), (404, "NotFound"), "{path}");
        assert_eq!(message, "the server could not find the requested resource", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_does_not_exist_returns_404_and_is_named() {
    let server = Server::with(&["a/x"]);
    let status = server.refusal(&format!("{}/y", within("a"))).await.status();
    assert_eq!(status["message"], "fluxsummaries.view.gatehouse.dev \"y\" not found");
    assert_eq!(status["details"]["name"], "y");
    assert_eq!(code(&server, Method::GET, &format!("{}/x", within("b"))).await, 404);
    let empty = server.get(&within("nobody-s")).await;
    assert_eq!(empty["items"].as_array().unwrap().len(), 0, "a list of nothing is a list");
    assert!(version_of(&empty) > 0);
}

#[tokio::test(start_paused = true)]
async fn cluster_scoped_resources_are_in_no_namespace() {
    let (server, caches) = only_summaries_synced();
    for cache in &caches {
        cache.mark_synced();
    }
    let health = format!("{GROUP_PATH}/clusterhealths");
    assert_eq!(code(&server, Method::GET, &health).await, 200);
    assert_eq!(
        server.refuses(&format!("{health}/local")).await.2.split_once(' ').unwrap().0,
        "clusterhealths.view.gatehouse.dev"
    );
    for path in ["clusterhealths", "clusterhealths/local"] {
        let misplaced = format!("{GROUP_PATH}/namespaces/a/{path}");
        let (code, _, message) = server.refuses(&misplaced).await;
        assert_eq!((code, message.as_str()), (404, "the server could not find the requested resource"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_model_refuses_to_be_written() {
    let server = Server::with(&["a/x"]);
    let object = format!("{}/x", within("a"));
    for (method, uri) in [
        (Method::POST, within("a")),
        (Method::PUT, object.clone()),
        (Method::PATCH, object.clone()),
        (Method::DELETE, object.clone()),
        (Method::DELETE, within("a")),
        (Method::OPTIONS, object),
        (Method::POST, all(&[("watch", "true")])),
        (Method::POST, "/apis".into()),
        (Method::POST, "/openapi/v3".into()),
    ] {
        assert_eq!(code(&server, method.clone(), &uri).await, 405, "{method} {uri}");
    }
    assert_eq!(code(&server, Method::POST, "/nowhere").await, 404, "what is not there comes first");
}

#[tokio::test(start_paused = true)]
async fn head_is_answered_without_a_body() {
    let server = Server::with(&["a/x"]);
    for uri in [format!("{}/x", within("a")), SUMMARIES.into(), all(&[("watch", "true")]), "/apis".into()] {
        let response = server.send(Method::HEAD, &uri, "application/json").await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{uri}");
        assert!(read(response).await.is_empty(), "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_has_not_synced_returns_503_alone() {
    let (server, caches) = only_summaries_synced();
    assert_eq!(places(&server.get(SUMMARIES).await), ["a/x"]);
    let resources = format!("{GROUP_PATH}/fluxresources");
    for uri in [
        resources.clone(),
        format!("{resources}?watch=true"),
        format!("{GROUP_PATH}/namespaces/a/fluxresources/x"),
        format!("{GROUP_PATH}/clusterhealths"),
    ] {
        let error = server.refusal(&uri).await;
        assert_eq!(error.status()["reason"], "ServiceUnavailable", "{uri}");
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
    let resources_cache = caches.iter().find(|cache| cache.resource.plural == "fluxresources").unwrap();
    resources_cache.mark_synced();
    assert_eq!(code(&server, Method::GET, &resources).await, 200);
}

#[tokio::test(start_paused = true)]
async fn discovery_and_openapi_are_there_before_anything_has_synced() {
    let cache = Arc::new(testing::cache());
    let endpoints = Endpoints::new([Arc::clone(&cache)], view_metrics());
    let server = Server::over(endpoints, cache);
    for path in ["/apis", "/apis/view.gatehouse.dev", GROUP_PATH, "/openapi/v2", "/openapi/v3", "/version"] {
        assert_eq!(code(&server, Method::GET, path).await, 200, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_watch_paths_are_watches() {
    let server = Server::with(&["a/x", "b/x"]);
    for (path, expected) in [
        ("watch/fluxsummaries", &["ADDED a/x Ready", "ADDED b/x Ready"][..]),
        ("watch/namespaces/b/fluxsummaries", &["ADDED b/x Ready"]),
        ("watch/namespaces/a/fluxsummaries/x", &["ADDED a/x Ready"]),
    ] {
        let uri = format!("{GROUP_PATH}/{path}?timeoutSeconds=1");
        let response = server.send(Method::GET, &uri, "application/json").await.unwrap();
        let watch = Stream { body: response.into_body(), buffer: Vec::new() };
        assert_eq!(watch.rest().await.0, expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_summary_s_own_columns_are_what_the_contract_says() {
    let server = Server::with(&[]);
    let table = server.get_as(SUMMARIES, TABLE).await;
    let names: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    let expected: Vec<_> =
        <FluxSummaryStatus as View>::RESOURCE.columns.iter().map(|column| column.name).collect();
    assert_eq!(names, expected, "a table without rows still has its head");
    assert_eq!(table["rows"], serde_json::json!([]));
}
