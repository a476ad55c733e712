//! The client of a remote cluster, whose token can be replaced while requests are under way.
//!
//! **Invariant:** of a credential nothing is kept but what is in use.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use gatehouse_apiservice::client::explain;
use gatehouse_inventory::Refusal;
use gatehouse_serving::upstream;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use kube::{
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::util::MapRequestLayer;

use super::kubeconfig::{Credential, refused};

/// How long a connection that broke in silence may look as if nothing happened: less than the thirty seconds after which
/// rows say that they are not fresh.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a cluster is reached.
pub(super) struct Connection {
    /// Sends the token as it is when a request begins.
    pub(super) client: kube::Client,
    /// Of everything apart from the token: the server, its CA, the client certificate.
    rest: [u8; 32],
    /// The value of the header, if there is a token.
    token: Option<Arc<ArcSwap<HeaderValue>>>,
}

impl Connection {
    /// A connection with this credential.
    pub(super) async fn with(credential: &Credential) -> Result<Self, Refusal> {
        let failed = |error: &(dyn std::error::Error + 'static)| refused("kubeconfig", explain(error));
        let (document, token) = split(credential)?;
        let rest = Sha256::digest(document.to_string()).into();
        let kubeconfig: Kubeconfig =
            serde_json::from_value(document).map_err(|_| refused("kubeconfig", "cannot be used"))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| failed(&error))?;
        // A proxy of this process's environment is not the cluster's.
        config.proxy_url = None;
        // Retries are the source's own.
        config.default_retry = false;
        let builder = upstream::builder(config, PATIENCE).map_err(|error| failed(&error))?;
        let token = token.map(|token| Arc::new(ArcSwap::from_pointee(token)));
        let client = match token.clone() {
            Some(token) => {
                let with_token = MapRequestLayer::new(move |mut request: Request<Body>| {
                    request.headers_mut().insert(AUTHORIZATION, HeaderValue::clone(&token.load()));
                    request
                });
                builder.with_layer(&with_token).build()
            }
            None => builder.build(),
        };
        Ok(Self { client, rest, token })
    }

    /// Uses the token of `credential` from the next request on. Returns whether that is all that differs; otherwise
    /// nothing has changed.
    pub(super) fn renew(&self, credential: &Credential) -> bool {
        let Ok((document, new)) = split(credential) else { return false };
        let rest: [u8; 32] = Sha256::digest(document.to_string()).into();
        match (&self.token, new) {
            (Some(token), Some(new)) if rest == self.rest => {
                token.store(Arc::new(new));
                true
            }
            _ => false,
        }
    }
}

/// The kubeconfig without its token, and the header that has the token.
fn split(credential: &Credential) -> Result<(Value, Option<HeaderValue>), Refusal> {
    let mut document = credential.document.clone();
    let user = document.pointer_mut("/users/0/user").and_then(Value::as_object_mut);
    let Some(Value::String(token)) = user.and_then(|user| user.remove("token")) else {
        return Ok((document, None));
    };
    let header = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut header =
        header.map_err(|_| refused("users[0].user.token", "has characters that no token has"))?;
    header.set_sensitive(true);
    Ok((document, Some(header)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;

    fn credential(server: &str, token: &str) -> Credential {
        let document = json!({
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        Credential { server: server.parse().unwrap(), expires: None, document }
    }

    /// Answers every request with the token that it had.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (reader, mut writer) = connection.split();
                    let mut lines = BufReader::new(reader).lines();
                    let mut token = String::new();
                    while let Ok(Some(line)) = lines.next_line().await {
                        if let Some(value) = line.strip_prefix("authorization: ") {
                            value.clone_into(&mut token);
                        }
                        if line.is_empty() {
                            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", token.len());
                            writer.write_all((head + &token).as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        address
    }

    async fn sent_by(connection: &Connection) -> String {
        let request = Request::get("/version").body(Vec::new()).unwrap();
        connection.client.request_text(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_next_request_has_the_new_token_and_the_old_one_is_gone() {
        let server = echo().await;
        let connection = Connection::with(&credential(&server, "first")).await.unwrap();
        assert_eq!(sent_by(&connection).await, "Bearer first");
        assert!(connection.renew(&credential(&server, "second")));
        assert_eq!(sent_by(&connection).await, "Bearer second");
        assert!(!connection.renew(&credential("https://elsewhere", "third")), "another server");
        let mut certificate = credential(&server, "");
        certificate.document["users"][0]["user"] = json!({"client-certificate-data": "YQ=="});
        assert!(!connection.renew(&certificate), "no token");
        assert_eq!(sent_by(&connection).await, "Bearer second");
    }
}
