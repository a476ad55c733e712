//! The image that `gatehouse-conformance image` has written to the folder that `GATEHOUSE_IMAGE` names: it is pushed to a
//! registry, pulled, unpacked and started, as user 65532 in a read-only root that holds nothing else.
//!
//! Building it takes minutes, so these trials are ignored if no folder is named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::{self, Awaited, Gatehouse, Serves};
use gatehouse_conformance::image::{ARCHIVE, LAYOUT};
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load;
use gatehouse_conformance::registry::Registry;
use gatehouse_conformance::{crds, progress};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::process::Command;

use crate::world::World;

/// Mounts the unpacked root read-only over itself, beside it the folder with certificates and kubeconfigs, and starts the
/// executable in it as user 65532; in user namespaces, so that it takes no rights to do so.
const CONTAINER: &str = r#"#!/bin/sh
exec unshare --map-root-user --mount sh -c '
  set -e
  mount --bind "$ROOT" "$ROOT"
  mount --bind "$FILES" "$ROOT$FILES"
  mount -o remount,bind,ro "$ROOT$FILES"
  mount -o remount,bind,ro "$ROOT"
  exec unshare --map-user=65532 --map-group=65532 --root="$ROOT" /gatehouse "$@"
' sh "$@"
"#;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let trial = world.apart("image::runs_from_a_registry_without_rights_or_files", run);
    vec![trial.with_ignored_flag(folder().is_none())]
}

fn folder() -> Option<PathBuf> {
    std::env::var_os("GATEHOUSE_IMAGE").map(PathBuf::from)
}

async fn run() -> anyhow::Result<()> {
    let image = folder().context("GATEHOUSE_IMAGE names no folder")?;
    let image = image.canonicalize().with_context(|| format!("cannot find {}", image.display()))?;
    let control_plane = ControlPlane::start(&Options::default()).await?;
    let outcome = pulled_and_started(&image, &control_plane).await;
    control_plane.stop().await?;
    outcome
}

async fn pulled_and_started(image: &Path, control_plane: &ControlPlane) -> anyhow::Result<()> {
    let registry = Registry::start(control_plane).await?;
    let reference = pushed(&registry, image).await?;
    let container = tempfile::tempdir()?;
    let root = container.path().join("root");
    unpack(&registry, &reference, &root).await?;
    registry.stop().await?;
    start(container.path(), &root, control_plane).await
}

/// The archive and the layout are the same image, which a registry takes. Returns the reference to the layout's.
async fn pushed(registry: &Registry, image: &Path) -> anyhow::Result<String> {
    let index: Value = serde_json::from_slice(&fs::read(image.join(LAYOUT).join("index.json"))?)?;
    let digest = index["manifests"][0]["digest"].as_str().context("the index names a manifest")?;
    let push = async |source: &str, tag: &str| {
        let (source, reference) = (image.join(source), registry.reference(&format!("gatehouse:{tag}")));
        registry.crane(["push".as_ref(), source.as_os_str(), reference.as_ref()]).await?;
        registry.crane(["validate", "--remote", &reference]).await?;
        let manifest: Value = serde_json::from_slice(&registry.crane(["manifest", &reference]).await?)?;
        anyhow::Ok((reference, manifest))
    };
    let (_, archive) = push(ARCHIVE, "archive").await?;
    let (reference, layout) = push(LAYOUT, "layout").await?;
    let pushed = String::from_utf8(registry.crane(["digest", &reference]).await?)?;
    ensure!(pushed.trim() == digest, "{pushed} was pushed for {digest}");
    // crane reads the archive as docker load does and gives the manifest Docker's media types: what it names is the same.
    let named = |manifest: &Value| {
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let parts = [&manifest["config"]].into_iter().chain(layers);
        parts.map(|part| part["digest"].clone()).collect::<Vec<_>>()
    };
    ensure!(named(&layout).len() == 3 && named(&layout) == named(&archive), "{layout:#} {archive:#}");
    let config: Value = serde_json::from_slice(&registry.crane(["config", &reference]).await?)?;
    ensure!(config["config"]["User"] == "65532:65532", "{config}");
    Ok(reference)
}

/// As a container engine does, and with the folder that files are mounted at.
async fn unpack(registry: &Registry, reference: &str, root: &Path) -> anyhow::Result<()> {
    fs::create_dir(root)?;
    let archive = root.with_extension("tar");
    let args = ["export".as_ref(), reference.as_ref(), archive.as_os_str()];
    registry.crane(args).await?;
    let mut tar = Command::new("tar");
    let status = tar.arg("-xf").arg(&archive).arg("-C").arg(root).status().await.context("cannot run tar")?;
    ensure!(status.success(), "tar cannot unpack the image");
    for file in ["gatehouse", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/share/zoneinfo/UTC"] {
        ensure!(root.join(file).exists(), "the image has no /{file}");
    }
    ensure!(!root.join("bin").exists() && !root.join("lib").exists(), "the image has programs or libraries");
    Ok(())
}

async fn start(container: &Path, root: &Path, control_plane: &ControlPlane) -> anyhow::Result<()> {
    let files = control_plane.folder();
    fs::create_dir_all(root.join(files.strip_prefix("/")?))?;
    let script = container.join("container");
    fs::write(&script, CONTAINER)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;

    let client = control_plane.client().await?;
    let mut objects = crds::missing_from(&[]);
    objects.extend(gatehouse::example(&root.join("gatehouse")).await?);
    load::apply(&client, objects).await?;
    gatehouse::prepare(control_plane).await?;
    let begun = Instant::now();
    let options = gatehouse::Options {
        serves: Serves::Views,
        executable: Some(script),
        env: vec![("ROOT".to_owned(), root.into()), ("FILES".to_owned(), files.into())],
        awaited: Awaited::Ready,
        ..gatehouse::Options::default()
    };
    let mut gatehouse = Gatehouse::start(control_plane, &options).await?;
    progress::say(format_args!("ready {} ms after it was started", begun.elapsed().as_millis()));
    gatehouse.register(control_plane).await?;

    let pid = gatehouse.process().context("it runs")?.pid()?;
    let of_process = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
    ensure!(of_process("uid_map")?.split_whitespace().next() == Some("65532"), "{}", of_process("uid_map")?);
    let mounts = of_process("mountinfo")?;
    let is_read_only =
        |line: &str| line.split_whitespace().nth(5).is_some_and(|options| options.starts_with("ro"));
    ensure!(mounts.lines().all(is_read_only), "something can be written to:\n{mounts}");

    let kubectl = Kubectl::new(control_plane.kubeconfig())?;
    let views = kubectl.run(["get", "fluxsummaries,clusterhealths", "-A"]).await?.ok()?;
    ensure!(views.contains("flux-system") && views.contains("clusterhealth"), "{views}");
    gatehouse.stop().await?;
    Ok(())
}
