//! The objects that register Gatehouse with the control plane, as an installation has them, except for the
//! Service.
//!
//! The Service is an ExternalName of `localhost`: kube-apiserver runs outside any pod network, and Endpoints
//! do not accept loopback addresses.

use gatehouse_apiservice::registration::{
    NAME, NAMESPACE, actions, namespace, rights, user_roles, webhook_account,
};
use gatehouse_inventory::catalogue::Catalogue;
use gatehouse_webhooks::intercepted;
use serde_json::{Value, json};

/// Resources that quotas of the tests count, in addition to those that the webhooks always read.
const COUNTED: [(&str, &str); 2] = [("", "configmaps"), ("apps", "deployments")];
/// A ClusterRole that is bound directly, because there is no controller that aggregates roles.
const COUNTED_ROLE: &str = "gatehouse-webhooks-counted-by-trials";

/// All objects but the APIService, which is created once the server is ready.
pub fn prerequisites() -> Vec<Value> {
    let mut objects = vec![namespace(), service()];
    objects.extend(rights(kinds()));
    objects.extend(actions::rights(flux_kinds()));
    objects.extend(actions::user_roles(&flux_kinds()));
    objects.extend(user_roles::for_everyone());
    objects
}

/// All objects that the webhooks need but their configurations: the namespace and the rights of their
/// account.
pub fn webhooks() -> Vec<Value> {
    let mut objects = vec![namespace()];
    objects.extend(webhook_account::rights(intercepted::read(), intercepted::suspended()));
    objects.extend(webhook_account::user_roles());
    let counted = COUNTED.map(|(group, plural)| (group.to_owned(), plural.to_owned()));
    objects.push(webhook_account::counted_role(COUNTED_ROLE, counted));
    objects.push(webhook_account::cluster_role_binding(COUNTED_ROLE, COUNTED_ROLE));
    objects
}

/// Group and plural of every kind that Gatehouse reads.
pub fn kinds() -> Vec<(String, String)> {
    let catalogue = Catalogue::builtin();
    catalogue.kinds().map(|(_, kind)| (kind.group.clone(), kind.plural.clone())).collect()
}

/// Group and plural of every kind that actions are for.
fn flux_kinds() -> Vec<(String, String)> {
    let catalogue = Catalogue::builtin();
    let flux = catalogue.kinds().filter(|(_, kind)| kind.is_flux());
    flux.map(|(_, kind)| (kind.group.clone(), kind.plural.clone())).collect()
}

/// The Service whose name resolves to this machine. It does not map ports, so the APIService names the
/// server's own port.
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
