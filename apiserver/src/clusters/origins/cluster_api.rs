//! Secrets that Cluster API makes for each of its clusters: `<cluster>-kubeconfig`, with the key `value`.

use k8s_openapi::api::core::v1::Secret;

use super::{
    super::kubeconfig::{Credential, refused},
    Wanted, allows_actions, created, digest, name, origin,
    secrets::{self, Format},
};

pub(super) const FORMAT: Format =
    Format { described: "Secrets of Cluster API", selector: CLUSTER, suffix: SUFFIX, read };

/// The label with the name of the Cluster. Its CAs, and what else belongs to it, have it as well.
const CLUSTER: &str = "cluster.x-k8s.io/cluster-name";
const SUFFIX: &str = "-kubeconfig";
const TYPE: &str = "cluster.x-k8s.io/secret";
const KEY: &str = "value";

/// What a Secret asks for; nothing, if it is not the one that Cluster API itself uses.
fn read(secret: &Secret) -> Option<Wanted> {
    let cluster = secret.metadata.labels.as_ref()?.get(CLUSTER)?;
    let is_own = secret.metadata.name.as_deref()?.strip_suffix(SUFFIX) == Some(cluster);
    if !is_own || secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let text = secrets::text(secret, KEY)
        .and_then(|text| text.ok_or_else(|| refused("data", format!("lacks the key {KEY}"))));
    let (name, name_field) = name(&secret.metadata, (cluster, &format!("metadata.labels[{CLUSTER}]")));
    Some(Wanted {
        origin: origin("Secret", &secret.metadata),
        created: created(&secret.metadata),
        name,
        name_field,
        allows_actions: allows_actions(&secret.metadata),
        digest: digest([text.as_ref().map_or("", |text| *text).as_bytes()]),
        credential: text.and_then(|text| Credential::parse(text, None)),
    })
}
