//! `gatehouse manifests`: RBAC and registration objects of an installation, for the chart.
//!
//! The chart keeps what this prints in `files/`, and puts its own namespace and labels in; a test holds the two
//! together. So the rights are those of the catalogue of kinds, no more.

use std::io::{self, Write as _};

use anyhow::{Context, ensure};
use gatehouse_apiservice::registration::{
    self, actions, clusters, user_roles, webhook_account,
    webhooks::{Address, FailurePolicy, TIMEOUT_SECONDS, Webhooks},
};
use gatehouse_inventory::catalogue::Catalogue;
use gatehouse_webhooks::intercepted;
use serde_json::{Value, json};

use crate::flags::OriginArgs;

/// The port of both Services.
const PORT: u16 = 443;

/// Print the RBAC and registration objects of an installation as a YAML List
///
/// They are for the namespace gatehouse-system. The APIService and the webhook configurations have no caBundle: the
/// replica that holds the Lease, cert-manager or the installer sets it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Objects to print.
    #[arg(value_name = "PART")]
    part: Part,
    /// For the part clusters: what registers remote clusters. Default: Secrets in the namespace gatehouse-clusters.
    #[command(flatten)]
    origins: OriginArgs,
    /// For spoke-rights: a user as whom the hub may act in the remote cluster. May be repeated.
    #[arg(long, value_name = "NAME", value_parser = impersonated)]
    act_as_user: Vec<String>,
    /// For spoke-rights: a group of such users. All groups of a user are needed. May be repeated.
    #[arg(long, value_name = "NAME", value_parser = impersonated, requires = "act_as_user")]
    act_as_group: Vec<String>,
}

/// The name of a user or group that Gatehouse impersonates. What begins with `system:` it does not.
fn impersonated(name: &str) -> Result<String, String> {
    match name {
        "" | "*" => Err("must be a name: RBAC has no pattern, and whoever may impersonate everybody may do \
                         everything"
            .to_owned()),
        _ if name.starts_with("system:") => {
            Err("must not begin with system:, which is not impersonated".to_owned())
        }
        _ => Ok(name.to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// RBAC that the API server always needs.
    ApiserverRights,
    /// Additional RBAC for self-managed certificates.
    ApiserverSelfManaged,
    /// RBAC that the webhooks always need, and their FlowSchema.
    WebhooksRights,
    /// Additional RBAC for self-managed certificates.
    WebhooksSelfManaged,
    /// ClusterRoles for users and Prometheus: read views, policies and metrics; write policies.
    UserRoles,
    /// ClusterRole and binding with which everybody reads mynamespaces.
    MyNamespaces,
    /// RBAC that actions need (--enable-actions), and ClusterRoles for users who act.
    Actions,
    /// The namespace of Secrets that register remote clusters, and RBAC to list these (--cluster-secrets-namespace); with
    /// flags of other origins, RBAC to read the objects of these.
    Clusters,
    /// For a remote cluster: the account as which it is observed, and what that may read.
    SpokeRights,
    /// The APIService and the webhook configurations.
    Registration,
}

/// Prints them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Args { part, origins, act_as_user, act_as_group } = args;
    ensure!(origins.is_empty() || *part == Part::Clusters, "flags of origins are for the part clusters");
    ensure!(act_as_user.is_empty() || *part == Part::SpokeRights, "--act-as-user is for spoke-rights");
    let objects = match part {
        Part::Clusters if !origins.is_empty() => origins.rights(),
        Part::SpokeRights => {
            let [users, groups] =
                [act_as_user, act_as_group].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            [part.objects(), clusters::spoke_actions(&users, &groups)].concat()
        }
        part => part.objects(),
    };
    let text = list(&part.name(), &objects)?;
    io::stdout().lock().write_all(text.as_bytes()).context("cannot print")
}

fn list(command: &str, objects: &[Value]) -> anyhow::Result<String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    Ok(format!("# Made by `gatehouse manifests {command}`.\n{}", serde_saphyr::to_string(&list)?))
}

impl Part {
    fn name(self) -> String {
        use clap::ValueEnum;
        self.to_possible_value().expect("no part is hidden").get_name().to_owned()
    }

    fn objects(self) -> Vec<Value> {
        match self {
            Self::ApiserverRights => registration::rights(kinds()),
            Self::WebhooksRights => webhook_account::rights(intercepted::read(), intercepted::suspended()),
            Self::ApiserverSelfManaged => registration::self_managed(),
            Self::WebhooksSelfManaged => webhook_account::self_managed(),
            Self::UserRoles => {
                user_roles::user_roles().into_iter().chain(webhook_account::user_roles()).collect()
            }
            Self::MyNamespaces => user_roles::for_everyone().to_vec(),
            Self::Actions => {
                let mut objects = actions::rights(flux_kinds());
                objects.extend(actions::user_roles(&flux_kinds()));
                objects
            }
            Self::Clusters => clusters::rights(),
            Self::SpokeRights => spoke_rights(),
            Self::Registration => registrations(),
        }
    }
}

/// For a remote cluster: the account as which it is observed, and what that may read.
pub(crate) fn spoke_rights() -> Vec<Value> {
    clusters::spoke_rights(kinds())
}

fn kinds() -> Vec<(String, String)> {
    let catalogue = Catalogue::builtin();
    catalogue.kinds().map(|(_, kind)| (kind.group.clone(), kind.plural.clone())).collect()
}

fn flux_kinds() -> Vec<(String, String)> {
    let catalogue = Catalogue::builtin();
    let flux = catalogue.kinds().filter(|(_, kind)| kind.is_flux());
    flux.map(|(_, kind)| (kind.group.clone(), kind.plural.clone())).collect()
}

fn registrations() -> Vec<Value> {
    let webhooks = Webhooks {
        address: Address::Service {
            namespace: registration::NAMESPACE.to_owned(),
            name: webhook_account::NAME.to_owned(),
            port: PORT,
        },
        ca_bundle: String::new(),
        governed: intercepted::governed(),
        charged: intercepted::charged(),
        counted: intercepted::counted(),
        policies: FailurePolicy::Fail,
        excluded: Vec::new(),
        timeout_seconds: TIMEOUT_SECONDS,
    };
    let mut objects = vec![registration::api_service(PORT, "")];
    objects.extend(webhooks.configurations());
    objects.iter_mut().for_each(without_ca_bundle);
    objects
}

/// An empty one is a difference to what the API server keeps.
fn without_ca_bundle(object: &mut Value) {
    let strip = |holder: Option<&mut Value>| {
        if let Some(Value::Object(holder)) = holder {
            holder.shift_remove("caBundle");
        }
    };
    strip(object.get_mut("spec"));
    for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        strip(webhook.get_mut("clientConfig"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::ValueEnum;

    use super::*;

    fn yaml(part: Part) -> anyhow::Result<String> {
        list(&part.name(), &part.objects())
    }

    #[test]
    fn the_chart_has_the_current_objects() {
        // A remote cluster has no release of the chart.
        for &part in Part::value_variants().iter().filter(|part| **part != Part::SpokeRights) {
            let name = part.name();
            let file = format!("charts/gatehouse/files/{name}.yaml");
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file));
            assert!(
                text.unwrap_or_default() == yaml(part).expect("prints"),
                "run `cargo run -- manifests {name} > {file}` and commit the file"
            );
        }
    }

    /// The namespaces of origins in the chart's file, each of which the chart replaces by those of its values.
    const ORIGINS: [&str; 4] = [
        "--cluster-api-namespaces=of-cluster-api",
        "--argocd-cluster-namespaces=of-argocd",
        "--cluster-profile-namespaces=of-cluster-profiles",
        "--cluster-profile-secrets-namespace=of-cluster-profile-secrets",
    ];

    #[test]
    fn the_chart_has_the_current_rights_of_origins() {
        use clap::Parser;

        #[derive(Debug, Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        let line = ["gatehouse", "clusters"].into_iter().chain(ORIGINS);
        let args = Command::try_parse_from(line).expect("flags").args;
        let current = list("clusters", &args.origins.rights()).expect("prints");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/gatehouse/files/origins.yaml");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let flags = ORIGINS.join(" ");
        assert!(
            text == current,
            "run `cargo run -- manifests clusters {flags} > charts/gatehouse/files/origins.yaml` and commit the file"
        );
    }

    #[test]
    fn what_is_printed_reads_as_what_was_meant() {
        for &part in Part::value_variants() {
            let read: Value = serde_saphyr::from_str(&yaml(part).expect("prints")).expect("YAML");
            assert_eq!(read["items"], json!(part.objects()), "{part:?}");
        }
    }

    #[test]
    fn nobody_is_impersonated_but_by_name() {
        for name in ["", "*", "system:masters", "system:serviceaccount:a:b"] {
            assert!(impersonated(name).is_err(), "{name}");
        }
        assert_eq!(impersonated("jane").as_deref(), Ok("jane"));
    }

    #[test]
    fn nothing_carries_an_empty_ca_bundle() {
        assert!(!yaml(Part::Registration).expect("prints").contains("caBundle"));
    }
}
