//! Which idle connections the server keeps, and which it closes.

use super::*;
use crate::serve::activity::{HEADER_TIMEOUT, IDLE_TIMEOUT};

/// How long Go's net/http keeps an idle connection.
const CLIENT_IDLE: Duration = Duration::from_secs(90);
const HEAD: &[u8] = b"GET /apis/g/v1/things HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Sends [`HEAD`], and reads a response with a short body.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(HEAD).await.expect("sent");
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// How long the server takes to close the connection, in paused time.
async fn cut(stream: &mut TlsStream<TcpStream>) -> Duration {
    let start = tokio::time::Instant::now();
    let mut rest = Vec::new();
    // With a TLS close_notify or without.
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(String::from_utf8_lossy(&rest), "");
    start.elapsed()
}

#[tokio::test]
async fn a_client_finds_its_http1_connection_again_for_as_long_as_it_keeps_it() {
    let server = Running::start().await;
    let mut stream = server.connect(b"http/1.1", Some(&server.jane())).await;
    while server.pipeline.metrics().connections().get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..3 {
        tokio::time::pause();
        tokio::time::advance(CLIENT_IDLE + Duration::from_secs(30)).await;
        tokio::time::resume();
        let answer = ask(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("jane host"), "{answer}");
    }
    tokio::time::pause();
    let idle = cut(&mut stream).await;
    assert!(idle > CLIENT_IDLE && idle <= 2 * IDLE_TIMEOUT, "{idle:?}");
}

#[tokio::test]
async fn a_head_that_is_begun_and_not_ended_is_cut_soon() {
    let server = Running::start().await;
    let mut stream = server.connect(b"http/1.1", Some(&server.jane())).await;
    ask(&mut stream).await;
    stream.write_all(&HEAD[..20]).await.expect("sent");
    // Let the server read it before time is paused.
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::pause();
    let late = cut(&mut stream).await;
    assert!(late > HEADER_TIMEOUT / 2 && late < 2 * HEADER_TIMEOUT, "{late:?}");
}
