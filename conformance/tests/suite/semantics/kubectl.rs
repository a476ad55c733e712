//! The ways in which kubectl lists and watches, compared with its output for kube-apiserver's resources.

use std::sync::Arc;

use anyhow::ensure;
use gatehouse_conformance::kubectl::Kubectl;
use libtest_mimic::Trial;

use super::subject::{SHOWN, Subject, Way, apart, each};
use crate::site::Site;
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("semantics_kubectl::watch_only_leaves_out_what_there_is", watch_only),
        world.shared("semantics_kubectl::output_watch_events_names_what_happened", watch_events),
        world.shared("semantics_kubectl::wait_for_delete_ends_with_the_object", wait_for_delete),
        world.shared("semantics_kubectl::watch_of_one_name_follows_it", watch_of_one_name),
    ]
}

fn kubectl(site: &Site, subject: &Subject) -> anyhow::Result<Kubectl> {
    if subject.way != Way::Direct {
        return site.kubectl();
    }
    let (url, ca) = (&site.direct.url, &site.direct.ca);
    Kubectl::new(&site.control_plane.kubeconfig_at(url, ca, "semantics", Some("system:masters"))?)
}

/// `get` of the namespace's objects, which prints only names.
fn get<'a>(subject: &'a Subject, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["get", subject.plural(), "-n", &subject.namespace, "-o", "name"];
    args.extend(more);
    args
}

async fn watch_only(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "watch-only").await?, async |subject| {
        subject.fill(&["before".to_owned()]).await?;
        let mut watch = kubectl(&site, subject)?.watch(get(subject, &["--watch-only"]))?;
        // kubectl does not report when its watch begins, so objects are created until it prints one.
        let made = async {
            for number in 0.. {
                subject.create(&format!("after-{number}")).await?;
                tokio::time::sleep(SHOWN / 15).await;
            }
            anyhow::Ok(())
        };
        let line = tokio::select! {
            line = watch.next_line(2 * SHOWN) => line?,
            made = made => return made,
        };
        ensure!(line.contains("after-"), "{line}");
        Ok(())
    })
    .await
}

async fn watch_events(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "watch-events").await?, async |subject| {
        subject.fill(&["x".to_owned()]).await?;
        let columns = "custom-columns=TYPE:.type,NAME:.object.metadata.name";
        let args =
            ["get", subject.plural(), "-n", &subject.namespace, "-w", "--output-watch-events", "-o", columns];
        let mut watch = kubectl(&site, subject)?.watch(args)?;
        let mut next = async |expected: &str| {
            let line = watch.line_where(2 * SHOWN, |line| line.contains(&subject.name("x"))).await?;
            ensure!(line.starts_with(expected), "{line:?} instead of {expected}");
            Ok(())
        };
        next("ADDED").await?;
        subject.turn("x", false).await?;
        next("MODIFIED").await?;
        subject.delete("x").await?;
        next("DELETED").await
    })
    .await
}

async fn wait_for_delete(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "wait-for-delete").await?, async |subject| {
        subject.fill(&["x".to_owned()]).await?;
        let (object, kubectl) =
            (format!("{}/{}", subject.plural(), subject.name("x")), kubectl(&site, subject)?);
        let args = ["wait", "--for=delete", "--timeout=60s", "-n", &subject.namespace, &object];
        let mut waiting = Box::pin(kubectl.run(args));
        let early = tokio::time::timeout(SHOWN / 10, &mut waiting).await;
        ensure!(early.is_err(), "it is still there: {early:?}");
        subject.delete("x").await?;
        // On a busy machine it may begin to look only now, and then prints nothing.
        let printed = waiting.await?.ok()?;
        ensure!(printed.is_empty() || printed.contains("condition met"), "{printed}");
        // An object that does not exist needs no wait.
        kubectl.run(args).await?.ok()?;
        Ok(())
    })
    .await
}

async fn watch_of_one_name(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "watch-name").await?, async |subject| {
        subject.fill(&["x", "y"].map(str::to_owned)).await?;
        let name = subject.name("x");
        let mut watch = kubectl(&site, subject)?.watch(get(subject, &[&name, "-w"]))?;
        let own = |line: &str| line.ends_with(&format!("/{name}"));
        ensure!(own(&watch.next_line(2 * SHOWN).await?), "first what there is");
        subject.turn("y", false).await?;
        subject.turn("x", false).await?;
        let line = watch.next_line(SHOWN).await?;
        ensure!(own(&line), "{line}");
        Ok(())
    })
    .await
}
