//! Authorities and certificates for the tests of this crate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_certs::issue::{Authority, KeyPair, Leaf, Usage};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{AuthenticationConfig, CaBundle, Peer, RequestHeaderConfig};

pub(crate) const PROXY_NAME: &str = "front-proxy-client";
pub(crate) const LIFETIME: Duration = Duration::from_hours(1);

/// The authorities of front proxies and of users, and one that is not trusted.
pub(crate) struct Authorities {
    pub(crate) proxy: Authority,
    pub(crate) client: Authority,
    pub(crate) stranger: Authority,
}

impl Authorities {
    pub(crate) fn new() -> Self {
        let make = |name| Authority::new(name).expect("authority");
        Self { proxy: make("proxy-ca"), client: make("client-ca"), stranger: make("stranger-ca") }
    }

    pub(crate) fn config(&self) -> Arc<AuthenticationConfig> {
        Arc::new(AuthenticationConfig {
            request_header: Some(RequestHeaderConfig {
                uid_headers: vec![http::HeaderName::from_static("x-remote-uid")],
                ..RequestHeaderConfig::with_default_headers(bundle(&self.proxy), vec![PROXY_NAME.to_owned()])
            }),
            client_ca: Some(bundle(&self.client)),
        })
    }
}

pub(crate) fn bundle(authority: &Authority) -> CaBundle {
    CaBundle::from_pem("test", authority.certificate_pem().as_bytes()).expect("PEM")
}

pub(crate) fn issue(
    authority: &Authority,
    common_name: &str,
    organization: Option<&str>,
    usage: Usage,
) -> KeyPair {
    let leaf = Leaf {
        common_name: common_name.to_owned(),
        organization: organization.map(str::to_owned),
        dns_names: vec!["localhost".to_owned()],
        ips: vec![[127, 0, 0, 1].into()],
        usage,
        lifetime: LIFETIME,
    };
    authority.issue(&leaf).expect("leaf")
}

pub(crate) fn chain(pair: &KeyPair) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pair.certificate_pem.as_bytes()).map(|der| der.expect("PEM")).collect()
}

/// A peer with a client certificate of this common name.
pub(crate) fn peer(authority: &Authority, common_name: &str, organization: Option<&str>) -> Peer {
    Peer::new(address(), chain(&issue(authority, common_name, organization, Usage::ClientAuth)))
}

pub(crate) fn peer_without_certificate() -> Peer {
    Peer::new(address(), Vec::new())
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 40_000).into()
}
