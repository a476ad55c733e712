//! Applies the rendered chart to a real kube-apiserver: it is accepted with strict validation, and does not drift. The
//! definitions of the Prometheus operator and of cert-manager are the real ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::clusters;
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::helm::{Helm, NAMESPACE, Values};
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::{crds, definitions};
use k8s_openapi::ByteString;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{deployments, every_values, upgrade};
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    let target = Arc::new(OnceCell::new());
    let mut trials = vec![
        on(world, &target, "chart::every_object_is_accepted_with_strict_validation", accepted),
        on(world, &target, "chart::pods_meet_the_restricted_standard", restricted),
        on(world, &target, "chart::applying_again_changes_nothing", unchanged),
        on(world, &target, "chart::deploy_is_a_kustomization_of_the_same", kustomization),
        on(world, &target, "chart::the_documents_release_under_flux_is_valid", under_flux),
    ];
    trials.extend(upgrade::trials(world, target));
    trials
}

fn on(
    world: &World,
    target: &Arc<OnceCell<Target>>,
    name: &str,
    body: impl AsyncFnOnce(&OnceCell<Target>) -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    let target = Arc::clone(target);
    world.apart(name, async move || body(&target).await)
}

/// The kinds of a release under Flux.
const FLUX_KINDS: [&str; 2] =
    ["ocirepositories.source.toolkit.fluxcd.io", "helmreleases.helm.toolkit.fluxcd.io"];

/// Namespaces that `ci/full-values.yaml` names, which belong to others.
const ORIGINS: [&str; 5] = ["capi-eu", "capi-us", "argocd", "fleet", "fleet-secrets"];

/// A control plane of its own, since the registrations that are installed here have no server behind them.
pub(super) struct Target {
    control_plane: ControlPlane,
    helm: Helm,
}

impl Target {
    pub(super) async fn of(cell: &OnceCell<Self>) -> anyhow::Result<&Self> {
        cell.get_or_try_init(async || {
            // First, since Helm may not be available.
            let helm = Helm::find().await?;
            let control_plane = ControlPlane::start(&Options::default()).await?;
            let mut manifests = definitions::foreign().await?;
            manifests.extend(crds::only(&FLUX_KINDS)?);
            manifests.extend(crds::missing_from(&manifests));
            // A dry run does not make the namespaces of what follows.
            let objects = [NAMESPACE, clusters::NAMESPACE].into_iter().chain(ORIGINS).map(namespace);
            manifests.extend(objects.map(|object| Manifest { origin: "(trial)".to_owned(), object }));
            load::apply(&control_plane.client().await?, manifests).await?;
            Ok(Self { control_plane, helm })
        })
        .await
    }

    pub(super) fn helm(&self) -> &Helm {
        &self.helm
    }

    /// The client CA as PEM.
    pub(super) fn client_ca(&self) -> &str {
        self.control_plane.client_ca().certificate_pem()
    }

    pub(super) fn kubectl(&self) -> anyhow::Result<Kubectl> {
        Kubectl::new(self.control_plane.kubeconfig())
    }

    /// Renders the chart to a file. Returns its path and its text.
    async fn file(&self, values: &str, folder: &TempDir) -> anyhow::Result<(PathBuf, String)> {
        let text = self.helm.template(&Values::of(values)).await?.ok()?;
        let path = folder.path().join(format!("{values}.yaml"));
        std::fs::write(&path, &text)?;
        Ok((path, text))
    }
}

fn namespace(name: &str) -> Value {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// The arguments of a server-side apply.
fn apply<'a>(manager: &'a str, file: &'a Path) -> [&'a str; 6] {
    [
        "apply",
        "--server-side",
        "--force-conflicts",
        manager,
        "-f",
        file.to_str().expect("made here, of ASCII"),
    ]
}

pub(super) const HELM: &str = "--field-manager=helm";
const FLUX: &str = "--field-manager=kustomize-controller";
pub(super) const OWN: &str = "--field-manager=gatehouse";
const DRY_RUN: [&str; 2] = ["--dry-run=server", "--validate=strict"];

async fn accepted(target: &OnceCell<Target>) -> anyhow::Result<()> {
    let target = Target::of(target).await?;
    let (kubectl, folder) = (target.kubectl()?, tempfile::tempdir()?);
    for values in every_values() {
        let (file, text) = target.file(values, &folder).await?;
        let objects = load::parse(values, &text)?.len();
        let said = kubectl.run(apply(HELM, &file).into_iter().chain(DRY_RUN)).await?.ok()?;
        let applied = said.lines().filter(|line| line.contains("serverside-applied")).count();
        ensure!(applied == objects, "{values}: {applied} of {objects} objects were accepted:\n{said}");
    }
    // The same with a misspelt field.
    for (values, field) in [
        ("default", "minReadySeconds"),
        ("full", "metricRelabelings"),
        ("full", "expr"),
        ("cert-manager", "renewBefore"),
    ] {
        let (file, text) = target.file(values, &folder).await?;
        let (field, misspelt) = (format!(" {field}:"), format!(" {field}s:"));
        ensure!(text.contains(&field), "{values} has no{field}");
        std::fs::write(&file, text.replace(&field, &misspelt))?;
        let said = kubectl.run(apply(HELM, &file).into_iter().chain(DRY_RUN)).await?.failed()?;
        let misspelt = misspelt.trim().trim_end_matches(':');
        ensure!(said.contains(misspelt), "{misspelt}: {said}");
    }
    Ok(())
}

/// The pods of the Deployments are admitted in a namespace that enforces the restricted standard.
async fn restricted(target: &OnceCell<Target>) -> anyhow::Result<()> {
    let target = Target::of(target).await?;
    let (kubectl, folder) = (target.kubectl()?, tempfile::tempdir()?);
    let path = folder.path().join("pod.json");
    for values in every_values() {
        let objects = target.helm.objects(&Values::of(values)).await?;
        for deployment in deployments(&objects) {
            let mut pod = deployment["spec"]["template"].clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = deployment["metadata"]["name"].clone();
            pod["metadata"]["namespace"] = json!(NAMESPACE);
            // The priority class may not exist, which is unrelated to the standard.
            pod["spec"].as_object_mut().context("spec")?.remove("priorityClassName");
            for (is_root, expected) in [(false, true), (true, false)] {
                if is_root {
                    pod["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
                }
                std::fs::write(&path, pod.to_string())?;
                let output = kubectl.run(apply(HELM, &path).into_iter().chain(DRY_RUN)).await?;
                ensure!((output.code == Some(0)) == expected, "{values}, root {is_root}: {output:?}");
            }
        }
    }
    Ok(())
}

/// The fields that the holder of the Lease applies with its own field manager: the caBundles.
pub(super) fn kept(objects: &[Manifest], ca: &str) -> Vec<Value> {
    let bundle = ByteString(ca.as_bytes().to_vec());
    let registrations = objects.iter().map(|one| &one.object).filter_map(|object| {
        let identity = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {"name": object["metadata"]["name"]},
        });
        let mut kept = identity;
        if object["kind"] == "APIService" {
            kept["spec"] = json!({"caBundle": bundle});
        } else {
            let webhooks = object["webhooks"].as_array()?.iter();
            let webhooks: Vec<_> = webhooks
                .map(|webhook| json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}}))
                .collect();
            kept["webhooks"] = json!(webhooks);
        }
        Some(kept)
    });
    registrations.collect()
}

/// The resourceVersion of each object in a file.
async fn versions(kubectl: &Kubectl, file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let file = file.to_str().context("a path of ASCII")?;
    let list: Value = serde_json::from_str(&kubectl.run(["get", "-f", file, "-o", "json"]).await?.ok()?)?;
    let mut versions = BTreeMap::new();
    for object in list["items"].as_array().context("items")? {
        let metadata = &object["metadata"];
        let name = format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"]);
        versions.insert(name, metadata["resourceVersion"].to_string());
    }
    Ok(versions)
}

/// Repeated applies as Flux and Argo CD do them change nothing, even after Gatehouse has set the caBundles.
async fn unchanged(target: &OnceCell<Target>) -> anyhow::Result<()> {
    let target = Target::of(target).await?;
    let (kubectl, folder) = (target.kubectl()?, tempfile::tempdir()?);
    for values in ["default", "full"] {
        let (file, text) = target.file(values, &folder).await?;
        let objects = load::parse(values, &text)?;
        kubectl.run(apply(FLUX, &file)).await?.ok()?;
        let own = folder.path().join("own.json");
        let kept = kept(&objects, target.client_ca());
        ensure!(kept.len() == 3, "{kept:#?}");
        std::fs::write(&own, json!({"apiVersion": "v1", "kind": "List", "items": kept}).to_string())?;
        // kubectl cannot validate partial objects; kube-apiserver does.
        kubectl.run(apply(OWN, &own).into_iter().chain(["--validate=false"])).await?.ok()?;

        let path = path_of(&file)?;
        let flux = apply(FLUX, &file);
        for again in [flux.as_slice(), &["apply", "-f", path]] {
            // The first time, kubectl records what it applied.
            kubectl.run(again).await?.ok()?;
            let before = versions(&kubectl, &file).await?;
            ensure!(before.len() == objects.len(), "{values}: {} of {}", before.len(), objects.len());
            kubectl.run(again).await?.ok()?;
            let after = versions(&kubectl, &file).await?;
            let changed: Vec<_> =
                before.iter().filter(|&(name, version)| after.get(name) != Some(version)).collect();
            ensure!(changed.is_empty(), "{values}: changed by {again:?}: {changed:#?}");
        }
        kubectl.run(["diff", "-f", path]).await?.ok()?;
        // None of them has removed the fields that Gatehouse set.
        let kept: Value =
            serde_json::from_str(&kubectl.run(["get", "-f", path_of(&own)?, "-o", "json"]).await?.ok()?)?;
        for object in kept["items"].as_array().context("items")? {
            let hooks = object["webhooks"].as_array().into_iter().flatten().map(|hook| &hook["clientConfig"]);
            let holders: Vec<_> = hooks.chain(object.get("spec")).collect();
            let filled = holders.iter().all(|holder| holder["caBundle"].is_string());
            ensure!(!holders.is_empty() && filled, "{values}: {object:#}");
        }
    }
    Ok(())
}

pub(super) fn path_of(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path of ASCII")
}

/// `deploy/` for installations without Helm: kubectl builds it, and kube-apiserver accepts it.
async fn kustomization(target: &OnceCell<Target>) -> anyhow::Result<()> {
    let target = Target::of(target).await?;
    let (kubectl, folder) = (target.kubectl()?, tempfile::tempdir()?);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let built = kubectl.run(["kustomize", path_of(&deploy)?]).await?.ok()?;
    let plain = std::fs::read_to_string(deploy.join("gatehouse.yaml"))?;
    let named = |text: &str| -> anyhow::Result<Vec<String>> {
        let objects = load::parse("deploy", text)?;
        let name = |one: &Manifest| format!("{} {}", one.object["kind"], one.object["metadata"]["name"]);
        let mut names: Vec<_> = objects.iter().map(name).collect();
        names.sort();
        Ok(names)
    };
    ensure!(named(&built)? == named(&plain)?, "{built}");
    // With the kustomization that docs/install.md tells its readers to write.
    let own = documented("resources: [deploy]")?;
    std::fs::write(folder.path().join("kustomization.yaml"), own)?;
    std::fs::create_dir(folder.path().join("deploy"))?;
    for name in ["kustomization.yaml", "gatehouse.yaml"] {
        std::fs::copy(deploy.join(name), folder.path().join("deploy").join(name))?;
    }
    let built = kubectl.run(["kustomize", path_of(folder.path())?]).await?.ok()?;
    let images: Vec<_> = built.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    ensure!(images == ["registry.example.com/platform/gatehouse:0.1.0"; 2], "{images:?}");
    let file = folder.path().join("deploy.yaml");
    std::fs::write(&file, built)?;
    kubectl.run(apply(HELM, &file).into_iter().chain(DRY_RUN)).await?.ok()?;
    Ok(())
}

/// The YAML of docs/install.md that contains a text.
fn documented(text: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install.md");
    let document = std::fs::read_to_string(path)?;
    let mut blocks = document.split("```yaml\n").filter_map(|part| part.split_once("\n```"));
    let (block, _) = blocks
        .find(|(block, _)| block.contains(text))
        .with_context(|| format!("docs/install.md has no YAML with {text}"))?;
    Ok(block.to_owned())
}

/// kube-apiserver takes the HelmRelease and its source as the documents have them, and the chart takes the values.
async fn under_flux(target: &OnceCell<Target>) -> anyhow::Result<()> {
    let target = Target::of(target).await?;
    let (kubectl, folder) = (target.kubectl()?, tempfile::tempdir()?);
    let text = documented("kind: HelmRelease")?;
    let file = folder.path().join("release.yaml");
    std::fs::write(&file, &text)?;
    let said = kubectl.run(apply(FLUX, &file).into_iter().chain(DRY_RUN)).await?.ok()?;
    ensure!(said.lines().count() == 2, "{said}");

    let objects = load::parse("docs/install.md", &text)?;
    let release = objects.iter().find(|one| one.object["kind"] == "HelmRelease").context("a HelmRelease")?;
    let values = folder.path().join("values.json");
    std::fs::write(&values, release.object["spec"]["values"].to_string())?;
    let chart = gatehouse_conformance::helm::chart();
    let args = ["template".into(), chart.into(), "--values".into(), values.into()];
    target.helm.run(args.into()).await?.ok()?;
    Ok(())
}
