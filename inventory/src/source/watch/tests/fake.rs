//! A small API server with scripted responses, which records requests.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub(super) const KUSTOMIZATIONS: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/kustomizations";

/// An answer to one request.
#[derive(Debug)]
pub(super) enum Reply {
    /// A complete body.
    Body(u16, Value),
    /// A watch that sends these events and ends.
    Events(Vec<Value>),
    /// A watch that sends these events and stays open.
    Open(Vec<Value>),
}

#[derive(Debug, Default)]
struct Script {
    kustomizations: VecDeque<Reply>,
    asked: Vec<String>,
    accept: Vec<String>,
    serves_kustomizations: bool,
    is_ill: bool,
    minor: &'static str,
    /// The resourceVersion in lists with a limit of 1; the largest one if it is not set.
    newest: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Fake {
    script: Arc<Mutex<Script>>,
    address: String,
    _serving: Arc<JoinSet<()>>,
}

impl Fake {
    /// Serves Nodes (always empty) and Kustomizations (by `replies`, then it does not answer).
    pub(super) async fn start(minor: &'static str, replies: Vec<Reply>) -> Self {
        let script = Script {
            kustomizations: replies.into(),
            serves_kustomizations: true,
            minor,
            ..Script::default()
        };
        let script = Arc::new(Mutex::new(script));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        let answering = Arc::clone(&script);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                connections.spawn(serve(connection, Arc::clone(&answering)));
            }
        });
        Self { script, address, _serving: Arc::new(serving) }
    }

    pub(super) fn client(&self) -> Client {
        Client::try_from(Config::new(self.address.parse().unwrap())).unwrap()
    }

    /// The queries of all requests for Kustomizations.
    pub(super) fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap().asked.clone()
    }

    /// The `Accept` headers of all requests for Kustomizations.
    pub(super) fn accepted(&self) -> Vec<String> {
        self.script.lock().unwrap().accept.clone()
    }

    pub(super) fn serve_kustomizations(&self, serves: bool) {
        self.script.lock().unwrap().serves_kustomizations = serves;
    }

    /// Whether a request for the version, as in a heartbeat, gets 500.
    pub(super) fn fall_ill(&self, is_ill: bool) {
        self.script.lock().unwrap().is_ill = is_ill;
    }

    /// Sets the newest resourceVersion.
    pub(super) fn go_back_to(&self, version: u64) {
        self.script.lock().unwrap().newest = Some(version);
    }

    pub(super) fn script(&self, reply: Reply) {
        self.script.lock().unwrap().kustomizations.push_back(reply);
    }
}

async fn serve(connection: TcpStream, script: Arc<Mutex<Script>>) -> Option<()> {
    let (reader, mut writer) = connection.into_split();
    let mut lines = BufReader::new(reader).lines();
    loop {
        let request = lines.next_line().await.ok()??;
        let target = request.split(' ').nth(1)?.to_owned();
        loop {
            let header = lines.next_line().await.ok()??;
            match header.split_once(": ") {
                Some((name, value))
                    if name.eq_ignore_ascii_case("accept") && target.starts_with(KUSTOMIZATIONS) =>
                {
                    script.lock().unwrap().accept.push(value.to_owned());
                }
                _ if header.is_empty() => break,
                _ => {}
            }
        }
        match answer(&target, &script) {
            Some(Reply::Body(code, body)) => {
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                writer.write_all((head + &body).as_bytes()).await.ok()?;
            }
            Some(Reply::Events(events)) => {
                stream(&mut writer, &events).await?;
                writer.write_all(b"0\r\n\r\n").await.ok()?;
            }
            Some(Reply::Open(events)) => {
                stream(&mut writer, &events).await?;
                std::future::pending::<()>().await;
            }
            None => std::future::pending().await,
        }
    }
}

async fn stream(writer: &mut (impl AsyncWriteExt + Unpin), events: &[Value]) -> Option<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    writer.write_all(head.as_bytes()).await.ok()?;
    for event in events {
        let line = format!("{event}\n");
        writer.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.ok()?;
    }
    Some(())
}

fn answer(target: &str, script: &Mutex<Script>) -> Option<Reply> {
    let mut script = script.lock().unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/version" if script.is_ill => Some(status(500, "ill")),
        "/version" => Some(Reply::Body(
            200,
            json!({"major": "1", "minor": script.minor, "gitVersion": format!("v1.{}.0", script.minor)}),
        )),
        "/api" => Some(Reply::Body(200, groups(&[("", "nodes", "Node")]))),
        "/apis" if script.serves_kustomizations => {
            let group = ("kustomize.toolkit.fluxcd.io", "kustomizations", "Kustomization");
            Some(Reply::Body(200, groups(&[group])))
        }
        "/apis" => Some(Reply::Body(200, groups(&[]))),
        "/api/v1/nodes" if query.contains("watch=true") => Some(Reply::Open(vec![bookmark("1")])),
        "/api/v1/nodes" => Some(Reply::Body(200, list(&[], "1", ""))),
        // Only the check of the newest resourceVersion asks for a single object.
        KUSTOMIZATIONS if query.ends_with("limit=1") => {
            let newest = script.newest.unwrap_or(u64::MAX).to_string();
            Some(Reply::Body(200, list(&[], &newest, "")))
        }
        KUSTOMIZATIONS => {
            script.asked.push(query.to_owned());
            script.kustomizations.pop_front()
        }
        _ => Some(status(403, "not yours")),
    }
}

fn groups(served: &[(&str, &str, &str)]) -> Value {
    let group = |&(name, plural, kind): &(&str, &str, &str)| {
        json!({"metadata": {"name": name}, "versions": [{"version": "v1", "freshness": "Current", "resources": [{
            "resource": plural, "responseKind": {"group": name, "version": "v1", "kind": kind},
            "scope": "Namespaced", "singularResource": "", "verbs": ["get", "list", "watch"]}]}]})
    };
    json!({"kind": "APIGroupDiscoveryList", "items": served.iter().map(group).collect::<Vec<_>>()})
}

pub(super) fn status(code: u16, message: &str) -> Reply {
    Reply::Body(code, failure(code, message))
}

fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "message": message})
}

pub(super) fn app(name: &str, version: &str) -> Value {
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
           "metadata": {"name": name, "namespace": "apps", "resourceVersion": version, "uid": name}})
}

pub(super) fn list(items: &[Value], version: &str, more: &str) -> Value {
    json!({"kind": "KustomizationList", "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
           "metadata": {"resourceVersion": version, "continue": more}, "items": items})
}

#[expect(clippy::needless_pass_by_value, reason = "scripts read better without a borrow at every event")]
pub(super) fn event(what: &str, object: Value) -> Value {
    json!({"type": what, "object": object})
}

pub(super) fn bookmark(version: &str) -> Value {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    event(
        "BOOKMARK",
        json!({"kind": "Kustomization", "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "metadata": {"resourceVersion": version, "annotations": annotations}}),
    )
}

/// 410 as an event of an open watch.
pub(super) fn expired() -> Value {
    event("ERROR", failure(410, "too old resource version"))
}
