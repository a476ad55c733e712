//! `mynamespaces` at two replicas, each a process of its own: a client whose replica is gone goes on at the other one, with
//! its last version, while rows and rights change. It misses no row, and is shown none that its user may not see.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt, io::Lines};
use gatehouse_conformance::gatehouse::{Gatehouse, Options};
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::progress;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::caller::Caller;
use crate::my_namespaces::{KNOWN, binding, delete, namespace, role};
use crate::site::{API, Site, kustomization};
use crate::world::{World, settles};

/// Short, so that the trial is: a version is continued elsewhere once rights have been quiet for this and half a minute.
const WINDOW: Duration = Duration::from_secs(8);
/// When that is so at last, after the second replica has begun.
const QUIET: Duration = Duration::from_secs(70);

const USER: &str = "mns-moves";
const ROLE: &str = "mns-moves";
const ALL: [&str; 3] = ["mns-r1", "mns-r2", "mns-r3"];

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.shared("my_replicas::a_client_goes_on_at_another_replica_while_rights_change", moved)]
}

/// A replica, and a client of the user there.
struct Replica {
    gatehouse: Gatehouse,
    caller: Caller,
}

impl Replica {
    async fn start(site: &Site, number: u8) -> anyhow::Result<Self> {
        let window = format!("--resume-window={}s", WINDOW.as_secs());
        let options = Options {
            name: Some(format!("gatehouse-mine-{number}")),
            flags: vec![format!("--replica={number}"), window],
            ..site.options.clone()
        };
        let gatehouse = Gatehouse::start(&site.control_plane, &options).await?;
        let kubeconfig = gatehouse.kubeconfig_for(&site.control_plane, USER, None)?;
        Ok(Self { caller: Caller::of_kubeconfig(&kubeconfig).await?, gatehouse })
    }

    /// The names of the rows, and the version of the list.
    async fn list(&self) -> anyhow::Result<(BTreeSet<String>, String)> {
        let list = self.caller.get(&format!("{API}/mynamespaces")).await?.ok()?;
        let items = list["items"].as_array().context("a list")?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a version")?;
        Ok((items.iter().map(name).collect(), version.to_owned()))
    }

    async fn sees(&self, expected: &[&str]) -> anyhow::Result<()> {
        let what = format!("{expected:?} are seen at {}", self.gatehouse.url());
        settles(what, KNOWN, || self.list(), |(rows, _)| *rows == set(expected)).await?;
        Ok(())
    }

    async fn watch(&self, version: &str) -> anyhow::Result<Watch> {
        let query = format!("watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        let request = http::Request::get(format!("{API}/mynamespaces?{query}")).body(Vec::new())?;
        let body: Pin<Box<dyn AsyncBufRead + Send>> =
            Box::pin(self.caller.client.request_stream(request).await?);
        Ok(Watch { lines: body.lines() })
    }

    /// Whether a client with a version of another replica may go on here, which is known at once.
    async fn continues(&self, version: &str) -> anyhow::Result<bool> {
        let query = format!("watch=true&timeoutSeconds=1&resourceVersion={version}");
        let answer = self.caller.get(&format!("{API}/mynamespaces?{query}")).await?;
        Ok(answer.body["type"] != "ERROR")
    }
}

struct Watch {
    lines: Lines<Pin<Box<dyn AsyncBufRead + Send>>>,
}

impl Watch {
    /// The events up to the first of this type and name. None is of a row that is not in `may`.
    async fn until(&mut self, kind: &str, row: &str, may: &[&str]) -> anyhow::Result<()> {
        ensure!(self.reaches(kind, row, may).await?, "the version has expired before {kind} {row}");
        Ok(())
    }

    /// The same, or false if the version has expired before.
    async fn reaches(&mut self, kind: &str, row: &str, may: &[&str]) -> anyhow::Result<bool> {
        let deadline = Instant::now() + patience(KNOWN);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = tokio::time::timeout(left, self.lines.next()).await;
            let line = line.with_context(|| format!("no {kind} {row}"))?.context("the watch ended")??;
            let event: Value = serde_json::from_str(&line)?;
            if event["type"] == "ERROR" {
                ensure!(event["object"]["code"] == 410, "before {kind} {row}: {event:#}");
                return Ok(false);
            }
            if event["type"] == "BOOKMARK" {
                continue;
            }
            let told = name(&event["object"]);
            ensure!(may.contains(&&*told), "{told} is shown: {event:#}");
            if event["type"] == kind && told == row {
                return Ok(true);
            }
        }
    }

    /// The first event, which is that the version has expired: nothing comes before it.
    async fn has_expired(&mut self) -> anyhow::Result<()> {
        let line = tokio::time::timeout(patience(KNOWN), self.lines.next()).await.context("no event")?;
        let event: Value = serde_json::from_str(&line.context("the watch ended")??)?;
        ensure!(event["type"] == "ERROR" && event["object"]["code"] == 410, "{event:#}");
        Ok(())
    }
}

fn name(row: &Value) -> String {
    row["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn bind(site: &Site, namespace: &str) -> anyhow::Result<()> {
    site.apply([binding(USER, Some(namespace), ("ClusterRole", ROLE), ("User", USER))]).await
}

async fn unbind(site: &Site, namespace: &str) -> anyhow::Result<()> {
    delete(site, "rolebinding", USER, Some(namespace)).await
}

async fn moved(site: Arc<Site>) -> anyhow::Result<()> {
    site.apply(ALL.map(namespace)).await?;
    site.apply([role(ROLE, None, &[])]).await?;
    bind(&site, "mns-r1").await?;
    bind(&site, "mns-r2").await?;
    let (mut one, other) = tokio::try_join!(Replica::start(&site, 11), Replica::start(&site, 12))?;
    one.sees(&["mns-r1", "mns-r2"]).await?;
    other.sees(&["mns-r1", "mns-r2"]).await?;
    continued(&site, &mut one, &other).await?;
    for granted in [false, true] {
        one.gatehouse.launch().await?;
        changed_meanwhile(&site, &mut one, &other, granted).await?;
    }
    Ok(())
}

/// Rights have not changed for a while: the client goes on where it was.
async fn continued(site: &Site, one: &mut Replica, other: &Replica) -> anyhow::Result<()> {
    let began = Instant::now();
    let continues = async || other.continues(&one.list().await?.1).await;
    settles("the other replica continues a version", QUIET, continues, |continues| *continues).await?;
    progress::say(format_args!(
        "a version was continued elsewhere after {:.0} s",
        began.elapsed().as_secs_f32()
    ));
    let (rows, version) = one.list().await?;
    ensure!(rows == set(&["mns-r1", "mns-r2"]), "{rows:?}");
    one.gatehouse.kill().await?;
    site.apply(["mns-r3", "mns-r1"].map(|namespace| kustomization(namespace, "bad", Err("build failed"))))
        .await?;
    let mut watch = other.watch(&version).await?;
    watch.until("MODIFIED", "mns-r1", &["mns-r1", "mns-r2"]).await?;
    // While it catches up, it is not known what it was shown when rights change: then it lists again, as clients do.
    bind(site, "mns-r3").await?;
    let is_told = watch.reaches("ADDED", "mns-r3", &ALL).await?;
    progress::say(format_args!(
        "a right that was granted then was {}",
        if is_told { "told" } else { "listed" }
    ));
    other.sees(&ALL).await?;
    // From here on it is a client of this replica, and is told of rights, too.
    let mut watch = other.watch(&other.list().await?.1).await?;
    unbind(site, "mns-r1").await?;
    watch.until("DELETED", "mns-r1", &ALL).await?;
    site.apply(["mns-r1", "mns-r2"].map(|namespace| kustomization(namespace, "worse", Err("build failed"))))
        .await?;
    watch.until("MODIFIED", "mns-r2", &["mns-r2", "mns-r3"]).await?;
    other.sees(&["mns-r2", "mns-r3"]).await
}

/// A right is granted or taken away while the client is between two replicas. What it was shown is not known, so it lists
/// again: nothing is shown before that, and nothing is missing after it.
async fn changed_meanwhile(
    site: &Site,
    one: &mut Replica,
    other: &Replica,
    granted: bool,
) -> anyhow::Result<()> {
    let (before, after) = if granted {
        (vec!["mns-r3"], vec!["mns-r1", "mns-r3"])
    } else {
        (vec!["mns-r2", "mns-r3"], vec!["mns-r3"])
    };
    one.sees(&before).await?;
    let (_, version) = one.list().await?;
    one.gatehouse.kill().await?;
    if granted {
        bind(site, "mns-r1").await?;
    } else {
        unbind(site, "mns-r2").await?;
    }
    other.sees(&after).await?;
    other.watch(&version).await?.has_expired().await?;
    let (rows, version) = other.list().await?;
    ensure!(rows == set(&after), "{rows:?}");
    // Another object each time, so that the row changes.
    let object = if granted { "last-granted" } else { "last-revoked" };
    site.apply(ALL.map(|namespace| kustomization(namespace, object, Err("build failed")))).await?;
    other.watch(&version).await?.until("MODIFIED", "mns-r3", &after).await
}
