//! What an installation leaves behind.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use gatehouse_conformance::contents::{self, Known, Name};
use gatehouse_conformance::helm::NAMESPACE;
use gatehouse_conformance::progress;

use super::{Cluster, documented};
use crate::world::settles;

/// The namespaces of the traffic begin so: what it has not deleted is not Gatehouse's.
const TRAFFIC: &str = "traffic-";
const GROUP: &str = "policy.gatehouse.dev";

/// kube-apiserver withdraws an API within seconds of its definition.
const WITHDRAWN: Duration = Duration::from_secs(30);

type Contents = BTreeMap<Name, Known>;

/// What was not there before, except for the traffic's.
fn new(before: &Contents, mut after: Contents) -> Contents {
    after.retain(|name, _| !before.contains_key(name) && !name.namespace.starts_with(TRAFFIC));
    after
}

fn names(contents: &Contents) -> String {
    contents.keys().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

/// Whether the section Uninstall says that an object stays after `helm uninstall`: the namespace with Secrets and
/// Leases, and the definitions with their objects.
fn is_documented(name: &Name) -> bool {
    let kind = name.kind.as_str();
    match (name.namespace.as_str(), kind) {
        ("", "Namespace") => name.name == NAMESPACE,
        ("", "CustomResourceDefinition" | "APIService") => name.name.ends_with(GROUP),
        (NAMESPACE, "Secret" | "Lease") => true,
        _ => name.group == GROUP,
    }
}

/// Checks what is left by `helm uninstall`. No process of the release runs any more.
pub(super) async fn by_helm(cluster: &Cluster, before: &Contents) -> anyhow::Result<()> {
    let left = new(before, contents::collect_garbage(&cluster.client).await?);
    progress::say(format_args!("left by helm uninstall:\n  {}", names(&left)));
    for kind in ["Namespace", "Secret", "Lease", "CustomResourceDefinition", "TenantQuota", "QuotaLedger"] {
        ensure!(left.keys().any(|name| name.kind == kind), "no {kind} is left, so that nothing is shown");
    }
    let undocumented: Vec<_> = left.keys().filter(|name| !is_documented(name)).collect();
    ensure!(undocumented.is_empty(), "left, and not documented: {undocumented:#?}");
    Ok(())
}

/// Checks that nothing is left once the namespace and the definitions are deleted as the documents say.
pub(super) async fn by_everything(cluster: &Cluster, before: &Contents) -> anyhow::Result<()> {
    // There is no controller that empties a namespace, and kubectl would wait for it.
    let is_waiting = |command: &str| command.starts_with("kubectl delete namespace");
    let wanted = |command: &str| command.starts_with("kubectl delete") && !is_waiting(command);
    ensure!(documented::run(cluster, "Uninstall", wanted).await? == 2, "policies, definitions");
    let within =
        |name: &Name| name.namespace == NAMESPACE || (name.kind == "Namespace" && name.name == NAMESPACE);
    let left = async || {
        let mut left = new(before, contents::collect_garbage(&cluster.client).await?);
        left.retain(|name, _| !within(name));
        Ok(names(&left))
    };
    settles("nothing is left outside the namespace", WITHDRAWN, left, String::is_empty).await?;
    Ok(())
}
