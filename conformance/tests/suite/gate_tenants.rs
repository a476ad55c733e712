//! What a tenant sees of the quotas over his namespaces, with rights in these namespaces only.

use std::sync::Arc;

use anyhow::ensure;
use gatehouse_conformance::kubectl::Kubectl;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::gate::{Gate, KNOWN, LABEL, POLICY, fleet, quota, with_file};
use crate::gate_quotas::kubectl_apply;
use crate::site::API;
use crate::world::{World, settles};

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.guarded("gate_tenants::a_tenant_reads_his_quota_and_no_other_namespace", applied),
        world.guarded("gate_tenants::what_would_fit_is_told_and_reserves_nothing", fit),
        world.guarded("gate_tenants::what_exists_is_charged_with_the_difference", fit_of_change),
        world.guarded("gate_tenants::a_question_that_makes_no_sense_is_refused", fit_of_nonsense),
        world.guarded("gate_tenants::a_namespace_that_changes_its_tenant_changes_its_quota", relabelled),
    ]
}

async fn labelled(gate: &Gate, name: &str, tenant: &str) -> anyhow::Result<()> {
    let metadata = json!({"name": name, "labels": {LABEL: tenant}});
    gate.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await
}

fn row(namespace: &str, quota: &str) -> String {
    format!("{API}/namespaces/{namespace}/appliedtenantquotas/{quota}")
}

/// The texts of a field of each limit, by the limit's name.
fn limits(row: &Value, field: &str) -> Value {
    let limits = row["status"]["limits"].as_array().into_iter().flatten();
    limits
        .map(|limit| (limit["name"].as_str().unwrap_or_default().to_owned(), limit[field].clone()))
        .collect()
}

/// Whether a row has these amounts of existing objects, and nothing is reserved any more. Usage and reservations are
/// reported by different replicas, so that an object can be in both for a moment.
fn counted(row: &Value, used: &Value) -> bool {
    let reserved = limits(row, "reserved");
    let settled = reserved.as_object().is_some_and(|all| all.values().all(|one| one.is_null() || one == "0"));
    settled && limits(row, "used") == *used
}

async fn applied(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (tenant, own, other, user) = ("gate-atq", "gate-atq-own", "gate-atq-other", "gate-atq-user");
    for namespace in [own, other] {
        labelled(&gate, namespace, tenant).await?;
    }
    gate.put(&quota(tenant, json!({"gameservers": "8", "requests.cpu": "4"}))).await?;
    gate.until_refused("/quota", own, &fleet(own, "big", 9)).await?;
    gate.site.allow_in(own, user).await?;
    let kubectl = gate.site.kubectl_as(user)?;

    gate.becomes(&format!("{POLICY}/tenantquotas/{tenant}"), KNOWN, |quota| {
        quota["status"]["byNamespace"].as_object().is_some_and(|all| all.len() == 2)
    })
    .await?;
    let mut watch = kubectl.watch(["get", "atq", "-n", own, "-w", "-o", "wide"])?;
    watch.line_where(KNOWN, |line| line.contains("gameservers 8, requests.cpu 4")).await?;
    kubectl_apply(&gate, &fleet(own, "some", 3)).await?.ok()?;
    watch.line_where(KNOWN, |line| line.contains("gameservers 3/8 (37%)")).await?;
    kubectl_apply(&gate, &fleet(other, "more", 4)).await?.ok()?;
    watch.line_where(KNOWN, |line| line.contains("gameservers 1, requests.cpu 500m")).await?;
    let printed = kubectl_apply(&gate, &fleet(own, "too-many", 2)).await?.failed()?;
    ensure!(printed.contains("exceeded quota: gate-atq"), "{printed}");

    let amounts = json!({"gameservers": "7", "requests.cpu": "3500m"});
    let full = gate
        .becomes(&row(own, tenant), KNOWN, |row| {
            counted(row, &amounts) && row["status"]["lastDenials"][0]["message"].is_string()
        })
        .await?;
    ensure!(limits(&full, "usedHere") == json!({"gameservers": "3", "requests.cpu": "1500m"}), "{full:#}");
    ensure!(limits(&full, "left") == json!({"gameservers": "1", "requests.cpu": "500m"}), "{full:#}");
    ensure!(!full.to_string().contains(other), "it names another namespace: {full:#}");
    let there = gate.get(&row(other, tenant)).await?;
    ensure!(limits(&there, "usedHere") == json!({"gameservers": "4", "requests.cpu": "2"}), "{there:#}");
    ensure!(there["status"]["lastDenials"] == json!([]), "nothing was denied there: {there:#}");

    let table = kubectl.run(["get", "appliedtenantquotas", "-n", own]).await?.ok()?;
    let heading = ["NAME", "TIGHTEST", "LEFT", "USED-HERE", "LAST-DENIAL"];
    ensure!(table.split_whitespace().take(5).eq(heading), "{table}");
    let described = kubectl.run(["describe", "atq", tenant, "-n", own]).await?.ok()?;
    for expected in ["Last Denials", "Used Here", "exceeded quota", "Type:                  WithinLimits"] {
        ensure!(described.contains(expected), "no {expected:?} in\n{described}");
    }
    let selected = ["get", "atq", "-n", own, "-o", "name", "--field-selector"];
    for (selector, rows) in [("status.tightest=requests.cpu", 0), ("status.tightest=gameservers", 1)] {
        let printed = kubectl.run(selected.iter().chain(&[selector])).await?.ok()?;
        ensure!(printed.lines().count() == rows, "{selector}: {printed}");
    }
    let explained = kubectl.run(["explain", "atq.status.limits.usedHere"]).await?.ok()?;
    ensure!(explained.contains("Usage of existing objects of this namespace"), "{explained}");
    for elsewhere in [&["-n", other][..], &["-A"]] {
        let complaint = kubectl.run(["get", "atq"].iter().chain(elsewhere)).await?.failed()?;
        ensure!(complaint.contains("(Forbidden)"), "{complaint}");
    }
    Ok(())
}

async fn fit(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-fit", "gate-fit-user");
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "8", "requests.cpu": "4"}), &fleet(namespace, "big", 9))
        .await?;
    kubectl_apply(&gate, &fleet(namespace, "some", 3)).await?.ok()?;
    let amounts = json!({"gameservers": "3", "requests.cpu": "1500m"});
    gate.becomes(&row(namespace, namespace), KNOWN, |row| counted(row, &amounts)).await?;

    let rule = ("view.gatehouse.dev", "appliedtenantquotas/fit", "create");
    allow(&gate, namespace, user, &[rule]).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let path = format!("{}/fit", row(namespace, namespace));
    let ask = async |objects: &[Value]| fits(&kubectl, &path, objects).await;
    for _ in 0..3 {
        let fits = ask(&[fleet(namespace, "a", 2), fleet(namespace, "b", 3)]).await?;
        ensure!(
            fits["kind"] == "QuotaFit" && fits["status"]["fits"] == true,
            "nothing is reserved: {fits:#}"
        );
        ensure!(
            limits(&fits, "requested") == json!({"gameservers": "5", "requests.cpu": "2500m"}),
            "{fits:#}"
        );
    }
    let large = ask(&[fleet(namespace, "a", 6)]).await?;
    ensure!(large["status"]["fits"] == false, "{large:#}");
    ensure!(limits(&large, "fits") == json!({"gameservers": false, "requests.cpu": false}), "{large:#}");
    let elsewhere = with_file(&kubectl, &["create", "--raw", &path], &[fleet("other", "a", 1)], &[]).await?;
    let complaint = elsewhere.failed()?;
    ensure!(complaint.contains("metadata.namespace"), "{complaint}");
    let list = kubectl.run(["get", "atq", "-n", namespace]).await?.failed()?;
    ensure!(list.contains("(Forbidden)"), "asking is a right of its own: {list}");
    // The same of the whole tenant, where objects name their namespace.
    let of_tenant = format!("{API}/tenantusages/{namespace}/fit");
    let answer = gate.caller.post(&of_tenant, &fleet(namespace, "a", 5)).await?;
    ensure!(answer.code == 201 && answer.body["status"]["fits"] == true, "{answer:#?}");
    let mut nowhere = fleet(namespace, "a", 5);
    nowhere["metadata"] = json!({"name": "a"});
    gate.caller.post(&of_tenant, &nowhere).await?.refused(422, "Invalid")?;
    let get = gate.caller.get(&of_tenant).await?;
    get.refused(405, "MethodNotAllowed")?;
    kubectl_apply(&gate, &fleet(namespace, "a", 5)).await?.ok()?;
    Ok(())
}

/// Grants a user these rights in a namespace: group, resource and verb of each.
async fn allow(gate: &Gate, namespace: &str, user: &str, rules: &[(&str, &str, &str)]) -> anyhow::Result<()> {
    let rules: Vec<_> = rules
        .iter()
        .map(
            |(group, resource, verb)| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}),
        )
        .collect();
    let kind = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": user});
    let metadata = json!({"name": user, "namespace": namespace});
    gate.put(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules,
    }))
    .await?;
    gate.put(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": kind("Role"), "subjects": [kind("User")],
    }))
    .await
}

/// Whether objects fit, by kubectl.
async fn fits(kubectl: &Kubectl, path: &str, objects: &[Value]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&with_file(kubectl, &["create", "--raw", path], objects, &[]).await?.ok()?)?)
}

async fn fit_of_change(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (namespace, user) = ("gate-fit-change", "gate-fit-change-user");
    gate.namespace(namespace).await?;
    gate.quota(namespace, json!({"gameservers": "8"}), &fleet(namespace, "big", 9)).await?;
    let counted = async |servers: &str| {
        let amounts = json!({"gameservers": servers});
        gate.becomes(&row(namespace, namespace), KNOWN, |row| counted(row, &amounts)).await
    };
    kubectl_apply(&gate, &fleet(namespace, "some", 5)).await?.ok()?;
    counted("5").await?;
    let ask_right = ("view.gatehouse.dev", "appliedtenantquotas/fit", "create");
    allow(&gate, namespace, user, &[ask_right]).await?;
    let kubectl = gate.site.kubectl_as(user)?;
    let path = format!("{}/fit", row(namespace, namespace));
    let ask = async |servers: i64| fits(&kubectl, &path, &[fleet(namespace, "some", servers)]).await;
    let judged = |answer: &Value| {
        let status = &answer["status"];
        (
            status["fits"] == true,
            status["existing"].as_i64(),
            limits(answer, "requested")["gameservers"].clone(),
        )
    };
    let blind = ask(8).await?;
    ensure!(judged(&blind) == (false, Some(0), json!("8")), "he may not know that it exists: {blind:#}");
    allow(&gate, namespace, user, &[ask_right, ("agones.dev", "fleets", "get")]).await?;
    settles(
        "the fleet that exists is known",
        KNOWN,
        async || ask(8).await,
        |answer| judged(answer) == (true, Some(1), json!("3")),
    )
    .await?;
    kubectl_apply(&gate, &fleet(namespace, "some", 8)).await?.ok()?;
    counted("8").await?;
    for (servers, expected) in [
        (8, (true, Some(1), json!("0"))),
        (4, (true, Some(1), json!("0"))),
        (9, (false, Some(1), json!("1"))),
    ] {
        let answer = ask(servers).await?;
        ensure!(judged(&answer) == expected, "{servers}: {answer:#}");
    }
    let printed = kubectl_apply(&gate, &fleet(namespace, "some", 9)).await?.failed()?;
    ensure!(printed.contains("exceeded quota"), "as admission has it: {printed}");
    Ok(())
}

async fn fit_of_nonsense(gate: Arc<Gate>) -> anyhow::Result<()> {
    let namespace = "gate-fit-bad";
    gate.namespace(namespace).await?;
    gate.put(&quota(namespace, json!({"gameservers": "8"}))).await?;
    let atq = row(namespace, namespace);
    gate.becomes(&format!("{API}/namespaces/{namespace}/appliedtenantquotas"), KNOWN, |list| {
        list["items"].as_array().is_some_and(|items| items.len() == 1)
    })
    .await?;
    let (path, of_tenant) = (format!("{atq}/fit"), format!("{API}/tenantusages/{namespace}/fit"));
    let claim = |namespace: &str| {
        let metadata = json!({"name": "a", "namespace": namespace});
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata})
    };
    let list = |items: &[Value]| json!({"apiVersion": "v1", "kind": "List", "items": items});
    let many: Vec<_> = (0..10_000).map(|_| json!({})).collect();
    let mut large = fleet(namespace, "large", 1);
    large["spec"]["note"] = "x".repeat(600 << 10).into();
    for (path, body, code, reason) in [
        (&path, json!([1]), 400, "BadRequest"),
        (&path, list(&[claim(namespace), json!(7)]), 422, "Invalid"),
        (&path, list(&many), 422, "Invalid"),
        (&path, large, 413, "RequestEntityTooLarge"),
        (&path, claim("default"), 422, "Invalid"),
        (&path, fleet(namespace, "negative", -1), 422, "Invalid"),
        (&of_tenant, claim(""), 422, "Invalid"),
        (
            &format!("{API}/namespaces/default/appliedtenantquotas/{namespace}/fit"),
            claim(""),
            404,
            "NotFound",
        ),
        (&format!("{API}/tenantusages/none/fit"), claim("a"), 404, "NotFound"),
    ] {
        gate.caller.post(path, &body).await?.refused(code, reason)?;
    }
    // What has no namespace uses nothing of a tenant.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "a"}});
    let answer = gate.caller.post(&path, &role).await?;
    ensure!(answer.code == 201 && answer.body["status"]["fits"] == true, "{answer:#?}");
    ensure!(limits(&answer.body, "requested") == json!({"gameservers": "0"}), "{answer:#?}");
    Ok(())
}

async fn relabelled(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (one, two, namespace) = ("gate-atq-one", "gate-atq-two", "gate-atq-moved");
    labelled(&gate, namespace, one).await?;
    for tenant in [one, two] {
        gate.put(&quota(tenant, json!({"gameservers": "4"}))).await?;
    }
    let list = format!("{API}/namespaces/{namespace}/appliedtenantquotas");
    let names = |list: &Value| {
        let items = list["items"].as_array().into_iter().flatten();
        items.map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    gate.becomes(&list, KNOWN, |list| names(list) == [one]).await?;
    labelled(&gate, namespace, two).await?;
    gate.becomes(&list, KNOWN, |list| names(list) == [two]).await?;
    gate.delete(&format!("{POLICY}/tenantquotas/{two}")).await?;
    gate.becomes(&list, KNOWN, |list| names(list).is_empty()).await?;
    Ok(())
}
