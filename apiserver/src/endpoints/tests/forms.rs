//! Tests of the encodings of responses: YAML and JSON, with and without gzip.

use std::io::Read as _;

use super::*;

const YAML: &str = "application/yaml";

impl Server {
    /// The headers and the body of the response to a GET with these headers.
    async fn get_with(&self, uri: &str, headers: &[(header::HeaderName, &str)]) -> (http::HeaderMap, Bytes) {
        let response = self.send_with(Method::GET, uri, headers).await.unwrap_or_else(|error| {
            panic!("{uri}: {}", error.status());
        });
        let headers = response.headers().clone();
        (headers, read(response).await)
    }

    /// A GET that accepts `accept` and gets YAML, parsed.
    async fn get_yaml(&self, uri: &str, accept: &str) -> Value {
        let (headers, body) = self.get_with(uri, &[(header::ACCEPT, accept)]).await;
        assert_eq!(headers[header::CONTENT_TYPE], YAML);
        let text = std::str::from_utf8(&body).expect("text");
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

#[tokio::test(start_paused = true)]
async fn yaml_says_what_json_says() {
    let server = Server::with(&["a/x", "a/y", "b/x"]);
    let object = format!("{}/x", within("a"));
    for uri in [&object, SUMMARIES, &all(&[("limit", "2")]), &within("nobody-s")] {
        assert_eq!(server.get_yaml(uri, YAML).await, server.get(uri).await, "{uri}");
        let table = server.get_yaml(uri, &TABLE.replace("json", "yaml")).await;
        assert_eq!(table["kind"], "Table", "{uri}");
    }
    let metadata = server.get_yaml(SUMMARIES, &METADATA_LIST.replace("json", "yaml")).await;
    assert_eq!(metadata, server.get_as(SUMMARIES, METADATA_LIST).await);
}

#[tokio::test(start_paused = true)]
async fn a_watch_in_yaml_returns_406() {
    let server = Server::with(&["a/x"]);
    let error = server.send(Method::GET, &all(&[("watch", "1")]), YAML).await.expect_err("refused");
    assert_eq!((error.code().as_u16(), error.reason()), (406, "NotAcceptable"));
}

#[tokio::test(start_paused = true)]
async fn a_long_list_is_compressed_for_those_who_take_that() {
    let places: Vec<_> = (0..2_000).map(|n| format!("a/x-{n:05}")).collect();
    let server = Server::with(&places.iter().map(String::as_str).collect::<Vec<_>>());
    let gzip = (header::ACCEPT_ENCODING, "gzip");
    for accept in ["application/json", "application/json;pretty=1", YAML, TABLE] {
        let (plain_headers, plain) = server.get_with(SUMMARIES, &[(header::ACCEPT, accept)]).await;
        assert!(!plain_headers.contains_key(header::CONTENT_ENCODING));
        let (headers, body) = server.get_with(SUMMARIES, &[(header::ACCEPT, accept), gzip.clone()]).await;
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(headers[header::VARY], "Accept-Encoding");
        assert_eq!(headers[header::CONTENT_TYPE], plain_headers[header::CONTENT_TYPE]);
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
        // Ages depend on the second of the request, so two Tables may differ.
        assert!(text == plain || accept == TABLE, "{accept}");
        assert!(body.len() * 5 < text.len(), "{accept}: {} of {}", body.len(), text.len());
    }
    let (headers, _) = server.get_with(&all(&[("limit", "5")]), &[gzip]).await;
    assert!(!headers.contains_key(header::CONTENT_ENCODING), "a short one is not");
}
