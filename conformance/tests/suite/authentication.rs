//! Authentication of direct requests, in which a client may claim anything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_certs::issue::{Authority, KeyPair};
use gatehouse_conformance::control_plane::client_identity;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use libtest_mimic::Trial;
use serde_json::json;

use crate::caller::{Answer, Caller};
use crate::site::{API, Site};
use crate::world::{World, settles};

/// The ConfigMap is watched, so this is a margin for a busy machine.
const PICKED_UP: Duration = Duration::from_secs(15);

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("authentication::nobody_sees_health_and_no_view", anonymous),
        world.shared("authentication::bearer_token_is_reviewed_by_the_cluster", bearer_token),
        world.shared("authentication::front_proxy_names_the_user", front_proxy),
        world.shared("authentication::spoofed_identity_headers_are_401", spoofed),
        world.shared("authentication::certificate_of_another_ca_is_401", wrong_client_ca),
        world.shared("authentication::rotated_authorities_are_picked_up_live", rotation),
    ]
}

/// Creates a namespace in which the user may read. Returns a path in it.
async fn team_of(site: &Site, user: &str) -> anyhow::Result<String> {
    site.allow_in(user, user).await?;
    Ok(format!("{API}/namespaces/{user}/fluxsummaries"))
}

fn front_proxy_headers(user: &str) -> [(&str, &str); 3] {
    [("x-remote-user", user), ("x-remote-group", "a-group"), ("x-remote-extra-reason", "because")]
}

fn unauthorized(answer: &Answer) -> anyhow::Result<()> {
    let message = answer.refused(401, "Unauthorized")?;
    ensure!(message == "Unauthorized", "the reason is for the log alone: {message}");
    Ok(())
}

async fn anonymous(site: Arc<Site>) -> anyhow::Result<()> {
    let nobody = Caller::anonymous(&site.direct).await?;
    for path in ["/livez", "/readyz", "/healthz"] {
        ensure!(nobody.get(path).await?.code == StatusCode::OK, "{path}");
    }
    for path in ["", "/fluxsummaries", "/namespaces/team-a/fluxsummaries", "/clusterhealths/local"] {
        let answer = nobody.get(&format!("{API}{path}")).await?;
        let message = answer.refused(403, "Forbidden")?;
        ensure!(message.contains("system:anonymous"), "{message}");
    }
    Ok(())
}

async fn bearer_token(site: Arc<Site>) -> anyhow::Result<()> {
    let namespace = "bearer-token";
    let user = format!("system:serviceaccount:{namespace}:reader");
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": namespace},
    });
    site.apply([account]).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(site.client.clone(), namespace);
    let audiences = vec!["https://kubernetes.default.svc.cluster.local".to_owned()];
    let spec = TokenRequestSpec { audiences: Some(audiences), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let issued = accounts.create_token_request("reader", &PostParams::default(), &request).await?;
    let token = issued.status.and_then(|status| status.token).context("a token")?;

    let reader = Caller::with_token(&site.direct, &token).await?;
    let answer = reader.get(&format!("{API}/namespaces/{namespace}/fluxsummaries")).await?;
    let message = answer.refused(403, "Forbidden")?;
    ensure!(message.contains(&format!("User \"{user}\"")), "{message}");
    // All authenticated users may read this.
    reader.get(API).await?.ok()?;

    for token in [format!("{token}x"), "nonsense".to_owned()] {
        let forger = Caller::with_token(&site.direct, &token).await?;
        unauthorized(&forger.get(API).await?)?;
    }
    Ok(())
}

async fn front_proxy(site: Arc<Site>) -> anyhow::Result<()> {
    let path = team_of(&site, "behind-the-proxy").await?;
    let proxy = Caller::with_certificate(&site.direct, &site.control_plane.front_proxy().client).await?;
    proxy.get_with(&path, &front_proxy_headers("behind-the-proxy")).await?.ok()?;
    let answer = proxy.get_with(&path, &front_proxy_headers("somebody-else")).await?;
    let message = answer.refused(403, "Forbidden")?;
    ensure!(message.contains("\"somebody-else\""), "{message}");
    // The certificate of the front proxy identifies no user, since the client CA has not signed it.
    unauthorized(&proxy.get(&path).await?)?;
    Ok(())
}

async fn spoofed(site: Arc<Site>) -> anyhow::Result<()> {
    let path = team_of(&site, "to-be-taken-for").await?;
    let front_proxy = &site.control_plane.front_proxy().authority;
    let wrong_ca = Authority::new("front-proxy-ca")?;
    let wrong_ca = client_identity(&wrong_ca, "front-proxy-client", None)?;
    let wrong_name = client_identity(front_proxy, "front-proxy-impostor", None)?;
    let of_the_cluster = client_identity(site.control_plane.client_ca(), "to-be-taken-for", None)?;
    let masters = client_identity(site.control_plane.client_ca(), "root", Some("system:masters"))?;

    let mut callers = vec![("nothing", Caller::anonymous(&site.direct).await?)];
    for (what, identity) in [
        ("a certificate of the wrong CA", &wrong_ca),
        ("a certificate of the wrong name", &wrong_name),
        ("a user's own certificate", &of_the_cluster),
        ("an administrator's certificate", &masters),
    ] {
        callers.push((what, Caller::with_certificate(&site.direct, identity).await?));
    }
    for (what, caller) in callers {
        for headers in [&front_proxy_headers("to-be-taken-for")[..], &[("x-remote-group", "system:masters")]]
        {
            let answer = caller.get_with(&path, headers).await?;
            unauthorized(&answer).with_context(|| format!("with {what}: {headers:?}"))?;
        }
    }
    Ok(())
}

async fn wrong_client_ca(site: Arc<Site>) -> anyhow::Result<()> {
    let authority = Authority::new("cluster-ca")?;
    let impostor = client_identity(&authority, "admin", Some("system:masters"))?;
    let caller = Caller::with_certificate(&site.direct, &impostor).await?;
    for path in [API.to_owned(), format!("{API}/fluxsummaries"), "/metrics".to_owned()] {
        unauthorized(&caller.get(&path).await?)?;
    }
    Ok(())
}

/// The rotation of an authority: the new one is added beside the old one, which is removed later. Here both new ones
/// are added to the ConfigMap and removed again, so that other trials are not affected. kube-apiserver keeps what
/// others add to it.
async fn rotation(site: Arc<Site>) -> anyhow::Result<()> {
    let path = team_of(&site, "outlives-rotation").await?;
    let (client_ca, proxy_ca) = (Authority::new("cluster-ca-2")?, Authority::new("front-proxy-ca-2")?);
    let user = client_identity(&client_ca, "outlives-rotation", None)?;
    let proxy = client_identity(&proxy_ca, "front-proxy-client", None)?;
    let as_user = async || Caller::with_certificate(&site.direct, &user).await?.get(&path).await;
    let headers = front_proxy_headers("outlives-rotation");
    let as_proxy = async |proxy: &KeyPair| {
        let caller = Caller::with_certificate(&site.direct, proxy).await?;
        caller.get_with(&path, &headers).await
    };
    unauthorized(&as_user().await?)?;
    unauthorized(&as_proxy(&proxy).await?)?;

    let maps: Api<ConfigMap> = Api::namespaced(site.client.clone(), "kube-system");
    let name = "extension-apiserver-authentication";
    let (client_key, proxy_key) = ("client-ca-file", "requestheader-client-ca-file");
    let data = maps.get(name).await?.data.context("data")?;
    let set = async |client: &str, proxy: &str| {
        let changed = json!({"data": {client_key: client, proxy_key: proxy}});
        maps.patch(name, &PatchParams::default(), &Patch::Merge(&changed)).await
    };
    let both = |key: &str, new: &Authority| format!("{}{}", data[key], new.certificate_pem());
    set(&both(client_key, &client_ca), &both(proxy_key, &proxy_ca)).await?;

    let ok = |answer: &Answer| answer.code == StatusCode::OK;
    settles("users of the new CA are known", PICKED_UP, &as_user, ok).await?;
    settles("the new front proxy is believed", PICKED_UP, || as_proxy(&proxy), ok).await?;
    as_proxy(&site.control_plane.front_proxy().client).await?.ok()?;
    let connected = Caller::with_certificate(&site.direct, &user).await?;
    connected.get(&path).await?.ok()?;
    let proxy_connected = Caller::with_certificate(&site.direct, &proxy).await?;
    let as_proxy_connected = || proxy_connected.get_with(&path, &headers);
    as_proxy_connected().await?.ok()?;

    set(&data[client_key], &data[proxy_key]).await?;
    let refused = |answer: &Answer| answer.code == StatusCode::UNAUTHORIZED;
    settles("users of the removed CA are unknown", PICKED_UP, &as_user, refused).await?;
    settles("the removed front proxy is not believed", PICKED_UP, || as_proxy(&proxy), refused).await?;
    // Connections that were opened while their CAs were trusted are rejected too.
    unauthorized(&connected.get(&path).await?)?;
    unauthorized(&as_proxy_connected().await?)?;
    as_proxy(&site.control_plane.front_proxy().client).await?.ok()?;
    Ok(())
}
