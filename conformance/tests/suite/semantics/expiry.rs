//! Expired resourceVersions and continue tokens, by Gatehouse alone: kube-apiserver expires them by a compaction of
//! etcd, which would affect all other trials.

use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_conformance::gatehouse::{Gatehouse, Options};
use libtest_mimic::Trial;

use super::subject::{Subject, Way, apart, version};
use crate::caller::{Answer, Caller};
use crate::site::Site;
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world
            .shared("semantics_expiry::a_list_is_finished_and_a_watch_begun_anew_after_a_restart", restarted),
    ]
}

/// The continue token of a response.
fn token(answer: &Answer) -> anyhow::Result<&str> {
    answer.body["metadata"]["continue"].as_str().with_context(|| format!("no token: {answer:#?}"))
}

async fn restarted(site: Arc<Site>) -> anyhow::Result<()> {
    let subjects = apart(&site, "expiry").await?;
    let direct = subjects.iter().find(|subject| subject.way == Way::Direct).context("a way")?;
    let options = Options { name: Some("gatehouse-expiry".to_owned()), ..site.options.clone() };
    let mut gatehouse = Gatehouse::start(&site.control_plane, &options).await?;
    let root = gatehouse.kubeconfig_for(&site.control_plane, "root", Some("system:masters"))?;
    let subject: &Subject = &direct.at(Caller::of_kubeconfig(&root).await?);
    let names: Vec<_> = (0..6).map(|number| format!("e-{number}")).collect();
    subject.fill(&names).await?;
    let first = subject.list("limit=2").await?;
    let (begun, seen) = (token(&first)?.to_owned(), version(&first.body).to_owned());

    gatehouse.kill().await?;
    gatehouse.launch().await?;
    subject.delete("e-1").await?;
    subject.delete("e-4").await?;
    subject.create("e-3-and-a-half").await?;
    subject.turn("e-3-and-a-half", true).await?;
    subject.shows(5).await?;

    let expired = subject.list(&format!("limit=2&continue={begun}")).await?;
    expired.refused(410, "Expired")?;
    let fresh = token(&expired)?.to_owned();
    let second = subject.list(&format!("limit=2&continue={fresh}")).await?;
    let rest = subject.list(&format!("limit=2&continue={}", token(&second)?)).await?;
    // The first page is from before the restart and the others are from after it, so this is not the list of any
    // version.
    let mut found = Vec::new();
    for page in [first, second, rest] {
        found.extend(subject.names(&page.ok()?));
    }
    ensure!(found == ["e-0", "e-1", "e-2", "e-3", "e-3-and-a-half", "e-5"], "{found:?}");

    // A client with the previous resourceVersion gets 410, and nothing else.
    for query in ["", "allowWatchBookmarks=true"] {
        let watch =
            subject.list(&format!("watch=true&timeoutSeconds=1&resourceVersion={seen}&{query}")).await?;
        let (kind, code) = (&watch.body["type"], &watch.body["object"]["code"]);
        ensure!(watch.code == 200 && kind == "ERROR" && code == 410, "{watch:#?}");
    }
    subject
        .list(&format!("resourceVersionMatch=Exact&resourceVersion={seen}"))
        .await?
        .refused(410, "Expired")?;
    // A list with NotOlderThan has at least the objects of that version.
    let list = subject.list(&format!("resourceVersionMatch=NotOlderThan&resourceVersion={seen}")).await?;
    ensure!(subject.names(&list.ok()?).len() == 5);
    gatehouse.stop().await?;
    Ok(())
}
