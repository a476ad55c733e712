//! Tests of watches over WebSocket. Client and server are hyper's, with HTTP/1.1 over memory.

use futures::StreamExt;
use http_body_util::Empty;
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

const HANDSHAKE: &[(&str, &str)] = &[
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A connection to the server.
fn connection(server: &Arc<Server>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(16 << 10);
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let server = Arc::clone(&server);
            async move {
                let (parts, _) = request.into_parts();
                let answer = server.endpoints.serve(server.authorized(parts)).await;
                Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(ApiError::into_response))
            }
        });
        server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(theirs), service)
            .with_upgrades()
            .await
    });
    ours
}

/// The response to a request for a watch.
async fn ask(server: &Arc<Server>, uri: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let (mut sender, http) =
        client::conn::http1::handshake(TokioIo::new(connection(server))).await.expect("HTTP/1.1");
    tokio::spawn(http.with_upgrades());
    let mut request = Request::builder().uri(uri).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("an answer")
}

async fn open(server: &Arc<Server>, parameters: &[(&str, &str)]) -> Socket {
    let uri = all(&[&[("watch", "true")], parameters].concat());
    let response = ask(server, &uri, HANDSHAKE).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = hyper::upgrade::on(response).await.expect("upgraded");
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

/// The next event in the form of [`told`]; `None` at the end.
async fn next(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => {
                return Some(reported(&serde_json::from_str(&text).expect("one event")));
            }
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_websocket_carries_the_events_of_the_watch_one_in_a_frame() {
    let server = Arc::new(Server::with(&["a/x", "a/y"]));
    let mut socket = open(&server, &[]).await;
    assert_eq!(next(&mut socket).await.as_deref(), Some("ADDED a/x Ready"));
    assert_eq!(next(&mut socket).await.as_deref(), Some("ADDED a/y Ready"));
    server.put("a/x", "Failed");
    server.delete("a/y");
    assert_eq!(next(&mut socket).await.as_deref(), Some("MODIFIED a/x Failed"));
    assert_eq!(next(&mut socket).await.as_deref(), Some("DELETED a/y Ready"));
}

#[tokio::test(start_paused = true)]
async fn a_websocket_is_closed_when_the_watch_ends() {
    let server = Arc::new(Server::with(&["a/x"]));
    let mut brief = open(&server, &[("timeoutSeconds", "7")]).await;
    let mut long = open(&server, &[]).await;
    let start = Instant::now();
    for socket in [&mut brief, &mut long] {
        assert_eq!(next(socket).await.as_deref(), Some("ADDED a/x Ready"));
    }
    let closed = brief.next().await.expect("a frame").expect("a message");
    assert!(matches!(closed, Message::Close(Some(_))), "{closed:?}");
    assert_eq!(start.elapsed().as_secs(), 7);
    server.stop.cancel();
    assert_eq!(next(&mut long).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_when_the_websocket_is_closed_or_its_peer_is_gone() {
    let server = Arc::new(Server::with(&["a/x"]));
    let free = server.endpoints.sockets.free_slots();
    let mut polite = open(&server, &[]).await;
    let silent = open(&server, &[]).await;
    assert_eq!(server.endpoints.sockets.free_slots(), free - 2);
    polite.close(None).await.expect("closed");
    while polite.next().await.is_some() {}
    let start = Instant::now();
    while server.endpoints.sockets.free_slots() < free {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The client reads nothing, so it answers no ping.
    assert!((30..=61).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_is_kept() {
    let server = Arc::new(Server::with(&["a/x"]));
    let mut socket = open(&server, &[]).await;
    assert_eq!(next(&mut socket).await.as_deref(), Some("ADDED a/x Ready"));
    let quiet = timeout(Duration::from_mins(10), next(&mut socket)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    server.put("a/x", "Failed");
    assert_eq!(next(&mut socket).await.as_deref(), Some("MODIFIED a/x Failed"));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_none_is_refused_and_errors_are_told_before_it() {
    let server = Arc::new(Server::with(&["a/x"]));
    let uri = all(&[("watch", "1")]);
    for (left_out, status) in [("sec-websocket-version", 400), ("sec-websocket-key", 400), ("upgrade", 200)] {
        let headers: Vec<_> = HANDSHAKE.iter().filter(|(name, _)| *name != left_out).copied().collect();
        assert_eq!(ask(&server, &uri, &headers).await.status(), status, "without {left_out}");
    }
    let nonsense = all(&[("watch", "1"), ("resourceVersion", "x")]);
    assert_eq!(ask(&server, &nonsense, HANDSHAKE).await.status(), 422);
    let mut expired = open(&server, &[("resourceVersion", "1")]).await;
    assert_eq!(next(&mut expired).await.as_deref(), Some("ERROR 410"));
    assert_eq!(ask(&server, SUMMARIES, HANDSHAKE).await.status(), 200, "a list is a list");
}

/// A frame from a client, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode];
    if let Ok(short @ ..=0x7d) = u8::try_from(payload.len()) {
        frame.push(0x80 | short);
    } else {
        frame.push(0x80 | 0x7e);
        frame.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_and_does_not_read_is_not_read_from_and_is_cut() {
    const TEXT: u8 = 0x81;
    const TEXT_TO_GO_ON: u8 = 0x01;
    const GOES_ON: u8 = 0x00;
    const CLOSE: u8 = 0x88;
    const PING: u8 = 0x89;
    let (first, middle) = (frame(TEXT_TO_GO_ON, b"a"), frame(GOES_ON, b""));
    for (what, begin, repeated) in [
        ("pings", Vec::new(), frame(PING, &[0; 125])),
        ("pings within a message", first.clone(), frame(PING, &[0; 125])),
        ("pings after a close", frame(CLOSE, &[]), frame(PING, &[0; 125])),
        ("a message that never ends", first, [middle, frame(PING, &[0; 125])].concat()),
        ("messages too large", Vec::new(), frame(TEXT, &[b'x'; 5000])),
    ] {
        let server = Arc::new(Server::with(&["a/x"]));
        let free = server.endpoints.sockets.free_slots();
        let response = ask(&server, &all(&[("watch", "true")]), HANDSHAKE).await;
        let mut socket = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
        let start = Instant::now();
        let mut sent = 0;
        let flood = async {
            socket.write_all(&begin).await?;
            // Far more than the buffers on the way hold.
            while sent < 64 << 20 {
                socket.write_all(&repeated).await?;
                sent += repeated.len();
            }
            Ok::<_, std::io::Error>(())
        };
        // The write fails once the server closes the connection.
        let ended = timeout(Duration::from_mins(5), flood).await;
        assert!(matches!(ended, Ok(Err(_))), "{what}: {sent} bytes taken, {ended:?}");
        assert!(sent < 256 << 10, "{what}: {sent} bytes taken of a client that does not read");
        assert!(start.elapsed() < Duration::from_mins(2), "{what}");
        while server.endpoints.sockets.free_slots() < free {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(start.elapsed() < Duration::from_mins(2), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_gets_an_answer_to_each_ping() {
    let server = Arc::new(Server::with(&["a/x"]));
    let response = ask(&server, &all(&[("watch", "true")]), HANDSHAKE).await;
    let socket = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
    let (mut reading, mut writing) = tokio::io::split(socket);
    let ping = frame(0x89, b"12345678");
    let sending = async {
        for _ in 0..10_000 {
            writing.write_all(&ping).await.expect("taken");
        }
    };
    let answers = async {
        let mut bytes = Vec::new();
        while bytes.windows(10).filter(|frame| *frame == b"\x8a\x0812345678").count() < 10_000 {
            assert_ne!(reading.read_buf(&mut bytes).await.expect("open"), 0);
        }
    };
    timeout(Duration::from_mins(1), futures::future::join(sending, answers)).await.expect("all of them");
}

#[tokio::test(start_paused = true)]
async fn one_user_leaves_sockets_to_others() {
    let server = Arc::new(Server::with(&["a/x"]));
    let holder = |name: &str| {
        Holder::user(&gatehouse_serving::authn::UserInfo { name: name.to_owned(), ..Default::default() })
    };
    let all = server.endpoints.sockets.free_slots();
    let mut greedy = Vec::new();
    while let Some(held) = server.endpoints.sockets.acquire_slot(holder("greedy")) {
        greedy.push(held);
    }
    assert_eq!(greedy.len(), all / 4 * 3);
    assert!(server.endpoints.sockets.acquire_slot(holder("other")).is_some());
}
