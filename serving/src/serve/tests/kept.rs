//! Connections that are kept though nothing is asked for a while, and those that are not.

use super::*;
use crate::serve::activity::{HEADER_TIMEOUT, IDLE_TIMEOUT};

/// As Go's net/http has it for connections that it may use again.
const CLIENT_IDLE: Duration = Duration::from_secs(90);
const HEAD: &[u8] = b"GET /apis/g/v1/things HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Sends it, and reads an answer with a short body.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(HEAD).await.expect("sent");
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// When the server ends the connection, in the test's own time.
async fn cut(stream: &mut TlsStream<TcpStream>) -> Duration {
    let start = tokio::time::Instant::now();
    let mut rest = Vec::new();
    // With a word or without.
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
    // The server has it before the time stands still.
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::pause();
    let late = cut(&mut stream).await;
    assert!(late > HEADER_TIMEOUT / 2 && late < 2 * HEADER_TIMEOUT, "{late:?}");
}
