//! Compares alerts and dashboards with the metrics of a real installation: each metric, label and value that they name
//! exists.
//!
//! The chart is installed, used for a while and scraped. Prometheus' own engine then evaluates all expressions on the
//! scraped samples, as if they continued unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options as ControlPlaneOptions};
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::helm::{Helm, NAMESPACE, Values};
use gatehouse_conformance::install::{Egress, Installation};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::prometheus::{Outcome, Prometheus, Sample, Scrape, Selector, Situation};
use gatehouse_conformance::traffic::{self, Traffic};
use gatehouse_conformance::{crds, spokes};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::PostParams;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::promql::{self, Rendered};
use crate::production::KINDS;
use crate::site::kustomization;
use crate::world::{World, settles};

/// Longer than any alert waits.
const MINUTES: u32 = 120;
/// Until all events have happened that the metrics count.
const USED: Duration = Duration::from_secs(90);

/// Series that exist only after errors that are hard to cause, with these errors.
const RARE: [(&str, &str); 3] = [
    ("apiserver_request_terminations_total", "too many requests at a time, or one that takes too long"),
    ("gatehouse_inventory_undecodable_total", "an object that has no name, which kube-apiserver never sends"),
    (
        r#"apiserver_request_total{code="503",job="gatehouse-apiserver",resource!=""}"#,
        "a kind that could never be listed",
    ),
];
/// Series that exist only after ledgers could not be written.
const FAILING: [&str; 2] = [
    r#"gatehouse_ledger_writes_total{outcome="failed"}"#,
    r#"gatehouse_quota_decisions_total{outcome="contended"}"#,
];

/// What some panels show about replicas.
const REPLICAS: [(&str, u32); 3] = [
    (r#"gatehouse-server: "Replicas up""#, 2),
    (r#"gatehouse-gate: "Replicas up""#, 2),
    (r#"gatehouse-gate: "Holders of the Lease""#, 1),
];
/// The kinds that the panels of Flux's own dashboard count (fluxcd/flux2-monitoring-example), how many objects there
/// are, and how many of these are failing.
const FLUX: [(&str, u32, u32); 2] =
    [("Kustomization|HelmRelease", 3, 1), ("GitRepository|HelmRepository|Bucket|OCIRepository", 2, 1)];

const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: Metadata}]
";

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("chart::series_that_alerts_and_dashboards_name_are_told", told)]
}

async fn told() -> anyhow::Result<()> {
    let (prometheus, helm) = (Prometheus::find().await?, Helm::find().await?);
    let egress = Egress::start()?;
    let options =
        ControlPlaneOptions { api_server_flags: vec![egress.flag()], ..ControlPlaneOptions::default() };
    let control_plane = ControlPlane::start(&options).await?;
    let outcome = installed(&prometheus, &helm, &control_plane, &egress).await;
    control_plane.stop().await?;
    outcome
}

async fn installed(
    prometheus: &Prometheus,
    helm: &Helm,
    control_plane: &ControlPlane,
    egress: &Egress,
) -> anyhow::Result<()> {
    let client = control_plane.client().await?;
    let mut before = crds::only(&KINDS)?;
    before.extend(crds::only(&["gitrepositories.source.toolkit.fluxcd.io"])?);
    before.extend(crds::policy());
    let objects = traffic::objects().into_iter().chain(objects());
    before.extend(objects.map(|object| Manifest { origin: "(trial)".to_owned(), object }));
    load::apply(&client, before).await?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("audit.yaml");
    std::fs::write(&policy, AUDIT_POLICY)?;
    let audited =
        |component: &str| format!("{component}.extraArgs={{--audit-policy-file={}}}", policy.display());
    let values = Values::default().and([
        "metrics.fluxResources=true".to_owned(),
        "clusters.enabled=true".to_owned(),
        audited("apiserver"),
        audited("webhooks"),
    ]);
    let installation = Installation::install(control_plane, egress, helm.objects(&values).await?).await?;
    // Its credential is a certificate, which expires.
    let spoke = spokes::start(Vec::new()).await?;
    spokes::register(control_plane, std::slice::from_ref(&spoke)).await?;
    traffic::in_force(&client).await?;
    let traffic = Traffic::start(control_plane, Vec::new()).await?;

    let (rendered, made_up) = (Rendered::of(helm).await?, promql::made_up()?);
    let asked = Asked::of(prometheus, &rendered, &made_up).await?;
    asked.knows_what_is_rare()?;
    unreadable(&installation).await?;
    let evaluate = async || {
        let scrapes = scrapes(&rendered.monitors, &installation).await?;
        let (rules, queries) = (rendered.rules.clone(), asked.queries());
        let situation = Situation { rules, scrapes, queries, minutes: MINUTES, ..Situation::default() };
        anyhow::Ok(asked.lacking(&prometheus.evaluate(&situation).await?))
    };
    settles("everything is told", USED, evaluate, |lacking| lacking.is_nothing_but(&FAILING)).await?;
    forbid_ledgers(&client).await?;
    settles("failures are told", USED, evaluate, |lacking| lacking.is_nothing_but(&[])).await?;
    drop(traffic);
    installation.end().await?;
    spoke.stop().await
}

/// A namespace in which nothing is created or deleted.
const STILL: &str = "still";

/// Flux objects that are ready or failing, and one that is suspended and violates a rule of the traffic's policy.
fn objects() -> Vec<Value> {
    let mut suspended = kustomization("traffic-judged", "suspended", Ok(()));
    suspended["spec"]["suspend"] = json!(true);
    suspended["spec"]["prune"] = json!(false);
    let mut objects = vec![suspended];
    for (name, verdict) in [("a", Ok(())), ("b", Ok(())), ("c", Err("broken"))] {
        objects.push(kustomization(STILL, name, verdict));
    }
    for (name, verdict) in [("a", Ok(())), ("b", Err("gone"))] {
        let mut source = kustomization(STILL, name, verdict);
        source["apiVersion"] = json!("source.toolkit.fluxcd.io/v1");
        source["kind"] = json!("GitRepository");
        source["spec"] = json!({"interval": "10m", "url": "https://git.example.com/fleet"});
        objects.push(source);
    }
    objects
}

/// Removes the permission of the webhooks to write ledgers.
async fn forbid_ledgers(client: &kube::Client) -> anyhow::Result<()> {
    let api: Api<ClusterRole> = Api::all(client.clone());
    let mut role = api.get("gatehouse-webhooks").await?;
    let writes =
        |rule: &PolicyRule| rule.resources.iter().flatten().any(|resource| resource == "quotaledgers");
    let rules = role.rules.as_mut().context("rules")?;
    let number = rules.len();
    rules.retain(|rule| !writes(rule));
    ensure!(rules.len() < number, "nobody may write ledgers");
    api.replace("gatehouse-webhooks", &PostParams::default(), &role).await?;
    Ok(())
}

/// Sends requests that are not reviews.
async fn unreadable(installation: &Installation) -> anyhow::Result<()> {
    for replica in installation.webhooks.replicas() {
        let review = http::Request::post("/validate").body(b"{".to_vec())?;
        let answer = replica.prober().await?.request_text(review).await;
        ensure!(answer.is_err(), "{answer:?}");
    }
    Ok(())
}

/// The metrics of all replicas, scraped as the chart's ServiceMonitors say.
async fn scrapes(monitors: &[Value], installation: &Installation) -> anyhow::Result<Vec<Scrape>> {
    let mut scrapes = Vec::new();
    for (service, deployment) in
        [("gatehouse-apiserver", &installation.views), ("gatehouse-webhooks", &installation.webhooks)]
    {
        let named = |monitor: &&Value| monitor["metadata"]["name"] == service;
        let monitor = monitors.iter().find(named).with_context(|| format!("no ServiceMonitor {service}"))?;
        for (number, replica) in deployment.replicas().enumerate() {
            for endpoint in monitor["spec"]["endpoints"].as_array().context("endpoints")? {
                let labels = [
                    ("job", service),
                    ("service", service),
                    ("namespace", NAMESPACE),
                    ("container", "gatehouse"),
                    ("endpoint", endpoint["port"].as_str().context("a port")?),
                    ("pod", &format!("{service}-{number}")),
                    ("instance", &format!("10.0.0.{number}:6443")),
                ];
                let listed = |field: &str| endpoint[field].as_array().cloned().unwrap_or_default();
                scrapes.push(Scrape {
                    text: ask(replica, endpoint["path"].as_str().context("a path")?).await?,
                    labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                    relabelings: listed("relabelings"),
                    metric_relabelings: listed("metricRelabelings"),
                });
            }
        }
    }
    Ok(scrapes)
}

async fn ask(replica: &Gatehouse, path: &str) -> anyhow::Result<String> {
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(replica.prober().await?.request_text(request).await?)
}

/// All queries of alerts, dashboards and the situations of alerts.
struct Asked<'a> {
    rendered: &'a Rendered,
    named: Vec<Named<'a>>,
    /// Queries, and the expected result of each.
    counts: Vec<(String, u32)>,
}

/// A selector and its place.
struct Named<'a> {
    place: &'a str,
    selector: Selector,
    /// Whether the values of its labels must exist too.
    is_strict: bool,
}

impl<'a> Asked<'a> {
    async fn of(
        prometheus: &Prometheus,
        rendered: &'a Rendered,
        made_up: &BTreeSet<String>,
    ) -> anyhow::Result<Self> {
        let expressions =
            rendered.expressions.iter().map(|one| (one.place.as_str(), one.text.as_str(), true));
        let cases = made_up.iter().map(|series| ("chart/alerts.yaml", series.as_str(), false));
        let all: Vec<_> = expressions.chain(cases).collect();
        let texts: Vec<_> = all.iter().map(|&(_, text, _)| text).collect();
        let mut named = Vec::new();
        for ((place, _, is_strict), selectors) in all.into_iter().zip(prometheus.parse(&texts).await?) {
            named.extend(selectors.into_iter().map(|selector| Named { place, selector, is_strict }));
        }
        let mut counts = Vec::new();
        for (place, expected) in REPLICAS {
            let panel = rendered.expressions.iter().find(|one| one.place == place);
            counts.push((panel.with_context(|| format!("there is no {place}"))?.text.clone(), expected));
        }
        for (kinds, all, failing) in FLUX {
            let chosen = format!(r#"exported_namespace=~"{STILL}",customresource_kind=~"{kinds}""#);
            counts.push((format!("count(gotk_resource_info{{{chosen}}})"), all));
            counts.push((format!(r#"count(gotk_resource_info{{{chosen},ready="False"}})"#), failing));
        }
        Ok(Self { rendered, named, counts })
    }

    /// An unused exception could hide an error later.
    fn knows_what_is_rare(&self) -> anyhow::Result<()> {
        for (rare, why) in RARE {
            let named = |named: &Named<'_>| named.selector.text == rare || named.selector.metric == rare;
            ensure!(self.named.iter().any(named), "nobody asks for {rare} ({why})");
        }
        Ok(())
    }

    /// For each selector its metric and itself, then the panels, then the counts.
    fn queries(&self) -> Vec<String> {
        let selectors = self.named.iter().map(|named| &named.selector);
        let pairs = selectors.flat_map(|selector| [selector.metric.clone(), selector.text.clone()]);
        let panels = self.rendered.expressions.iter().map(|one| one.text.clone());
        let counts = self.counts.iter().map(|(query, _)| query.clone());
        pairs.chain(panels).chain(counts).collect()
    }

    /// What is missing by the results.
    fn lacking(&self, outcome: &Outcome) -> Lacking {
        let (selectors, rest) = outcome.results.split_at(2 * self.named.len());
        let (expressions, counts) = rest.split_at(self.rendered.expressions.len());
        let mut lacking = Lacking::default();
        for (named, told) in self.named.iter().zip(selectors.chunks(2)) {
            let missing = named.missing(&told[0], &told[1]);
            let missing = missing.into_iter().filter(|missing| RARE.iter().all(|(rare, _)| rare != missing));
            lacking.named.extend(missing.map(|missing| (missing, named.place.to_owned())));
        }
        for (expression, told) in self.rendered.expressions.iter().zip(expressions) {
            let shows =
                |sample: &Sample| expression.shown.iter().all(|label| sample.labels.contains_key(label));
            if expression.is_panel && !told.iter().any(shows) {
                lacking.panels.insert(format!("{}: {}", expression.place, expression.text));
            }
        }
        for ((query, expected), told) in self.counts.iter().zip(counts) {
            let told: Vec<_> = told.iter().map(|sample| sample.value.as_str()).collect();
            if told != [expected.to_string()] {
                lacking.counts.insert(format!("{query} is {told:?}, not {expected}"));
            }
        }
        lacking.alerts = outcome.alerts.iter().map(|alert| format!("{:?}", alert.labels)).collect();
        lacking
    }
}

impl Named<'_> {
    /// The metric if it is missing, else the missing labels, else the selector if no series matches it.
    fn missing(&self, of_metric: &[Sample], of_selector: &[Sample]) -> Vec<String> {
        let Selector { text, metric, labels } = &self.selector;
        if of_metric.is_empty() {
            return vec![metric.clone()];
        }
        let is_told = |label: &&String| of_metric.iter().any(|sample| sample.labels.contains_key(*label));
        let (_, untold): (Vec<_>, Vec<_>) = labels.iter().partition(is_told);
        if untold.is_empty() && self.is_strict && of_selector.is_empty() {
            return vec![text.clone()];
        }
        untold.into_iter().map(|label| format!("{metric}: {label}")).collect()
    }
}

/// What is missing or wrong.
#[derive(Debug, Default)]
struct Lacking {
    /// Metrics, labels and selectors without series, each with a place where it is used.
    named: BTreeMap<String, String>,
    /// Panels without data, or without a label that they should show.
    panels: BTreeSet<String>,
    /// Counts that are wrong.
    counts: BTreeSet<String>,
    /// Alerts that fire although nothing is wrong.
    alerts: BTreeSet<String>,
}

impl Lacking {
    fn is_nothing_but(&self, named: &[&str]) -> bool {
        self.named.keys().all(|missing| named.contains(&missing.as_str()))
            && self.panels.is_empty()
            && self.counts.is_empty()
            && self.alerts.is_empty()
    }
}
