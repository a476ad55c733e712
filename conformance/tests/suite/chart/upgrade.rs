//! Upgrades with the exact commands of the documents: fields that Helm or Gatehouse owns are taken over only with
//! `--force-conflicts`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_conformance::helm::{self, NAMESPACE, Values};
use gatehouse_conformance::kubectl::Kubectl;
use gatehouse_conformance::load::{self, Manifest};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::cluster::{HELM, OWN, Target, kept, path_of};
use crate::world::World;

/// The documents that say how to upgrade definitions.
const DOCUMENTS: [&str; 3] = ["../../docs/install.md", "README.md", "templates/NOTES.txt"];
const FORCE: &str = "--force-conflicts";

pub(super) fn trials(world: &World, target: Arc<OnceCell<Target>>) -> Vec<Trial> {
    let other = Arc::clone(&target);
    vec![
        world.apart("chart::definitions_are_upgraded_by_what_the_documents_say", async move || {
            of_definitions(&target).await
        }),
        world.apart("chart::files_follow_self_managed_certificates", async move || to_files(&other).await),
    ]
}

/// The command that upgrades the definitions in each document, without its last word, the path.
fn commands() -> anyhow::Result<Vec<(PathBuf, Vec<String>)>> {
    let mut commands = Vec::new();
    for document in DOCUMENTS {
        let path = helm::chart().join(document);
        let text = std::fs::read_to_string(&path)?;
        let said: Vec<_> = text
            .split(['`', '\n'])
            .filter_map(|part| part.trim_start().trim_start_matches("$ ").strip_prefix("kubectl apply "))
            .filter(|part| part.trim_end().trim_end_matches('/').ends_with("crds"))
            .collect();
        let [command] = said[..] else { anyhow::bail!("{}: {said:?}", path.display()) };
        let mut words: Vec<_> = ["apply"].into_iter().chain(command.split_whitespace()).collect();
        words.pop();
        commands.push((path, words.into_iter().map(ToOwned::to_owned).collect()));
    }
    Ok(commands)
}

/// The chart's definitions in another API group, so that those of other trials are not affected.
fn definitions(group: &str) -> anyhow::Result<Vec<Value>> {
    let mut definitions = Vec::new();
    for entry in std::fs::read_dir(helm::chart().join("crds"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?.replace("policy.gatehouse.dev", group);
        definitions.extend(load::parse(group, &text)?.into_iter().map(|one| one.object));
    }
    ensure!(!definitions.is_empty(), "no definitions");
    Ok(definitions)
}

fn write(folder: &TempDir, name: &str, items: &[Value]) -> anyhow::Result<PathBuf> {
    let path = folder.path().join(name);
    std::fs::write(&path, json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    Ok(path)
}

async fn apply(kubectl: &Kubectl, manager: &str, file: &Path) -> anyhow::Result<()> {
    kubectl.run(["apply", "--server-side", manager, "-f", path_of(file)?]).await?.ok().map(drop)
}

async fn of_definitions(target: &OnceCell<Target>) -> anyhow::Result<()> {
    let kubectl = Target::of(target).await?.kubectl()?;
    let folder = tempfile::tempdir()?;
    for (number, (document, command)) in commands()?.into_iter().enumerate() {
        let mut definitions = definitions(&format!("upgrade-{number}.gatehouse.dev"))?;
        // As `helm install` does.
        apply(&kubectl, HELM, &write(&folder, "old.json", &definitions)?).await?;
        for definition in &mut definitions {
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("Changed.");
        }
        let new = write(&folder, "new.json", &definitions)?;
        let words = |is_forced: bool| {
            let words = command.iter().map(String::as_str).filter(move |word| is_forced || *word != FORCE);
            words.chain([path_of(&new).expect("made here, of ASCII")]).collect::<Vec<_>>()
        };
        let said = kubectl.run(words(false)).await?.failed()?;
        ensure!(said.contains("conflict"), "{said}");
        kubectl.run(words(true)).await?.ok().with_context(|| document.display().to_string())?;
        let differences = kubectl.run(["diff", "--server-side", FORCE, "-f", path_of(&new)?]).await?;
        ensure!(differences.code == Some(0), "{}: {differences:?}", document.display());
    }
    Ok(())
}

/// From self-managed certificates to files: Gatehouse owns the caBundles that Helm now sets.
async fn to_files(target: &OnceCell<Target>) -> anyhow::Result<()> {
    let target = Target::of(target).await?;
    let (kubectl, folder) = (target.kubectl()?, tempfile::tempdir()?);
    let mut registrations = Vec::new();
    for values in ["default", "files"] {
        let objects = target.helm().objects(&Values::of(values)).await?;
        let hooks =
            objects.into_iter().filter(|one| one.object["webhooks"].is_array()).map(under_another_name);
        registrations.push(hooks.collect::<Vec<_>>());
    }
    let [own, files] = &registrations[..] else { unreachable!("two") };
    let objects = |manifests: &[Manifest]| manifests.iter().map(|one| one.object.clone()).collect::<Vec<_>>();
    apply(&kubectl, HELM, &write(&folder, "own.json", &objects(own))?).await?;
    let bundles = write(&folder, "bundles.json", &kept(own, target.client_ca()))?;
    kubectl
        .run(["apply", "--server-side", FORCE, "--validate=false", OWN, "-f", path_of(&bundles)?])
        .await?
        .ok()?;
    let files = write(&folder, "files.json", &objects(files))?;
    let upgrade = ["apply", "--server-side", HELM, "--dry-run=server", "-f", path_of(&files)?];
    let said = kubectl.run(upgrade).await?.failed()?;
    ensure!(said.contains("caBundle") && said.contains("\"gatehouse\""), "{said}");
    kubectl.run(upgrade.into_iter().chain([FORCE])).await?.ok()?;
    let readme = std::fs::read_to_string(helm::chart().join("README.md"))?;
    let section =
        readme.split("\n## ").find(|section| section.starts_with("Changing how certificates are made"));
    ensure!(section.is_some_and(|section| section.contains(FORCE)), "the README does not say {FORCE}");
    Ok(())
}

/// Renames the configuration for this trial. Its webhooks have no server, so they must not fail requests.
fn under_another_name(mut manifest: Manifest) -> Manifest {
    manifest.object["metadata"]["name"] = json!(format!("changed-in-{NAMESPACE}"));
    for webhook in manifest.object["webhooks"].as_array_mut().into_iter().flatten() {
        webhook["failurePolicy"] = json!("Ignore");
    }
    manifest
}
