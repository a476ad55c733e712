//! The authentication configuration that kube-apiserver publishes for aggregated API servers, in the ConfigMap
//! `kube-system/extension-apiserver-authentication`.
//!
//! It is watched, since kube-apiserver updates it when its own authorities rotate. If a version is invalid, or the
//! ConfigMap is deleted, that is logged and the last valid version stays in use. The server needs the Role
//! `extension-apiserver-authentication-reader` in kube-system.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use gatehouse_apiservice::client::explain;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;

use super::config::{header_names, header_prefixes};
use super::{AuthenticationConfig, CaBundle, ConfigError, RequestHeaderConfig};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Reads the ConfigMap once.
pub async fn read(client: &kube::Client) -> Result<AuthenticationConfig, ConfigError> {
    let found = api(client).get(NAME).await.map_err(|error| ConfigError::ConfigMap(Box::new(error)))?;
    parse(&found.data.unwrap_or_default())
}

/// Watches the ConfigMap, and publishes `fixed`, completed from it, on each change. Returns when the last receiver is
/// dropped.
pub async fn follow(
    client: kube::Client,
    fixed: AuthenticationConfig,
    publish: watch::Sender<Arc<AuthenticationConfig>>,
) {
    let changes = watcher::watch_object(api(&client), NAME).default_backoff();
    tokio::pin!(changes);
    loop {
        let change = tokio::select! {
            () = publish.closed() => return,
            change = changes.next() => change,
        };
        match change {
            None => return,
            Some(Ok(Some(found))) => apply(&found, &fixed, &publish),
            Some(Ok(None)) => {
                tracing::warn!(NAMESPACE, NAME, "ConfigMap was deleted, keeping its last content");
            }
            Some(Err(error)) => {
                tracing::warn!(NAMESPACE, NAME, error = %explain(&error), "ConfigMap cannot be watched, retrying");
            }
        }
    }
}

fn api(client: &kube::Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn apply(
    found: &ConfigMap,
    fixed: &AuthenticationConfig,
    publish: &watch::Sender<Arc<AuthenticationConfig>>,
) {
    let empty = BTreeMap::new();
    match parse(found.data.as_ref().unwrap_or(&empty)) {
        Ok(config) => publish_if_changed(publish, fixed.clone().or(config)),
        Err(error) => {
            tracing::error!(NAMESPACE, NAME, error = %explain(&error), "ConfigMap is invalid, keeping its last content");
        }
    }
}

/// Publishes `config` only if it differs, since every connection then verifies its certificate again.
pub(super) fn publish_if_changed(
    publish: &watch::Sender<Arc<AuthenticationConfig>>,
    config: AuthenticationConfig,
) {
    publish.send_if_modified(|current| {
        let is_changed = **current != config;
        if is_changed {
            tracing::info!("authentication configuration changed");
            *current = Arc::new(config);
        }
        is_changed
    });
}

fn parse(data: &BTreeMap<String, String>) -> Result<AuthenticationConfig, ConfigError> {
    let bundle = |key: &str| match data.get(key).filter(|pem| !pem.trim().is_empty()) {
        Some(pem) => CaBundle::from_pem(key, pem.as_bytes()).map(Some),
        None => Ok(None),
    };
    let list = |key: &str| match data.get(key).filter(|json| !json.trim().is_empty()) {
        Some(json) => serde_json::from_str::<Option<Vec<String>>>(json)
            .map(Option::unwrap_or_default)
            .map_err(|source| ConfigError::List { key: key.to_owned(), source }),
        None => Ok(Vec::new()),
    };
    let headers = |key: &str| header_names(key, &list(key)?);
    let prefixes = |key: &str| header_prefixes(key, &list(key)?);
    let request_header = match bundle("requestheader-client-ca-file")? {
        Some(ca) => Some(RequestHeaderConfig {
            ca,
            allowed_names: list("requestheader-allowed-names")?,
            username_headers: headers("requestheader-username-headers")?,
            uid_headers: headers("requestheader-uid-headers")?,
            group_headers: headers("requestheader-group-headers")?,
            extra_header_prefixes: prefixes("requestheader-extra-headers-prefix")?,
        }),
        None => None,
    };
    Ok(AuthenticationConfig { request_header, client_ca: bundle("client-ca-file")? })
}

#[cfg(test)]
mod tests {
    use gatehouse_certs::issue::Authority;

    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn ca() -> String {
        Authority::new("ca").expect("authority").certificate_pem().to_owned()
    }

    #[test]
    fn keys_are_read_as_kube_apiserver_writes_them() {
        let (proxy, client) = (ca(), ca());
        let config = parse(&data(&[
            ("client-ca-file", &client),
            ("requestheader-client-ca-file", &proxy),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]))
        .expect("readable");
        let mut expected = RequestHeaderConfig::with_default_headers(
            CaBundle::from_pem("", proxy.as_bytes()).expect("PEM"),
            vec!["front-proxy-client".to_owned()],
        );
        expected.uid_headers = vec![http::HeaderName::from_static("x-remote-uid")];
        assert_eq!(config.request_header, Some(expected));
        assert_eq!(config.client_ca, Some(CaBundle::from_pem("", client.as_bytes()).expect("PEM")));
    }

    #[test]
    fn a_cluster_without_aggregation_has_no_front_proxy() {
        assert_eq!(parse(&data(&[])).expect("readable"), AuthenticationConfig::default());
    }

    #[test]
    fn problems_name_their_key() {
        let ca = ca();
        for (key, value) in [
            ("client-ca-file", "nonsense"),
            ("requestheader-client-ca-file", "-----BEGIN CERTIFICATE-----\n"),
            ("requestheader-allowed-names", "front-proxy-client"),
            ("requestheader-username-headers", r#"["X Remote"]"#),
            ("requestheader-extra-headers-prefix", r#"[""]"#),
        ] {
            let mut data = data(&[("requestheader-client-ca-file", &ca)]);
            data.insert(key.to_owned(), value.to_owned());
            let error = parse(&data).expect_err("refused").to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn a_broken_update_keeps_the_old_configuration() {
        let good = ConfigMap { data: Some(data(&[("client-ca-file", &ca())])), ..ConfigMap::default() };
        let broken = ConfigMap { data: Some(data(&[("client-ca-file", "x")])), ..ConfigMap::default() };
        let (publish, mut config) = watch::channel(Arc::default());
        let fixed = AuthenticationConfig::default();
        apply(&good, &fixed, &publish);
        assert!(config.borrow_and_update().client_ca.is_some());
        apply(&broken, &fixed, &publish);
        apply(&good, &fixed, &publish);
        assert!(!config.has_changed().expect("open"));
    }
}
