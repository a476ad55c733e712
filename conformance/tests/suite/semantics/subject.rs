//! A subject of comparison, and the changes of its objects.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::BoxStream;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use gatehouse_conformance::pace::patience;
use http::{HeaderMap, Method, Request, StatusCode, header};
use kube::client::Body;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::site::{API, Site, kustomization};
use crate::world::settles;

/// For a change of an object, on a busy machine.
pub(super) const SHOWN: Duration = Duration::from_secs(15);

const KUSTOMIZE: &str = "/apis/kustomize.toolkit.fluxcd.io/v1";
/// The prefix of a row's name, before the name of the Kustomization.
const ROW: &str = "local.kustomization.";
/// The label of Kustomizations, which corresponds to the state of rows.
const LABEL: &str = "semantics";

/// Which server and resource a request is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Kustomizations, from kube-apiserver.
    Kubernetes,
    /// fluxresources, from Gatehouse through the aggregator.
    Aggregated,
    /// fluxresources, from Gatehouse directly.
    Direct,
}

/// A subject of a trial, with a namespace.
pub(super) struct Subject {
    pub(super) way: Way,
    pub(super) namespace: String,
    pub(super) caller: Caller,
    upstream: Caller,
}

/// Selects objects that are turned on, turned off, or either.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turned {
    On,
    Off,
    Either,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}", self.way, self.namespace)
    }
}

/// All three subjects, each with its own namespace.
pub(super) async fn apart(site: &Site, trial: &str) -> anyhow::Result<[Subject; 3]> {
    of(site, |way| format!("semantics-{trial}-{way:?}").to_lowercase()).await
}

/// All three subjects with one namespace, for requests that change nothing.
pub(super) async fn together(site: &Site, trial: &str) -> anyhow::Result<[Subject; 3]> {
    of(site, |_| format!("semantics-{trial}")).await
}

async fn of(site: &Site, namespace: impl Fn(Way) -> String) -> anyhow::Result<[Subject; 3]> {
    let upstream = site.caller().await?;
    let direct = site.direct_as("semantics", Some("system:masters")).await?;
    let subjects = [(Way::Kubernetes, &upstream), (Way::Aggregated, &upstream), (Way::Direct, &direct)];
    let subjects = subjects.map(|(way, caller)| Subject {
        way,
        namespace: namespace(way),
        caller: caller.clone(),
        upstream: upstream.clone(),
    });
    let made: BTreeSet<_> = subjects.iter().map(|subject| subject.namespace.as_str()).collect();
    let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    site.apply(made.into_iter().map(namespace)).await?;
    Ok(subjects)
}

/// Runs a trial on all subjects concurrently.
pub(super) async fn each(
    subjects: &[Subject; 3],
    ask: impl AsyncFn(&Subject) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let asked = subjects.iter().map(async |subject| ask(subject).await.with_context(|| subject.to_string()));
    futures::future::try_join_all(asked).await.map(drop)
}

impl Subject {
    /// The direct subject at another server.
    pub(super) fn at(&self, caller: Caller) -> Self {
        let (namespace, upstream) = (self.namespace.clone(), self.upstream.clone());
        Self { way: Way::Direct, namespace, caller, upstream }
    }

    pub(super) fn is_gatehouse(&self) -> bool {
        self.way != Way::Kubernetes
    }

    /// The path of the group and version.
    fn root(&self) -> &'static str {
        if self.is_gatehouse() { API } else { KUSTOMIZE }
    }

    pub(super) fn plural(&self) -> &'static str {
        if self.is_gatehouse() { "fluxresources" } else { "kustomizations" }
    }

    /// The path of the namespace's objects.
    pub(super) fn collection(&self) -> String {
        format!("{}/namespaces/{}/{}", self.root(), self.namespace, self.plural())
    }

    /// The full name of an object.
    pub(super) fn name(&self, name: &str) -> String {
        if self.is_gatehouse() { format!("{ROW}{name}") } else { name.to_owned() }
    }

    /// Fills the placeholders of a path or query.
    pub(super) fn spelled(&self, template: &str) -> String {
        let parts = [("root", self.root()), ("plural", self.plural()), ("ns", &self.namespace)];
        let parts = parts.map(|(part, word)| (part, word.to_owned()));
        let names = ["a", "b", "nobody"].map(|name| (name, self.name(name)));
        parts
            .into_iter()
            .chain(names)
            .fold(template.to_owned(), |text, (part, word)| text.replace(&format!("{{{part}}}"), &word))
    }

    pub(super) fn selector(&self, turned: Turned) -> String {
        let selector = match (self.is_gatehouse(), turned) {
            (false, Turned::On) => format!("labelSelector={LABEL}=on"),
            (false, Turned::Off) => format!("labelSelector={LABEL}=off"),
            (false, Turned::Either) => format!("labelSelector={LABEL}"),
            (true, Turned::On) => "fieldSelector=status.state=Ready".to_owned(),
            (true, Turned::Off) => "fieldSelector=status.state=Failed".to_owned(),
            (true, Turned::Either) => "fieldSelector=status.state!=Pending".to_owned(),
        };
        // The first `=` separates the parameter; the others belong to the selector.
        let (parameter, value) = selector.split_once('=').unwrap_or_default();
        format!("{parameter}={}", value.replace('=', "%3D"))
    }

    /// Whether an object is in the state that it has while it is turned on.
    pub(super) fn is_on(&self, object: &Value) -> bool {
        if self.is_gatehouse() {
            object["status"]["state"] == "Ready"
        } else {
            object["metadata"]["labels"][LABEL] == "on"
        }
    }

    /// How often an object had been touched in this version.
    pub(super) fn touched(&self, object: &Value) -> Option<u64> {
        let reported = if self.is_gatehouse() {
            &object["status"]["message"]
        } else {
            &object["metadata"]["annotations"][LABEL]
        };
        reported.as_str().and_then(|text| text.strip_prefix("touched ")?.parse().ok())
    }

    /// Creates an object that is neither on nor off.
    pub(super) async fn create(&self, name: &str) -> anyhow::Result<()> {
        let object = kustomization(&self.namespace, name, Ok(()));
        let answer = self.upstream.post(&self.upstream_path(""), &object).await?;
        ensure!(answer.code == StatusCode::CREATED, "{answer:#?}");
        Ok(())
    }

    pub(super) async fn turn(&self, name: &str, on: bool) -> anyhow::Result<()> {
        let label = json!({"metadata": {"labels": {LABEL: if on { "on" } else { "off" }}}});
        self.patch(name, label, status(if on { Ok(()) } else { Err("off") }, None)).await
    }

    /// Changes an object without effect on selectors; it must be on.
    pub(super) async fn touch(&self, name: &str, number: u64) -> anyhow::Result<()> {
        let annotation = json!({"metadata": {"annotations": {LABEL: format!("touched {number}")}}});
        self.patch(name, annotation, status(Ok(()), Some(number))).await
    }

    pub(super) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let path = self.upstream_path(&format!("/{name}"));
        self.upstream.send(&Method::DELETE, &path, &[]).await?.ok().map(drop)
    }

    /// Creates objects that are on, and waits until all are listed as on.
    pub(super) async fn fill(&self, names: &[String]) -> anyhow::Result<()> {
        let made = names.iter().map(async |name| {
            self.create(name).await?;
            self.turn(name, true).await
        });
        futures::future::try_join_all(made).await?;
        self.shows(names.len()).await
    }

    /// Waits until this many objects are listed, all of them on.
    pub(super) async fn shows(&self, count: usize) -> anyhow::Result<()> {
        let list = async || self.list("").await?.ok();
        let all = |list: &Value| {
            let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            items.len() == count && items.iter().all(|item| self.is_on(item))
        };
        settles(format!("{self}: {count} objects"), SHOWN, list, all).await.map(drop)
    }

    /// One request changes what selectors use: the label of the Kustomization, or the state of its row.
    async fn patch(&self, name: &str, metadata: Value, status: Value) -> anyhow::Result<()> {
        let (change, below) = if self.is_gatehouse() { (status, "/status") } else { (metadata, "") };
        let path = self.upstream_path(&format!("/{name}{below}"));
        let body = change.to_string().into_bytes();
        let answer = self.upstream.write(&Method::PATCH, &path, "application/merge-patch+json", body).await?;
        answer.ok().map(drop)
    }

    fn upstream_path(&self, below: &str) -> String {
        format!("{KUSTOMIZE}/namespaces/{}/kustomizations{below}", self.namespace)
    }

    /// Lists the namespace.
    pub(super) async fn list(&self, query: &str) -> anyhow::Result<Answer> {
        self.caller.get(&format!("{}?{query}", self.collection())).await
    }

    /// The resourceVersion of a list of the namespace.
    pub(super) async fn version(&self) -> anyhow::Result<String> {
        Ok(version(&self.list("").await?.ok()?).to_owned())
    }

    /// Opens a watch of the namespace, which ends when it is dropped.
    pub(super) async fn watch(&self, query: &str) -> anyhow::Result<Watch> {
        self.watch_as(query, "application/json").await
    }

    pub(super) async fn watch_as(&self, query: &str, accept: &str) -> anyhow::Result<Watch> {
        // The first value of a repeated parameter counts.
        let uri = format!("{}?watch=true&{query}&timeoutSeconds=900", self.collection());
        let request = Request::get(&uri).header(header::ACCEPT, accept).body(Vec::new())?;
        let lines = self.caller.client.request_stream(request).await.with_context(|| uri.clone())?.lines();
        Ok(Watch { of: format!("{}: {uri}", self.way), lines: lines.err_into().boxed() })
    }

    /// All documents of a response: the events of a watch, or a single one. A response with the content type of JSON
    /// must be JSON; others are not parsed.
    pub(super) async fn documents(
        &self,
        method: &Method,
        path: &str,
        accept: &str,
    ) -> anyhow::Result<(StatusCode, HeaderMap, Vec<Value>)> {
        let request =
            Request::builder().method(method).uri(path).header(header::ACCEPT, accept).body(Body::empty())?;
        let response = tokio::time::timeout(patience(SHOWN), self.caller.client.send(request));
        let (head, body) = response.await.with_context(|| path.to_owned())??.into_parts();
        let bytes = tokio::time::timeout(patience(SHOWN), body.collect_bytes());
        let bytes = bytes.await.with_context(|| format!("{path} does not end"))??;
        let content_type = head.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
        if !content_type.unwrap_or_default().starts_with(b"application/json") {
            return Ok((head.status, head.headers, Vec::new()));
        }
        let documents: Result<_, _> = serde_json::Deserializer::from_slice(&bytes).into_iter().collect();
        let documents = documents.with_context(|| format!("{path}: {}", bytes.escape_ascii()))?;
        Ok((head.status, head.headers, documents))
    }

    /// The name of an object without the prefix of rows.
    pub(super) fn short<'a>(&self, object: &'a Value) -> &'a str {
        let name = named(object)["name"].as_str().unwrap_or_default();
        if self.is_gatehouse() { name.trim_start_matches(ROW) } else { name }
    }

    /// A summary of an event: its type, and the name of the object or other content.
    pub(super) fn reported(&self, event: &Value) -> String {
        let (kind, object) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
        match kind {
            "BOOKMARK" => {
                let ends = &named(object)["annotations"]["k8s.io/initial-events-end"];
                if ends == "true" { "BOOKMARK of the end".to_owned() } else { kind.to_owned() }
            }
            "ERROR" => format!("ERROR {} {}", object["code"], object["reason"].as_str().unwrap_or_default()),
            _ => format!("{kind} {}", self.short(object)),
        }
    }

    pub(super) fn names(&self, list: &Value) -> Vec<String> {
        let items = list["items"].as_array().or_else(|| list["rows"].as_array());
        items.into_iter().flatten().map(|item| self.short(item).to_owned()).collect()
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The metadata of an object, of a row, or of the only row of a Table.
fn named(object: &Value) -> &Value {
    let row = if object["kind"] == "Table" { &object["rows"][0] } else { object };
    if row["object"].is_object() { &row["object"]["metadata"] } else { &row["metadata"] }
}

pub(super) fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

pub(super) fn number(object: &Value) -> anyhow::Result<u64> {
    version(object).parse().with_context(|| format!("the version of {object:#}"))
}

/// The status that kustomize-controller would write.
fn status(verdict: Result<(), &str>, touched: Option<u64>) -> Value {
    let mut status = kustomization("", "", verdict)["status"].take();
    if let Some(number) = touched {
        status["conditions"][0]["message"] = json!(format!("touched {number}"));
    }
    json!({"status": status})
}

/// The events of a watch.
pub(super) struct Watch {
    of: String,
    lines: BoxStream<'static, anyhow::Result<String>>,
}

impl Watch {
    /// The next event. It is an error if none arrives in time.
    pub(super) async fn next(&mut self) -> anyhow::Result<Value> {
        let line = tokio::time::timeout(patience(SHOWN), self.lines.next()).await;
        let line = line.with_context(|| format!("{}: no event", self.of))?;
        let line = line.with_context(|| format!("{}: the watch ended", self.of))?;
        Ok(serde_json::from_str(&line?)?)
    }

    /// The next event, which must have this summary. Bookmarks are skipped, since they may come at any time.
    pub(super) async fn reports(&mut self, subject: &Subject, expected: &str) -> anyhow::Result<Value> {
        let (event, reported) = loop {
            let event = self.next().await.with_context(|| format!("instead of {expected:?}"))?;
            let reported = subject.reported(&event);
            if reported != "BOOKMARK" {
                break (event, reported);
            }
        };
        ensure!(reported == expected, "{}: {reported:?} instead of {expected:?}: {event:#}", self.of);
        Ok(event)
    }

    /// All events until the watch ends.
    pub(super) async fn rest(self) -> anyhow::Result<Vec<Value>> {
        let lines: Vec<String> = self.lines.try_collect().await?;
        lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
