//! Tests of the content of lists, and that a long list is written in pieces.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_list_holds_every_row_in_order_and_the_version_of_the_latest_change() {
    let server = Server::with(&["b/x", "a/y", "a/x"]);
    let version = server.put("a/y", "Failed");
    let list = server.get(SUMMARIES).await;
    assert_eq!(places(&list), ["a/x", "a/y", "b/x"]);
    assert_eq!(version_of(&list), version);
    assert_eq!(version_of(&list["items"][1]), version);
    assert!(list["metadata"].get("continue").is_none());
    assert!(list["metadata"].get("remainingItemCount").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_list_of_a_namespace_holds_its_rows_and_no_others() {
    let server = Server::with(&["a/x", "aa/x", "ab/x", "b/x"]);
    assert_eq!(places(&server.get(&within("aa")).await), ["aa/x"]);
    assert_eq!(places(&server.get(&within("a")).await), ["a/x"]);
    assert_eq!(places(&server.get(&within("zz")).await), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_long_list_is_made_piece_by_piece_and_is_whole() {
    let names: Vec<_> = (0..3000).map(|n| format!("ns-{:02}/n{n:05}", n / 100)).collect();
    let server = Server::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let response = server.send(Method::GET, SUMMARIES, TABLE).await.unwrap();
    let mut body = response.into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap());
    }
    assert!(pieces.len() > 5, "{} pieces", pieces.len());
    assert!(pieces.iter().all(|piece| piece.len() < 128 << 10), "no piece holds the whole list");
    let table: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    let listed: Vec<_> = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let metadata = &row["object"]["metadata"];
            format!("{}/{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap())
        })
        .collect();
    assert_eq!(listed, names);
}

#[tokio::test(start_paused = true)]
async fn a_list_under_way_does_not_see_later_changes() {
    let names: Vec<_> = (0..3000).map(|n| format!("a/n{n:05}")).collect();
    let server = Server::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let version = server.version();
    let response = server.send(Method::GET, SUMMARIES, "application/json").await.unwrap();
    server.put("a/n02999", "Failed");
    server.delete("a/n02998");
    let list: Value = serde_json::from_slice(&read(response).await).unwrap();
    assert_eq!(version_of(&list), version);
    assert_eq!(places(&list).len(), 3000);
    assert_eq!(list["items"][2999]["status"]["state"], "Ready");
}

#[tokio::test(start_paused = true)]
async fn parameters_that_cannot_be_read_are_named() {
    let server = Server::with(&["a/x"]);
    for (parameter, value, expected) in [
        ("limit", "many", 400),
        ("continue", "nonsense", 400),
        ("resourceVersion", "abc", 400),
        ("labelSelector", "a b", 400),
        ("fieldSelector", "status.reason=x", 400),
        ("resourceVersionMatch", "Exact", 422),
        ("timeoutSeconds", "soon", 400),
        ("sendInitialEvents", "true", 422),
    ] {
        let (code, _, message) = server.refuses(&all(&[(parameter, value)])).await;
        assert_eq!(code, expected, "{parameter}: {message}");
        let named = if parameter == "resourceVersion" { "resource version" } else { parameter };
        assert!(message.contains(named), "{parameter}: {message}");
    }
    let twice = [("resourceVersion", "0"), ("resourceVersionMatch", "Exact")];
    assert_eq!(server.refuses(&all(&twice)).await.0, 422);
}
