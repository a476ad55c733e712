//! Clients that send a request and do not read the response.

use super::*;
use crate::pipeline::testing::LONG;

/// Paused time, which advances while all tasks are idle.
const GENEROUS: Duration = Duration::from_mins(10);

/// Requests more than socket buffers hold, and reads nothing. The returned value keeps the client alive.
async fn ask(server: &Running, alpn: &[u8]) -> Box<dyn Send> {
    let stream = TokioIo::new(Unread(server.connect(alpn, Some(&server.jane())).await, 64 << 10));
    if alpn == b"h2" {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_connection_window_size(1 << 30).initial_stream_window_size(1 << 30);
        let (mut sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(get(&format!("https://localhost{LONG}"))).await.expect("answered");
        Box::new((sender, connection, answer))
    } else {
        let (mut sender, connection) = http1::handshake(stream).await.expect("HTTP/1.1");
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(get(LONG)).await.expect("answered");
        Box::new((sender, connection, answer))
    }
}

/// A connection that reads only so many bytes.
struct Unread(TlsStream<TcpStream>, usize);

impl tokio::io::AsyncRead for Unread {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let Self(stream, left) = self.get_mut();
        if *left == 0 {
            return std::task::Poll::Pending;
        }
        let before = buffer.filled().len();
        let outcome = std::pin::Pin::new(stream).poll_read(context, buffer);
        *left = left.saturating_sub(buffer.filled().len() - before);
        outcome
    }
}

impl tokio::io::AsyncWrite for Unread {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let server = Running::start().await;
        let client = ask(&server, alpn).await;
        let metrics = server.pipeline.metrics();
        assert_eq!((metrics.connections().get(), metrics.in_flight(true).get()), (1, 1));
        tokio::time::pause();
        let closed = async {
            while metrics.connections().get() > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(GENEROUS, closed).await.expect("cut");
        assert_eq!(metrics.in_flight(true).get(), 0);
        tokio::time::resume();
        drop(client);
    }
}
