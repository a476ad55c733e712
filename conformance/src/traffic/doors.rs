//! Connections to Gatehouse that bypass kube-apiserver. Each request opens a new one.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gatehouse_certs::issue::{Authority, KeyPair};
use k8s_openapi::ByteString;
use rustls::CertificateError;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::score::Score;
use super::{Pace, TIMEOUT, send, tls};
use crate::control_plane::{ControlPlane, client_identity};

const TRUSTING: &str = "direct connections";
const STRANGER: &str = "clients without the CA";

/// How replicas can be reached directly, and where their CAs are published.
#[derive(Debug, Clone)]
pub struct Door {
    /// The port of the load balancer in front of the replicas.
    pub port: u16,
    /// The name that the serving certificate must have.
    pub name: String,
    /// The path to request.
    pub path: String,
    /// All places where the CAs are published: path of the object, and JSON pointer to the bundle.
    pub published: Vec<(String, String)>,
    /// How long a client uses a bundle that it has read.
    pub believed: Duration,
}

/// A client certificate of an administrator.
#[derive(Clone)]
pub(super) struct Identity(KeyPair);

impl Identity {
    pub(super) fn new(control_plane: &ControlPlane) -> anyhow::Result<Self> {
        Ok(Self(client_identity(control_plane.client_ca(), "traffic", Some("system:masters"))?))
    }

    fn connector(&self, roots: &[u8]) -> anyhow::Result<TlsConnector> {
        tls::connector(roots, &self.0.certificate_pem, &self.0.key_pem)
    }
}

/// A client of a door.
#[derive(Clone)]
pub(super) struct Visitor {
    door: Door,
    /// Reads the published bundles.
    admin: kube::Client,
    identity: Identity,
    /// Trusts only an unrelated CA.
    stranger: TlsConnector,
    score: Score,
}

impl Visitor {
    pub(super) fn new(
        door: Door,
        admin: kube::Client,
        identity: Identity,
        score: Score,
    ) -> anyhow::Result<Self> {
        let stranger = identity.connector(Authority::new("somebody else")?.certificate_pem().as_bytes())?;
        Ok(Self { door, admin, identity, stranger, score })
    }

    pub(super) fn pair(self) -> (Self, Self) {
        (self.clone(), self)
    }

    /// Trusts the published CAs, and must be served.
    pub(super) async fn visit(self, mut pace: Pace) {
        let published = self.door.published.clone();
        let mut published = published.iter().cycle();
        let mut known: Option<(tokio::time::Instant, TlsConnector)> = None;
        while pace.next().await {
            if known.as_ref().is_some_and(|(since, _)| since.elapsed() >= self.door.believed) {
                known = None;
            }
            let visit = async {
                if known.is_none()
                    && let Some(place) = published.next()
                {
                    known = Some((tokio::time::Instant::now(), self.read(place).await?));
                }
                let (_, connector) = known.as_ref().context("no CA is published anywhere")?;
                match self.get(connector).await? {
                    tls::Answer::Http(line) => ensure!(line == "HTTP/1.1 200 OK", "{line}"),
                    tls::Answer::NotTrusted(reason) => bail!("not trusted: {reason}"),
                }
                Ok(())
            };
            let outcome = visit.await.map_err(|error: anyhow::Error| format!("{error:#}"));
            self.score.note(TRUSTING, &self.door.name, outcome);
        }
    }

    /// Trusts an unrelated CA, and must refuse the server.
    pub(super) async fn stay_away(self, mut pace: Pace) {
        while pace.next().await {
            let outcome = match self.get(&self.stranger).await {
                Ok(tls::Answer::NotTrusted(CertificateError::UnknownIssuer)) => Ok(()),
                Ok(other) => Err(format!("should not be trusted: {other:?}")),
                Err(error) => Err(format!("{error:#}")),
            };
            self.score.note(STRANGER, &self.door.name, outcome);
        }
    }

    async fn read(&self, (path, pointer): &(String, String)) -> anyhow::Result<TlsConnector> {
        let object = send(&self.admin, "GET", path, None).await.with_context(|| path.clone())?;
        let bundle = object.pointer(pointer).cloned().unwrap_or(Value::Null);
        let ByteString(bundle) =
            serde_json::from_value(bundle).with_context(|| format!("{path}: no caBundle at {pointer}"))?;
        self.identity.connector(&bundle).with_context(|| path.clone())
    }

    async fn get(&self, connector: &TlsConnector) -> anyhow::Result<tls::Answer> {
        let Door { port, name, path, .. } = &self.door;
        tokio::time::timeout(TIMEOUT, tls::get(connector, *port, name, path)).await.context("no answer")?
    }
}
