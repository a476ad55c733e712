//! Actions by subresources of the views, through kube-apiserver: who may act, what is written, how it is reported.

mod namespaces;
mod policies;
mod refused;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::gate::{Gate, KNOWN, kustomization};
use crate::gate_freezes::object;
use crate::site::API;
use crate::world::{World, settles};

const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// The ClusterRoles for users.
const ON_CALL: &str = "gatehouse-actions-on-call";
const OPERATOR: &str = "gatehouse-actions-operator";

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let own = vec![
        world.guarded("actions::reconcile_takes_its_right_and_the_flux_verb", rights),
        world.guarded("actions::each_right_opens_its_subresource_alone", exact),
        world.guarded("actions::a_service_account_with_a_token_may_act", service_account),
        world.guarded("actions::suspension_works_with_kubectl_get_patch_and_edit", suspension),
        world.guarded("actions::each_kind_is_suspended_by_what_its_controller_reads", kinds),
        world.guarded("actions::a_suspension_ends_by_itself", until),
        world.guarded("actions::a_dry_run_writes_nothing", dry_run),
        world.guarded("actions::a_thousand_requests_at_once_end_in_one_state", many),
        world.guarded("actions::each_action_is_told_once_and_counted", told),
        world.guarded("actions::discovery_and_openapi_describe_them", described),
    ];
    own.into_iter()
        .chain(namespaces::trials(world))
        .chain(policies::trials(world))
        .chain(refused::trials(world))
        .collect()
}

/// A namespace with a Kustomization `app`, where a user has a ClusterRole.
async fn with_app(gate: &Gate, namespace: &str, role: &str, user: &str) -> anyhow::Result<Caller> {
    gate.namespace(namespace).await?;
    gate.put(&kustomization(namespace, "app", json!({}))).await?;
    bind(gate, namespace, role, &subject("User", user)).await?;
    caller(gate, user).await
}

/// Binds a ClusterRole to a subject in a namespace.
async fn bind(gate: &Gate, namespace: &str, role: &str, subject: &Value) -> anyhow::Result<()> {
    let name = format!("{role}-{}", subject["name"].as_str().unwrap_or_default());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"namespace": namespace, "name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    });
    gate.put(&binding).await
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

/// A client of a user, through kube-apiserver.
async fn caller(gate: &Gate, user: &str) -> anyhow::Result<Caller> {
    Caller::of_kubeconfig(&gate.site.control_plane.kubeconfig_for(user, None)?).await
}

/// The path of a subresource of an object's row, such as `kustomization.app`.
fn of(namespace: &str, object: &str, subresource: &str) -> String {
    format!("{API}/namespaces/{namespace}/fluxresources/local.{object}/{subresource}")
}

/// The path of a subresource of the Kustomization `app`.
fn path(namespace: &str, subresource: &str) -> String {
    of(namespace, "kustomization.app", subresource)
}

/// The body of a 201.
fn created(answer: Answer) -> anyhow::Result<Value> {
    ensure!(answer.code == StatusCode::CREATED, "{answer:#?}");
    Ok(answer.body)
}

async fn app(gate: &Gate, namespace: &str) -> anyhow::Result<Value> {
    gate.get(&object(namespace, "app")).await
}

async fn rights(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, may, may_not) = ("actions-rights", "actions-on-call", "actions-nobody");
    let on_call = with_app(&gate, namespace, ON_CALL, may).await?;
    let nobody = caller(&gate, may_not).await?;
    for subresource in ["reconcile", "suspend", "resume"] {
        let answer = nobody.post(&path(namespace, subresource), &json!({})).await?;
        let message = answer.refused(403, "Forbidden")?;
        ensure!(message.contains(&format!("fluxresources/{subresource}")), "{message}");
    }
    nobody.get(&path(namespace, "suspension")).await?.refused(403, "Forbidden")?;
    for subresource in ["suspend", "resume"] {
        on_call.post(&path(namespace, subresource), &json!({})).await?.refused(403, "Forbidden")?;
    }
    ensure!(app(&gate, namespace).await?["metadata"].get("annotations").is_none());

    let done = created(on_call.post(&path(namespace, "reconcile"), &json!({})).await?)?;
    let token = done["status"]["requestedAt"].as_str().context("a token")?;
    let written = app(&gate, namespace).await?;
    ensure!(written["metadata"]["annotations"] == json!({REQUESTED_AT: token}), "{written:#}");
    let asked = &done["status"]["objects"][0];
    ensure!(asked["uid"] == written["metadata"]["uid"] && asked["requestedAt"] == token, "{done:#}");
    let managers = written["metadata"]["managedFields"].to_string();
    ensure!(managers.contains("\"manager\":\"gatehouse\""), "{managers}");

    // The subresource alone does not do: the verb on the Flux object is asked for, too.
    let half = "actions-half";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": half},
        "rules": [{
            "apiGroups": ["view.gatehouse.dev"],
            "resources": ["fluxresources/reconcile", "fluxresources/suspend"], "verbs": ["create"],
        }],
    });
    gate.put(&role).await?;
    bind(&gate, namespace, half, &subject("User", half)).await?;
    let caller = caller(&gate, half).await?;
    for (subresource, verb) in [("reconcile", "reconcile"), ("suspend", "suspend")] {
        let answer = caller.post(&path(namespace, subresource), &json!({})).await?;
        let message = answer.refused(403, "Forbidden")?;
        let expected = format!("cannot {verb} resource \"kustomizations\"");
        ensure!(message.contains(&expected), "{message}");
    }
    ensure!(app(&gate, namespace).await? == written, "nothing was written");
    Ok(())
}

async fn exact(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "actions-exact";
    with_app(&gate, namespace, ON_CALL, "actions-exact-user").await?;
    let row = format!("{API}/namespaces/{namespace}/fluxresources/local.kustomization.app");
    gate.becomes(&row, KNOWN, |row| row["status"]["state"].is_string()).await?;
    let before = app(&gate, namespace).await?;
    // The subresource with its verb, and the verb on the Flux object.
    let rights = [
        ("fluxresources/reconcile", "create", "reconcile"),
        ("fluxresources/suspend", "create", "suspend"),
        ("fluxresources/resume", "create", "resume"),
        ("fluxresources/suspension", "get", "get"),
        ("fluxresources/suspension", "update", "suspend"),
        ("fluxresources/suspension", "patch", "suspend"),
        ("fluxsummaries/reconcile", "create", "reconcile"),
    ];
    let ask = async |caller: &Caller, subresource: &str, verb: &str| {
        let (rows, name) = subresource.split_once('/').context("a subresource")?;
        let path = match rows {
            "fluxresources" => path(namespace, name),
            _ => format!("{API}/namespaces/{namespace}/fluxsummaries/local/{name}"),
        };
        let path = format!("{path}?dryRun=All");
        let suspended = json!({"spec": {"suspended": true}}).to_string().into_bytes();
        match verb {
            "get" => caller.get(&path).await,
            "update" => caller.write(&Method::PUT, &path, "application/json", suspended).await,
            "patch" => caller.write(&Method::PATCH, &path, "application/merge-patch+json", suspended).await,
            _ => caller.post(&path, &json!({})).await,
        }
    };
    for granted in rights {
        let (subresource, verb, on_object) = granted;
        let user = format!("actions-exact-{}-{verb}", subresource.replace('/', "-"));
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": user},
            "rules": [
                {"apiGroups": ["view.gatehouse.dev"], "resources": [subresource], "verbs": [verb]},
                {
                    "apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"],
                    "verbs": [on_object],
                },
            ],
        });
        gate.put(&role).await?;
        bind(&gate, namespace, &user, &subject("User", &user)).await?;
        let caller = caller(&gate, &user).await?;
        for asked in rights {
            let answer = ask(&caller, asked.0, asked.1).await?;
            if asked == granted {
                ensure!(answer.code.is_success(), "{user}: {answer:#?}");
            } else {
                answer.refused(403, "Forbidden").with_context(|| format!("{user}: {asked:?}"))?;
            }
        }
    }
    ensure!(app(&gate, namespace).await? == before, "dry runs write nothing");
    Ok(())
}

async fn service_account(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "actions-account";
    with_app(&gate, namespace, ON_CALL, "actions-account-user").await?;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "ci"},
    });
    gate.put(&account).await?;
    let subject = json!({"kind": "ServiceAccount", "namespace": namespace, "name": "ci"});
    bind(&gate, namespace, ON_CALL, &subject).await?;
    let kubectl = gate.kubectl()?;
    let token = kubectl.run(["create", "token", "ci", "-n", namespace]).await?.ok()?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "{\"spec\": {\"reason\": \"pushed\"}}")?;
    let body = file.path().to_str().context("a path")?;
    let reconcile = path(namespace, "reconcile");
    let args = ["create", "--raw", &reconcile, "-f", body, "--token", token.trim()];
    // Without the certificate of the kubeconfig, the token is the only credential.
    let printed = gate.site.kubectl_as("actions-without-rights")?.run(args).await?.failed()?;
    ensure!(printed.contains("orbidden"), "a certificate comes before a token: {printed}");
    let answer = crate::caller::Caller::with_token(&gate.site.direct, token.trim()).await?;
    let done = created(answer.post(&reconcile, &json!({"spec": {"reason": "pushed"}})).await?)?;
    ensure!(done["spec"]["reason"] == "pushed", "{done:#}");
    Ok(())
}

async fn suspension(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-suspension", "actions-operator");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let row = "local.kustomization.app";
    // Rows follow within the second; the subresources need none.
    let base =
        ["fluxresources.v1alpha1.view.gatehouse.dev", row, "-n", namespace, "--subresource=suspension"];
    let run = async |verb: &str, more: &[&str]| kubectl.run([verb].iter().chain(&base).chain(more)).await;
    let shown: Value = serde_json::from_str(&run("get", &["-o", "json"]).await?.ok()?)?;
    let live = app(&gate, namespace).await?;
    ensure!(shown["kind"] == "FluxResource" && shown["spec"] == json!({"suspended": false}), "{shown:#}");
    ensure!(shown["metadata"]["uid"] == live["metadata"]["uid"], "{shown:#}");

    let printed = run("get", &[]).await?.ok()?;
    ensure!(
        printed.starts_with("NAME ") && printed.contains("SUSPENDED") && printed.contains("False"),
        "{printed}"
    );

    let patch = r#"{"spec": {"suspended": true, "reason": "the database moves"}}"#;
    run("patch", &["--type=merge", "-p", patch]).await?.ok()?;
    let live = app(&gate, namespace).await?;
    let annotations = &live["metadata"]["annotations"];
    ensure!(live["spec"]["suspend"] == true, "{live:#}");
    ensure!(annotations["gatehouse.dev/suspend-reason"] == "the database moves", "{annotations:#}");
    ensure!(annotations["fluxcd.controlplane.io/suspendedBy"] == user, "{annotations:#}");

    // Again: the object stays as it is, with author and start.
    run("patch", &["--type=merge", "-p", patch]).await?.ok()?;
    created(operator.post(&path(namespace, "suspend"), &json!({})).await?)?;
    ensure!(app(&gate, namespace).await? == live, "a suspended object is not suspended again");
    let shown: Value = serde_json::from_str(&run("get", &["-o", "json"]).await?.ok()?)?;
    ensure!(shown["status"]["by"] == user && shown["status"]["since"].is_string(), "{shown:#}");

    let conflict = operator.post(&path(namespace, "reconcile"), &json!({})).await?;
    let message = conflict.refused(409, "Conflict")?;
    ensure!(message.contains("resume it first"), "{message}");

    // As a person edits: the line that is to change, and the reason left behind.
    let mut edit = tokio::process::Command::new("kubectl");
    edit.arg("edit").args(base).env("KUBE_EDITOR", "sed -i 's/suspended: true/suspended: false/'");
    edit.env("KUBECONFIG", gate.site.control_plane.kubeconfig_for(user, None)?);
    let edited = edit.output().await?;
    ensure!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    let live = app(&gate, namespace).await?;
    ensure!(live["spec"].get("suspend").is_none(), "{live:#}");
    ensure!(live["metadata"].get("annotations").is_none(), "nothing is left: {live:#}");
    created(operator.post(&path(namespace, "resume"), &json!({})).await?)?;
    ensure!(app(&gate, namespace).await? == live, "what is not suspended is not resumed");

    let document = json!({"spec": {"suspended": true, "until": "2999-01-01T00:00:00Z"}});
    let put = async |document: &Value| {
        let body = document.to_string().into_bytes();
        operator.write(&Method::PUT, &path(namespace, "suspension"), "application/json", body).await
    };
    let shown = put(&document).await?.ok()?;
    ensure!(shown["spec"]["until"] == "2999-01-01T00:00:00Z", "{shown:#}");
    let patch = json!([
        {"op": "test", "path": "/spec/suspended", "value": true},
        {"op": "add", "path": "/spec/reason", "value": "a JSON patch"},
    ]);
    let body = patch.to_string().into_bytes();
    let media_type = "application/json-patch+json";
    let shown =
        operator.write(&Method::PATCH, &path(namespace, "suspension"), media_type, body).await?.ok()?;
    ensure!(shown["spec"]["reason"] == "a JSON patch", "{shown:#}");
    // A PUT is the whole document: what it leaves out is taken away.
    let shown = put(&json!({"spec": {"suspended": true}})).await?.ok()?;
    ensure!(shown["spec"] == json!({"suspended": true}), "{shown:#}");
    let by = |row: &Value| row["status"]["suspendedBy"] == user;
    let row = format!("{API}/namespaces/{namespace}/fluxresources/{row}");
    gate.becomes(&row, KNOWN, by).await?;
    Ok(())
}

async fn kinds(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-kinds", "actions-kinds-operator");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let set = json!({
        "apiVersion": "fluxcd.controlplane.io/v1", "kind": "ResourceSet",
        "metadata": {"namespace": namespace, "name": "set"}, "spec": {"resourcesTemplate": ""},
    });
    let generator = json!({
        "apiVersion": "source.extensions.fluxcd.io/v1beta1", "kind": "ArtifactGenerator",
        "metadata": {"namespace": namespace, "name": "gen"},
        "spec": {
            "sources": [{"alias": "p", "kind": "GitRepository", "name": "app"}],
            "artifacts": [{"name": "a", "copy": [{"from": "@p/**", "to": "@artifact/"}]}],
        },
    });
    for (object, annotation) in
        [(set, "fluxcd.controlplane.io/reconcile"), (generator, "source.extensions.fluxcd.io/reconcile")]
    {
        gate.put(&object).await?;
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let row = format!("{}.{name}", kind.to_lowercase());
        let plural = format!("{}s", kind.to_lowercase());
        let api = object["apiVersion"].as_str().unwrap_or_default();
        let at = format!("/apis/{api}/namespaces/{namespace}/{plural}/{name}");
        let shown = created(operator.post(&of(namespace, &row, "suspend"), &json!({})).await?)?;
        ensure!(shown["spec"]["suspended"] == true, "{shown:#}");
        let live = gate.get(&at).await?;
        ensure!(live["metadata"]["annotations"][annotation] == "disabled", "{live:#}");
        ensure!(live["spec"].get("suspend").is_none(), "{live:#}");
        created(operator.post(&of(namespace, &row, "resume"), &json!({})).await?)?;
        let live = gate.get(&at).await?;
        ensure!(live["metadata"].get("annotations").is_none(), "{live:#}");
        created(operator.post(&of(namespace, &row, "reconcile"), &json!({})).await?)?;
    }
    Ok(())
}

async fn until(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-until", "actions-until-operator");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    // A whole second, so that the text is not earlier.
    let end = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 10)?;
    let body = json!({"spec": {"until": end.to_string(), "reason": "a moment"}});
    created(operator.post(&path(namespace, "suspend"), &body).await?)?;
    ensure!(app(&gate, namespace).await?["spec"]["suspend"] == true);
    let within = KNOWN + Duration::from_secs(10);
    let resumed =
        gate.becomes(&object(namespace, "app"), within, |app| app["spec"]["suspend"] != true).await?;
    ensure!(jiff::Timestamp::now() >= end, "not before its end");
    ensure!(resumed["metadata"].get("annotations").is_none(), "{resumed:#}");

    // Somebody takes a suspension away and sets it again at once: this is another one, which has no end.
    let end = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 10)?;
    let body = json!({"spec": {"until": end.to_string(), "reason": "a moment"}});
    created(operator.post(&path(namespace, "suspend"), &body).await?)?;
    let at = object(namespace, "app");
    for suspend in [Value::Null, true.into()] {
        let patch = json!({"spec": {"suspend": suspend}}).to_string().into_bytes();
        gate.caller.write(&Method::PATCH, &at, "application/merge-patch+json", patch).await?.ok()?;
    }
    let shown = operator.get(&path(namespace, "suspension")).await?.ok()?;
    ensure!(shown["spec"] == json!({"suspended": true}) && shown["status"] == json!({}), "{shown:#}");
    let ended = |app: &Value| app["metadata"]["annotations"]["gatehouse.dev/suspended-until"].is_null();
    gate.becomes(&at, within + Duration::from_secs(10), ended).await?;
    let left = end.duration_since(jiff::Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1)).await;
    ensure!(app(&gate, namespace).await?["spec"]["suspend"] == true, "the end was that of the first");
    created(operator.post(&path(namespace, "resume"), &json!({})).await?)?;

    // An end that somebody has left behind does not end the next suspension.
    let kubectl = gate.kubectl()?;
    let left = "gatehouse.dev/suspended-until=2020-01-01T00:00:00Z";
    kubectl.run(["annotate", "kustomization", "app", "-n", namespace, left]).await?.ok()?;
    gate.becomes(&object(namespace, "app"), within, |app| app["metadata"].get("annotations").is_none())
        .await?;
    Ok(())
}

async fn dry_run(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-dry-run", "actions-dry-operator");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let before = app(&gate, namespace).await?;
    let dry = |subresource: &str| format!("{}?dryRun=All", path(namespace, subresource));
    let done = created(operator.post(&dry("reconcile"), &json!({})).await?)?;
    ensure!(done["status"]["objects"].as_array().is_some_and(|objects| objects.len() == 1), "{done:#}");
    let shown = created(operator.post(&dry("suspend"), &json!({"spec": {"reason": "x"}})).await?)?;
    ensure!(shown["spec"]["suspended"] == true && shown["spec"]["reason"] == "x", "{shown:#}");
    ensure!(app(&gate, namespace).await? == before, "nothing was written");
    let events = gate.get(&format!("/api/v1/namespaces/{namespace}/events")).await?;
    ensure!(events["items"] == json!([]), "{events:#}");
    Ok(())
}

async fn many(gate: Arc<Gate>) -> anyhow::Result<()> {
    const REQUESTS: usize = 1000;
    let (namespace, user) = ("actions-many", "actions-many-operator");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let reconcile = path(namespace, "reconcile");
    let body = json!({});
    let asked = (0..REQUESTS).map(|_| operator.post(&reconcile, &body));
    let answers = futures::future::join_all(asked).await;
    let (mut tokens, mut refused, mut is_late) = (Vec::new(), 0, false);
    for answer in answers {
        let answer = answer?;
        // A busy machine answers some of them too late, whether or not they were carried out.
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::GATEWAY_TIMEOUT].contains(&answer.code) {
            is_late |= answer.code == StatusCode::GATEWAY_TIMEOUT;
            refused += 1;
            continue;
        }
        let done = created(answer)?;
        tokens.push(done["status"]["objects"][0]["requestedAt"].as_str().context("a token")?.to_owned());
    }
    gatehouse_conformance::progress::say(format_args!("{REQUESTS} requests at once, {refused} told to wait"));
    ensure!(!tokens.is_empty());
    let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
    ensure!(distinct.len() == tokens.len(), "each request has a token of its own");
    let annotations = app(&gate, namespace).await?["metadata"]["annotations"].clone();
    let last = annotations[REQUESTED_AT].as_str().context("a token")?;
    let expected = distinct.last().context("one")?.as_str();
    ensure!(last == expected || is_late && last > expected, "the last one stands: {annotations:#}");
    Ok(())
}

async fn told(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-told", "actions-told-operator");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let metrics = async || {
        let direct = gate.site.direct_as("metrics", Some("system:masters")).await?;
        let request = http::Request::get("/metrics").body(Vec::new())?;
        anyhow::Ok(direct.client.request_text(request).await?)
    };
    created(operator.post(&path(namespace, "reconcile"), &json!({"spec": {"reason": "new tag"}})).await?)?;
    created(operator.post(&path(namespace, "suspend"), &json!({"spec": {"reason": "moving"}})).await?)?;
    created(operator.post(&path(namespace, "resume"), &json!({})).await?)?;
    let events = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let all = |events: &Value| events["items"].as_array().is_some_and(|events| events.len() == 3);
    let events = gate.becomes(&events, KNOWN, all).await?;
    let mut notes: Vec<_> = events["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| {
            format!("{} {}", event["reason"].as_str().unwrap_or("?"), event["note"].as_str().unwrap_or("?"))
        })
        .collect();
    notes.sort();
    let expected = [
        format!("ReconcileRequested reconciliation requested by {user}: new tag"),
        format!("Resumed resumed by {user}"),
        format!("Suspended suspended by {user}: moving"),
    ];
    ensure!(notes == expected, "{notes:#?}");
    ensure!(events["items"][0]["regarding"]["uid"] == app(&gate, namespace).await?["metadata"]["uid"]);
    let counted = |text: &String| {
        ["reconcile", "suspend", "resume"].iter().all(|action| {
            let series =
                format!("gatehouse_actions_total{{action=\"{action}\",dry_run=\"\",outcome=\"done\"}}");
            text.contains(&series)
        })
    };
    settles("actions are counted", KNOWN, metrics, counted).await?;
    Ok(())
}

async fn described(gate: Arc<Gate>) -> anyhow::Result<()> {
    let resources = gate.get(API).await?;
    let names = resources["resources"].as_array().context("resources")?.iter();
    let suspension =
        names.clone().find(|one| one["name"] == "fluxresources/suspension").context("suspension")?;
    ensure!(suspension["kind"] == "FluxResource", "kubectl edit finds it so: {suspension:#}");
    ensure!(suspension["verbs"] == json!(["get", "patch", "update"]), "{suspension:#}");
    for resource in names {
        let is_watched = |verb: &str| ["create", "update", "patch", "delete"].contains(&verb);
        let verbs = resource["verbs"].as_array().context("verbs")?;
        let lists = verbs.iter().any(|verb| verb == "list");
        ensure!(!(lists && verbs.iter().filter_map(Value::as_str).any(is_watched)), "{resource:#}");
    }
    // kube-apiserver passes the documents on; it fetches them in the background.
    let document = async || gate.get("/openapi/v3/apis/view.gatehouse.dev/v1alpha1").await;
    let path = "/apis/view.gatehouse.dev/v1alpha1/namespaces/{namespace}/fluxresources/{name}/suspension";
    let is_described = |document: &Value| document["paths"][path]["put"]["requestBody"].is_object();
    let document = settles("OpenAPI has them", Duration::from_secs(90), document, is_described).await?;
    let schema = &document["components"]["schemas"]["dev.gatehouse.view.v1alpha1.SuspensionSpec"];
    ensure!(schema["properties"]["until"]["format"] == "date-time", "{schema:#}");
    Ok(())
}
