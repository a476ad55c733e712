//! The chart: what it renders, what it refuses, and whether the generated files beside it are current.
//!
//! Helm is built once. If that is not possible, these trials are ignored.

mod alerts;
mod cluster;
mod lifetimes;
mod promql;
mod series;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::{self, clusters, user_roles, webhook_account};
use gatehouse_conformance::chart::{self, GOLDENS};
use gatehouse_conformance::gatehouse;
use gatehouse_conformance::helm::{self, Helm, Values};
use gatehouse_conformance::load::Manifest;
use gatehouse_conformance::registration::kinds;
use gatehouse_webhooks::intercepted;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let mut trials = vec![
        world.apart("chart::lint_finds_nothing", lint),
        world.apart("chart::what_is_made_from_it_is_current", current),
        world.apart("chart::values_that_make_no_sense_are_refused", refused),
        world.apart("chart::lifetimes_that_no_process_would_take_are_refused", lifetimes::bounds),
        world.apart("chart::certificates_are_told_of_when_they_should_have_been_renewed", lifetimes::alert),
        world.apart("chart::alerts_and_dashboards_are_of_what_is_installed", alerts::installed),
        world.apart("chart::a_package_has_what_its_readme_names", package),
        world.apart("chart::the_notes_tell_what_to_do_next", notes),
        world.apart("chart::rights_are_those_of_the_code_and_nothing_more", rights),
        world.apart("chart::origins_of_clusters_have_the_rights_of_the_code_in_their_namespaces", origins),
        world.apart("chart::pods_have_flags_that_the_command_knows", flags),
        world.apart("chart::minimal_fits_a_small_node", minimal),
        world.apart("chart::pods_may_be_left_out_of_what_is_observed", without_pods),
    ];
    trials.extend(promql::trials(world));
    trials.extend(series::trials(world));
    trials.extend(cluster::trials(world));
    trials
}

/// The default values, and each file of values in `ci/`.
fn every_values() -> impl Iterator<Item = &'static str> {
    ["default"].into_iter().chain(GOLDENS)
}

async fn lint() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    for name in every_values() {
        helm.lint(&Values::of(name)).await?.ok()?;
    }
    Ok(())
}

async fn current() -> anyhow::Result<()> {
    let made = chart::made(&Helm::find().await?).await?;
    let stale: Vec<_> =
        made.iter().filter(|made| !made.is_current()).map(|made| made.path.display().to_string()).collect();
    ensure!(
        stale.is_empty(),
        "run `cargo run -p gatehouse-conformance -- chart`, look at the difference and commit {}",
        stale.join(", ")
    );
    Ok(())
}

/// A file of values, the values set in addition, and what the error names.
const REFUSED: [(&str, &[&str], &str); 33] = [
    ("default", &["apiserver.replicas=0"], "/apiserver/replicas"),
    ("default", &["webhooks.replicas=0"], "/webhooks/replicas"),
    ("default", &["apiserver.replicas=16"], "/apiserver/replicas"),
    ("default", &["apiserver.replicas=two"], "/apiserver/replicas"),
    ("default", &["webhooks.terminationGracePeriodSeconds=0"], "/webhooks/terminationGracePeriodSeconds"),
    ("default", &["apiserver.enabled=false", "webhooks.enabled=false"], "/apiserver/enabled"),
    ("default", &["tls.mode=none"], "/tls/mode"),
    ("default", &["tls.mode=files"], "/tls/files/apiserver/secretName"),
    ("files", &["tls.files.webhooks.secretName="], "/tls/files/webhooks/secretName"),
    ("files", &["tls.files.webhooks.caBundle="], "/tls/files/webhooks/caBundle"),
    ("files", &["tls.files.apiserver.caBundle=LS0tLS1CRUdJTg=="], "/tls/files/apiserver/caBundle"),
    ("files", &["tls.files.apiserver.secretName=gatehouse-apiserver-tls"], "/tls/files/apiserver/secretName"),
    ("files", &["tls.files.webhooks.secretName=gatehouse-webhooks-cert-manager"], "/tls/files/webhooks"),
    ("cert-manager", &["tls.certManager.createIssuer=false"], "/tls/certManager/issuerRef"),
    ("cert-manager", &["tls.certManager.issuerRef.name=corporate"], "/tls/certManager/issuerRef"),
    ("cert-manager", &["tls.certManager.duration=90d"], "/tls/certManager/duration"),
    ("cert-manager", &["tls.certManager.renewBefore=2160h"], "tls.certManager.renewBefore (2160h)"),
    ("default", &["tls.selfManaged.caLifetime=long"], "/tls/selfManaged/caLifetime"),
    ("default", &["webhooks.failurePolicy=Maybe"], "/webhooks/failurePolicy"),
    ("default", &["webhooks.timeoutSeconds=31"], "/webhooks/timeoutSeconds"),
    ("default", &["webhooks.excludedNamespaces[0]=Team_A"], "/webhooks/excludedNamespaces/0"),
    ("default", &["webhooks.countedKinds[0].plural=configmaps"], "/webhooks/countedKinds/0"),
    ("default", &["apiserver.catalogue[0].kind=Widget"], "/apiserver/catalogue/0"),
    ("default", &["apiserver.extraArgs[0]=verbose"], "/apiserver/extraArgs/0"),
    ("default", &["image.repository="], "/image/repository"),
    ("default", &["image.digest=sha256:0"], "/image/digest"),
    ("default", &["priorityClass.name=system-cluster-critical"], "/priorityClass/name"),
    ("default", &["networkPolicy.apiServerCIDRs[0]=10.0.0.1"], "/networkPolicy/apiServerCIDRs/0"),
    (
        "full",
        &["metrics.serviceMonitor.prometheus.namespace="],
        "/metrics/serviceMonitor/prometheus/namespace",
    ),
    ("full", &["metrics.prometheusRule.certificateEnds=7d"], "/metrics/prometheusRule/certificateEnds"),
    ("default", &["clusters.argoCD.namespaces[0]=Argo_CD"], "/clusters/argoCD/namespaces/0"),
    (
        "default",
        &["clusters.clusterProfiles.namespaces[0]=fleet"],
        "clusters.clusterProfiles.secretsNamespace",
    ),
    ("default", &["apisever.replicas=3"], "'apisever'"),
];

async fn refused() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    for (file, set, named) in REFUSED {
        let values = Values::of(file).and(set.iter().copied());
        let said = helm.template(&values).await?.failed()?;
        ensure!(said.contains(named), "{set:?}: {named} is not named:\n{said}");
    }
    Ok(())
}

/// Neither a flag nor a right is left over in either case, nor where an upgrade reuses values that do not know the choice.
async fn without_pods() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    for (set, is_out) in
        [("apiserver.pods=false", true), ("apiserver.pods=true", false), ("apiserver.pods=null", false)]
    {
        let rendered = helm.template(&Values::default().and([set])).await?.ok()?;
        // The webhooks read those that quotas count.
        let own = rendered.split("\n---\n").filter(|document| document.contains("gatehouse-apiserver"));
        let own: Vec<_> = own.collect();
        let has = |line: &str| own.iter().any(|document| document.lines().any(|other| other.trim() == line));
        ensure!(has("- --without-pods") == is_out && has("- pods") != is_out, "{set}:\n{rendered}");
        ensure!(has("- persistentvolumes"), "{set}:\n{rendered}");
    }
    Ok(())
}

/// The package contains the files that the README refers to.
async fn package() -> anyhow::Result<()> {
    let readme = std::fs::read_to_string(helm::chart().join("README.md"))?;
    let parts = readme.split('`').filter(|part| part.starts_with("ci/"));
    let named: BTreeSet<_> = parts.collect();
    ensure!(!named.is_empty(), "README.md names no file");
    let packaged = Helm::find().await?.packaged().await?;
    ensure!(packaged.contains("values.yaml"), "{packaged:?}");
    for file in named {
        ensure!(packaged.contains(file), "{file} is not among {packaged:?}");
    }
    Ok(())
}

async fn notes() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    let notes = helm.notes(&Values::default()).await?;
    for expected in ["kubectl wait --for=condition=Available", "gatehouse-policies-admin", "apiServerCIDRs"] {
        ensure!(notes.contains(expected), "{expected} is not in\n{notes}");
    }
    let notes = helm.notes(&Values::of("files")).await?;
    ensure!(notes.contains("views-certificate") && notes.contains("admission-certificate"), "{notes}");
    let notes = helm.notes(&Values::of("full")).await?;
    ensure!(!notes.contains("Whoever can reach") && !notes.contains("403"), "{notes}");
    let unbound = ["metrics.serviceMonitor.enabled=true"];
    let notes = helm.notes(&Values::default().and(unbound)).await?;
    ensure!(notes.contains("403") && notes.contains("gatehouse-metrics-reader"), "{notes}");
    Ok(())
}

/// The content of an RBAC object by kind, namespace and name; `None` for other objects.
fn says(object: &Value) -> Option<((String, String, String), Value)> {
    (object["apiVersion"] == "rbac.authorization.k8s.io/v1").then(|| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let key = (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]));
        let said = ["rules", "aggregationRule", "roleRef", "subjects"].map(|field| object[field].clone());
        (key, json!(said))
    })
}

/// The labels that aggregate a role. They count too: `aggregate-to-…` is allowed only where the code has it.
fn aggregates(object: &Value) -> Vec<&String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(name, _)| name).filter(|name| name.contains("aggregate-to-")).collect()
}

async fn rights() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    let always = || {
        let mut objects = registration::rights(kinds());
        objects.extend(webhook_account::rights(intercepted::read(), intercepted::suspended()));
        objects.extend(user_roles::user_roles());
        objects.extend(user_roles::for_everyone());
        objects.extend(webhook_account::user_roles());
        objects
    };
    let self_managed = || registration::self_managed().into_iter().chain(webhook_account::self_managed());
    for (name, expected) in [
        ("default", always().into_iter().chain(self_managed()).collect::<Vec<_>>()),
        ("files", always()),
        ("cert-manager", always()),
    ] {
        let rendered = helm.objects(&Values::of(name)).await?;
        let said: BTreeMap<_, _> = rendered.iter().filter_map(|one| says(&one.object)).collect();
        let meant: BTreeMap<_, _> = expected.iter().filter_map(says).collect();
        ensure!(!meant.is_empty() && said == meant, "{name}: rendered {said:#?}\nmeant {meant:#?}");
        let aggregated =
            |objects: &[&Value]| -> usize { objects.iter().map(|one| aggregates(one).len()).sum() };
        let rendered: Vec<_> = rendered.iter().map(|one| &one.object).collect();
        ensure!(aggregated(&rendered) == aggregated(&expected.iter().collect::<Vec<_>>()), "{name}: labels");
    }
    Ok(())
}

/// Each origin adds its own rights in the namespaces that are named, and no others.
async fn origins() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    let said = async |set: &[&str]| {
        let rendered = helm.objects(&Values::default().and(set.iter().copied())).await?;
        anyhow::Ok(rendered.iter().filter_map(|one| says(&one.object)).collect::<BTreeMap<_, _>>())
    };
    let always = said(&[]).await?;
    let of_capi = ["a", "b"].map(clusters::cluster_api_rights).concat();
    let profiles = clusters::profile_rights(&["a".to_owned()], "b");
    for (set, expected) in [
        (["clusters.enabled=true"].as_slice(), clusters::rights()),
        (&["clusters.clusterAPI.namespaces={a,b}"], of_capi),
        (&["clusters.argoCD.namespaces={a}"], clusters::argocd_rights("a").into()),
        (
            &["clusters.clusterProfiles.namespaces={a}", "clusters.clusterProfiles.secretsNamespace=b"],
            profiles,
        ),
    ] {
        let mut more = said(set).await?;
        more.retain(|key, _| !always.contains_key(key));
        let meant: BTreeMap<_, _> = expected.iter().filter_map(says).collect();
        ensure!(more == meant, "{set:?}: rendered {more:#?}\nmeant {meant:#?}");
    }
    Ok(())
}

fn deployments(objects: &[Manifest]) -> impl Iterator<Item = &Value> {
    objects.iter().map(|one| &one.object).filter(|object| object["kind"] == "Deployment")
}

/// The container of a Deployment.
fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

async fn flags() -> anyhow::Result<()> {
    let (helm, executable) = (Helm::find().await?, gatehouse::executable().await?);
    for name in every_values() {
        let objects = helm.objects(&Values::of(name)).await?;
        let mut seen = 0;
        for deployment in deployments(&objects) {
            seen += 1;
            let args: Vec<String> = serde_json::from_value(container(deployment)["args"].clone())?;
            for (more, known) in [(["--help"].as_slice(), true), (&["--no-such-flag", "--help"], false)] {
                // Flags are parsed in order, so `--help` succeeds only if all flags before it are known and valid.
                let mut command = Command::new(&executable);
                command.args(&args).args(more).stdin(Stdio::null()).kill_on_drop(true);
                let output = command.output().await?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success() == known, "{name}: {args:?} {more:?}: {said}");
            }
        }
        ensure!(seen == 2, "{name}: {seen} Deployments");
    }
    Ok(())
}

/// The requests of all pods together must fit on a node that runs K3s and little else.
async fn minimal() -> anyhow::Result<()> {
    let objects = Helm::find().await?.objects(&Values::of("minimal")).await?;
    let number = |text: &Value, unit: &str| -> anyhow::Result<u32> {
        let text = text.as_str().context("a quantity")?;
        Ok(text.strip_suffix(unit).with_context(|| format!("{text} is not in {unit}"))?.parse()?)
    };
    let (mut cpu, mut memory) = (0, 0);
    for deployment in deployments(&objects) {
        let requests = &container(deployment)["resources"]["requests"];
        let replicas: u32 = serde_json::from_value(deployment["spec"]["replicas"].clone())?;
        cpu += replicas * number(&requests["cpu"], "m")?;
        memory += replicas * number(&requests["memory"], "Mi")?;
    }
    ensure!(cpu == 100 && memory == 64, "{cpu}m and {memory}Mi are asked for");
    let blocks = |kind: &str| objects.iter().any(|one| one.object["kind"] == kind);
    ensure!(!blocks("PodDisruptionBudget") && !blocks("PriorityClass"), "too much for one node");
    Ok(())
}
