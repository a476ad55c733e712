//! More connections than the limit.

use super::*;
use crate::serve::activity::IDLE_TIMEOUT;

const PLACES: usize = 8;

/// Real time, for waiting on sockets. Far less than the limit of an idle connection.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn strangers_do_not_keep_others_out() {
    let server = Running::with_max_connections(PLACES).await;
    let mut known = server.http1(Some(&server.jane())).await;
    text(known.send_request(get(THINGS)).await.expect("answered")).await;
    let mut silent: Vec<Box<dyn Send>> = Vec::new();
    for number in 0..3 * PLACES {
        // Some do not begin a handshake.
        silent.push(if number % 3 == 0 {
            Box::new(TcpStream::connect(server.address).await.expect("connected"))
        } else {
            Box::new(server.connect(b"http/1.1", None).await)
        });
    }
    let newcomers = async {
        for _ in 0..PLACES {
            let mut newcomer = server.http1(Some(&server.jane())).await;
            let answer = newcomer.send_request(get(THINGS)).await.expect("answered");
            assert_eq!(text(answer).await, "jane host");
        }
    };
    assert!(SOON < IDLE_TIMEOUT);
    tokio::time::timeout(SOON, newcomers).await.expect("let in");
    let answer = known.send_request(get(THINGS)).await.expect("the first has kept its connection");
    assert_eq!(text(answer).await, "jane host");
    assert!(server.pipeline.metrics().connections().get() <= i64::try_from(PLACES).expect("few"));
}

/// How many bytes of frames a client that reads nothing can send until the server accepts no more.
async fn taken(server: &Running, begin: &[u8], repeated: &[u8]) -> usize {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut stream = server.connect(b"h2", Some(&server.jane())).await;
    stream.write_all(PREFACE).await.expect("sent");
    stream.write_all(begin).await.expect("sent");
    let mut taken = 0;
    let batch = repeated.repeat(1 + (16 << 10) / repeated.len());
    // Far more than sockets and buffers hold.
    while taken < 256 << 20 {
        match tokio::time::timeout(Duration::from_secs(1), stream.write_all(&batch)).await {
            Ok(Ok(())) => taken += batch.len(),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

#[tokio::test]
async fn a_peer_that_sends_frames_and_does_not_read_is_not_read_from() {
    let server = Running::start().await;
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let ping: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    for (what, flood) in [("PING", ping), ("SETTINGS", settings)] {
        let taken = taken(&server, settings, flood).await;
        assert!(taken < 64 << 20, "{what}: {taken} bytes");
    }
}
