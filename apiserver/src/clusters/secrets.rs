//! What the labelled Secrets ask for: which clusters, by which credential, and which of them are refused.
//!
//! **Invariant:** the order of creation decides. A name or a server that is taken stays with the Secret that is older.

use std::collections::BTreeMap;

use gatehouse_apiservice::dns;
use gatehouse_inventory::{Refusal, Str};
use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest, Sha256};
use url::Url;

use super::{
    LABEL,
    kubeconfig::{self, Credential},
};

/// The keys that may hold a kubeconfig, in the order in which they are tried: those of Flux and Cluster API, of other
/// tools, and of `kubectl create secret --from-file`.
const KEYS: [&str; 4] = ["value", "value.yaml", "kubeconfig", "Config"];
/// The name that rows of the local cluster have by default.
const RESERVED: &str = "local";

/// What one Secret asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// `Secret NAMESPACE/NAME`.
    pub(super) origin: Str,
    pub(super) credential: Result<Credential, Refusal>,
    /// Of the kubeconfig, which is not kept.
    pub(super) digest: [u8; 32],
    /// Secrets that ask for the same name.
    pub(super) ignored: Vec<Str>,
}

/// What all Secrets ask for.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    pub(super) clusters: BTreeMap<Str, Wanted>,
    /// Secrets without a name that can be shown.
    pub(super) ignored: Vec<Str>,
}

/// Reads the Secrets. `local` is the name of the local cluster, and `server` its address.
pub(super) fn read(mut secrets: Vec<Secret>, local: &str, server: Option<&Url>) -> Registrations {
    secrets.sort_by_key(|secret| {
        let created = secret.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, secret.metadata.name.clone())
    });
    let mut found = Registrations::default();
    let mut servers: BTreeMap<String, Str> = BTreeMap::new();
    for secret in &secrets {
        let origin = origin(secret);
        let label = secret.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL));
        let name: Str = label.map(String::as_str).unwrap_or_default().into();
        if let Some(why) = unusable(&name, local) {
            found.ignored.push(format!("{origin}: metadata.labels[{LABEL}]: {why}").into());
            continue;
        }
        if let Some(older) = found.clusters.get_mut(&name) {
            let why = format!("{origin}: metadata.labels[{LABEL}]: is taken by {}", older.origin);
            older.ignored.push(why.into());
            continue;
        }
        let text = text(secret);
        let digest = Sha256::digest(text.as_deref().unwrap_or_default()).into();
        let credential = text.and_then(|text| Credential::parse(&text)).and_then(|credential| {
            let address = address(&credential.server);
            if server.is_some_and(|server| self::address(server) == address) {
                return Err(the_hub("server"));
            }
            if let Some(other) = servers.get(&address) {
                return Err(same_as(other, "server"));
            }
            servers.insert(address, name.clone());
            Ok(credential)
        });
        found.clusters.insert(name, Wanted { origin, credential, digest, ignored: Vec::new() });
    }
    found
}

/// The registration leads to the cluster that serves this API: its rows would be shown twice, for ever.
pub(super) fn the_hub(field: &str) -> Refusal {
    Refusal { reason: "TheHub".into(), message: format!("{field}: is this cluster itself").into() }
}

/// Two registrations lead to one cluster.
pub(super) fn same_as(other: &str, field: &str) -> Refusal {
    Refusal { reason: "SameCluster".into(), message: format!("{field}: is that of {other}").into() }
}

fn unusable(name: &str, local: &str) -> Option<&'static str> {
    if name == local || name == RESERVED {
        return Some("is the name of this cluster");
    }
    (!dns::is_label(name)).then_some("must be lower-case letters, digits and `-`, at most 63")
}

fn origin(secret: &Secret) -> Str {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("Secret {}/{}", text(&secret.metadata.namespace), text(&secret.metadata.name)).into()
}

/// The kubeconfig of a Secret.
fn text(secret: &Secret) -> Result<String, Refusal> {
    let data = secret.data.as_ref();
    let held = KEYS.iter().find_map(|key| data?.get(*key).map(|value| (key, value)));
    let (key, value) =
        held.ok_or_else(|| kubeconfig::refused("data", format!("has none of the keys {}", KEYS.join(", "))))?;
    String::from_utf8(value.0.clone())
        .map_err(|_| kubeconfig::refused(&format!("data[{key}]"), "is not text"))
}

/// What two URLs of one server have in common.
fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{host}:{port}{}", url.path().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(name: &str, label: &str, created: u8, server: &str) -> Secret {
        let kubeconfig = json!({
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "s3cret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "gatehouse-clusters", "labels": {LABEL: label},
                "creationTimestamp": format!("2026-11-01T00:00:{created:02}Z"),
            },
        }))
        .unwrap();
        let value = k8s_openapi::ByteString(kubeconfig.to_string().into_bytes());
        secret.data = Some([("value".to_owned(), value)].into());
        secret
    }

    fn refusals(found: &Registrations) -> Vec<(String, String)> {
        let of = |(name, wanted): (&Str, &Wanted)| {
            let refusal = wanted.credential.as_ref().err()?;
            Some((name.to_string(), format!("{}: {}", refusal.reason, refusal.message)))
        };
        found.clusters.iter().filter_map(of).collect()
    }

    #[test]
    fn the_older_of_two_keeps_a_name_and_a_server() {
        let secrets = vec![
            secret("new", "eu", 5, "https://new"),
            secret("old", "eu", 1, "https://old"),
            secret("third", "us", 7, "https://OLD:443/"),
        ];
        let found = read(secrets, "local", None);
        assert_eq!(&*found.clusters["eu"].origin, "Secret gatehouse-clusters/old");
        let ignored = "Secret gatehouse-clusters/new: metadata.labels[gatehouse.dev/cluster]: is taken by \
                       Secret gatehouse-clusters/old";
        assert_eq!(found.clusters["eu"].ignored, [Str::from(ignored)]);
        assert_eq!(refusals(&found), [("us".to_owned(), "SameCluster: server: is that of eu".to_owned())]);
    }

    #[test]
    fn the_hub_is_refused_under_any_name_and_names_that_cannot_be_shown_are_ignored() {
        let hub: Url = "https://10.0.0.1:443".parse().unwrap();
        let secrets = vec![
            secret("loop", "eu", 1, "https://10.0.0.1/"),
            secret("a", "local", 2, "https://a"),
            secret("b", "prod", 3, "https://b"),
            secret("c", "No_Label", 4, "https://c"),
        ];
        let found = read(secrets, "prod", Some(&hub));
        assert_eq!(
            refusals(&found),
            [("eu".to_owned(), "TheHub: server: is this cluster itself".to_owned())]
        );
        assert_eq!((found.clusters.len(), found.ignored.len()), (1, 3));
        assert!(found.ignored[2].contains("metadata.labels[gatehouse.dev/cluster]: must be"), "{found:?}");
    }

    #[test]
    fn a_secret_without_a_kubeconfig_says_which_keys_there_are() {
        let mut empty = secret("a", "eu", 1, "https://a");
        empty.data = None;
        let mut binary = secret("b", "us", 2, "https://b");
        binary.data.as_mut().unwrap().get_mut("value").unwrap().0 = vec![0xff];
        let found = refusals(&read(vec![empty, binary], "local", None));
        assert!(found[0].1.contains("data: has none of the keys value, value.yaml, kubeconfig, Config"));
        assert!(found[1].1.contains("data[value]: is not text"), "{found:?}");
    }
}
