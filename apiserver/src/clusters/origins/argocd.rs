//! Cluster Secrets of Argo CD: `name`, `server`, and a `config` in JSON.

use gatehouse_inventory::Refusal;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use url::Url;

use super::{
    super::kubeconfig::{Credential, known_fields, refused},
    Wanted, allows_actions, created, digest, name, origin,
    secrets::{self, Format},
};

pub(super) const FORMAT: Format =
    Format { described: "cluster Secrets of Argo CD", selector: SELECTOR, suffix: "", read };

const SELECTOR: &str = "argocd.argoproj.io/secret-type=cluster";
/// What Argo CD calls the cluster that it runs in, which is the hub itself.
const IN_CLUSTER: &str = "kubernetes.default.svc";
/// What a refused one is called in a condition.
const REASON: &str = "InvalidClusterSecret";
const CONFIG: &str = "data[config]";
/// The fields that are known, and harmless or used.
const CONFIG_FIELDS: [&str; 3] = ["bearerToken", "tlsClientConfig", "disableCompression"];
const TLS_FIELDS: [&str; 4] = ["serverName", "caData", "certData", "keyData"];

/// What a Secret asks for; nothing, if it is about the hub.
fn read(secret: &Secret) -> Option<Wanted> {
    let own = |key| secrets::text(secret, key).ok().flatten().unwrap_or_default();
    let server = own("server");
    if Url::parse(server).is_ok_and(|url| url.host_str() == Some(IN_CLUSTER)) {
        return None;
    }
    let (name, name_field) = name(&secret.metadata, (own("name"), "data[name]"));
    Some(Wanted {
        origin: origin("Secret", &secret.metadata),
        created: created(&secret.metadata),
        name,
        name_field,
        allows_actions: allows_actions(&secret.metadata),
        digest: digest([server.as_bytes(), secrets::bytes(secret, "config").unwrap_or_default()]),
        credential: credential(secret)
            .map_err(|refusal| Refusal { reason: REASON.into(), message: refusal.message }),
    })
}

fn credential(secret: &Secret) -> Result<Credential, Refusal> {
    let server = secrets::text(secret, "server")?;
    let config = secrets::text(secret, "config")?.ok_or_else(|| refused(CONFIG, "is missing"))?;
    let config: Value = serde_json::from_str(config).map_err(|_| refused(CONFIG, "is not JSON"))?;
    known_fields(CONFIG, &config, &CONFIG_FIELDS)?;
    let tls = Some(&config["tlsClientConfig"]).filter(|tls| !tls.is_null()).cloned().unwrap_or(json!({}));
    known_fields(&format!("{CONFIG}.tlsClientConfig"), &tls, &TLS_FIELDS)?;
    // The same fields by the names that a kubeconfig has for them.
    let cluster = json!({
        "server": server, "certificate-authority-data": tls["caData"], "tls-server-name": tls["serverName"],
    });
    let user = json!({
        "token": config["bearerToken"],
        "client-certificate-data": tls["certData"], "client-key-data": tls["keyData"],
    });
    Credential::of(&cluster, &user, |field| match field {
        "" => CONFIG.to_owned(),
        "server" => "data[server]".to_owned(),
        "token" => format!("{CONFIG}.bearerToken"),
        "tls-server-name" => format!("{CONFIG}.tlsClientConfig.serverName"),
        "certificate-authority-data" => format!("{CONFIG}.tlsClientConfig.caData"),
        "client-certificate-data" => format!("{CONFIG}.tlsClientConfig.certData"),
        _ => format!("{CONFIG}.tlsClientConfig.keyData"),
    })
}
