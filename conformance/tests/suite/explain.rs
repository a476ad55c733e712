//! `kubectl explain` documents all fields of all views.

use std::sync::Arc;

use anyhow::ensure;
use libtest_mimic::Trial;

use crate::site::Site;
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let trial = |resource: &'static str| {
        let name = format!("explain::every_field_of_{resource}_is_documented");
        world.shared(&name, move |site| documented(site, resource))
    };
    let resources = gatehouse_apiservice::view::RESOURCES;
    resources.map(|resource| trial(resource.plural)).into()
}

async fn documented(site: Arc<Site>, resource: &str) -> anyhow::Result<()> {
    let kubectl = site.kubectl()?;
    let outline = kubectl.run(["explain", resource, "--recursive"]).await?.ok()?;
    let mut levels = vec![resource.to_owned()];
    levels.extend(objects(&outline).into_iter().map(|path| format!("{resource}.{path}")));
    // A history says what happened, and has no conditions.
    let below = if resource == "fluxhistories" { "status" } else { "status.conditions" };
    ensure!(levels.contains(&format!("{resource}.{below}")), "{levels:?}");
    for level in &levels {
        let text = kubectl.run(["explain", level]).await?.ok()?;
        ensure!(text.contains("DESCRIPTION:") && text.contains("FIELDS:"), "{level}:\n{text}");
        ensure!(!text.contains("<no description>") && !text.contains("<empty>"), "{level}:\n{text}");
    }
    Ok(())
}

/// The paths in the outline that have fields, without those that Kubernetes documents.
fn objects(outline: &str) -> Vec<String> {
    let fields = outline.lines().skip_while(|line| !line.starts_with("FIELDS:")).skip(1);
    let mut path: Vec<&str> = Vec::new();
    let mut paths = Vec::new();
    for line in fields.filter(|line| line.contains('\t')) {
        let name = line.trim_start();
        let depth = (line.len() - name.len()) / 2;
        let Some((name, kind)) = name.split_once('\t') else { continue };
        // The outermost fields are indented by one level.
        path.truncate(depth.saturating_sub(1));
        path.push(name);
        let has_fields =
            !["<string>", "<integer>", "<boolean>", "<[]string>"].iter().any(|leaf| kind.contains(leaf));
        if has_fields && path[0] == "status" {
            paths.push(path.join("."));
        }
    }
    paths
}
