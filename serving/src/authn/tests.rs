//! Which credentials count, and which are rejected.

use std::time::Duration;

use gatehouse_certs::issue::Usage;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;

use super::testing::*;
use super::*;
use crate::health::Health;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (HeaderName::try_from(*name).expect("name"), HeaderValue::try_from(*value).expect("value"))
        })
        .collect()
}

fn authenticator(config: Arc<AuthenticationConfig>) -> Authenticator {
    Authenticator::new(watch::channel(config).1, None, true)
}

fn later() -> UnixTime {
    UnixTime::since_unix_epoch(
        Duration::from_secs(UnixTime::now().as_secs()) + LIFETIME + Duration::from_secs(2),
    )
}

async fn ask(authenticator: &Authenticator, pairs: &[(&str, &str)], peer: &Peer) -> Result<UserInfo, String> {
    let mut headers = headers(pairs);
    let outcome = authenticator.authenticate(&mut headers, peer, UnixTime::now()).await;
    let left: Vec<_> = headers.keys().map(HeaderName::as_str).filter(|name| *name != "accept").collect();
    assert!(left.is_empty(), "credentials stay in the request: {left:?}");
    outcome.map_err(|error| error.0)
}

#[tokio::test]
async fn a_front_proxy_names_the_user() {
    let authorities = Authorities::new();
    let user = ask(
        &authenticator(authorities.config()),
        &[
            ("X-Remote-User", "jane"),
            ("X-Remote-Uid", "42"),
            ("X-Remote-Group", "team-a"),
            ("X-Remote-Group", "on-call"),
            ("X-Remote-Extra-Example.Com%2FScopes", "view"),
            ("X-Remote-Extra-Example.Com%2FScopes", "edit"),
            ("Accept", "*/*"),
        ],
        &peer(&authorities.proxy, PROXY_NAME, None),
    )
    .await
    .expect("believed");
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "42"));
    assert_eq!(user.groups, ["team-a", "on-call", "system:authenticated"]);
    assert_eq!(user.extra["example.com/scopes"], ["view", "edit"]);
}

#[tokio::test]
async fn the_aggregator_without_groups_is_authenticated_and_its_anonymous_users_are_not() {
    let authorities = Authorities::new();
    let (authenticator, proxy) =
        (authenticator(authorities.config()), peer(&authorities.proxy, PROXY_NAME, None));
    let aggregator = ask(&authenticator, &[("X-Remote-User", "system:aggregator")], &proxy).await;
    assert_eq!(aggregator.expect("believed").groups, ["system:authenticated"]);
    let anonymous = [("X-Remote-User", "system:anonymous"), ("X-Remote-Group", "system:unauthenticated")];
    assert!(!ask(&authenticator, &anonymous, &proxy).await.expect("believed").is_authenticated());
}

#[tokio::test]
async fn spoofed_identity_headers_are_refused_although_anonymous_is_allowed() {
    let authorities = Authorities::new();
    let authenticator = authenticator(authorities.config());
    let server_only = issue(&authorities.proxy, PROXY_NAME, None, Usage::ServerAuth);
    let server_only = Peer::new(([127, 0, 0, 1], 1).into(), chain(&server_only));
    for (peer, case, reason) in [
        (peer_without_certificate(), "no certificate", "without a client certificate"),
        (peer(&authorities.stranger, PROXY_NAME, None), "wrong CA", "does not verify"),
        (
            peer(&authorities.client, PROXY_NAME, Some("system:masters")),
            "a user's certificate",
            "does not verify",
        ),
        (peer(&authorities.proxy, "somebody-else", None), "right CA, wrong name", "not an allowed one"),
        (server_only, "a server's certificate", "does not verify"),
    ] {
        for header in ["X-Remote-User", "X-Remote-Group", "X-Remote-Uid", "X-Remote-Extra-Scopes"] {
            let refused = ask(&authenticator, &[(header, "system:masters")], &peer).await.expect_err(case);
            assert!(refused.contains(reason), "{case}, {header}: {refused}");
        }
    }
}

#[tokio::test]
async fn identity_headers_are_refused_without_configuration_and_without_a_name() {
    let authorities = Authorities::new();
    let proxy = peer(&authorities.proxy, PROXY_NAME, None);
    let unconfigured = authenticator(Arc::default());
    ask(&unconfigured, &[("X-Remote-User", "jane")], &proxy).await.expect_err("nobody vouches");
    let authenticator = authenticator(authorities.config());
    ask(&authenticator, &[("X-Remote-Group", "system:masters")], &proxy).await.expect_err("no name");
    ask(&authenticator, &[("X-Remote-User", "")], &proxy).await.expect_err("empty name");
}

#[tokio::test]
async fn any_name_is_a_front_proxy_where_none_is_listed() {
    let authorities = Authorities::new();
    let mut config = (*authorities.config()).clone();
    config.request_header.as_mut().expect("configured").allowed_names.clear();
    let proxy = peer(&authorities.proxy, "whoever", None);
    ask(&authenticator(config.into()), &[("X-Remote-User", "jane")], &proxy).await.expect("believed");
}

#[tokio::test]
async fn a_client_certificate_names_its_user_and_groups() {
    let authorities = Authorities::new();
    let authenticator = authenticator(authorities.config());
    let user =
        ask(&authenticator, &[], &peer(&authorities.client, "jane", Some("team-a"))).await.expect("believed");
    assert_eq!(user.name, "jane");
    assert_eq!(user.groups, ["team-a", "system:authenticated"]);
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    // The certificate of a front proxy does not make it a user.
    ask(&authenticator, &[], &peer(&authorities.proxy, PROXY_NAME, None)).await.expect_err("no user");
    ask(&authenticator, &[], &peer(&authorities.stranger, "jane", None)).await.expect_err("stranger");
    ask(&authenticator, &[], &peer(&authorities.client, "", Some("team-a"))).await.expect_err("no name");
}

#[tokio::test]
async fn without_credentials_one_is_anonymous_or_refused() {
    let nobody =
        ask(&authenticator(Arc::default()), &[], &peer_without_certificate()).await.expect("allowed");
    assert_eq!(
        (nobody.name.as_str(), nobody.groups),
        ("system:anonymous", vec!["system:unauthenticated".into()])
    );
    let strict = Authenticator::new(watch::channel(Arc::default()).1, None, false);
    ask(&strict, &[], &peer_without_certificate()).await.expect_err("refused");
}

#[tokio::test]
async fn credentials_that_cannot_be_verified_are_not_anonymous() {
    let authenticator = authenticator(Arc::default());
    for value in ["Bearer abc", "Basic abc", "Bearer", "Bearer a b"] {
        ask(&authenticator, &[("Authorization", value)], &peer_without_certificate()).await.expect_err(value);
    }
}

#[tokio::test]
async fn a_certificate_that_expires_on_an_open_connection_is_refused() {
    let authorities = Authorities::new();
    let authenticator = authenticator(authorities.config());
    let (jane, proxy) = (peer(&authorities.client, "jane", None), peer(&authorities.proxy, PROXY_NAME, None));
    let named = headers(&[("X-Remote-User", "jane")]);
    for (peer, headers) in [(jane, HeaderMap::new()), (proxy, named)] {
        authenticator.authenticate(&mut headers.clone(), &peer, UnixTime::now()).await.expect("still valid");
        authenticator.authenticate(&mut headers.clone(), &peer, later()).await.expect_err("expired");
    }
}

#[tokio::test]
async fn a_rotated_authority_counts_on_open_connections() {
    let (old, new) = (Authorities::new(), Authorities::new());
    let (publish, config) = watch::channel(old.config());
    let authenticator = Authenticator::new(config, None, true);
    let peers = [peer(&old.client, "jane", None), peer(&new.client, "jane", None)];
    ask(&authenticator, &[], &peers[0]).await.expect("the old authority is in force");
    ask(&authenticator, &[], &peers[1]).await.expect_err("the new one is not yet");
    publish.send_replace(new.config());
    ask(&authenticator, &[], &peers[0]).await.expect_err("the old authority is gone");
    ask(&authenticator, &[], &peers[1]).await.expect("the new one is in force");
}

#[test]
fn an_authority_that_has_expired_vouches_for_nobody() {
    let authorities = Authorities::new();
    let in_twenty_years = UnixTime::since_unix_epoch(
        Duration::from_secs(UnixTime::now().as_secs()) + Duration::from_hours(20 * 365 * 24),
    );
    let ca = bundle(&authorities.client);
    assert_eq!((ca.anchors(UnixTime::now()).len(), ca.anchors(in_twenty_years).len()), (1, 0));
}

#[test]
fn a_replica_is_ready_once_the_front_proxy_was_known() {
    let (publish, config) = watch::channel(Arc::new(AuthenticationConfig::default()));
    let check = Authenticator::new(config, None, true).readiness_check();
    let health = Health::new([check]);
    let is_ready = || health.respond("/readyz/request-header", "").status().is_success();
    assert!(!is_ready());
    publish.send_replace(Authorities::new().config());
    assert!(is_ready());
    publish.send_replace(Arc::default());
    assert!(is_ready(), "kube-apiserver has been told to do without: no reason to leave");
}
