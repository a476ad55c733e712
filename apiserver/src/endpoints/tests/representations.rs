//! Tests of the same rows as objects, Tables and metadata, in each kind of response.

use gatehouse_inventory::State;
use serde_json::json;

use super::*;
use crate::views::tests::{NOW, SUMMARIES as PLURAL, World, records};

const LOCAL: &str = "/apis/view.gatehouse.dev/v1alpha1/namespaces/apps/fluxsummaries/local";

/// FluxSummaries of two namespaces, one of them with a failure.
fn server() -> Server {
    let mut world = World::with([
        records::kustomization("apps", "web").state(State::Failed, 60).build(),
        records::namespace("apps", Some("team-a")),
        records::namespace("infra", None),
    ]);
    // Applied one after the other, so that the order of the versions is known.
    world.apply(records::kustomization("infra", "base").build());
    let cache = world.cache(PLURAL);
    let metrics = view_metrics();
    Server::over(Endpoints::new([Arc::clone(&cache)], metrics), cache)
}

/// Replaces versions by `V1`, `V2`, … in their order, and the only age that depends on the date by `AGE`.
fn fixed(mut value: Value) -> Value {
    fn visit(value: &mut Value, change: &mut impl FnMut(&str, &mut Value)) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    change(name, value);
                    visit(value, change);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| visit(item, change)),
            _ => {}
        }
    }
    let mut versions = Vec::new();
    visit(&mut value, &mut |name, value| match value.as_str() {
        Some(version) if name == "resourceVersion" => versions.push(version.to_owned()),
        _ => {}
    });
    versions.sort();
    versions.dedup();
    visit(&mut value, &mut |name, value| {
        if name == "resourceVersion" {
            let at = versions.iter().position(|version| *value == **version);
            *value = json!(format!("V{}", at.map_or(0, |at| at + 1)));
        }
        if name == "cells" && value[8] != "" {
            value[8] = json!("AGE");
        }
    });
    value
}

#[tokio::test(start_paused = true)]
async fn an_object_is_served_as_it_is() {
    let server = server();
    insta::assert_json_snapshot!("object", fixed(server.get(LOCAL).await));
    let list = server.get(SUMMARIES).await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("FluxSummaryList"), &json!("view.gatehouse.dev/v1alpha1"))
    );
    assert_eq!(places(&list), ["apps/local", "infra/local"]);
    assert_eq!(list["items"][0], server.get(LOCAL).await, "an item of a list is the object");
}

#[tokio::test(start_paused = true)]
async fn a_list_is_served_as_a_table() {
    insta::assert_json_snapshot!("table", fixed(server().get_as(SUMMARIES, TABLE).await));
}

#[tokio::test(start_paused = true)]
async fn a_table_of_one_object_has_one_row_and_the_object_s_version() {
    let server = server();
    let table = server.get_as(LOCAL, TABLE).await;
    let list = server.get_as(SUMMARIES, TABLE).await;
    assert_eq!(table["rows"], json!([list["rows"][0]]));
    assert_eq!(table["columnDefinitions"], list["columnDefinitions"]);
    assert_eq!(version_of(&table), version_of(&server.get(LOCAL).await));
}

#[tokio::test(start_paused = true)]
async fn a_table_comes_in_both_versions_with_the_same_content() {
    let server = server();
    let beta = server.get_as(SUMMARIES, TABLE_BETA).await;
    assert_eq!(beta["apiVersion"], "meta.k8s.io/v1beta1");
    assert_eq!(beta["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    let text = beta.to_string().replace("meta.k8s.io/v1beta1", "meta.k8s.io/v1");
    assert_eq!(text, server.get_as(SUMMARIES, TABLE).await.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_table_s_rows_carry_what_was_asked_for() {
    let server = server();
    let object = async |include: &str| {
        let table = server.get_as(&all(&[("includeObject", include)]), TABLE).await;
        table["rows"][0]["object"].clone()
    };
    let whole = server.get(LOCAL).await;
    assert_eq!(object("None").await, Value::Null);
    assert_eq!(object("Object").await, whole);
    let metadata = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": whole["metadata"],
    });
    assert_eq!(object("Metadata").await, metadata);
    assert_eq!(object("").await, metadata, "the default");
    let (code, _, message) = server.refuses(&all(&[("includeObject", "Everything")])).await;
    assert_eq!(code, 400);
    assert!(message.contains("includeObject"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn metadata_is_served_alone() {
    let server = server();
    let whole = server.get(LOCAL).await;
    let one = server.get_as(LOCAL, METADATA).await;
    let expected = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": whole["metadata"],
    });
    assert_eq!(one, expected);
    let list = server.get_as(SUMMARIES, METADATA_LIST).await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(list["items"][0], expected);
    assert_eq!(version_of(&list), version_of(&server.get(SUMMARIES).await));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_gives_way_to_what_can_or_406() {
    let server = server();
    let accept = format!("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io, {TABLE}");
    assert_eq!(server.get_as(SUMMARIES, &accept).await["kind"], "Table");
    for (uri, accept) in
        [(SUMMARIES, "application/vnd.kubernetes.protobuf"), (SUMMARIES, METADATA), (LOCAL, METADATA_LIST)]
    {
        let refused = server.send(Method::GET, uri, accept).await;
        assert_eq!(refused.map(drop).unwrap_err().code(), StatusCode::NOT_ACCEPTABLE, "{accept}");
    }
}

#[tokio::test(start_paused = true)]
async fn ages_are_those_of_the_moment_of_reading() {
    let now = jiff::Timestamp::now().as_second();
    // Half an hour from the next step of the age, so that the test may be slow.
    let since = now - (2 * 24 + 3) * 3600 - 1800;
    let failed = records::kustomization("apps", "web").state(State::Failed, NOW - since);
    let world = World::with([failed.build(), records::kustomization("infra", "base").build()]);
    let server =
        Server { endpoints: Endpoints::new([world.cache(PLURAL)], view_metrics()), ..Server::with(&[]) };
    let table = server.get_as(SUMMARIES, TABLE).await;
    let columns = table["columnDefinitions"].as_array().unwrap();
    let at = columns.iter().position(|column| column["name"] == "Oldest-Failure").unwrap();
    assert_eq!(table["rows"][0]["cells"][at], "2d3h");
    assert_eq!(table["rows"][1]["cells"][at], "", "nothing fails there");
    for row in table["rows"].as_array().unwrap() {
        assert_eq!(row["cells"].as_array().unwrap().len(), columns.len(), "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_comes_in_every_representation() {
    let server = server();
    let parameters = [
        ("sendInitialEvents", "true"),
        ("resourceVersionMatch", "NotOlderThan"),
        ("allowWatchBookmarks", "true"),
        ("timeoutSeconds", "1"),
    ];
    let mut seen = serde_json::Map::new();
    for (name, accept) in
        [("object", "application/json"), ("table", TABLE), ("metadata", METADATA), ("list", METADATA_LIST)]
    {
        let mut watch = server.watch_as(&within("apps"), &parameters, accept).await;
        let mut events = Vec::new();
        while let Some(mut event) = watch.next().await {
            if let Some(columns) = event["object"].get_mut("columnDefinitions").filter(|one| one.is_array()) {
                *columns = json!(format!("{} columns", columns.as_array().map_or(0, Vec::len)));
            }
            if event["object"].get("status").is_some() {
                event["object"]["status"] = json!("…");
            }
            events.push(event);
        }
        seen.insert(name.to_owned(), Value::Array(events));
    }
    assert_eq!(seen["metadata"], seen["list"], "a watch takes either name");
    seen.remove("list");
    insta::assert_json_snapshot!("watch", fixed(Value::Object(seen)));
}

#[tokio::test(start_paused = true)]
async fn only_the_first_event_of_a_watch_names_the_columns() {
    let server = Server::with(&["a/x", "a/y"]);
    let mut watch = server.watch_as(SUMMARIES, &[], TABLE).await;
    let mut has_columns = Vec::new();
    for _ in 0..2 {
        has_columns.push(watch.next().await.unwrap()["object"]["columnDefinitions"].is_array());
    }
    server.put("a/z", "Ready");
    has_columns.push(watch.next().await.unwrap()["object"]["columnDefinitions"].is_array());
    assert_eq!(has_columns, [true, false, false]);
    let from = server.version().to_string();
    let mut later = server.watch_as(SUMMARIES, &[("resourceVersion", &from)], TABLE).await;
    server.put("a/z", "Failed");
    let event = later.next().await.unwrap();
    assert!(event["object"]["columnDefinitions"].is_array(), "whatever that first event is");
}

#[tokio::test(start_paused = true)]
async fn pretty_is_for_people() {
    let server = server();
    let read = async |uri: &str, accept: &str| {
        let response = server.send(Method::GET, uri, accept).await.unwrap();
        String::from_utf8(read(response).await.to_vec()).unwrap()
    };
    let plain = read(LOCAL, "application/json").await;
    assert_eq!(plain.lines().count(), 1);
    for (path, accept) in [(LOCAL, "application/json;pretty=1"), (SUMMARIES, "application/json;pretty=1")] {
        assert!(read(path, accept).await.starts_with("{\n  \""), "{path} {accept}");
    }
    let pretty = read(&format!("{LOCAL}?pretty=true"), "application/json").await;
    assert_eq!(
        serde_json::from_str::<Value>(&pretty).unwrap(),
        serde_json::from_str::<Value>(&plain).unwrap()
    );
    assert!(pretty.ends_with("}\n"));
    let off = read(&format!("{LOCAL}?pretty=false"), "application/json;pretty=1").await;
    assert_eq!(off, plain, "the parameter has the last word");
}
