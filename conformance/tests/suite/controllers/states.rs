//! How Flux's objects are shown while things break and are mended: once per change, and never as ready while they are
//! broken, however often they are tried again.

use std::sync::Arc;

use anyhow::ensure;
use gatehouse_conformance::progress;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::log::Log;
use super::source::{Source, deploys, listed};
use super::{FLUX, Scene};
use crate::gate::{KUSTOMIZE, config_map};
use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.operated("controllers::states::health_changes_once_for_each_thing_that_happens", FLUX, told)]
}

const NAMESPACE: &str = "states";
const SOURCE: &str = "OCIRepository source";
const APP: &str = "Kustomization app";
const WEB: &str = "Kustomization web";
/// It never was there.
const NEVER: &str = "Kustomization never";

/// How often what is broken is tried again while it is looked at.
const RETRIES: u32 = 4;

/// How each is shown from one event to the next: well, broken or neither.
const EXPECTED: [(&str, &[(&str, &str)]); 12] = [
    ("install", &[(SOURCE, "?+"), (APP, "?+"), (WEB, "?+"), (NEVER, "?-")]),
    ("the build breaks", &[(SOURCE, "+"), (APP, "+-"), (WEB, "+-"), (NEVER, "-")]),
    ("the build is mended", &[(SOURCE, "+"), (APP, "-+"), (WEB, "-+"), (NEVER, "-")]),
    ("a health check fails", &[(SOURCE, "+"), (APP, "+"), (WEB, "+-"), (NEVER, "-")]),
    ("health checks pass", &[(SOURCE, "+"), (APP, "+"), (WEB, "-+"), (NEVER, "-")]),
    ("the source cannot be fetched", &[(SOURCE, "+-"), (APP, "+"), (WEB, "+"), (NEVER, "-")]),
    ("the source is back", &[(SOURCE, "-+"), (APP, "+"), (WEB, "+"), (NEVER, "-")]),
    ("suspended", &[(SOURCE, "+"), (APP, "+"), (WEB, "+"), (NEVER, "-")]),
    ("resumed", &[(SOURCE, "+"), (APP, "+"), (WEB, "+"), (NEVER, "-")]),
    ("deleted while a finalizer holds", &[(SOURCE, "+"), (APP, "+"), (WEB, "+?"), (NEVER, "-")]),
    ("let go", &[(SOURCE, "+"), (APP, "+"), (NEVER, "-")]),
    ("what never was is there", &[(SOURCE, "+"), (APP, "+"), (NEVER, "-+")]),
];

/// What is deployed.
#[derive(Default)]
struct Content {
    breaks: bool,
    waits: bool,
    never: bool,
}

impl Content {
    fn files(&self) -> Vec<(&'static str, Value)> {
        let mut held = config_map(NAMESPACE, "web");
        held["metadata"]["finalizers"] = json!(["conformance.gatehouse.dev/held"]);
        let in_app: &[&str] =
            if self.breaks { &["settings.yaml", "missing.yaml"] } else { &["settings.yaml"] };
        let in_web: &[&str] = if self.waits { &["web.yaml", "pods.yaml"] } else { &["web.yaml"] };
        let mut files = vec![
            ("app/kustomization.yaml", listed(in_app)),
            ("app/settings.yaml", config_map(NAMESPACE, "app")),
            ("web/kustomization.yaml", listed(in_web)),
            ("web/web.yaml", held),
            ("web/pods.yaml", never_available("web")),
        ];
        if self.never {
            files.push(("never/settings.yaml", config_map(NAMESPACE, "never")));
        }
        files
    }
}

/// A Deployment for which there is no node.
fn never_available(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "nodeSelector": {"conformance.gatehouse.dev/no": "node"},
                "containers": [{"name": "main", "image": "web:1"}],
            }},
        },
    })
}

async fn told(scene: Arc<Scene>) -> anyhow::Result<()> {
    let gate = &scene.gate;
    gate.namespace(NAMESPACE).await?;
    let source = Source::new(&scene, NAMESPACE).await?;
    let log = Log::of(&gate.site.client, NAMESPACE);
    let mut words = Vec::new();
    let mut happens = |what: &str| {
        words.push(log.words());
        log.happens(what);
    };
    let push = async |content: Content| source.push(&content.files()).await;

    happens("install");
    push(Content::default()).await?;
    let web = json!({"wait": true, "dependsOn": [{"name": "app"}], "deletionPolicy": "WaitForTermination"});
    let objects = [
        source.object(NAMESPACE),
        deploys(NAMESPACE, "app", json!({"wait": true})),
        deploys(NAMESPACE, "web", web),
        deploys(NAMESPACE, "never", json!({})),
    ];
    scene.put(objects).await?;
    for place in [APP, WEB] {
        log.shows(place, '+', "Applied revision").await?;
    }
    log.shows(NEVER, '-', "path not found").await?;
    log.attempts(NEVER, RETRIES).await?;

    happens("the build breaks");
    push(Content { breaks: true, ..Content::default() }).await?;
    log.shows(APP, '-', "missing.yaml").await?;
    log.shows(WEB, '-', "states/app").await?;
    log.until("web waits for app", |seen| {
        seen.row(WEB).is_some_and(|web| is_caused(web, "Kustomization", "app"))
    })
    .await?;
    log.attempts(APP, RETRIES).await?;

    happens("the build is mended");
    push(Content::default()).await?;
    for place in [APP, WEB] {
        log.shows(place, '+', "Applied revision").await?;
    }

    happens("a health check fails");
    push(Content { waits: true, ..Content::default() }).await?;
    log.shows(WEB, '-', "Deployment/states/web").await?;
    log.attempts(WEB, 2).await?;

    happens("health checks pass");
    push(Content::default()).await?;
    log.shows(WEB, '+', "Applied revision").await?;

    happens("the source cannot be fetched");
    source.cut();
    log.shows(SOURCE, '-', "failed to determine artifact digest").await?;
    log.attempts(APP, 3).await?;

    happens("the source is back");
    source.mend();
    log.shows(SOURCE, '+', "stored artifact").await?;

    happens("suspended");
    let app = format!("{KUSTOMIZE}/namespaces/{NAMESPACE}/kustomizations/app");
    patch(&scene, "app", &json!({"spec": {"suspend": true}})).await?;
    log.is(APP, "Suspended").await?;
    log.attempts(WEB, 1).await?;
    ensure!(gate.get(&app).await?["spec"]["suspend"] == true);

    happens("resumed");
    patch(&scene, "app", &json!({"spec": {"suspend": false}})).await?;
    log.attempts(APP, 1).await?;
    log.shows(APP, '+', "Applied revision").await?;

    happens("deleted while a finalizer holds");
    gate.delete(&format!("{KUSTOMIZE}/namespaces/{NAMESPACE}/kustomizations/web")).await?;
    log.is(WEB, "Terminating").await?;

    happens("let go");
    let map = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/web");
    gate.becomes(&map, crate::gate::KNOWN, |map| map["metadata"]["deletionTimestamp"].is_string()).await?;
    scene.patch(&map, &json!({"metadata": {"finalizers": null}})).await?;
    log.until("web is gone", |seen| seen.row(WEB).is_none()).await?;

    happens("what never was is there");
    push(Content { never: true, ..Content::default() }).await?;
    log.shows(NEVER, '+', "Applied revision").await?;

    words.push(log.words());
    progress::say(format_args!("what was shown, and what controllers said:\n{}", words.concat()));
    log.compare(&EXPECTED)
}

fn is_caused(row: &Value, kind: &str, name: &str) -> bool {
    row["blockedBy"]["kind"] == kind && row["blockedBy"]["name"] == name
}

async fn patch(scene: &Scene, name: &str, body: &Value) -> anyhow::Result<()> {
    scene.patch(&format!("{KUSTOMIZE}/namespaces/{NAMESPACE}/kustomizations/{name}"), body).await
}
