//! All combinations of the parameters for resourceVersion, limit, continue and initial events.
//!
//! Nothing changes in the meantime, so the answers must agree: in errors and their causes, in listed objects, and in
//! events.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::Value;

use super::compare::{compared, filled};
use super::subject::{Subject, Way, number, version};
use crate::site::Site;
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("semantics_options::lists_answer_every_combination_as_kubernetes_does", lists),
        world.shared("semantics_options::watches_answer_every_combination_as_kubernetes_does", watches),
        world.shared("semantics_options::gets_answer_every_version_as_kubernetes_does", gets),
        world.shared("semantics_options::versions_from_the_future_are_answered_as_by_kubernetes", future),
        world.shared("semantics_options::fields_of_metadata_select_as_in_kubernetes", metadata_fields),
    ]
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Code, reason, and the reason and field of each cause.
    Refused(u64, String, BTreeSet<(String, String)>),
    /// The names of the objects, whether there is a continue token, and the remaining item count.
    Listed(Vec<String>, bool, Option<u64>),
    /// A single object.
    Got(String),
    /// The events. The initial ones may come in any order.
    Watched(Vec<String>),
}

/// The values for the placeholders in a query, for one of the three subjects.
struct Names {
    way: Way,
    version: String,
    token: String,
    /// A resourceVersion that will not be reached.
    future: u64,
}

impl Names {
    async fn of(subject: &Subject) -> anyhow::Result<Self> {
        let page = subject.list("limit=1").await?.ok()?;
        let token = page["metadata"]["continue"].as_str().context("a token")?.to_owned();
        // The largest possible version, and one that is plausible: etcd counts writes.
        let future = if subject.is_gatehouse() { (1 << 53) - 1 } else { number(&page)? + 1_000_000 };
        Ok(Self { way: subject.way, version: version(&page).to_owned(), token, future })
    }
}

/// Sends each query to all three subjects, each with its own values.
async fn queried(
    subjects: &[Subject; 3],
    queries: Vec<String>,
    ask: impl AsyncFn(&Subject, &str, &Names) -> anyhow::Result<Outcome>,
    differs: impl Fn(&String) -> bool,
) -> anyhow::Result<()> {
    let names = futures::future::try_join_all(subjects.iter().map(Names::of)).await?;
    let ask = async |subject: &Subject, query: &String| {
        let names = names.iter().find(|names| names.way == subject.way).context("names")?;
        let query = subject.spelled(query).replace("{N}", &names.version).replace("{C}", &names.token);
        let query = query.replace("{F}", &names.future.to_string());
        ask(subject, &query, names).await
    };
    compared(subjects, queries, ask, differs).await
}

fn refused(code: StatusCode, status: &Value) -> anyhow::Result<Outcome> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ensure!(
        status["kind"] == "Status" && status["apiVersion"] == "v1" && status["status"] == "Failure",
        "{code}: {status:#}"
    );
    ensure!(!text(&status["message"]).is_empty(), "{code}: {status:#}");
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let causes = causes.map(|cause| (text(&cause["reason"]), text(&cause["field"]))).collect();
    Ok(Outcome::Refused(status["code"].as_u64().context("a code")?, text(&status["reason"]), causes))
}

async fn listed(subject: &Subject, query: &str, names: &Names) -> anyhow::Result<Outcome> {
    let answer = subject.list(query).await?;
    if answer.code != StatusCode::OK {
        return refused(answer.code, &answer.body);
    }
    let body = answer.body;
    ensure!(number(&body)? >= names.version.parse()?, "not older: {body:#}");
    ensure!(!query.contains("Exact") || version(&body) == names.version, "exactly: {body:#}");
    let meta = &body["metadata"];
    Ok(Outcome::Listed(
        subject.names(&body),
        meta["continue"].as_str().is_some_and(|token| !token.is_empty()),
        meta["remainingItemCount"].as_u64(),
    ))
}

/// All combinations of one value of each parameter, without empty values.
fn combinations(parameters: &[&[&str]]) -> Vec<String> {
    parameters.iter().fold(vec![String::new()], |queries, values| {
        let with = |query: &String, value: &&str| match (query.is_empty(), value.is_empty()) {
            (_, true) => query.clone(),
            (true, false) => (*value).to_owned(),
            (false, false) => format!("{query}&{value}"),
        };
        queries.iter().flat_map(|query| values.iter().map(move |value| with(query, value))).collect()
    })
}

async fn lists(site: Arc<Site>) -> anyhow::Result<()> {
    let subjects = filled(&site, "list-options").await?;
    let mut queries = combinations(&[
        &["", "resourceVersion=", "resourceVersion=0", "resourceVersion={N}", "resourceVersion=latest"],
        &[
            "",
            "resourceVersionMatch=",
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch=Nearly",
        ],
        &["", "limit=0", "limit=2", "limit=3"],
        &["", "continue={C}", "continue=nonsense"],
        &["", "sendInitialEvents=true"],
    ]);
    queries.extend(
        [
            "limit=many",
            "limit=-1",
            "limit=",
            "timeoutSeconds=soon",
            "watch=0",
            "watch=false",
            "resourceVersion=-1",
            "resourceVersion=01",
            "resourceVersion=1.5",
            "resourceVersion=%201",
            "labelSelector=a%20in%20((",
            "labelSelector=a%3D%3Db%2Cc",
            "labelSelector=!x",
            "fieldSelector=status.colour%3Dred",
            "fieldSelector=metadata.name",
            "fieldSelector=metadata.name%3D%3Dnobody",
            "fieldSelector=metadata.name!%3Dnobody",
            "nonsense=1",
            "limit=2&limit=1",
            "allowWatchBookmarks=perhaps",
            "sendInitialEvents=perhaps",
        ]
        .map(str::to_owned),
    );
    let differs = |query: &String| {
        // kube-apiserver ignores the limit here, since its watch cache could not paginate in the past.
        let beyond_the_limit = query.starts_with("resourceVersion=0&")
            && query.ends_with("limit=2")
            && !query.contains("Exact")
            && !query.contains("Nearly");
        // Gatehouse accepts only the canonical form of a number.
        beyond_the_limit || query == "resourceVersion=01"
    };
    queried(&subjects, queries, listed, differs).await
}

async fn watched(subject: &Subject, query: &str, _: &Names) -> anyhow::Result<Outcome> {
    let path = format!("{}?watch=true&timeoutSeconds=1&{query}", subject.collection());
    let (code, _, documents) = subject.documents(&Method::GET, &path, "application/json").await?;
    if code != StatusCode::OK {
        return refused(code, documents.first().context("a Status")?);
    }
    // A watch that cannot begin may also be refused by its first event, since clients handle both alike.
    if let [event] = documents.as_slice()
        && event["type"] == "ERROR"
    {
        return refused(code, &event["object"]);
    }
    let mut reported: Vec<_> = documents.iter().map(|event| subject.reported(event)).collect();
    // kube-apiserver sends a bookmark some seconds before the end of a watch without other events.
    reported.retain(|reported| reported != "BOOKMARK");
    let initial = reported.iter().take_while(|reported| reported.starts_with("ADDED")).count();
    reported[..initial].sort();
    Ok(Outcome::Watched(reported))
}

async fn watches(site: Arc<Site>) -> anyhow::Result<()> {
    let subjects = filled(&site, "watch-options").await?;
    let mut queries = combinations(&[
        &["", "resourceVersion=0", "resourceVersion={N}", "resourceVersion=latest"],
        &[
            "",
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch=Nearly",
        ],
        &["", "sendInitialEvents=true", "sendInitialEvents=false"],
        &["", "allowWatchBookmarks=true"],
        &["", "fieldSelector=metadata.name%3Dnobody"],
    ]);
    queries.extend(
        [
            "continue={C}",
            "continue={C}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            "limit=1",
            "limit=many",
            "resourceVersion=1",
            "resourceVersion=1&allowWatchBookmarks=true",
            "labelSelector=a%20in%20((",
            "fieldSelector=status.colour%3Dred",
            "nonsense=1",
        ]
        .map(str::to_owned),
    );
    let differs = |query: &String| {
        // kube-apiserver answers 500 without a reason when it parses this; Gatehouse answers 422 with a cause.
        let unreadable = query.contains("latest")
            && (query.contains("NotOlderThan&send") || !query.contains("Match") && !query.contains("send"));
        // Without allowWatchBookmarks, kube-apiserver omits the bookmark that ends the initial events. Gatehouse sends
        // it to all clients that request initial events.
        let asked = query.contains("sendInitialEvents=true") && query.contains("Match=NotOlderThan");
        let unasked_bookmark = asked && !query.contains("allowWatchBookmarks") && !query.contains("continue");
        // A watch has no pages. kube-apiserver refuses the resourceVersionMatch that it sets itself.
        unreadable || unasked_bookmark && !query.contains("latest") || query == "continue={C}"
    };
    queried(&subjects, queries, watched, differs).await
}

async fn got(subject: &Subject, query: &str, names: &Names) -> anyhow::Result<Outcome> {
    let answer = subject.caller.get(&format!("{}/{query}", subject.collection())).await?;
    if answer.code != StatusCode::OK {
        return refused(answer.code, &answer.body);
    }
    ensure!(number(&answer.body)? <= names.version.parse()?, "{:#}", answer.body);
    Ok(Outcome::Got(subject.short(&answer.body).to_owned()))
}

async fn gets(site: Arc<Site>) -> anyhow::Result<()> {
    let subjects = filled(&site, "get-options").await?;
    let versions =
        ["", "resourceVersion=0", "resourceVersion={N}", "resourceVersion=1", "resourceVersion=latest"];
    let more = ["", "watch=true&timeoutSeconds=1", "limit=1", "resourceVersionMatch=Exact", "pretty=perhaps"];
    let queries = combinations(&[&versions, &more]);
    let queries = ["{a}", "{nobody}"]
        .into_iter()
        .flat_map(|name| queries.iter().map(move |query| format!("{name}?{query}")));
    // kube-apiserver answers 500 without a reason; Gatehouse answers 400 with a cause.
    queried(&subjects, queries.collect(), got, |query| query.contains("latest")).await
}

/// Each request waits three seconds for the version before it fails.
async fn future(site: Arc<Site>) -> anyhow::Result<()> {
    let subjects = filled(&site, "future").await?;
    let lists = combinations(&[
        &["resourceVersion={F}"],
        &["", "resourceVersionMatch=NotOlderThan", "resourceVersionMatch=Exact"],
        &["", "limit=2"],
    ]);
    let initial = "resourceVersion={F}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let watches = ["resourceVersion={F}", initial].map(str::to_owned);
    // kube-apiserver sends nothing here until the version is reached, which may be never.
    let silent = |query: &String| query == "resourceVersion={F}";
    futures::try_join!(
        queried(&subjects, lists, listed, |_| false),
        queried(&subjects, watches.into(), watched, silent),
        queried(&subjects, vec!["{a}?resourceVersion={F}".to_owned()], got, |_| false),
    )?;
    Ok(())
}

async fn everywhere(subject: &Subject, query: &str, _: &Names) -> anyhow::Result<Outcome> {
    let answer = subject.caller.get(query).await?;
    if answer.code != StatusCode::OK {
        return refused(answer.code, &answer.body);
    }
    Ok(Outcome::Listed(subject.names(&answer.body), false, None))
}

async fn metadata_fields(site: Arc<Site>) -> anyhow::Result<()> {
    let subjects = filled(&site, "metadata-fields").await?;
    let names =
        ["", "metadata.name%3D{a}", "metadata.name%3D{nobody}", "metadata.name%3D{a},metadata.name%3D{b}"];
    let namespaces = ["metadata.namespace%3D{ns}", "metadata.namespace%3Dkube-system,metadata.name!%3D{b}"];
    let excluded = ["metadata.name!%3D{a}", "metadata.namespace!%3D{ns}"];
    let mut queries = Vec::new();
    for name in names {
        for namespace in namespaces {
            let both =
                [name, namespace].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
            queries.push(format!("{{root}}/{{plural}}?fieldSelector={both}"));
            queries.push(format!("{{root}}/namespaces/{{ns}}/{{plural}}?fieldSelector={both}"));
        }
        queries.push(format!("{{root}}/namespaces/{{ns}}/{{plural}}?fieldSelector={name}"));
    }
    queries
        .extend(excluded.map(|field| format!("{{root}}/namespaces/{{ns}}/{{plural}}?fieldSelector={field}")));
    queried(&subjects, queries, everywhere, |_| false).await
}
