//! The events of a watch, from where it begins, and their order.

use std::sync::Arc;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use super::subject::{Turned, Watch, apart, each, number, version};
use crate::site::Site;
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("semantics_watches::bookmarks_come_each_minute_to_those_who_ask", bookmarks),
        world.shared("semantics_watches::what_is_selected_comes_changes_and_goes", selected),
        world.shared("semantics_watches::every_version_seen_is_one_to_go_on_from", from_each_version),
        world.shared("semantics_watches::one_name_is_followed_through_deletion", one_name),
        world.shared("semantics_watches::a_streaming_list_goes_on_as_a_watch", streaming_list),
    ]
}

async fn selected(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "selected").await?, async |subject| {
        let from = format!("resourceVersion={}", subject.version().await?);
        let open = async |turned| subject.watch(&format!("{from}&{}", subject.selector(turned))).await;
        let (mut on, mut off) = (open(Turned::On).await?, open(Turned::Off).await?);
        let (mut either, mut all) = (open(Turned::Either).await?, subject.watch(&from).await?);
        let mut last = 0;
        let mut check = |events: &[Value]| {
            let versions: Result<Vec<_>, _> = events.iter().map(|event| number(&event["object"])).collect();
            let versions = versions?;
            ensure!(versions.iter().all(|own| *own == versions[0]), "one change, one version: {versions:?}");
            ensure!(versions[0] > last, "{} after {last}", versions[0]);
            last = versions[0];
            anyhow::Ok(())
        };

        subject.create("x").await?;
        check(&[all.reports(subject, "ADDED x").await?])?;
        subject.turn("x", true).await?;
        check(&[
            on.reports(subject, "ADDED x").await?,
            either.reports(subject, "ADDED x").await?,
            all.reports(subject, "MODIFIED x").await?,
        ])?;
        subject.touch("x", 1).await?;
        check(&[
            on.reports(subject, "MODIFIED x").await?,
            either.reports(subject, "MODIFIED x").await?,
            all.reports(subject, "MODIFIED x").await?,
        ])?;

        subject.turn("x", false).await?;
        let stopped = on.reports(subject, "DELETED x").await?;
        let object = &stopped["object"];
        ensure!(subject.is_on(object) && subject.touched(object) == Some(1), "as it last was: {stopped:#}");
        let changed = off.reports(subject, "ADDED x").await?;
        ensure!(!subject.is_on(&changed["object"]), "{changed:#}");
        check(&[
            stopped,
            changed,
            either.reports(subject, "MODIFIED x").await?,
            all.reports(subject, "MODIFIED x").await?,
        ])?;

        subject.turn("x", true).await?;
        check(&[
            on.reports(subject, "ADDED x").await?,
            off.reports(subject, "DELETED x").await?,
            either.reports(subject, "MODIFIED x").await?,
            all.reports(subject, "MODIFIED x").await?,
        ])?;
        // A row shows two changes of its object as one if they arrive together, so each is waited for.
        subject.turn("x", false).await?;
        on.reports(subject, "DELETED x").await?;
        off.reports(subject, "ADDED x").await?;
        subject.delete("x").await?;
        let gone = off.reports(subject, "DELETED x").await?;
        ensure!(!subject.is_on(&gone["object"]), "as it last was: {gone:#}");
        // A watch that no longer selects the object does not get its deletion.
        subject.create("y").await?;
        subject.turn("y", true).await?;
        on.reports(subject, "ADDED y").await?;
        Ok(())
    })
    .await
}

async fn from_each_version(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "from-each-version").await?, async |subject| {
        let before = subject.version().await?;
        let mut watch = subject.watch(&format!("resourceVersion={before}")).await?;
        let mut events = Vec::new();
        subject.create("x").await?;
        events.push(watch.reports(subject, "ADDED x").await?);
        subject.turn("x", true).await?;
        events.push(watch.reports(subject, "MODIFIED x").await?);
        subject.create("y").await?;
        events.push(watch.reports(subject, "ADDED y").await?);
        for number in 1..=3 {
            subject.touch("x", number).await?;
            events.push(watch.reports(subject, "MODIFIED x").await?);
        }
        subject.delete("x").await?;
        events.push(watch.reports(subject, "DELETED x").await?);
        let last = events.last().context("events")?;
        ensure!(subject.touched(&last["object"]) == Some(3), "as it last was: {last:#}");
        ensure!(number(&last["object"])? <= subject.version().await?.parse()?, "a list is not older");

        let mut versions = vec![before];
        versions.extend(events.iter().map(|event| version(&event["object"]).to_owned()));
        let opened =
            versions.iter().map(async |from| subject.watch(&format!("resourceVersion={from}")).await);
        let mut watches = futures::future::try_join_all(opened).await?;
        subject.delete("y").await?;
        events.push(watch.reports(subject, "DELETED y").await?);
        for (seen, watch) in watches.iter_mut().enumerate() {
            for event in &events[seen..] {
                let again = watch.next().await.with_context(|| format!("after {seen} events"))?;
                ensure!(again == *event, "after {seen} events: {again:#} instead of {event:#}");
            }
        }
        Ok(())
    })
    .await
}

async fn one_name(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "one-name").await?, async |subject| {
        let selector = format!("fieldSelector=metadata.name%3D{}", subject.name("x"));
        let from = format!("resourceVersion={}", subject.version().await?);
        let mut watch = subject.watch(&format!("{from}&{selector}")).await?;
        let mut uids = Vec::new();
        for _ in 0..2 {
            for name in ["other", "x"] {
                subject.create(name).await?;
            }
            let added = watch.reports(subject, "ADDED x").await?;
            uids.push(added["object"]["metadata"]["uid"].clone());
            subject.turn("other", true).await?;
            subject.turn("x", true).await?;
            watch.reports(subject, "MODIFIED x").await?;
            for name in ["other", "x"] {
                subject.delete(name).await?;
            }
            let deleted = watch.reports(subject, "DELETED x").await?;
            ensure!(Some(&deleted["object"]["metadata"]["uid"]) == uids.last(), "{deleted:#}");
        }
        // A row's uid depends on its name only, so a recreated row has the same uid.
        ensure!((uids[0] == uids[1]) == subject.is_gatehouse(), "{uids:?}");
        Ok(())
    })
    .await
}

/// The resourceVersion of the bookmark that ends the initial events, after this many of these.
async fn initial(watch: &mut Watch, count: usize) -> anyhow::Result<String> {
    for _ in 0..count {
        let event = watch.next().await?;
        ensure!(event["type"] == "ADDED", "{event:#}");
    }
    let end = watch.next().await?;
    let metadata = &end["object"]["metadata"];
    ensure!(end["type"] == "BOOKMARK", "{end:#}");
    ensure!(metadata["annotations"]["k8s.io/initial-events-end"] == "true", "{end:#}");
    ensure!(number(&end["object"])? > 0, "{end:#}");
    ensure!(end["object"]["kind"].is_string() && end["object"]["apiVersion"].is_string(), "{end:#}");
    Ok(version(&end["object"]).to_owned())
}

async fn streaming_list(site: Arc<Site>) -> anyhow::Result<()> {
    const STREAMING: &str =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    each(&apart(&site, "streaming").await?, async |subject| {
        let mut empty = subject.watch(STREAMING).await?;
        initial(&mut empty, 0).await?;
        subject.fill(&["a", "b", "c"].map(str::to_owned)).await?;
        subject.turn("c", false).await?;
        let off = format!("{STREAMING}&{}", subject.selector(Turned::Off));
        let look = async || subject.list(&subject.selector(Turned::Off)).await?.ok();
        let list = crate::world::settles("it is off", super::subject::SHOWN, look, |list| {
            subject.names(list) == ["c"]
        });
        let listed = version(&list.await?).to_owned();

        let mut all = subject.watch(&format!("{STREAMING}&resourceVersion={listed}")).await?;
        let ended = initial(&mut all, 3).await?;
        ensure!(ended.parse::<u64>()? >= listed.parse()?, "{ended} is older than {listed}");
        let mut selected = subject.watch(&off).await?;
        initial(&mut selected, 1).await?;
        // Without initial events, the bookmark is sent all the same, and existing objects are not.
        let declined = STREAMING.replace("Events=true", "Events=false");
        let mut declined = subject.watch(&format!("{declined}&resourceVersion={listed}")).await?;

        subject.create("d").await?;
        let added = all.reports(subject, "ADDED d").await?;
        ensure!(number(&added["object"])? > ended.parse()?, "{added:#}");
        declined.reports(subject, "ADDED d").await?;
        let mut resumed = subject.watch(&format!("resourceVersion={ended}")).await?;
        resumed.reports(subject, "ADDED d").await?;
        subject.turn("d", false).await?;
        selected.reports(subject, "ADDED d").await?;
        Ok(())
    })
    .await
}

/// Takes more than a minute, mostly waiting.
async fn bookmarks(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "bookmarks").await?, async |subject| {
        subject.create("x").await?;
        let list = async || subject.list("").await?.ok();
        let shown = |list: &Value| subject.names(list) == ["x"];
        let list = crate::world::settles("it is shown", super::subject::SHOWN, list, shown).await?;
        let from = format!("resourceVersion={}&timeoutSeconds=75", version(&list));
        let (with, without) = futures::try_join!(
            async { subject.watch(&format!("{from}&allowWatchBookmarks=true")).await?.rest().await },
            async { subject.watch(&from).await?.rest().await }
        )?;
        ensure!(without.is_empty(), "{without:#?}");
        let latest = with.last().context("no bookmark")?;
        for event in &with {
            ensure!(subject.reported(event) == "BOOKMARK", "{event:#}");
            ensure!(number(&event["object"])? >= number(&list)?, "{event:#}");
        }
        subject.turn("x", true).await?;
        let from = format!("resourceVersion={}", version(&latest["object"]));
        subject.watch(&from).await?.reports(subject, "MODIFIED x").await?;
        Ok(())
    })
    .await
}
