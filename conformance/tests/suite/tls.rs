//! Connections that a server or client must refuse: those without TLS or with old versions; certificates that are
//! expired, of other authorities or for other names; renegotiation.

use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use gatehouse_certs::issue::{Authority, KeyPair, Leaf, Usage};
use gatehouse_conformance::cache::Unavailable;
use gatehouse_conformance::control_plane::{ControlPlane, client_identity};
use gatehouse_conformance::gatehouse::{Certificate, Files, Gatehouse, Options, Serves};
use http::StatusCode;
use libtest_mimic::Trial;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::caller::{Answer, Caller};
use crate::gate::Gate;
use crate::site::{API, Endpoint, Site};
use crate::world::{World, settles};

const HOUR: Duration = Duration::from_hours(1);
/// Files are checked every ten seconds; the rest is a margin for a busy machine.
const RELOADED: Duration = Duration::from_secs(40);
/// The interval of checks for a change.
const PAUSE: Duration = Duration::from_millis(100);
/// All certificates are valid for this name.
const LOCALHOST: &str = "localhost";

/// Until the `openssl` command has sent its requests.
const TRIED: Duration = Duration::from_secs(30);
/// Far longer than a handshake takes.
const ANSWERED: Duration = Duration::from_secs(5);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("tls::clients_without_the_ca_refuse_throughout_a_rotation", rotation),
        world.guarded("tls::webhooks_refuse_what_the_api_server_refuses", webhooks),
        world.shared("tls::plain_http_and_old_versions_are_refused", versions),
        world.shared("tls::certificates_out_of_their_time_are_401", out_of_time),
        world.shared("tls::clients_refuse_another_name_and_another_authority", names),
        world.shared("tls::renegotiation_is_refused", renegotiation),
    ]
}

async fn versions(site: Arc<Site>) -> anyhow::Result<()> {
    old_versions_are_refused(&site.direct).await
}

async fn old_versions_are_refused(endpoint: &Endpoint) -> anyhow::Result<()> {
    let answer = exchange(endpoint, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.starts_with("HTTP/1.0 400 Bad Request"), "{answer}");
    ensure!(answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{answer}");

    // The content type of an alert is 21. Whether it is `handshake_failure` or `protocol_version` depends on what
    // rustls checks first.
    let (alert, fatal, handshake_failure, protocol_version) = (21, 2, 40, 70);
    for (name, minor) in [("TLS 1.0", 1), ("TLS 1.1", 2)] {
        let answer = exchange(endpoint, &client_hello(minor)).await?;
        ensure!(
            matches!(answer.as_slice(), [first, _, _, 0, 2, level, reason]
                if [*first, *level] == [alert, fatal] && [handshake_failure, protocol_version].contains(reason)),
            "{name}: {answer:?}"
        );
    }
    Ok(())
}

/// The ClientHello of a version, with a cipher suite that all versions support.
fn client_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    // No session; TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA; no compression.
    hello.extend([0, 0, 2, 0xc0, 0x09, 1, 0]);
    let length = u8::try_from(hello.len()).expect("short");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

/// Sends bytes, and returns the whole response.
async fn exchange(endpoint: &Endpoint, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address(endpoint)?).await?;
    socket.write_all(bytes).await?;
    let mut answer = Vec::new();
    // Unread bytes turn the close into a reset, which ends the response too.
    let _ = socket.read_to_end(&mut answer).await;
    Ok(answer)
}

fn address(endpoint: &Endpoint) -> anyhow::Result<&str> {
    endpoint.url.strip_prefix("https://").context("an HTTPS URL")
}

async fn out_of_time(site: Arc<Site>) -> anyhow::Result<()> {
    let (users, proxies) = (site.control_plane.client_ca(), &site.control_plane.front_proxy().authority);
    let headers = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let ask = async |identity: &KeyPair, headers: &[(&str, &str)]| {
        Caller::with_certificate(&site.direct, identity).await?.get_with(API, headers).await
    };
    for (when, lives_from) in times() {
        let masters = identity(users, "root", Some("system:masters"), lives_from)?;
        unauthorized(&ask(&masters, &[]).await?).with_context(|| format!("a user, {when}"))?;
        let proxy = identity(proxies, "front-proxy-client", None, lives_from)?;
        unauthorized(&ask(&proxy, &headers).await?).with_context(|| format!("a front proxy, {when}"))?;
    }
    // The same with valid times succeeds, so only the time was wrong.
    let now = SystemTime::now();
    ask(&identity(users, "root", Some("system:masters"), now)?, &[]).await?.ok()?;
    ask(&identity(proxies, "front-proxy-client", None, now)?, &headers).await?.ok()?;
    Ok(())
}

/// Starts of lifetimes of an hour that do not include now.
fn times() -> [(&'static str, SystemTime); 2] {
    let now = SystemTime::now();
    [("over", now - 2 * HOUR), ("not begun", now + HOUR)]
}

/// A client certificate that is valid for an hour.
fn identity(
    authority: &Authority,
    user: &str,
    group: Option<&str>,
    from: SystemTime,
) -> anyhow::Result<KeyPair> {
    let leaf = Leaf {
        common_name: user.to_owned(),
        organization: group.map(str::to_owned),
        dns_names: Vec::new(),
        ips: Vec::new(),
        usage: Usage::ClientAuth,
        lifetime: HOUR,
    };
    Ok(authority.issue_at(from, &leaf)?)
}

fn unauthorized(answer: &Answer) -> anyhow::Result<()> {
    answer.refused(401, "Unauthorized").map(drop)
}

async fn names(site: Arc<Site>) -> anyhow::Result<()> {
    another_name_and_authority_are_refused(&site.direct).await
}

async fn another_name_and_authority_are_refused(endpoint: &Endpoint) -> anyhow::Result<()> {
    handshake(endpoint, &endpoint.ca, LOCALHOST).await.context("by its own name")?;
    for name in ["kubernetes.default.svc", "gatehouse.elsewhere.svc", "127.0.0.2"] {
        match handshake(endpoint, &endpoint.ca, name).await {
            Err(Refusal::Certificate(error)) if is_about_name(&error) => {}
            other => bail!("asked for as {name}: {other:?}"),
        }
    }
    let stranger = Authority::new("gatehouse-serving-ca")?;
    let refused = handshake(endpoint, stranger.certificate_pem(), LOCALHOST).await;
    ensure!(matches!(refused, Err(Refusal::Certificate(_))), "an authority of the same name: {refused:?}");
    Ok(())
}

fn is_about_name(error: &CertificateError) -> bool {
    matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the client does not accept the certificate: {0}")]
    Certificate(CertificateError),
    #[error("{0}")]
    Other(String),
}

/// Connects as a client that trusts `ca` and expects `name`.
async fn handshake(endpoint: &Endpoint, ca: &str, name: &str) -> Result<(), Refusal> {
    let other = |what: &str, error: &dyn std::fmt::Display| Refusal::Other(format!("{what}: {error}"));
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|error| other("PEM", &error))?;
    roots.add(root).map_err(|error| other("the authority", &error))?;
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| other("versions", &error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|error| other("the name", &error))?;
    let address = address(endpoint).map_err(|error| other("the address", &error))?;
    let socket = TcpStream::connect(address).await.map_err(|error| other("connecting", &error))?;
    match TlsConnector::from(Arc::new(tls)).connect(name, socket).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            match error.get_ref().and_then(|error| error.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(refused)) => {
                    Err(Refusal::Certificate(refused.clone()))
                }
                _ => Err(other("the handshake", &error)),
            }
        }
        Err(error) => Err(other("the handshake", &error)),
    }
}

/// The files are replaced one after the other, as by an administrator. A client with the new CA succeeds as soon as the
/// new certificate is loaded, and one with the old CA until then. One with neither never does. Then follows an expired
/// certificate: no client succeeds, and the replica is not ready.
async fn rotation(site: Arc<Site>) -> anyhow::Result<()> {
    let control_plane = &site.control_plane;
    let name = "tls-rotation";
    let issue = || Files::issue(control_plane, Serves::Views, name);
    let first = issue()?;
    let options = Options {
        name: Some(name.to_owned()),
        certificate: Certificate::Shared(first.clone()),
        ..site.options.clone()
    };
    let gatehouse = Gatehouse::start(control_plane, &options).await?;
    let endpoint = Endpoint::of(&gatehouse);
    let stranger = Authority::new("gatehouse-serving-ca")?;
    let masters = client_identity(control_plane.client_ca(), "root", Some("system:masters"))?;
    let connected = Caller::with_certificate(&endpoint, &masters).await?;
    connected.get("/readyz/serving-certificate").await?;
    ensure!(ttl(&connected, "serving").await? > 0.0);
    ensure!(ttl(&connected, "client-ca").await? > 0.0 && ttl(&connected, "requestheader-ca").await? > 0.0);

    let second = issue()?;
    let deadline = SystemTime::now() + RELOADED;
    let mut tried = 0;
    loop {
        refused(handshake(&endpoint, stranger.certificate_pem(), LOCALHOST).await)?;
        let old = handshake(&endpoint, first.ca(), LOCALHOST).await;
        let new = handshake(&endpoint, second.ca(), LOCALHOST).await;
        ensure!(old.is_ok() || new.is_ok(), "nobody is served: {old:?}, {new:?}");
        tried += 1;
        if new.is_ok() && old.is_err() {
            refused(old)?;
            break;
        }
        ensure!(SystemTime::now() < deadline, "the new certificate is not taken up");
        tokio::time::sleep(PAUSE).await;
    }
    ensure!(tried > 1, "the old certificate was not in use any more");
    ensure!(connected.get("/livez").await?.code == StatusCode::OK, "open connections live on");

    let over = write_expired(control_plane, name)?;
    let ask = || connected.get("/readyz/serving-certificate");
    let code = |answer: &Answer| answer.code == StatusCode::INTERNAL_SERVER_ERROR;
    settles("a replica with a certificate that is over is not ready", RELOADED, ask, code).await?;
    ensure!(connected.get("/livez").await?.code == StatusCode::OK, "a restart brings no certificate");
    ensure!(ttl(&connected, "serving").await? < 0.0);
    let refusal = handshake(&endpoint, &over, LOCALHOST).await;
    ensure!(
        matches!(
            refusal,
            Err(Refusal::Certificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }))
        ),
        "{refusal:?}"
    );
    issue()?;
    settles("a good certificate makes it ready", RELOADED, ask, |answer| answer.code == StatusCode::OK)
        .await?;
    Ok(())
}

fn refused(handshake: Result<(), Refusal>) -> anyhow::Result<()> {
    match handshake {
        Err(Refusal::Certificate(_)) => Ok(()),
        other => bail!("not refused for its authority: {other:?}"),
    }
}

/// Writes an expired certificate to the same files. Returns its CA as PEM.
fn write_expired(control_plane: &ControlPlane, name: &str) -> anyhow::Result<String> {
    let authority = Authority::new("gatehouse-serving-ca")?;
    let leaf = Leaf {
        common_name: LOCALHOST.to_owned(),
        organization: None,
        dns_names: vec![LOCALHOST.to_owned()],
        ips: Vec::new(),
        usage: Usage::ServerAuth,
        lifetime: HOUR,
    };
    let pair = authority.issue_at(SystemTime::now() - 2 * HOUR, &leaf)?;
    let file = |extension| control_plane.folder().join(format!("{name}.{extension}"));
    // The files exist, and keep their owner and mode.
    std::fs::write(file("crt"), &pair.certificate_pem)?;
    std::fs::write(file("key"), &pair.key_pem)?;
    Ok(authority.certificate_pem().to_owned())
}

/// The value of the metric for a certificate.
async fn ttl(caller: &Caller, certificate: &str) -> anyhow::Result<f64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = caller.client.request_text(request).await?;
    let name = format!("gatehouse_certificate_ttl_seconds{{certificate=\"{certificate}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name)).context("told")?;
    Ok(value.parse()?)
}

/// A TLS 1.2 client asks for renegotiation, which is refused. (rustls sends the alert with its next response on the
/// connection.) rustls' client cannot renegotiate, so this needs the `openssl` command.
async fn renegotiation(site: Arc<Site>) -> anyhow::Result<()> {
    let program = "openssl";
    let mut client = Command::new(program);
    client.args(["s_client", "-msg", "-tls1_2", "-connect", address(&site.direct)?]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut client =
        client.spawn().map_err(|source| Unavailable::NoProgram { program: program.to_owned(), source })?;
    // The command for renegotiation. The input stays open, since `openssl` ends with it.
    let mut input = client.stdin.take().context("piped")?;
    input.write_all(b"R\n").await?;
    let mut lines = BufReader::new(client.stdout.take().context("piped")?).lines();
    let (mut asked, mut answered) = (0, 0);
    loop {
        let patience = if asked < 2 { TRIED } else { ANSWERED };
        let Ok(line) = tokio::time::timeout(patience, lines.next_line()).await else { break };
        // The end of the connection counts as a refusal too.
        let Some(line) = line? else { break };
        asked += usize::from(line.starts_with(">>>") && line.ends_with("ClientHello"));
        answered += usize::from(line.starts_with("<<<") && line.ends_with("ServerHello"));
    }
    ensure!((asked, answered) == (2, 1), "asked {asked} times and answered {answered} times");
    Ok(())
}

/// A replica that requires a client certificate from kube-apiserver, and knows its CA.
async fn webhooks(gate: Arc<Gate>) -> anyhow::Result<()> {
    let (site, control_plane) = (&gate.site, &gate.site.control_plane);
    let ca = control_plane.folder().join("client-ca.crt").display().to_string();
    let options = Options {
        serves: Serves::Webhooks,
        name: Some("tls-webhooks".to_owned()),
        flags: vec!["--client-ca-file".to_owned(), ca],
        ..site.options.clone()
    };
    let gatehouse = Gatehouse::start(control_plane, &options).await?;
    let endpoint = Endpoint::of(&gatehouse);
    old_versions_are_refused(&endpoint).await?;
    another_name_and_authority_are_refused(&endpoint).await?;

    let (users, proxies) = (control_plane.client_ca(), &control_plane.front_proxy().authority);
    let impostor = Authority::new("cluster-ca")?;
    let mut callers = vec![
        ("nothing", Caller::anonymous(&endpoint).await?),
        (
            "a certificate of another CA",
            with(&endpoint, client_identity(&impostor, "kube-apiserver", None)?).await?,
        ),
        ("a front proxy's", with(&endpoint, client_identity(proxies, "front-proxy-client", None)?).await?),
    ];
    for (when, from) in times() {
        callers.push((when, with(&endpoint, identity(users, "kube-apiserver", None, from)?).await?));
    }
    let review = json!({});
    for (what, caller) in &callers {
        for path in ["/validate", "/mutate", "/quota"] {
            unauthorized(&caller.post(path, &review).await?)
                .with_context(|| format!("{path} with {what}"))?;
        }
    }
    let known = with(&endpoint, client_identity(users, "kube-apiserver", None)?).await?;
    let answer = known.post("/validate", &review).await?;
    ensure!(answer.code == StatusCode::BAD_REQUEST, "known, and has sent no review: {answer:?}");

    let spoofed = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let wrong_name = with(&endpoint, client_identity(proxies, "front-proxy-impostor", None)?).await?;
    unauthorized(&wrong_name.get_with("/metrics", &spoofed).await?)?;
    unauthorized(&known.get_with("/metrics", &spoofed).await?)
}

async fn with(endpoint: &Endpoint, identity: KeyPair) -> anyhow::Result<Caller> {
    Caller::with_certificate(endpoint, &identity).await
}
