//! What registers Gatehouse with the control plane: the objects of an installation, but for the Service.
//!
//! Here it is an ExternalName on `localhost`, since kube-apiserver runs outside any pod network and Endpoints refuse
//! loopback addresses.

use gatehouse_apiservice::registration::{NAME, NAMESPACE, namespace, rights, webhook_account};
use gatehouse_inventory::catalogue::Catalogue;
use gatehouse_webhooks::intercepted;
use serde_json::{Value, json};

/// Counted by quotas of trials, beyond what the webhooks read by themselves.
const COUNTED: [(&str, &str); 2] = [("", "configmaps"), ("apps", "deployments")];
/// A role of its own, bound directly: nobody aggregates roles here.
const COUNTED_ROLE: &str = "gatehouse-webhooks-counted-by-trials";

/// Everything but the APIService, which follows once the server is ready.
pub fn prerequisites() -> Vec<Value> {
    let mut objects = vec![namespace(), service()];
    objects.extend(rights(kinds()));
    objects
}

/// What the webhooks need but for their configurations: the namespace and every right of their account.
pub fn webhooks() -> Vec<Value> {
    let mut objects = vec![namespace()];
    objects.extend(webhook_account::rights(intercepted::read(), intercepted::suspended()));
    objects.extend(webhook_account::user_roles());
    let counted = COUNTED.map(|(group, plural)| (group.to_owned(), plural.to_owned()));
    objects.push(webhook_account::counted_role(COUNTED_ROLE, counted));
    objects.push(webhook_account::cluster_role_binding(COUNTED_ROLE, COUNTED_ROLE));
    objects
}

/// Group and plural name of every kind that Gatehouse reads.
pub fn kinds() -> Vec<(String, String)> {
    let catalogue = Catalogue::builtin();
    catalogue.kinds().map(|(_, kind)| (kind.group.clone(), kind.plural.clone())).collect()
}

/// The Service that leads to this machine. It translates no ports, so the APIService names the server's own.
fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_may_read_every_kind_and_no_secrets() {
        let kinds = kinds();
        let has = |group: &str, plural: &str| kinds.contains(&(group.to_owned(), plural.to_owned()));
        assert!(has("kustomize.toolkit.fluxcd.io", "kustomizations") && has("", "namespaces"));
        assert!(kinds.iter().all(|(_, plural)| plural != "secrets" && plural != "*"));
    }
}
