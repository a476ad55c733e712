//! The cluster works while Gatehouse is dead, and while it hangs: connections are accepted, and nothing is answered.
//!
//! What must hold is asserted. Durations and messages are printed as the table in docs/operate.md. There is no
//! kube-controller-manager here, so for the deletion of namespaces this checks discovery, which that controller depends
//! on.

mod harm;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::progress;
use gatehouse_conformance::supervise::Supervised;
use gatehouse_conformance::webhooks::Webhooks;
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use self::harm::{Condition, Table};
use crate::gate::Gate;
use crate::site::{API, Site};
use crate::world::{World, settles};

/// Longer than any review, and than the half minute after which rows are stale.
const SILENCE: Duration = Duration::from_secs(35);
/// Rows are stale half a minute after the last heartbeat; the rest is a margin for a busy machine.
const STALE: Duration = Duration::from_secs(33);
/// kube-apiserver closes a connection 15 s after 30 s without a frame; the rest is a margin for a busy machine.
const LOST: Duration = Duration::from_secs(50);
/// The aggregator checks every 30 s.
const WHOLE_AGAIN: Duration = Duration::from_secs(100);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart("do_no_harm::dead_or_hanging_it_is_missed_only_where_it_is_asked", missed),
        world.apart("do_no_harm::it_lives_whatever_becomes_of_kube_apiserver", lives),
    ]
}

/// All servers, with their own control plane.
struct Scene {
    // Fields are dropped in order, and the servers must end in this order.
    gatehouse: Gatehouse,
    webhooks: Webhooks,
    gate: Gate,
    control_plane: Arc<ControlPlane>,
}

impl Scene {
    async fn new() -> anyhow::Result<Self> {
        let control_plane = Arc::new(ControlPlane::start(&Options::default()).await?);
        let (site, gatehouse) = Site::new(Arc::clone(&control_plane)).await?;
        let (gate, webhooks) = Gate::new(Arc::new(site)).await?;
        Ok(Self { gatehouse, webhooks, gate, control_plane })
    }

    fn processes(&self) -> impl Iterator<Item = &Supervised> {
        let webhooks = (0..self.webhooks.len()).map(|number| self.webhooks.replica(number));
        std::iter::once(&self.gatehouse).chain(webhooks).filter_map(Gatehouse::process)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.processes().try_for_each(|process| send(process, signal))
    }

    async fn end(self) -> anyhow::Result<()> {
        let Self { gatehouse, webhooks, gate, control_plane } = self;
        drop((gatehouse, webhooks, gate));
        let control_plane = Arc::into_inner(control_plane).context("nobody else has a share")?;
        control_plane.stop().await
    }
}

fn send(process: &Supervised, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(process.pid()?.try_into()?).context("zero is nobody's")?;
    Ok(kill_process(pid, signal)?)
}

async fn missed() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    harm::prepare(&scene.gate).await?;
    let mut table = Table::default();
    table.fill(&scene.gate, Condition::Well).await?;

    scene.signal(Signal::STOP)?;
    let hangs = tokio::try_join!(
        table.fill(&scene.gate, Condition::Hanging),
        harm::view(&scene.gate),
        harm::told_by_discovery(&scene.gate),
    );
    let ((), (waited, printed), reported) = hangs?;
    ensure!(waited < LOST, "a view hung for {waited:?} ({printed})");
    let (refused, afterwards) = harm::view(&scene.gate).await?;
    scene.signal(Signal::CONT)?;
    let well_again = Instant::now();
    let summaries = format!("{API}/fluxsummaries");
    let ask = || scene.gate.caller.get(&summaries);
    settles("it is served again", WHOLE_AGAIN, ask, |answer| answer.code == 200).await?;
    let well_again = well_again.elapsed();

    scene.gatehouse.kill().await?;
    for number in 0..scene.webhooks.len() {
        scene.webhooks.kill(number).await?;
    }
    table.fill(&scene.gate, Condition::Dead).await?;
    let (dead, at_last) = harm::view(&scene.gate).await?;
    progress::say(format_args!(
        "do no harm:\n{table}\nhanging: a view asked for at once was refused after {waited:.1?} ({printed}), discovery told \
         of it after {reported:.1?}, a view asked for then was refused after {refused:.1?} ({afterwards}); served \
         {well_again:.1?} after it went on\ndead: a view was refused after {dead:.1?} ({at_last})"
    ));
    scene.end().await
}

async fn lives() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let mut clients = vec![("apiserver", scene.gatehouse.prober().await?)];
    clients.push(("webhooks", scene.webhooks.replica(0).prober().await?));
    let ask = async |client: &kube::Client, path: &str| {
        let request = http::Request::get(path).body(Vec::new())?;
        anyhow::Ok(client.request_text(request).await.map_err(|error| error.to_string()))
    };
    let all_live = async || {
        for (name, client) in &clients {
            let live = ask(client, "/livez").await?;
            ensure!(live.is_ok(), "{name}: {live:?}");
        }
        anyhow::Ok(())
    };

    // A user that needs no SubjectAccessReview.
    let root = scene.gate.site.direct_as("root", Some("system:masters")).await?;
    send(scene.control_plane.api_server(), Signal::STOP)?;
    let since = Instant::now();
    let (mut unreachable, mut stale) = (None, None);
    while since.elapsed() < SILENCE || stale.is_none() {
        all_live().await?;
        let health = root.get(&format!("{API}/clusterhealths/local")).await?.ok()?;
        let is_false = |kind: &str| {
            let conditions = health["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|one| one["type"] == kind && one["status"] == "False")
        };
        if is_false("Reachable") {
            unreachable.get_or_insert_with(|| since.elapsed());
        }
        if is_false("Fresh") {
            stale.get_or_insert_with(|| since.elapsed());
        }
        ensure!(since.elapsed() < WHOLE_AGAIN, "kube-apiserver is silent, and nobody says so: {health:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (unreachable, stale) = (unreachable.context("unreachable")?, stale.context("stale")?);
    progress::say(format_args!(
        "do no harm: that kube-apiserver is silent was told after {unreachable:.1?}, that rows are stale after {stale:.1?}"
    ));
    ensure!(stale < STALE, "{stale:?}");
    for (name, client) in &clients {
        let ready = ask(client, "/readyz?verbose").await?;
        let verdict = if ready.is_ok() { "ready" } else { "not ready" };
        progress::say(format_args!(
            "do no harm: {SILENCE:?} after kube-apiserver fell silent {name} is {verdict}"
        ));
    }
    send(scene.control_plane.api_server(), Signal::CONT)?;
    for (name, client) in &clients {
        let ready = || ask(client, "/readyz");
        let _ = settles(format_args!("{name} is ready"), WHOLE_AGAIN, ready, Result::is_ok).await?;
    }

    send(scene.control_plane.api_server(), Signal::KILL)?;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        all_live().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    scene.end().await
}
