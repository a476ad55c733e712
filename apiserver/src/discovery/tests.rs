//! Tests of the documents as clients get them.

use futures::FutureExt;
use gatehouse_apiservice::view::RESOURCES;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{APIGroup, APIGroupList, APIResourceList, APIVersions},
    version::Info,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

fn ask(path: &str, accept: &'static str) -> Response<Body> {
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
    respond(path, &headers, false).expect("a path of discovery").expect("an acceptable form")
}

fn read<T: DeserializeOwned>(response: Response<Body>) -> T {
    let body =
        response.into_body().collect().now_or_never().expect("it is there as a whole").unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn legacy_documents_decode_as_what_they_are() {
    let versions: APIVersions = read(ask("/api", ""));
    assert!(versions.versions.is_empty());
    let groups: APIGroupList = read(ask("/apis", "application/json"));
    let group: APIGroup = read(ask("/apis/view.gatehouse.dev", "*/*"));
    assert_eq!(groups.groups, [group]);
    let resources: APIResourceList = read(ask("/apis/view.gatehouse.dev/v1alpha1", ""));
    let (own, below): (Vec<_>, Vec<_>) = resources.resources.iter().partition(|one| !one.name.contains('/'));
    assert_eq!(own.len(), RESOURCES.len());
    let below: Vec<_> = below.into_iter().map(|one| (&*one.name, &*one.kind, one.verbs.join(","))).collect();
    let expected = [
        ("fluxresources/tree", "FluxResourceTree", "get".to_owned()),
        ("appliedtenantquotas/fit", "QuotaFit", "create".to_owned()),
        ("tenantusages/fit", "QuotaFit", "create".to_owned()),
    ];
    assert_eq!(below, expected, "without actions");
    let version: Info = read(ask("/version", ""));
    assert!(version.git_version.starts_with('v'));
}

#[test]
fn aggregated_documents_name_their_type_exactly() {
    for accept in [V2, V2BETA1] {
        for path in ["/api", "/apis", "/apis/"] {
            let response = ask(path, accept);
            assert_eq!(response.headers()[header::CONTENT_TYPE], accept);
            assert_eq!(response.headers()[header::VARY], "Accept");
            assert!(response.headers()[header::ETAG].to_str().unwrap().starts_with('"'));
        }
    }
    assert_eq!(ask("/apis", "application/json").headers()[header::CONTENT_TYPE], "application/json");
}

#[test]
fn no_resource_has_a_null_response_kind_or_a_writing_verb() {
    let document: Value = read(ask("/apis", V2));
    for resource in document["items"][0]["versions"][0]["resources"].as_array().unwrap() {
        assert!(resource["responseKind"]["kind"].is_string(), "{resource}");
        assert_eq!(resource["verbs"], serde_json::json!(["get", "list", "watch"]));
    }
}

#[test]
fn an_unchanged_document_is_not_sent_again() {
    let etag = ask("/apis", V2).headers()[header::ETAG].clone();
    let headers = HeaderMap::from_iter([
        (header::ACCEPT, HeaderValue::from_static(V2)),
        (header::IF_NONE_MATCH, etag.clone()),
    ]);
    let response = respond("/apis", &headers, false).unwrap().unwrap();
    assert_eq!(response.status(), http::StatusCode::NOT_MODIFIED);
    assert_eq!(response.headers()[header::ETAG], etag);
    // Another form of the document has another ETag.
    assert_ne!(ask("/apis", V2BETA1).headers()[header::ETAG], etag);
}

#[test]
fn protobuf_alone_returns_406() {
    let protobuf = HeaderValue::from_static("application/vnd.kubernetes.protobuf");
    let headers = HeaderMap::from_iter([(header::ACCEPT, protobuf)]);
    for path in ["/api", "/apis", "/apis/view.gatehouse.dev", "/apis/view.gatehouse.dev/v1alpha1", "/version"]
    {
        let error = respond(path, &headers, false).unwrap().unwrap_err();
        assert_eq!(error.code(), http::StatusCode::NOT_ACCEPTABLE, "{path}");
    }
}

#[test]
fn other_paths_are_not_answered_here() {
    for path in
        ["", "/", "apis", "/apis//", "/apis/apps", "/apis/view.gatehouse.dev/v1", "/api/v1", "/versions"]
    {
        assert!(respond(path, &HeaderMap::new(), false).is_none(), "{path}");
    }
}

#[test]
fn subresources_that_act_are_told_of_only_where_actions_are_enabled() {
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(V2))]);
    let path = "/apis/view.gatehouse.dev/v1alpha1";
    for acts in [false, true] {
        let read = |path, headers| read::<Value>(respond(path, headers, acts).unwrap().unwrap());
        let plain = HeaderMap::new();
        let legacy = read(path, &plain);
        let names = legacy["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
        let subresources: Vec<_> = names.filter(|name| name.contains('/')).collect();
        let aggregated = read("/apis", &headers);
        let resources = aggregated["items"][0]["versions"][0]["resources"].as_array().unwrap();
        let nested = resources.iter().flat_map(|one| one["subresources"].as_array().into_iter().flatten());
        assert_eq!(nested.count(), subresources.len());
        let expected = [
            "fluxresources/tree",
            "appliedtenantquotas/fit",
            "tenantusages/fit",
            "fluxresources/reconcile",
            "fluxresources/resume",
            "fluxresources/suspend",
            "fluxresources/suspension",
            "fluxsummaries/reconcile",
        ];
        assert_eq!(subresources, if acts { expected.as_slice() } else { &expected[..3] });
    }
}

#[test]
fn documents_are_as_agreed() {
    let document = |path, accept| read::<Value>(ask(path, accept));
    let legacy = serde_json::json!({
        "/api": document("/api", ""),
        "/apis": document("/apis", ""),
        "/apis/GROUP": document("/apis/view.gatehouse.dev", ""),
        "/apis/GROUP/VERSION": document("/apis/view.gatehouse.dev/v1alpha1", ""),
    });
    insta::assert_json_snapshot!("legacy", legacy);
    let aggregated = serde_json::json!({ "/api": document("/api", V2), "/apis": document("/apis", V2) });
    insta::assert_json_snapshot!("aggregated", aggregated);
}
