//! The formats of objects, lists and events, and the paths and methods of requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::ensure;
use http::{Method, StatusCode, header};
use libtest_mimic::Trial;
use serde_json::Value;

use super::compare::{compared, filled};
use super::subject::{SHOWN, Subject, apart, each, version};
use crate::site::Site;
use crate::world::{World, settles};

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("semantics_forms::every_accept_header_is_answered_as_by_kubernetes", accept),
        world.shared("semantics_forms::every_path_and_method_is_answered_as_by_kubernetes", paths),
        world.shared("semantics_forms::tables_of_a_watch_name_their_columns_once", columns_once),
    ]
}

// Protobuf is not tested: Gatehouse does not support it, and clients that request it also accept JSON.

/// A document of a response, reduced to what does not depend on the content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    /// kind and apiVersion; those of the resource itself are replaced.
    kind: String,
    /// The number of objects or rows, and their kinds.
    content: Option<(usize, BTreeSet<String>)>,
    has_columns: bool,
    /// The type, if it is an event.
    event: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Answered {
    code: u16,
    /// The reason, if it is an error.
    reason: String,
    content_type: String,
    documents: Vec<Shown>,
}

fn kind(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, version) = (text(&object["kind"]), text(&object["apiVersion"]));
    // The two resources have different kinds, as they should.
    if version.contains("gatehouse") || version.contains("toolkit") {
        if kind.ends_with("List") { "(own list)".to_owned() } else { "(own)".to_owned() }
    } else {
        format!("{version} {kind}")
    }
}

impl Shown {
    fn of(document: &Value) -> Self {
        let event = document["type"].as_str().filter(|_| document["object"].is_object());
        let object = if event.is_some() { &document["object"] } else { document };
        let is_list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List") || kind == "Table");
        // The items of an empty list may be null.
        let items = object["items"].as_array().or_else(|| object["rows"].as_array()).map(Vec::as_slice);
        let items = items.or(is_list.then_some(&[]));
        let inner = |item: &Value| {
            if item["cells"].is_array() { kind(&item["object"]) } else { kind(item) }
        };
        Self {
            kind: kind(object),
            content: items.map(|items| (items.len(), items.iter().map(inner).collect())),
            has_columns: object["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()),
            event: event.map(ToOwned::to_owned),
        }
    }
}

/// A method, a path and an Accept header.
type Question = (Method, String, &'static str);

async fn answered(subject: &Subject, (method, path, accept): &Question) -> anyhow::Result<Answered> {
    let (code, headers, documents) = subject.documents(method, &subject.spelled(path), accept).await?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let reason = documents.first().map(|document| &document["reason"]).filter(|_| code != StatusCode::OK);
    Ok(Answered {
        code: code.as_u16(),
        reason: reason.and_then(Value::as_str).unwrap_or_default().to_owned(),
        content_type: content_type.unwrap_or_default().to_owned(),
        // Errors differ only in their messages.
        documents: if code == StatusCode::OK {
            documents.iter().map(Shown::of).collect()
        } else {
            Vec::new()
        },
    })
}

async fn accept(site: Arc<Site>) -> anyhow::Result<()> {
    const WATCH: &str = "?watch=true&timeoutSeconds=1&";
    const ACCEPT: [&str; 22] = [
        "",
        "*/*",
        "application/*",
        "application/json",
        "application/json;stream=watch",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
        "application/json;as=Table;v=v1alpha1;g=meta.k8s.io",
        "application/json;as=Table;v=v1;g=example.com",
        "application/json;as=Table",
        "application/json;as=Chair;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1beta1;g=meta.k8s.io",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        "application/json;as=Table;v=v9;g=meta.k8s.io,application/json",
        "application/vnd.kubernetes.protobuf,application/json",
        "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
        "text/html",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "nonsense",
    ];
    let subjects = filled(&site, "accept").await?;
    let mut questions: Vec<Question> = Vec::new();
    let mut ask = |accept, path, parameters| {
        let path = format!("{{root}}/namespaces/{{ns}}/{{plural}}{path}{parameters}");
        questions.push((Method::GET, path, accept));
    };
    for accept in ACCEPT {
        for parameters in ["", "limit=1", "fieldSelector=metadata.name%3Dnobody"] {
            ask(accept, "?", parameters);
        }
        for parameters in
            ["", "includeObject=None", "includeObject=Metadata", "includeObject=Object", "includeObject="]
        {
            for path in ["?", "/{a}?", WATCH] {
                ask(accept, path, parameters);
            }
        }
        let is_table = accept.starts_with("application/json;as=Table;v=v1") && !accept.contains("v1alpha1");
        if is_table && accept.contains("meta") || accept == "application/json" {
            for path in ["?", "/{a}?", WATCH] {
                ask(accept, path, "includeObject=Everything");
            }
        }
    }
    let differs = |(_, path, accept): &Question| {
        // kube-apiserver validates this parameter only for Tables.
        let unread = path.contains("Everything") && *accept == "application/json";
        // kube-apiserver fails or sends nothing if a list type is requested for a single object.
        let one = path.contains("{a}") || path.contains("watch=");
        unread || one && accept.contains("as=PartialObjectMetadataList")
    };
    compared(&subjects, questions, answered, differs).await
}

async fn paths(site: Arc<Site>) -> anyhow::Result<()> {
    let subjects = filled(&site, "paths").await?;
    let mut questions: Vec<Question> = Vec::new();
    for method in [Method::GET, Method::HEAD] {
        for path in [
            "{root}/namespaces/{ns}/{plural}",
            "{root}/namespaces/{ns}/{plural}/",
            "{root}/namespaces/{ns}/{plural}/{a}",
            "{root}/namespaces/{ns}/{plural}/{a}/",
            "{root}/namespaces/{ns}/{plural}/{a}?watch=true&timeoutSeconds=1",
            "{root}/namespaces/{ns}/{plural}/{a}/nothing",
            "{root}/namespaces/{ns}/{plural}/{a}/nothing/more",
            "{root}/namespaces/{ns}/{plural}/nobody",
            "{root}/namespaces/no-such-namespace/{plural}",
            "{root}/namespaces/no-such-namespace/{plural}?watch=true&timeoutSeconds=1",
            "{root}/namespaces/{ns}/nothings",
            "{root}/namespaces/{ns}",
            "{root}/{plural}/{a}",
            "{root}/{plural}?fieldSelector=metadata.namespace%3D{ns}",
            "{root}/watch/{plural}?fieldSelector=metadata.namespace%3D{ns}&timeoutSeconds=1",
            "{root}/watch/namespaces/{ns}/{plural}?timeoutSeconds=1",
            "{root}/watch/namespaces/{ns}/{plural}/{a}?timeoutSeconds=1",
            "{root}/watch/namespaces/{ns}/{plural}/nobody?timeoutSeconds=1",
            "{root}/watch/namespaces/{ns}/{plural}?watch=false&timeoutSeconds=1",
            "{root}/namespaces/{ns}/{plural}?watch&timeoutSeconds=1",
            "{root}/namespaces/{ns}/{plural}?watch=false",
        ] {
            questions.push((method.clone(), path.to_owned(), "application/json"));
        }
    }
    for method in [Method::OPTIONS, Method::TRACE] {
        questions.push((method, "{root}/namespaces/{ns}/{plural}".to_owned(), "application/json"));
    }
    let differs = |(_, path, _): &Question| {
        // For an unknown path, kube-apiserver sends plain text; Gatehouse sends a Status.
        path.ends_with("/nothings")
            || path.ends_with("/namespaces/{ns}")
            || path.ends_with("{root}/{plural}/{a}")
    };
    compared(&subjects, questions, answered, differs).await
}

async fn columns_once(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "columns-once").await?, async |subject| {
        subject.create("x").await?;
        let list = async || subject.list("").await?.ok();
        let list = settles("it is shown", SHOWN, list, |list| subject.names(list) == ["x"]).await?;
        let from = format!("resourceVersion={}", version(&list));
        for (query, includes) in [("None", false), ("Metadata", true), ("Object", true)] {
            let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
            let mut watch = subject.watch_as(&format!("{from}&includeObject={query}"), table).await?;
            let on = query != "Metadata";
            subject.turn("x", on).await?;
            // The watch begins at the same version as the previous ones, so it repeats their events.
            let mut first = true;
            loop {
                let event = watch.next().await?;
                let object = &event["object"];
                ensure!(event["type"] == "MODIFIED" && object["kind"] == "Table", "{event:#}");
                ensure!(
                    object["columnDefinitions"].as_array().is_some_and(|all| !all.is_empty()) == first,
                    "{event:#}"
                );
                ensure!(object["rows"].as_array().map(Vec::len) == Some(1), "{event:#}");
                ensure!(object["rows"][0]["object"].is_object() == includes, "{event:#}");
                let whole = &object["rows"][0]["object"];
                first = false;
                if query != "Object" || subject.is_on(whole) {
                    break;
                }
            }
        }
        Ok(())
    })
    .await
}
