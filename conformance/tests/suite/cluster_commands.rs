//! `gatehouse clusters`: the executable registers one control plane with another, lists it and removes it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::clusters as rights;
use gatehouse_conformance::control_plane::ControlPlane;
use gatehouse_conformance::gatehouse::{self, Gatehouse, Options};
use gatehouse_conformance::kubectl::{Kubectl, Output};
use gatehouse_conformance::load::{self, Manifest};
use gatehouse_conformance::pace::patience;
use gatehouse_conformance::spokes;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::world::{World, settles};

const SOON: Duration = Duration::from_secs(30);
/// Far longer than a command takes, its own wait included.
const TIMEOUT: Duration = Duration::from_secs(90);
const ARGOCD: &str = "argocd";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("clusters::a_command_adds_lists_and_removes_a_cluster", commands)]
}

struct Site {
    // Dropped before what it uses.
    _gatehouse: Gatehouse,
    executable: PathBuf,
    kubeconfig: PathBuf,
    _folder: TempDir,
    hub: ControlPlane,
    spoke: ControlPlane,
}

async fn commands() -> anyhow::Result<()> {
    let site = Site::new().await?;
    dry_runs(&site).await?;
    checks(&site).await?;
    added(&site).await?;
    listed(&site).await?;
    renewed(&site).await?;
    shared(&site).await?;
    removed(&site).await
}

impl Site {
    async fn new() -> anyhow::Result<Self> {
        let executable = std::path::absolute(gatehouse::executable().await?)?;
        let hub = spokes::start(Vec::new()).await?;
        let spoke = spokes::start(Vec::new()).await?;
        let folder = tempfile::Builder::new().prefix("gatehouse-clusters-").tempdir()?;
        let kubeconfig = folder.path().join("config");
        std::fs::write(&kubeconfig, both(&hub, &spoke)?.to_string())?;
        let mut objects = spokes::prerequisites();
        objects.extend(rights::argocd_rights(ARGOCD));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Secret", "data": {"name": ByteString(b"us".to_vec())},
            "metadata": {
                "namespace": ARGOCD, "name": "cluster-us",
                "labels": {"argocd.argoproj.io/secret-type": "cluster"},
            },
        }));
        let manifest = |object| Manifest { origin: "(trial)".to_owned(), object };
        load::apply(&hub.client().await?, objects.into_iter().map(manifest).collect()).await?;
        let flags = vec![spokes::flag(), format!("--argocd-cluster-namespaces={ARGOCD}")];
        let options = Options { executable: Some(executable.clone()), flags, ..Options::default() };
        let gatehouse = Gatehouse::start(&hub, &options).await?;
        gatehouse.register(&hub).await?;
        Ok(Self { _gatehouse: gatehouse, executable, kubeconfig, _folder: folder, hub, spoke })
    }

    /// Runs `gatehouse clusters ARGS`.
    async fn run(&self, args: &str) -> anyhow::Result<Output> {
        let mut child = Command::new(&self.executable);
        child.arg("clusters").args(args.split(' ')).env("KUBECONFIG", &self.kubeconfig);
        let running = child.stdin(Stdio::null()).kill_on_drop(true).output();
        let command = format!("gatehouse clusters {args}");
        let output = tokio::time::timeout(patience(TIMEOUT), running).await.context(command.clone())??;
        Ok(Output {
            command,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }

    async fn fails(&self, args: &str, words: &str) -> anyhow::Result<()> {
        let said = self.run(args).await?.failed()?;
        ensure!(said.contains(words), "`gatehouse clusters {args}` does not say {words:?}: {said}");
        Ok(())
    }

    async fn on(&self, context: &str, args: &str) -> anyhow::Result<Output> {
        let kubectl = Kubectl::new(&self.kubeconfig)?;
        kubectl.run(["--context", context].into_iter().chain(args.split(' '))).await
    }
}

/// A kubeconfig with both clusters as administrator, the hub being the current one.
fn both(hub: &ControlPlane, spoke: &ControlPlane) -> anyhow::Result<Value> {
    let read = |path: &Path| -> anyhow::Result<Value> {
        Ok(serde_saphyr::from_str(&std::fs::read_to_string(path)?)?)
    };
    let mut merged = json!({"apiVersion": "v1", "kind": "Config", "current-context": "hub"});
    for (name, control_plane) in [("hub", hub), ("spoke", spoke)] {
        let one = read(control_plane.kubeconfig())?;
        for (list, holds) in [("clusters", "cluster"), ("users", "user")] {
            let entry = json!({"name": name, holds: one[list][0][holds]});
            merged[list] = merged[list].as_array().into_iter().flatten().cloned().chain([entry]).collect();
        }
        let context = json!({"name": name, "context": {"cluster": name, "user": name}});
        merged["contexts"] =
            merged["contexts"].as_array().into_iter().flatten().cloned().chain([context]).collect();
    }
    Ok(merged)
}

async fn dry_runs(site: &Site) -> anyhow::Result<()> {
    let output = site.run("add eu --context spoke --dry-run=client -o yaml").await?;
    let objects = load::parse("stdout", &output.stdout)?;
    let kinds: Vec<_> = objects.iter().filter_map(|one| one.object["kind"].as_str()).collect();
    let expected = ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Secret", "Secret"];
    ensure!(kinds == expected, "{output:?}");
    ensure!(objects[5].object["metadata"]["namespace"] == rights::NAMESPACE, "{output:?}");
    let steps = site.run("add eu --context spoke --dry-run=server").await?.ok()?;
    ensure!(steps.lines().count() == 6, "{steps}");
    ensure!(steps.lines().all(|line| line.ends_with(" created (server dry run)")), "{steps}");
    site.on("spoke", "get namespace gatehouse-hub").await?.failed()?;
    site.on("hub", "get secret eu -n gatehouse-clusters").await?.failed()?;
    Ok(())
}

async fn checks(site: &Site) -> anyhow::Result<()> {
    site.fails("add self --context hub", "context hub is the hub itself").await?;
    site.fails("add EU --context spoke", "must be lower-case letters").await?;
    site.fails("add eu --context nowhere", "nowhere").await?;
    site.fails("add eu --context spoke -n elsewhere", "the hub has no namespace elsewhere").await?;
    let row = async || Ok(site.on("hub", "get clusterhealths us").await?.code);
    settles("the cluster of another origin has a row", SOON, row, |code| *code == Some(0)).await?;
    site.fails("add us --context spoke", "us is registered by Secret argocd/cluster-us").await?;
    site.fails("remove us", "kubectl delete secret cluster-us -n argocd").await?;
    site.on("spoke", "get namespace gatehouse-hub").await?.failed()?;
    Ok(())
}

/// What the controller-manager does, which does not run here: it fills the Secret with a token of its account.
async fn fills_the_secret(site: &Site) -> anyhow::Result<()> {
    let client = site.spoke.client().await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), rights::SPOKE);
    let ask = async || Ok(secrets.get_opt("gatehouse-hub-token").await?.is_some());
    settles("the Secret for the token is there", SOON, ask, |is_there| *is_there).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, rights::SPOKE);
    let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let parameters = PostParams::default();
    let answer = accounts.create_token_request(rights::SPOKE, &parameters, &request).await?;
    let token = answer.status.unwrap_or_default().token.context("a token")?;
    let patch = json!({"data": {"token": ByteString(token.into_bytes())}});
    secrets.patch("gatehouse-hub-token", &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn added(site: &Site) -> anyhow::Result<()> {
    let (output, ()) = tokio::try_join!(site.run("add eu --context spoke"), fills_the_secret(site))?;
    let steps = output.ok()?;
    let lines: Vec<_> = steps.lines().collect();
    let expected = [
        "namespace/gatehouse-hub created",
        "serviceaccount/gatehouse-hub created",
        "clusterrole.rbac.authorization.k8s.io/gatehouse-hub created",
        "clusterrolebinding.rbac.authorization.k8s.io/gatehouse-hub created",
        "secret/gatehouse-hub-token created",
        "secret/eu created",
        "clusterhealth.view.gatehouse.dev/eu condition met",
    ];
    ensure!(lines == expected, "{steps}");
    let again = site.run("add eu --context spoke").await?.ok()?;
    ensure!(again.lines().filter(|line| line.ends_with(" unchanged")).count() == 6, "{again}");
    site.fails("add west --context spoke", "this cluster is registered as eu").await
}

async fn listed(site: &Site) -> anyhow::Result<()> {
    let origin = format!("Secret {}/eu", rights::NAMESPACE);
    let row = async || {
        let rows = site.on("hub", "get chl -o wide").await?.ok()?;
        Ok(rows.lines().find(|line| line.starts_with("eu ")).unwrap_or_default().to_owned())
    };
    let shown = settles("kubectl shows the row", SOON, row, |row| row.contains("direct")).await?;
    ensure!(shown.contains(&origin), "{shown}");
    let list = async || site.run("list").await?.ok();
    let is_ready = |list: &String| {
        list.lines().any(|line| line.starts_with("eu ") && line.contains(&origin) && line.ends_with("True"))
    };
    let list = settles("the command lists the cluster", SOON, list, is_ready).await?;
    let headings = "NAME ORIGIN MODE LAST-HEARD CREDENTIAL-EXPIRES READY";
    let first = list.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(first == headings, "{list}");
    let wide = site.run("list -o wide").await?.ok()?;
    ensure!(wide.contains("InvalidClusterSecret") && wide.contains("data[config]: is missing"), "{wide}");
    let json: Value = serde_json::from_str(&site.run("list -o json").await?.ok()?)?;
    let of_kubectl: Value = serde_json::from_str(&site.on("hub", "get clusterhealths -o json").await?.ok()?)?;
    let names =
        |list: &Value| list["items"].as_array().map(|items| items.iter().map(name).collect::<Vec<_>>());
    ensure!(json["kind"] == "List" && names(&json) == names(&of_kubectl), "{json:#}");
    Ok(())
}

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

async fn renewed(site: &Site) -> anyhow::Result<()> {
    let version = async || {
        let shown = "get secret eu -n gatehouse-clusters -o jsonpath={.metadata.resourceVersion}";
        site.on("hub", shown).await?.ok()
    };
    let before = version().await?;
    let output = site.run("add eu --context spoke --duration 1h -o yaml").await?;
    let objects = load::parse("stdout", &output.stdout)?;
    ensure!(objects.len() == 1 && objects[0].object["data"]["value"].is_string(), "{output:?}");
    ensure!(output.stderr.contains("The token expires at "), "{output:?}");
    ensure!(version().await? == before, "what is printed is not written");
    let steps = site.run("add eu --context spoke --duration 1h").await?.ok()?;
    ensure!(steps.contains("secret/eu configured\n") && steps.ends_with("eu condition met\n"), "{steps}");
    let expires = async || {
        let rows: Value = serde_json::from_str(&site.run("list -o json").await?.ok()?)?;
        let rows = rows["items"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["metadata"]["name"] == "eu").unwrap_or_default();
        Ok(row["status"]["credentialExpiresTime"].is_string())
    };
    settles("the end of the token is shown", SOON, expires, |is_shown| *is_shown).await?;
    Ok(())
}

/// Another hub has added the same cluster: its account is kept for that.
async fn shared(site: &Site) -> anyhow::Result<()> {
    let annotate = "annotate serviceaccount gatehouse-hub -n gatehouse-hub";
    let other = "hubs.gatehouse.dev/5f0c2a51-0000-4000-8000-000000000000";
    site.on("spoke", &format!("{annotate} {other}=europe")).await?.ok()?;
    let hubs = async || {
        let account = "get serviceaccount gatehouse-hub -n gatehouse-hub -o json";
        let account: Value = serde_json::from_str(&site.on("spoke", account).await?.ok()?)?;
        let annotations = account["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        let mut hubs: Vec<_> = annotations
            .iter()
            .filter(|(key, _)| key.starts_with("hubs.gatehouse.dev/"))
            .map(|(_, name)| name.as_str().unwrap_or_default().to_owned())
            .collect();
        hubs.sort();
        anyhow::Ok(hubs)
    };
    // Whoever adds it again takes nobody's record away.
    site.run("add eu --context spoke --wait=false").await?.ok()?;
    ensure!(hubs().await? == ["eu", "europe"]);
    let output = site.run("remove eu --context spoke").await?;
    ensure!(output.stderr.contains("The account stays") && output.stderr.contains("as europe"), "{output:?}");
    let expected =
        "secret \"eu\" deleted from gatehouse-clusters namespace\nserviceaccount/gatehouse-hub configured\n";
    ensure!(output.ok()? == expected);
    ensure!(hubs().await? == ["europe"]);
    site.on("spoke", &format!("{annotate} {other}-")).await?.ok()?;
    site.fails("remove eu --context spoke", "not recorded which hubs use the account").await?;
    site.on("spoke", "get clusterrole gatehouse-hub").await?.ok()?;
    let again = site.run("add eu --context spoke").await?.ok()?;
    ensure!(again.ends_with("clusterhealth.view.gatehouse.dev/eu condition met\n"), "{again}");
    ensure!(hubs().await? == ["eu"]);
    Ok(())
}

async fn removed(site: &Site) -> anyhow::Result<()> {
    site.fails("remove nobody", "no Secret of namespace gatehouse-clusters on the hub registers nobody")
        .await?;
    let dry = site.run("remove eu --dry-run").await?.ok()?;
    ensure!(dry == "secret \"eu\" deleted from gatehouse-clusters namespace (dry run)\n", "{dry}");
    let acts = "create clusterrole gatehouse-hub:actions --verb=create --resource=events";
    site.on("spoke", acts).await?.ok()?;
    let steps = site.run("remove eu --context spoke").await?.ok()?;
    let expected = "secret \"eu\" deleted from gatehouse-clusters namespace\n\
                    clusterrole.rbac.authorization.k8s.io \"gatehouse-hub:actions\" deleted\n\
                    clusterrolebinding.rbac.authorization.k8s.io \"gatehouse-hub\" deleted\n\
                    clusterrole.rbac.authorization.k8s.io \"gatehouse-hub\" deleted\n\
                    namespace \"gatehouse-hub\" deleted\n";
    ensure!(steps == expected, "{steps}");
    let row = async || Ok(site.on("hub", "get clusterhealths eu").await?.code);
    settles("the row is gone", SOON, row, |code| *code == Some(1)).await?;
    site.on("spoke", "get clusterrole gatehouse-hub").await?.failed()?;
    ensure!(site.hub.client().await.is_ok(), "the hub goes on");
    Ok(())
}
