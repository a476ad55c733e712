//! Spans as a collector receives them.

use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};

use super::*;
use crate::{
    authn::testing::{Authorities, peer},
    pipeline::{Credential, Observers, testing::*},
    shutdown::Shutdown,
};

const TRACE: [u8; 16] = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();

/// Accepts one request, and returns its first line and its body.
async fn collector() -> (SocketAddr, JoinHandle<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening");
    let address = listener.local_addr().expect("address");
    let taken = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        let mut socket = BufReader::new(socket);
        let (mut first, mut length) = (String::new(), 0);
        socket.read_line(&mut first).await.expect("a line");
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).await.expect("a header");
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.expect("a body");
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("sent");
        (first, body)
    });
    (address, taken)
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_s_span_is_part_of_the_trace_of_its_traceparent() {
    let (address, taken) = collector().await;
    let traces =
        Arc::new(Traces::start(&format!("http://{address}"), "gatehouse-test", 0.0).expect("starts"));
    let authorities = Authorities::new();
    let observers = Observers { traces: Some(Arc::clone(&traces)), ..Observers::default() };
    let shutdown = Shutdown::new(TIMING);
    let config = watch::channel(authorities.config()).1;
    let pipeline = observed(config, &shutdown, Credential::None, observers);
    let jane = peer(&authorities.client, "jane", None);
    // The flags of the second request say "not sampled"; the third has no parent span.
    for traceparent in [
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        Some("00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-00f067aa0ba902b7-00"),
        None,
    ] {
        let request = Request::get(format!("{THINGS}?token=s3cret")).header("audit-id", "the-audit-id");
        let request =
            traceparent.into_iter().fold(request, |request, value| request.header("traceparent", value));
        let request = request.body(Empty::<Bytes>::new()).expect("request");
        let answer = pipeline.handle(request, &jane).await;
        answer.into_body().collect().await.expect("whole");
    }
    traces.flush().await;
    let (first, body) = taken.await.expect("taken");
    assert_eq!(first, "POST /v1/traces HTTP/1.1\r\n");
    for part in [&TRACE[..], b"LIST things", b"gatehouse-test", b"the-audit-id", b"http.response.status_code"]
    {
        assert!(contains(&body, part), "{part:?}");
    }
    assert!(!contains(&body, &[0xaa; 16]), "whose trace is not sampled");
    assert!(!contains(&body, b"s3cret"));
    assert_eq!(body.windows(11).filter(|window| window == b"LIST things").count(), 1);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_is_refused() {
    for endpoint in ["collector:4318", "https://collector:4318", "", "http://"] {
        let error = Traces::start(endpoint, "gatehouse-test", 0.0).err().expect(endpoint).to_string();
        assert!(error.contains("is not an http:// URL"), "{error}");
    }
}
