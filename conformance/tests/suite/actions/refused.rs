//! Bad input: a Status that says what is wrong, and nothing is written.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{OPERATOR, app, created, of, path, with_app};
use crate::caller::Caller;
use crate::gate::{Gate, KNOWN, kustomization};
use crate::site::API;
use crate::world::World;

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("actions::refused::fields_that_are_wrong_are_named", fields),
        world.guarded("actions::refused::objects_that_cannot_be_acted_on_say_why", objects),
        world.guarded(
            "actions::refused::a_reason_that_others_wrote_does_not_keep_the_object",
            written_by_others,
        ),
    ]
}

async fn fields(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-fields", "actions-fields-user");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let before = app(&gate, namespace).await?;
    let long = "x".repeat(100 << 10);
    let of_body = |field: &str, value: Value| json!({"spec": {field: value}});
    for (subresource, body, code, field) in [
        ("reconcile", of_body("withSauce", json!(true)), 400, "withSauce"),
        ("reconcile", of_body("withSource", json!("yes")), 400, "spec.withSource"),
        ("reconcile", json!({"specs": {}}), 400, "specs"),
        ("reconcile", json!([]), 400, "body"),
        ("reconcile", json!({"kind": "Suspension"}), 400, "kind"),
        ("reconcile", json!({"apiVersion": "v1"}), 400, "apiVersion"),
        ("reconcile", json!({"metadata": {"name": "other"}}), 400, "metadata.name"),
        ("reconcile", json!({"metadata": {"namespace": "other"}}), 400, "metadata.namespace"),
        ("suspend", json!({"metadata": {"resourceversion": "1"}}), 400, "metadata.resourceversion"),
        ("reconcile", of_body(&long, json!(1)), 400, "spec.xxx"),
        ("reconcile?fieldValidation=strict", json!({}), 422, "fieldValidation"),
        ("reconcile", of_body("states", json!(["Failed"])), 422, "spec.states"),
        ("reconcile", of_body("reason", json!(long)), 422, "spec.reason"),
        ("suspend", of_body("reason", json!(long)), 422, "spec.reason"),
        ("suspend", of_body("reason", json!(" \u{3000} ")), 422, "spec.reason"),
        ("suspend", of_body("reason", json!("a\u{1b}[31mb")), 422, "spec.reason"),
        ("suspend", of_body("reason", json!("a\nb")), 422, "spec.reason"),
        ("suspend", of_body("until", json!("2020-01-01T00:00:00Z")), 422, "spec.until"),
        ("suspend", of_body("until", json!("tomorrow")), 422, "spec.until"),
        ("suspend", of_body("suspended", json!(false)), 422, "spec.suspended"),
        ("resume", of_body("suspended", json!(true)), 422, "spec.suspended"),
        ("reconcile?dryRun=Some", json!({}), 422, "dryRun"),
        ("suspend?dryRun=&dryRun=All", json!({}), 422, "dryRun"),
        ("suspend?dryRun=All&dryRun=x", json!({}), 422, "dryRun"),
        ("suspend", of_body("reason", json!("a\u{202e}b")), 422, "spec.reason"),
        ("suspend", of_body("reason", json!("\u{200b}\u{2060} \u{3164}")), 422, "spec.reason"),
        ("suspend?dryRun=true", json!({}), 422, "dryRun"),
    ] {
        let answer = operator.post(&path(namespace, subresource), &body).await?;
        answer.refused(code, if code == 400 { "BadRequest" } else { "Invalid" })?;
        let text = answer.body["details"]["causes"].to_string();
        ensure!(text.contains(field), "{subresource}: {field} is not named: {answer:#?}");
        ensure!(answer.body.to_string().len() < 4096, "the answer does not repeat the request");
    }
    let huge = json!({"spec": {"reason": "x".repeat(300 << 10)}});
    for subresource in ["reconcile", "suspend", "resume"] {
        let answer = operator.post(&path(namespace, subresource), &huge).await?;
        answer.refused(413, "RequestEntityTooLarge")?;
    }
    let put = async |body: &[u8], media_type: &str| {
        operator.write(&Method::PUT, &path(namespace, "suspension"), media_type, body.to_vec()).await
    };
    let answer = put(b"{}", "application/json").await?;
    ensure!(
        answer.refused(422, "Invalid")?.contains("spec.suspended"),
        "an empty PUT resumes nothing: {answer:#?}"
    );
    put(b"{", "application/json").await?.refused(400, "BadRequest")?;
    let twice = put(br#"{"spec": {"suspended": true, "suspended": false}}"#, "application/json").await?;
    twice.refused(400, "BadRequest")?;
    ensure!(twice.body["details"]["causes"][0]["field"] == "spec.suspended", "{twice:#?}");
    put(b"{}", "application/vnd.kubernetes.protobuf").await?.refused(415, "UnsupportedMediaType")?;
    let patch = async |body: &str, media_type: &str| {
        let body = body.as_bytes().to_vec();
        operator.write(&Method::PATCH, &path(namespace, "suspension"), media_type, body).await
    };
    let merge = "application/merge-patch+json";
    patch("{\"spec\": {\"suspend\": true}}", merge).await?.refused(400, "BadRequest")?;
    patch("[]", merge).await?.refused(400, "BadRequest")?;
    let twice = patch(r#"{"spec": {"reason": "a", "reason": "b"}}"#, merge).await?;
    ensure!(twice.refused(400, "BadRequest")?.contains("spec.reason"), "{twice:#?}");
    patch("{}", "application/apply-patch+yaml").await?.refused(415, "UnsupportedMediaType")?;
    for (field, value) in [("reason", "moving"), ("until", "2999-01-01T00:00:00Z")] {
        let answer = patch(&of_body(field, json!(value)).to_string(), merge).await?;
        let message = answer.refused(422, "Invalid")?;
        ensure!(message.contains(&format!("spec.{field}")), "it is not suspended: {answer:#?}");
    }
    let json_patch = r#"[{"op": "test", "path": "/spec/suspended", "value": true}]"#;
    patch(json_patch, "application/json-patch+json").await?.refused(422, "Invalid")?;
    // Each copies the document into itself: in all, gigabytes.
    let copies: Vec<_> =
        (0..30).map(|n| json!({"op": "copy", "from": "/spec", "path": format!("/spec/x{n}")})).collect();
    let deep =
        |n: u32| json!({"op": "copy", "from": "/spec", "path": format!("/spec{}", "/x".repeat(1 << n))});
    let nested: Vec<_> =
        [json!({"op": "add", "path": "/spec/x", "value": {}})].into_iter().chain((0..16).map(deep)).collect();
    for operations in [copies, nested] {
        let answer = patch(&json!(operations).to_string(), "application/json-patch+json").await?;
        answer.refused(422, "Invalid")?;
    }
    ensure!(app(&gate, namespace).await? == before, "nothing was written");
    whole_namespace(&operator, namespace).await?;
    sources_of_other_names(&gate, namespace, &operator).await
}

/// What is for one object is refused for all of a namespace.
async fn whole_namespace(operator: &Caller, namespace: &str) -> anyhow::Result<()> {
    let path = format!("{API}/namespaces/{namespace}/fluxsummaries/local/reconcile");
    for (body, field) in [
        (json!({"metadata": {"uid": "x"}}), "metadata.uid"),
        (json!({"metadata": {"resourceVersion": "1"}}), "metadata.resourceVersion"),
        (json!({"spec": {"states": []}}), "spec.states"),
    ] {
        let message = operator.post(&path, &body).await?;
        let message = message.refused(422, "Invalid")?;
        ensure!(message.contains(field), "{message}");
    }
    Ok(())
}

/// The name of a source is any text, and never becomes a path or a query.
async fn sources_of_other_names(gate: &Gate, namespace: &str, operator: &Caller) -> anyhow::Result<()> {
    for name in ["src#", "src?dryRun=All&x=", "src/status", "../../other/src", "src x", "src\n"] {
        gate.put(&kustomization(
            namespace,
            "app",
            json!({"sourceRef": {"kind": "GitRepository", "name": name}}),
        ))
        .await?;
        let body = json!({"spec": {"withSource": true}});
        let answer = operator.post(&path(namespace, "reconcile"), &body).await?;
        answer.refused(422, "Invalid").with_context(|| format!("{name:?}"))?;
    }
    Ok(())
}

async fn objects(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-objects", "actions-objects-user");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let before = app(&gate, namespace).await?;
    let alert = json!({
        "apiVersion": "notification.toolkit.fluxcd.io/v1beta3", "kind": "Alert",
        "metadata": {"namespace": namespace, "name": "bell"},
        "spec": {"providerRef": {"name": "chat"}, "eventSources": [{"kind": "Kustomization", "name": "*"}]},
    });
    let registry = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmRepository",
        "metadata": {"namespace": namespace, "name": "charts"},
        "spec": {"type": "oci", "url": "oci://example.com/charts", "interval": "1m"},
    });
    for object in [&alert, &registry] {
        gate.put(object).await?;
    }
    let post = async |at: &str, body: Value| operator.post(at, &body).await;
    for object in ["alert.bell", "helmrepository.charts"] {
        let at = of(namespace, object, "reconcile");
        post(&at, json!({})).await?.refused(405, "MethodNotAllowed")?;
    }
    created(post(&of(namespace, "alert.bell", "suspend"), json!({})).await?)?;
    post(&of(namespace, "externalartifact.x", "suspend"), json!({}))
        .await?
        .refused(405, "MethodNotAllowed")?;
    for (name, code, reason) in [
        ("kustomization.gone", 404, "NotFound"),
        ("widget.app", 404, "NotFound"),
        ("kustomization", 422, "Invalid"),
        ("kustomization.App", 422, "Invalid"),
        ("kustomization..app", 422, "Invalid"),
    ] {
        let answer = post(&of(namespace, name, "reconcile"), json!({})).await?;
        answer.refused(code, reason)?;
        if code == 422 {
            ensure!(answer.body["details"]["causes"][0]["field"] == "metadata.name", "{answer:#?}");
        }
    }
    let elsewhere = format!("{API}/namespaces/{namespace}/fluxresources/other.kustomization.app/reconcile");
    post(&elsewhere, json!({})).await?.refused(404, "NotFound")?;

    for (field, value) in [("uid", "00000000-0000-4000-8000-000000000000"), ("resourceVersion", "1")] {
        for subresource in ["reconcile", "suspend"] {
            let answer = post(&path(namespace, subresource), json!({"metadata": {field: value}})).await?;
            let message = answer.refused(409, "Conflict")?;
            ensure!(message.contains("precondition"), "{message}");
        }
    }
    ensure!(app(&gate, namespace).await? == before, "nothing was written");
    let metadata = json!({
        "uid": before["metadata"]["uid"], "resourceVersion": before["metadata"]["resourceVersion"],
    });
    created(post(&path(namespace, "reconcile"), json!({"metadata": metadata})).await?)?;
    post(&path(namespace, "reconcile"), json!({"metadata": metadata})).await?.refused(409, "Conflict")?;

    for (method, subresource) in [
        (Method::PUT, "reconcile"),
        (Method::GET, "suspend"),
        (Method::DELETE, "suspension"),
        (Method::POST, "suspension"),
    ] {
        let path = path(namespace, subresource);
        let answer = gate.caller.write(&method, &path, "application/json", b"{}".to_vec()).await?;
        answer.refused(405, "MethodNotAllowed")?;
    }
    gate.caller.post(&path(namespace, "restart"), &json!({})).await?.refused(404, "NotFound")?;

    // An object that is going is not asked for anything.
    let mut going = app(&gate, namespace).await?;
    going["metadata"]["finalizers"] = json!(["example.com/wait"]);
    let at = crate::gate_freezes::object(namespace, "app");
    let finalizers = json!({"metadata": {"finalizers": ["example.com/wait"]}}).to_string().into_bytes();
    gate.caller.write(&Method::PATCH, &at, "application/merge-patch+json", finalizers).await?.ok()?;
    gate.delete(&at).await?;
    let answer = post(&path(namespace, "reconcile"), json!({})).await?;
    ensure!(answer.refused(409, "Conflict")?.contains("being deleted"), "{answer:#?}");
    let finalizers = json!({"metadata": {"finalizers": null}}).to_string().into_bytes();
    gate.caller.write(&Method::PATCH, &at, "application/merge-patch+json", finalizers).await?.ok()?;
    let gone = async || gate.caller.get(&at).await;
    crate::world::settles("it is gone", KNOWN, gone, |answer| answer.code == http::StatusCode::NOT_FOUND)
        .await?;
    post(&path(namespace, "reconcile"), json!({})).await?.refused(404, "NotFound")?;
    Ok(())
}

/// Whoever may patch the object writes any reason. It is theirs to change, and does not stand in the way.
async fn written_by_others(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("actions-odd-reason", "actions-odd-reason-user");
    let operator = with_app(&gate, namespace, OPERATOR, user).await?;
    let merge = "application/merge-patch+json";
    let odd = json!({
        "metadata": {"annotations": {"gatehouse.dev/suspend-reason": "two\nlines"}}, "spec": {"suspend": true},
    });
    let at = crate::gate_freezes::object(namespace, "app");
    gate.caller.write(&Method::PATCH, &at, merge, odd.to_string().into_bytes()).await?.ok()?;
    let patch = async |spec: Value| {
        let body = json!({"spec": spec}).to_string().into_bytes();
        operator.write(&Method::PATCH, &path(namespace, "suspension"), merge, body).await
    };
    let shown = patch(json!({"until": "2999-01-01T00:00:00Z"})).await?.ok()?;
    ensure!(shown["spec"]["reason"] == "two\nlines", "{shown:#}");
    let other = patch(json!({"reason": "two\nother lines"})).await?;
    ensure!(other.refused(422, "Invalid")?.contains("spec.reason"), "{other:#?}");
    let shown = patch(json!({"suspended": false})).await?.ok()?;
    ensure!(shown["spec"] == json!({"suspended": false}), "{shown:#}");
    Ok(())
}
