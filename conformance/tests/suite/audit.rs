//! Compares the audit log with that of kube-apiserver: both record the same requests with the same audit IDs, and what
//! Gatehouse writes for a request has that request's ID.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use gatehouse_conformance::control_plane::{self, ControlPlane};
use gatehouse_conformance::crds;
use gatehouse_conformance::gatehouse::{self, Gatehouse, Options};
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::site::{API, kustomization};
use crate::world::World;

/// For both servers: requests about views, without those between servers.
const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, userGroups: [system:masters], users: [probe]}
- {level: Metadata, resources: [{group: view.gatehouse.dev}]}
- {level: Metadata, verbs: [patch], omitStages: [RequestReceived], users: ['system:serviceaccount:gatehouse-system:gatehouse-apiserver'], resources: [{group: kustomize.toolkit.fluxcd.io}]}
";

/// The action that is requested, and what it changes.
const ACTION: &str =
    "/apis/view.gatehouse.dev/v1alpha1/namespaces/default/fluxresources/local.kustomization.app/reconcile";
const KIND: &str = "kustomizations.kustomize.toolkit.fluxcd.io";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.apart("audit::both_servers_tell_of_the_same_requests", same_requests),
        world.apart("audit::webhooks_tell_of_reviews_without_their_bodies", reviews),
    ]
}

/// For the webhooks: reviews, without probes. Bodies are requested but never logged.
const REVIEWS: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, nonResourceURLs: [/readyz, /livez]}
- {level: RequestResponse}
";

/// The audit log of a server: a file of its own, or lines among others.
struct Log(PathBuf);

impl Log {
    fn events(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.0)?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(events.filter(|event| event["apiVersion"] == "audit.k8s.io/v1").collect())
    }

    /// The events of each request, by audit ID.
    fn requests(&self) -> anyhow::Result<BTreeMap<String, Vec<Value>>> {
        let mut requests: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in self.events()? {
            let id = event["auditID"].as_str().context("an ID")?.to_owned();
            requests.entry(id).or_default().push(event);
        }
        Ok(requests)
    }
}

fn policy_flag(policy: &Path) -> String {
    format!("--audit-policy-file={}", policy.display())
}

async fn same_requests() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, POLICY)?;
    let theirs = Log(folder.path().join("kube-apiserver.log"));

    let options = control_plane::Options {
        api_server_flags: vec![policy_flag(&policy), format!("--audit-log-path={}", theirs.0.display())],
        ..control_plane::Options::default()
    };
    let control_plane = ControlPlane::start(&options).await?;
    let mut objects = crds::only(&[KIND])?;
    let app = kustomization("default", "app", Ok(()));
    objects.push(Manifest { origin: "(trial)".to_owned(), object: app });
    load::apply(&control_plane.client().await?, objects).await?;
    gatehouse::prepare(&control_plane).await?;
    let flags = vec!["--enable-actions".to_owned(), policy_flag(&policy)];
    let options = Options { flags, ..Options::default() };
    let mut gatehouse = Gatehouse::start(&control_plane, &options).await?;
    let ours = Log(gatehouse.process().context("runs")?.log().to_owned());
    gatehouse.register(&control_plane).await?;
    ask(&control_plane, &gatehouse).await?;
    // Once Gatehouse has stopped, all its events are in the log.
    gatehouse.stop().await?;
    let outcome = compare(&theirs, &ours);
    control_plane.stop().await?;
    outcome
}

/// Requests through the aggregator, and direct ones for what kube-apiserver would refuse itself.
async fn ask(control_plane: &ControlPlane, gatehouse: &Gatehouse) -> anyhow::Result<()> {
    let root = control_plane.kubeconfig_for("root", Some("system:masters"))?;
    let kubectl = Kubectl::new(&root)?;
    kubectl.run(["get", "clusterhealth", "local"]).await?.ok()?;
    let body = tempfile::NamedTempFile::new()?;
    std::fs::write(&body, "{}")?;
    kubectl.run(["create", "--raw", ACTION, "-f", &body.path().display().to_string()]).await?.ok()?;
    kubectl.run(["get", "fluxsummaries", "-A", "-o", "yaml"]).await?.ok()?;
    let missing = kubectl.run(["get", "fluxsummary", "local", "-n", "nowhere"]).await?;
    ensure!(missing.code == Some(1), "{missing:?}");
    // kube-apiserver logs a panic if a client disconnects from a watch that it proxies, so this watch ends by its
    // timeout.
    kubectl
        .run(["get", "--raw", &format!("{API}/clusterhealths?watch=true&timeoutSeconds=1")])
        .await?
        .ok()?;
    let nobody = Kubectl::new(&gatehouse.kubeconfig_for(control_plane, "nobody", None)?)?;
    let refused = nobody.run(["get", "--raw", &format!("{API}/clusterhealths")]).await?;
    ensure!(refused.stderr.contains("forbidden"), "{refused:?}");
    Ok(())
}

/// The reviews that kube-apiserver sends for a quota that is denied.
async fn reviews() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, REVIEWS)?;
    let control_plane = ControlPlane::start(&control_plane::Options::default()).await?;
    let settings = Settings { flags: vec![policy_flag(&policy)], ..Settings::default() };
    webhooks::prepare(&control_plane).await?;
    let mut webhooks = Webhooks::start(&control_plane, 1, &settings).await?;
    let log = Log(webhooks.replica(0).process().context("runs")?.log().to_owned());
    webhooks.register(&control_plane).await?;

    let admin = Caller::of_kubeconfig(control_plane.kubeconfig()).await?;
    let nowhere_in_a_log = "told-to-nobody";
    let quota = json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
        "metadata": {"name": "audited", "annotations": {"secret": nowhere_in_a_log}},
        "spec": {"namespaceSelector": {}, "hard": {"players": "-1"}},
    });
    let answer = admin.post("/apis/policy.gatehouse.dev/v1alpha1/tenantquotas", &quota).await?;
    ensure!(!answer.code.is_success() && answer.body.to_string().contains("hard[players]"), "{answer:#?}");
    // Once the replica has stopped, all its events are in the log, which is removed with the replica.
    webhooks.stop(0).await?;
    let events = log.events()?;
    let has_body = std::fs::read_to_string(&log.0)?.contains(nowhere_in_a_log);
    control_plane.stop().await?;

    let is_review = |event: &&Value| event["verb"] == "post";
    ensure!(events.iter().any(|event| is_review(&event)), "{events:#?}");
    for event in events.iter().filter(is_review) {
        ensure!(event["level"] == "Metadata" && event["stage"] == "ResponseComplete", "{event:#}");
        // A denial is a successful response. The decision is in kube-apiserver's log, as annotations.
        ensure!(event["responseStatus"]["code"] == 200, "{event:#}");
        ensure!(event["requestURI"].as_str().is_some_and(|uri| uri.contains("?timeout=")), "{event:#}");
    }
    ensure!(!has_body, "a body is in the log");
    Ok(())
}

fn compare(theirs: &Log, ours: &Log) -> anyhow::Result<()> {
    let (mut theirs, mut ours) = (theirs.requests()?, ours.requests()?);
    let is_action = |event: &Value| event["objectRef"]["subresource"] == "reconcile";
    let action = theirs.values_mut().find(|events| events.iter().any(is_action)).context("an action")?;
    let patches: Vec<_> = action.extract_if(.., |event| event["verb"] == "patch").collect();
    let [patch] = patches.as_slice() else { bail!("patches with the ID of the action: {patches:#?}") };
    ensure!(patch["objectRef"]["name"] == "app" && patch["responseStatus"]["code"] == 200, "{patch:#}");
    let last = |events: &[Value]| events.last().cloned().unwrap_or_default();
    ensure!(theirs.len() >= 4, "kube-apiserver knows of {} requests", theirs.len());
    for (id, their_events) in &theirs {
        let our_events = ours.remove(id).with_context(|| format!("{id}: {:#}", last(their_events)))?;
        let (their, our) = (last(their_events), last(&our_events));
        for field in ["kind", "apiVersion", "level", "requestURI", "verb", "userAgent", "objectRef"] {
            ensure!(their[field] == our[field], "{field}: {their:#} {our:#}");
        }
        for field in ["username", "groups"] {
            ensure!(their["user"][field] == our["user"][field], "{field}: {their:#} {our:#}");
        }
        ensure!(their["responseStatus"]["code"] == our["responseStatus"]["code"], "{their:#} {our:#}");
        ensure!(their["sourceIPs"][0] == our["sourceIPs"][0], "{their:#} {our:#}");
        ensure!(our["annotations"]["authorization.k8s.io/decision"] == "allow", "{our:#}");
        let stages =
            |events: &[Value]| -> Vec<_> { events.iter().map(|event| event["stage"].clone()).collect() };
        ensure!(stages(their_events) == stages(&our_events), "{their_events:#?} {our_events:#?}");
    }
    // The direct requests.
    let denied: Vec<_> = ours.into_values().map(|events| last(&events)).collect();
    ensure!(denied.len() == 1, "{denied:#?}");
    let [denied] = denied.as_slice() else { unreachable!("just counted") };
    ensure!(denied["user"]["username"] == "nobody" && denied["responseStatus"]["code"] == 403, "{denied:#}");
    ensure!(denied["responseStatus"]["reason"] == "Forbidden", "{denied:#}");
    ensure!(denied["annotations"]["authorization.k8s.io/decision"] == "forbid", "{denied:#}");
    Ok(())
}
