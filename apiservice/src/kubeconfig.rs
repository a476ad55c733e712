//! Kubeconfig documents for clients with a credential of their own.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

/// Who a kubeconfig is for, and where it leads. Certificates and keys are PEM.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The server's URL.
    pub server: &'a str,
    /// The CA of the server's certificate.
    pub server_ca: &'a str,
    /// The user's name within the file.
    pub user: &'a str,
    /// The user's certificate.
    pub certificate: &'a str,
    /// The key of the user's certificate.
    pub key: &'a str,
}

/// A self-contained kubeconfig of one cluster and one user. JSON, which is YAML as well.
pub fn document(access: Access<'_>) -> Value {
    let cluster = json!({"server": access.server, "certificate-authority-data": base64(access.server_ca)});
    let user = json!({
        "client-certificate-data": base64(access.certificate),
        "client-key-data": base64(access.key),
    });
    of("gatehouse", &cluster, access.user, &user)
}

/// A server and a token for it. The CA is PEM.
#[derive(Debug, Clone, Copy)]
pub struct TokenAccess<'a> {
    /// The server's URL.
    pub server: &'a str,
    /// The CA of the server's certificate; none, if it is one that clients trust anyway.
    pub server_ca: Option<&'a str>,
    /// The name in the server's certificate, if it is not that of the URL.
    pub server_name: Option<&'a str>,
    /// The cluster's name within the file.
    pub cluster: &'a str,
    /// The user's name within the file.
    pub user: &'a str,
    /// The bearer token.
    pub token: &'a str,
}

/// The same for a token.
pub fn document_with_token(access: TokenAccess<'_>) -> Value {
    let mut cluster = json!({"server": access.server});
    if let Some(ca) = access.server_ca {
        cluster["certificate-authority-data"] = json!(base64(ca));
    }
    if let Some(name) = access.server_name {
        cluster["tls-server-name"] = name.into();
    }
    of(access.cluster, &cluster, access.user, &json!({"token": access.token}))
}

fn base64(pem: &str) -> ByteString {
    ByteString(pem.as_bytes().to_vec())
}

fn of(name: &str, cluster: &Value, user_name: &str, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user_name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user_name}}],
        "current-context": name,
    })
}
