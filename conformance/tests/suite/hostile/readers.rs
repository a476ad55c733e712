//! Somebody who may see the views, asks for much and reads nothing: lists, pings, settings and requests that are taken
//! back, of HTTP/2 and through WebSockets, directly and through kube-apiserver. Beside them others ask, and each is
//! answered; the process stays within the chart's default limit of memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options, client_identity};
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::process::Process;
use gatehouse_conformance::progress;
use http::StatusCode;
use tokio::task::JoinSet;

use super::crowd::{Crowd, Part, Target};
use super::unread::{Attack, Unread};
use super::{BEGUN, LOOK, MEMORY};
use crate::caller::Caller;
use crate::site::{API, Site, kustomization};

const NAMESPACE: &str = "hostile-readers";
/// Whose list is several times what HTTP/2 holds of an answer.
const OBJECTS: usize = 500;
/// A page of it, which is one piece of somewhat less.
const PAGE: usize = 50;
const SHORT: Duration = Duration::from_secs(12);
const LONG: Duration = Duration::from_mins(1);
/// The longest that anybody waits who reads, on a quiet machine.
const ANSWERED: Duration = Duration::from_secs(5);

/// Who does what: (attack, connections, seconds before the next one). More lists than there are places, and more pages than
/// there is memory for if each were kept until it is sent. How much somebody asks for is another matter, and takes processors whether or not it is read: it is little here.
const PARTS: [(Attack, usize, u64); 10] = [
    (Attack::Closed, 2, 5),
    (Attack::Ajar, 2, 5),
    (Attack::Page, 40, 60),
    (Attack::Refused, 1, 5),
    (Attack::Pings, 2, 5),
    (Attack::Settings, 1, 5),
    (Attack::Resets, 1, 5),
    (Attack::WebSocket, 2, 5),
    (Attack::ProxiedWebSocket, 1, 5),
    (Attack::Proxied, 1, 5),
];

pub(super) async fn trial() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&Options::default()).await?);
    let (site, gatehouse) = Site::new(Arc::clone(&control_plane)).await?;
    site.apply((0..OBJECTS).map(|number| kustomization(NAMESPACE, &format!("app-{number:04}"), Ok(()))))
        .await?;
    for user in ["greedy", "greedy-too", "patient"] {
        site.allow_in(NAMESPACE, user).await?;
    }
    let list = format!("{API}/namespaces/{NAMESPACE}/fluxresources");
    let callers = [
        ("direct", site.direct_as("patient", None).await?),
        ("through kube-apiserver", site.caller().await?),
    ];
    for (way, caller) in &callers {
        let all = caller.get(&list).await?.ok()?;
        let items = all["items"].as_array().context("items")?;
        ensure!(items.len() == OBJECTS, "{way}: {}", items.len());
    }
    let process = Process(gatehouse.process().context("it runs")?.pid()?);
    let identity = |user| client_identity(control_plane.client_ca(), user, None);
    let direct = |user| Target::new(gatehouse.port(), gatehouse.serving_ca(), Some(&identity(user)?));
    let port = control_plane.url().rsplit(':').next().context("a port")?.parse()?;
    let unread = Unread {
        direct: direct("greedy")?,
        direct_too: direct("greedy-too")?,
        proxied: Target::new(port, control_plane.client_ca().certificate_pem(), Some(&identity("greedy")?))?,
        list: list.clone(),
        page: format!("{list}?limit={PAGE}"),
    };
    let time = if std::env::var_os("GATEHOUSE_LONG").is_some() { LONG } else { SHORT };
    let alone = ask(&callers, &list, process, SHORT / 4).await?;
    let parts = PARTS.map(|(attack, peers, pause)| Part { attack, peers, pause: Duration::from_secs(pause) });
    let crowd = Crowd::begin(&parts, move |attack, counts| {
        let unread = unread.clone();
        async move { unread.attack(attack, counts).await }
    })?;
    tokio::time::timeout(patience(BEGUN), crowd.all_begun()).await.context("not every attack took place")?;
    let beside = ask(&callers, &list, process, time).await?;
    for (attack, count) in crowd.end() {
        progress::say(format_args!("hostile readers, {attack:?}: {count} times"));
    }
    for (phase, answers) in [("alone", &alone), ("beside", &beside)] {
        let Answers { times, refused, peak } = answers;
        let (refused, peak) = (refused.len(), peak >> 20);
        progress::say(format_args!(
            "hostile readers, {phase}: {times:?}, {refused} refused, {peak} MiB resident"
        ));
    }
    for (phase, answers) in [("alone", &alone), ("beside", &beside)] {
        let refused = &answers.refused;
        ensure!(refused.is_empty(), "{phase}: {} refused: {:?}", refused.len(), refused.first());
        ensure!(answers.peak < MEMORY, "{phase}: {} MiB", answers.peak >> 20);
        for (way, (count, longest)) in &answers.times {
            ensure!(*count > 0 && *longest < patience(ANSWERED), "{phase}, {way}: {count}, {longest:?}");
        }
    }
    drop((callers, site, gatehouse));
    drop(control_plane);
    Ok(())
}

/// What became of those who read.
#[derive(Debug, Default)]
struct Answers {
    /// By the way they came: how many, and the longest that one took.
    times: BTreeMap<&'static str, (usize, Duration)>,
    refused: Vec<String>,
    /// The most resident memory of the process, in bytes.
    peak: u64,
}

/// Has others ask for so long: pages of the list, and a part of another one.
async fn ask(
    callers: &[(&'static str, Caller)],
    list: &str,
    process: Process,
    time: Duration,
) -> anyhow::Result<Answers> {
    let end = Instant::now() + time;
    let mut asking = JoinSet::new();
    for (way, caller) in callers {
        let (way, caller, path) = (*way, caller.clone(), format!("{list}?limit={PAGE}"));
        asking.spawn(async move {
            let mut answers = Answers::default();
            while Instant::now() < end {
                let begun = Instant::now();
                match caller.get(&path).await {
                    Ok(answer) if answer.code == StatusCode::OK => {
                        let (count, longest) = answers.times.entry(way).or_default();
                        (*count, *longest) = (*count + 1, begun.elapsed().max(*longest));
                    }
                    Ok(answer) => {
                        answers.refused.push(format!("{way}: {} {}", answer.code, answer.body["message"]));
                    }
                    Err(error) => answers.refused.push(format!("{way}: {error:#}")),
                }
            }
            answers
        });
    }
    let mut all = Answers::default();
    loop {
        tokio::select! {
            ended = asking.join_next() => {
                let Some(ended) = ended else { break };
                let Answers { times, refused, .. } = ended?;
                all.times.extend(times);
                all.refused.extend(refused);
            }
            () = tokio::time::sleep(LOOK) => all.peak = all.peak.max(process.memory()?.resident),
        }
    }
    Ok(all)
}
