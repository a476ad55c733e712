//! The remote cluster: the account as which the hub reads it, and a credential of that account.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gatehouse_apiserver::clusters::identity;
use gatehouse_apiservice::{
    kubeconfig::{TokenAccess, document_with_token},
    registration::clusters::{self, SPOKE},
};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Secret, ServiceAccount},
    },
};
use kube::{
    Client, Config,
    api::{Api, PostParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    HubArgs,
    objects::{Writer, refused},
    sharing::Hubs,
};
use crate::{flags, manifests};

/// The Secret for which the cluster makes a token that does not expire.
const TOKEN: &str = "gatehouse-hub-token";
/// How long a cluster may take to fill it.
const FILLED: Duration = Duration::from_secs(30);
/// What stands in place of a token that was not made. No token has blanks, so that a hub refuses it.
const NO_TOKEN: &str = "not made in a dry run";

/// The cluster that is registered.
pub(super) struct Spoke {
    pub(super) client: Client,
    config: Config,
    context: String,
}

/// What the hub shall connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) server: Option<String>,
    /// PEM.
    pub(super) ca: Option<String>,
}

impl Spoke {
    /// Connects by a context of the kubeconfig.
    pub(super) async fn connect(hub: &HubArgs, context: &str) -> anyhow::Result<Self> {
        let config = flags::kubeconfig(hub.kubeconfig(), Some(context.to_owned())).await;
        let config = config.with_context(|| format!("--context {context}"))?;
        let client = Client::try_from(config.clone()).with_context(|| format!("--context {context}"))?;
        Ok(Self { client, config, context: context.to_owned() })
    }

    /// What the hub shall connect to: what was given, or what the kubeconfig says. An error if the hub would refuse it.
    pub(super) fn reached_at(&self, given: Address) -> anyhow::Result<Address> {
        reached_at(&self.config, given)
    }

    /// The uid of the cluster; none, if it does not tell.
    pub(super) async fn uid(&self) -> anyhow::Result<Option<String>> {
        refused(identity(&self.client).await).with_context(|| format!("--context {}", self.context))
    }

    /// The account and its rights. The Secret of a token that does not expire comes with it.
    pub(super) fn objects(with_secret: bool, hubs: &Hubs, is_sent: bool) -> Vec<Value> {
        let mut objects = manifests::spoke_rights();
        for account in objects.iter_mut().filter(|object| object["kind"] == "ServiceAccount") {
            hubs.write_into(account, is_sent);
        }
        if with_secret {
            objects.push(json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                "metadata": {
                    "name": TOKEN, "namespace": SPOKE,
                    "annotations": {"kubernetes.io/service-account.name": SPOKE},
                },
            }));
        }
        objects
    }

    /// Records which hubs use the account.
    pub(super) async fn record(&self, writer: &Writer, hubs: &Hubs) -> anyhow::Result<()> {
        for object in Self::objects(false, hubs, true).iter().filter(|one| one["kind"] == "ServiceAccount") {
            writer.apply(object).await?;
        }
        Ok(())
    }

    /// Deletes the account and its rights, those to act included. The namespace has everything else.
    pub(super) async fn forget(&self, writer: &Writer) -> anyhow::Result<()> {
        // Without rights first, and the namespace last: it says that there is something left to do.
        let objects = [manifests::spoke_rights(), clusters::spoke_actions(&["any"], &[])].concat();
        for object in objects.iter().rev().filter(|object| object["metadata"].get("namespace").is_none()) {
            writer.delete(object, None).await?;
        }
        Ok(())
    }

    /// A kubeconfig with a token of the account: one that expires after `duration`, or that of the Secret.
    pub(super) async fn kubeconfig(
        &self,
        name: &str,
        address: &Address,
        duration: Option<Duration>,
        is_dry: bool,
    ) -> anyhow::Result<Value> {
        let token = match duration {
            _ if is_dry => NO_TOKEN.to_owned(),
            Some(duration) => self.requested(duration).await?,
            None => self.filled().await?,
        };
        Ok(document_with_token(TokenAccess {
            server: address.server.as_deref().unwrap_or_default(),
            server_ca: address.ca.as_deref(),
            server_name: self.config.tls_server_name.as_deref(),
            cluster: name,
            user: SPOKE,
            token: &token,
        }))
    }

    async fn requested(&self, duration: Duration) -> anyhow::Result<String> {
        let seconds = i64::try_from(duration.as_secs()).context("--duration is too long")?;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), SPOKE);
        let answer = accounts.create_token_request(SPOKE, &PostParams::default(), &request).await;
        let status = refused(answer).context("--duration")?.status.unwrap_or_default();
        if let Some(ends) = status.expiration_timestamp {
            let lasts = ends.0.as_second() - Timestamp::now().as_second();
            let shorter = if lasts + 60 < seconds { ", which is as long as the cluster allows" } else { "" };
            eprintln!("The token expires at {}{shorter}. Run this again before.", ends.0);
        }
        status.token.context("the cluster made no token")
    }

    /// The token of the Secret, once the cluster has made it.
    async fn filled(&self) -> anyhow::Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SPOKE);
        let deadline = Instant::now() + FILLED;
        loop {
            let secret = refused(secrets.get_opt(TOKEN).await)?;
            let token = secret.and_then(|secret| secret.data?.remove("token")).map(|token| token.0);
            if let Some(token) = token.filter(|token| !token.is_empty()) {
                return String::from_utf8(token).context("the token is not text");
            }
            if Instant::now() >= deadline {
                bail!(
                    "the cluster put no token into Secret {SPOKE}/{TOKEN} for {} s, as its controller-manager does: \
                     try --duration",
                    FILLED.as_secs()
                );
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn reached_at(config: &Config, given: Address) -> anyhow::Result<Address> {
    ensure!(
        !config.accept_invalid_certs || given.ca.is_some(),
        "the kubeconfig trusts any server (insecure-skip-tls-verify), which a hub does not: name the CA by \
         --certificate-authority"
    );
    let server = given.server.unwrap_or_else(|| config.cluster_url.to_string());
    let server = server.trim_end_matches('/').to_owned();
    ensure!(server.starts_with("https://"), "{server}: must begin with https://: see --server");
    let own = || {
        let certificates = config.root_cert.as_ref()?;
        Some(certificates.iter().map(|certificate| pem(certificate)).collect())
    };
    Ok(Address { server: Some(server), ca: given.ca.or_else(own) })
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> String {
    let base64 = json!(ByteString(der.to_vec()));
    let base64 = base64.as_str().unwrap_or_default();
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, character) in base64.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text + "\n-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("https://127.0.0.1:6443/".parse().unwrap())
    }

    #[test]
    fn a_hub_connects_to_what_the_kubeconfig_or_a_flag_says() {
        let address = |server: &str, ca: Option<&str>| Address {
            server: Some(server.to_owned()),
            ca: ca.map(str::to_owned),
        };
        let own = reached_at(&config(), Address::default()).unwrap();
        assert_eq!(own, address("https://127.0.0.1:6443", None));
        let mut with_ca = config();
        with_ca.root_cert = Some(vec![vec![1; 50]]);
        let ca = reached_at(&with_ca, Address::default()).unwrap().ca.unwrap();
        let lines: Vec<_> = ca.lines().map(str::len).collect();
        assert_eq!(lines[1..3], [64, 4], "{ca}");
        let given = address("https://eu.example/k8s/", Some("CA"));
        assert_eq!(reached_at(&with_ca, given).unwrap(), address("https://eu.example/k8s", Some("CA")));
    }

    #[test]
    fn what_a_hub_would_refuse_is_refused_here_with_what_to_do() {
        let mut trusting = config();
        trusting.accept_invalid_certs = true;
        let error = reached_at(&trusting, Address::default()).unwrap_err().to_string();
        assert!(error.contains("--certificate-authority"), "{error}");
        let plain = Config::new("http://127.0.0.1:8080/".parse().unwrap());
        let error = reached_at(&plain, Address::default()).unwrap_err().to_string();
        assert!(error.contains("--server"), "{error}");
        assert!(NO_TOKEN.contains(' '), "else it would be sent as a token");
    }
}
