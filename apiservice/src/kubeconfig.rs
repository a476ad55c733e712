//! Kubeconfig documents for clients with a certificate of their own.

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
    let base64 = |pem: &str| ByteString(pem.as_bytes().to_vec());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "gatehouse",
            "cluster": {"server": access.server, "certificate-authority-data": base64(access.server_ca)},
        }],
        "users": [{
            "name": access.user,
            "user": {
                "client-certificate-data": base64(access.certificate),
                "client-key-data": base64(access.key),
            },
        }],
        "contexts": [{"name": "gatehouse", "context": {"cluster": "gatehouse", "user": access.user}}],
        "current-context": "gatehouse",
    })
}
