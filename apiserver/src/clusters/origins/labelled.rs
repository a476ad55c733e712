//! Secrets that people make: the label names the cluster, a key holds a kubeconfig.

use gatehouse_inventory::Refusal;
use k8s_openapi::api::core::v1::Secret;

use super::{
    super::{
        LABEL,
        kubeconfig::{Credential, refused},
    },
    Wanted, created, digest, name, origin,
    secrets::{self, Format},
};

pub(super) const FORMAT: Format = Format { described: "labelled Secrets", selector: LABEL, suffix: "", read };

/// The keys that may hold a kubeconfig, in the order in which they are tried: those of Flux and Cluster API, of other
/// tools, and of `kubectl create secret --from-file`.
const KEYS: [&str; 4] = ["value", "value.yaml", "kubeconfig", "Config"];

/// What a Secret asks for.
#[expect(clippy::unnecessary_wraps, reason = "other formats have Secrets that ask for nothing")]
fn read(secret: &Secret) -> Option<Wanted> {
    let text = text(secret);
    let (name, name_field) = name(&secret.metadata, ("", ""));
    Some(Wanted {
        origin: origin("Secret", &secret.metadata),
        created: created(&secret.metadata),
        name,
        name_field,
        // The Secret was made for Gatehouse: the cluster's RBAC decides.
        allows_actions: true,
        digest: digest([text.as_ref().map_or("", |text| *text).as_bytes()]),
        credential: text.and_then(|text| Credential::parse(text, None)),
    })
}

/// The kubeconfig of a Secret.
fn text(secret: &Secret) -> Result<&str, Refusal> {
    for key in KEYS {
        if let Some(text) = secrets::text(secret, key)? {
            return Ok(text);
        }
    }
    Err(refused("data", format!("has none of the keys {}", KEYS.join(", "))))
}
