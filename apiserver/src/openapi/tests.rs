//! Tests of the documents as the aggregator and kubectl get them.

use futures::FutureExt;
use gatehouse_apiservice::view::RESOURCES;
use http_body_util::BodyExt;

use super::*;

fn ask(url: &str, accept: &'static str) -> Response<Body> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
    respond(path, query, &headers, true).expect("a path of OpenAPI").expect("an acceptable form")
}

fn read(response: Response<Body>) -> Value {
    let body = response.into_body().collect().now_or_never().expect("it is there as a whole").unwrap();
    serde_json::from_slice(&body.to_bytes()).unwrap()
}

fn group_url() -> String {
    let root = read(ask("/openapi/v3", ""));
    let path = &root["paths"]["apis/view.gatehouse.dev/v1alpha1"]["serverRelativeURL"];
    path.as_str().expect("a URL").to_owned()
}

/// Calls `visit` with every schema below `value` and its path.
fn walk(at: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(at, value);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                walk(&format!("{at}/{name}"), value, visit);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                walk(&format!("{at}/{index}"), value, visit);
            }
        }
        _ => {}
    }
}

#[test]
fn every_schema_and_every_field_is_described() {
    let is_described = |schema: &Value| schema["description"].as_str().is_some_and(|text| text.len() > 3);
    for (name, schema) in schemas::all(true) {
        assert!(is_described(&schema), "{name}");
        walk(&name, &schema, &mut |at, value| {
            for (field, schema) in value["properties"].as_object().into_iter().flatten() {
                assert!(is_described(schema), "{at}/{field}: {schema}");
            }
        });
    }
    for operation in paths::all(true) {
        assert!(operation.query_parameters.iter().all(|parameter| !parameter.description.is_empty()));
    }
}

#[test]
fn nothing_is_left_that_openapi_3_0_does_not_know() {
    for document in [v3::document(true), v2::document(true)] {
        walk("", &document, &mut |at, value| {
            let Value::Object(fields) = value else { return };
            if at.ends_with("/properties") || at.ends_with("/schemas") || at.ends_with("/definitions") {
                return;
            }
            let foreign =
                ["$schema", "$defs", "const", "oneOf", "anyOf", "nullable", "title", "examples", "minimum"];
            if at != "/info" {
                assert!(foreign.iter().all(|keyword| !fields.contains_key(*keyword)), "{at}: {value}");
            }
            if let Some(kind) = fields.get("type") {
                assert!(kind.is_string() && kind != "null", "{at}: {kind}");
            }
            if let Some(Value::String(format)) = fields.get("format") {
                assert!(["int32", "int64", "date-time"].contains(&format.as_str()), "{at}: {format}");
            }
            if fields.contains_key("$ref") && document.get("openapi").is_some() {
                assert_eq!(fields.len(), 1, "{at}: {value}");
            }
            assert_ne!(fields.get("additionalProperties"), Some(&false.into()), "{at}");
        });
    }
}

#[test]
fn every_reference_has_a_target() {
    for (document, place) in
        [(v3::document(true), "/components/schemas/"), (v2::document(true), "/definitions/")]
    {
        walk("", &document, &mut |at, value| {
            if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                let name =
                    target.strip_prefix(&format!("#{place}")).unwrap_or_else(|| panic!("{at}: {target}"));
                assert!(document.pointer(&format!("{place}{name}")).is_some(), "{at}: {target}");
            }
        });
    }
}

#[test]
fn kubectl_explain_finds_each_kind_by_its_path() {
    let document = read(ask(&group_url(), "application/json"));
    for resource in RESOURCES {
        let path = &document["paths"][format!("/apis/{API_VERSION}/{}", resource.plural)];
        let kind = &path["get"]["x-kubernetes-group-version-kind"];
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let found =
            schemas.values().find(|schema| schema["x-kubernetes-group-version-kind"][0] == *kind).unwrap();
        assert_eq!(found["description"], resource.description);
        let fields: Vec<_> = found["properties"].as_object().unwrap().keys().collect();
        let spec = fields.iter().position(|field| *field == "spec");
        // The subresource `suspension` has one.
        assert_eq!(spec.is_some(), resource.plural == "fluxresources");
        let rest: Vec<_> = fields.into_iter().filter(|field| *field != "spec").collect();
        assert_eq!(rest, ["apiVersion", "kind", "metadata", "status"]);
    }
}

#[test]
fn conditions_are_merged_by_their_type() {
    let schemas = schemas::all(true);
    for resource in RESOURCES.iter().filter(|resource| resource.plural != "fluxhistories") {
        let conditions =
            &schemas[&schemas::name_of(&format!("{}Status", resource.kind))]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{}", resource.kind);
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    }
}

#[test]
fn a_url_with_the_hash_may_be_kept_for_a_year() {
    let response = ask(&group_url(), "application/json");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "public, immutable");
    assert!(response.headers()[header::EXPIRES].to_str().unwrap().ends_with(" GMT"));
    let hash = group_url().split_once("?hash=").unwrap().1.to_owned();
    assert_eq!(response.headers()[header::ETAG].to_str().unwrap(), format!("\"{hash}\""));

    let plain = ask("/openapi/v3/apis/view.gatehouse.dev/v1alpha1", "");
    assert!(!plain.headers().contains_key(header::EXPIRES));
    let stale = ask("/openapi/v3/apis/view.gatehouse.dev/v1alpha1?hash=0", "");
    assert_eq!(stale.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(stale.headers()[header::LOCATION].to_str().unwrap(), group_url());
}

#[test]
fn swagger_is_not_sent_again_to_those_who_have_it() {
    let response = ask("/openapi/v2", "application/json");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, response.headers()[header::ETAG].clone())]);
    let again = respond("/openapi/v2", "", &headers, true).unwrap().unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[test]
fn protobuf_alone_returns_406() {
    let ask = |accept| {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        respond("/openapi/v2", "", &headers, true)
            .unwrap()
            .map(|response| response.status())
            .map_err(|error| error.code())
    };
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    assert_eq!(ask(protobuf), Err(StatusCode::NOT_ACCEPTABLE));
    assert_eq!(ask("application/com.github.proto-openapi.spec.v2@v1.0+protobuf, */*"), Ok(StatusCode::OK));
}

#[test]
fn other_paths_are_not_answered_here() {
    for path in [
        "/openapi",
        "/openapi/",
        "/openapi/v3/apis",
        "/openapi/v3/apis/apps/v1",
        "/openapi/v4",
        "/openapi/v3/api/v1",
    ] {
        assert!(respond(path, "", &HeaderMap::new(), true).is_none(), "{path}");
    }
}

/// A line for each path, operation and field with its type: everything that a client may rely on.
fn outline() -> String {
    let document = v3::document(true);
    let mut lines = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in ["get", "post", "put", "patch"].into_iter().filter_map(|method| item.get(method)) {
            let action = operation["x-kubernetes-action"].as_str().unwrap_or("-");
            lines.push(format!("{path}: {} ({action})", operation["operationId"].as_str().unwrap()));
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if name.starts_with("io.k8s.") {
            lines.push(name.clone());
            continue;
        }
        lines.push(format!("{name}: {}", kind_of(schema)));
        for (field, subschema) in schema["properties"].as_object().into_iter().flatten() {
            let required = schema["required"]
                .as_array()
                .is_some_and(|required| required.contains(&field.as_str().into()));
            lines.push(format!("  {field}{}: {}", if required { "" } else { "?" }, kind_of(subschema)));
        }
    }
    lines.join("\n")
}

fn kind_of(schema: &Value) -> String {
    let reference = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str());
    if let Some(target) = reference {
        return target.rsplit('.').next().unwrap_or(target).to_owned();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| value.as_str().unwrap_or("?")).collect::<Vec<_>>().join("|");
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => format!("[{}]", kind_of(&schema["items"])),
        (Some(kind), Some(format)) => format!("{kind}({format})"),
        (kind, _) => kind.unwrap_or("any").to_owned(),
    }
}

#[test]
fn the_api_is_as_agreed() {
    insta::assert_snapshot!("outline", outline());
}
