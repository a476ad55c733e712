//! Tests of what each origin makes of its objects: what is accepted, and the words for what is not.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{super::registrations::decide, *};

const SERVER: &str = "https://spoke.example:6443";
const EXEC: &str = "client.authentication.k8s.io/exec";

fn kubeconfig(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = json!({
        "clusters": [{"name": "c", "cluster": {"server": SERVER}}],
        "users": [{"name": "u", "user": {"token": "s3cret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    });
    change(&mut document);
    document
}

fn secret(metadata: &Value, kind: &str, data: &[(&str, &str)]) -> Secret {
    let mut secret: Secret = serde_json::from_value(json!({"metadata": metadata, "type": kind})).unwrap();
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    secret.data = Some(data.collect());
    secret
}

/// A Secret of each format that asks for the cluster `eu` by this kubeconfig.
fn with_kubeconfig(text: &str) -> [Wanted; 3] {
    let labelled = json!({"name": "s", "namespace": "ns", "labels": {LABEL: "eu"}});
    let of_capi = json!({
        "name": "eu-kubeconfig", "namespace": "ns", "labels": {"cluster.x-k8s.io/cluster-name": "eu"},
    });
    let context = json!({"name": EXEC, "extension": {"name": "s", "key": "value"}});
    let profile = profile("kubeconfig-secretreader", &context, |_| {});
    let named = secret(&json!({"name": "s", "namespace": "ns"}), "Opaque", &[("value", text)]);
    [
        (labelled::FORMAT.read)(&secret(&labelled, "Opaque", &[("value", text)])).unwrap(),
        (cluster_api::FORMAT.read)(&secret(&of_capi, "cluster.x-k8s.io/secret", &[("value", text)])).unwrap(),
        profiles::wanted(&profile, Some(&named), "ns"),
    ]
}

fn profile(provider: &str, extension: &Value, change: impl FnOnce(&mut Value)) -> DynamicObject {
    let mut profile = json!({
        "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ClusterProfile",
        "metadata": {"name": "eu", "namespace": "fleet", "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {"clusterManager": {"name": "test"}},
        "status": {"accessProviders": [
            {"name": "oidc", "cluster": {}},
            {"name": provider, "cluster": {"server": SERVER, "extensions": [extension]}},
        ]},
    });
    change(&mut profile);
    serde_json::from_value(profile).unwrap()
}

fn argocd(change: impl FnOnce(&mut BTreeMap<&str, String>)) -> Option<Wanted> {
    let config = json!({"bearerToken": "s3cret", "tlsClientConfig": {"insecure": false}}).to_string();
    let mut data: BTreeMap<&str, String> =
        [("name", "eu".to_owned()), ("server", SERVER.to_owned()), ("config", config)].into();
    change(&mut data);
    let data: Vec<_> = data.iter().map(|(key, value)| (*key, value.as_str())).collect();
    (argocd::FORMAT.read)(&secret(&json!({"name": "cluster-eu", "namespace": "argocd"}), "Opaque", &data))
}

fn refusal(wanted: &Wanted) -> String {
    let refused = wanted.credential.as_ref().expect_err("refused");
    assert!(!refused.message.contains("s3cret"), "{}", refused.message);
    format!("{}: {}", refused.reason, refused.message)
}

#[test]
fn each_origin_names_its_object_and_its_cluster() {
    let by_kubeconfig = with_kubeconfig(&kubeconfig(|_| {}).to_string());
    let of_argocd = argocd(|_| {}).unwrap();
    let origins =
        ["Secret ns/s", "Secret ns/eu-kubeconfig", "ClusterProfile fleet/eu", "Secret argocd/cluster-eu"];
    for (wanted, origin) in by_kubeconfig.iter().chain([&of_argocd]).zip(origins) {
        assert_eq!((&*wanted.origin, &*wanted.name), (origin, "eu"));
        let credential = wanted.credential.as_ref().unwrap();
        assert_eq!(credential.server.as_str(), "https://spoke.example:6443/");
    }
}

#[test]
fn a_kubeconfig_is_refused_alike_whatever_names_it() {
    let two = |document: &mut Value| {
        let other = document["contexts"][0].clone();
        document["contexts"].as_array_mut().unwrap().push(other);
    };
    let user = |field: &'static str, value: Value| {
        move |document: &mut Value| document["users"][0]["user"][field] = value
    };
    let cases = [
        ("s3cret".to_owned(), "kubeconfig: is not a kubeconfig"),
        ("a: b: s3cret".to_owned(), "kubeconfig: is not YAML"),
        (kubeconfig(two).to_string(), "contexts: has 2 entries; must have exactly one"),
        (
            kubeconfig(user("exec", json!({"command": "rm"}))).to_string(),
            "users[0].user.exec: would run a program: use a token or a client certificate",
        ),
        (
            kubeconfig(user("tokenFile", "/s3cret".into())).to_string(),
            "users[0].user.tokenFile: names a file: put its content into the Secret",
        ),
        (
            kubeconfig(user("password", "s3cret".into())).to_string(),
            "users[0].user.password: is not accepted by Kubernetes any more: use a token",
        ),
        (
            kubeconfig(|document| document["users"][0]["user"] = json!({})).to_string(),
            "users[0].user: has neither a token nor a client certificate",
        ),
    ];
    for (text, expected) in cases {
        let [labelled, of_capi, of_profile] = with_kubeconfig(&text);
        let expected = format!("InvalidKubeconfig: {expected}");
        assert_eq!(refusal(&labelled), expected);
        assert_eq!(refusal(&of_capi), expected);
        let of_profile = refusal(&of_profile);
        let expected = expected.replace("InvalidKubeconfig: ", "InvalidClusterProfile: Secret ns/s: ");
        assert_eq!(of_profile, expected);
    }
}

#[test]
fn a_server_and_a_ca_are_checked_by_the_names_that_each_origin_has_for_them() {
    let at = |field: &str| format!("clusters[0].cluster.{field}");
    for (value, why) in [
        ("http://spoke", "must begin with https://"),
        ("spoke", "is not a URL: relative URL without a base"),
        ("https://u:s3cret@spoke", "must be scheme, host, port and path, and nothing else"),
        ("", "is missing"),
    ] {
        let text = kubeconfig(|document| document["clusters"][0]["cluster"]["server"] = value.into());
        let [labelled, of_capi, _] = with_kubeconfig(&text.to_string());
        for wanted in [&labelled, &of_capi] {
            assert_eq!(refusal(wanted), format!("InvalidKubeconfig: {}: {why}", at("server")));
        }
        let of_argocd = argocd(|data| drop(data.insert("server", value.to_owned()))).unwrap();
        assert_eq!(refusal(&of_argocd), format!("InvalidClusterSecret: data[server]: {why}"));
        let of_profile = by_token(|profile| cluster(profile)["server"] = value.into(), Some("t"));
        let field = "status.accessProviders[1].cluster.server";
        assert_eq!(refusal(&of_profile), format!("InvalidClusterProfile: {field}: {why}"));
    }
    let ca = "%s3cret";
    let text = kubeconfig(|document| {
        document["clusters"][0]["cluster"]["certificate-authority-data"] = ca.into();
    });
    let [labelled, ..] = with_kubeconfig(&text.to_string());
    let of_profile =
        by_token(|profile| cluster(profile)["certificate-authority-data"] = ca.into(), Some("t"));
    let of_argocd = with_config(&json!({"bearerToken": "t", "tlsClientConfig": {"caData": ca}}));
    for (wanted, field) in [
        (labelled, "clusters[0].cluster.certificate-authority-data"),
        (of_profile, "status.accessProviders[1].cluster.certificate-authority-data"),
        (of_argocd, "data[config].tlsClientConfig.caData"),
    ] {
        let refused = refusal(&wanted);
        assert!(refused.ends_with(&format!(": {field}: is not base64")), "{refused}");
    }
}

fn with_config(config: &Value) -> Wanted {
    argocd(|data| drop(data.insert("config", config.to_string()))).unwrap()
}

#[test]
fn what_argo_cd_accepts_and_would_run_or_trust_anything_is_refused_by_name() {
    let tls = |tls: Value| json!({"bearerToken": "t", "tlsClientConfig": tls});
    let cases = [
        (json!({"username": "admin"}), "username: is not accepted by Kubernetes any more: use a token"),
        (json!({"password": "s3cret"}), "password: is not accepted by Kubernetes any more: use a token"),
        (
            json!({"awsAuthConfig": {"clusterName": "eu"}}),
            "awsAuthConfig: would run a program: use a token or a client certificate",
        ),
        (
            json!({"execProviderConfig": {"command": "rm"}}),
            "execProviderConfig: would run a program: use a token or a client certificate",
        ),
        (json!({"proxyUrl": "http://s3cret"}), "proxyUrl: is not supported"),
        (tls(json!({"insecure": true})), "tlsClientConfig.insecure: would trust any server: use caData"),
        (
            tls(json!({"certData": "QQ==", "keyData": "QQ=="})),
            ": has a token and a client certificate; keep one",
        ),
        (json!({"tlsClientConfig": {"certData": "QQ=="}}), "tlsClientConfig.keyData: is missing"),
        (json!({"bearerToken": "two words"}), "bearerToken: has characters that no token has"),
        (json!({}), ": has neither a token nor a client certificate"),
        (json!([]), ": is missing"),
    ];
    for (config, expected) in cases {
        let dot = if expected.starts_with(':') { "" } else { "." };
        let expected = format!("InvalidClusterSecret: data[config]{dot}{expected}");
        assert_eq!(refusal(&with_config(&config)), expected, "{config}");
    }
    let garbage = argocd(|data| drop(data.insert("config", "s3cret".to_owned()))).unwrap();
    assert_eq!(refusal(&garbage), "InvalidClusterSecret: data[config]: is not JSON");
    let missing = argocd(|data| drop(data.remove("config"))).unwrap();
    assert_eq!(refusal(&missing), "InvalidClusterSecret: data[config]: is missing");
}

#[test]
fn argo_cd_s_own_cluster_is_the_hub_and_is_skipped() {
    for server in ["https://kubernetes.default.svc", "https://kubernetes.default.svc:443/"] {
        assert!(argocd(|data| drop(data.insert("server", server.to_owned()))).is_none(), "{server}");
    }
}

#[test]
fn of_cluster_api_only_the_cluster_s_own_kubeconfig_counts() {
    let read = |name: &str, kind: &str| {
        let labels = json!({"cluster.x-k8s.io/cluster-name": "eu"});
        let metadata = json!({"name": name, "namespace": "ns", "labels": labels});
        (cluster_api::FORMAT.read)(&secret(&metadata, kind, &[("value", "x")]))
    };
    let kind = "cluster.x-k8s.io/secret";
    assert!(read("eu-kubeconfig", kind).is_some());
    for (name, kind) in [("eu-ca", kind), ("eu-user-kubeconfig", kind), ("eu-kubeconfig", "Opaque")] {
        assert!(read(name, kind).is_none(), "{name} {kind}");
    }
    let labels = json!({"cluster.x-k8s.io/cluster-name": "eu"});
    let metadata = json!({"name": "eu-kubeconfig", "namespace": "ns", "labels": labels});
    let empty = (cluster_api::FORMAT.read)(&secret(&metadata, kind, &[])).unwrap();
    assert_eq!(refusal(&empty), "InvalidKubeconfig: data: lacks the key value");
}

fn cluster(profile: &mut Value) -> &mut Value {
    &mut profile["status"]["accessProviders"][1]["cluster"]
}

/// A ClusterProfile with the provider `secretreader`, after a change.
fn by_token(change: impl FnOnce(&mut Value), token: Option<&str>) -> Wanted {
    let extension = json!({"name": EXEC, "extension": {"clusterName": "eu"}});
    let secret =
        token.map(|token| secret(&json!({"name": "eu", "namespace": "ns"}), "Opaque", &[("token", token)]));
    profiles::wanted(&profile("secretreader", &extension, change), secret.as_ref(), "ns")
}

#[test]
fn a_cluster_profile_names_a_secret_of_one_namespace() {
    let accepted = by_token(|_| {}, Some("t")).credential;
    assert!(accepted.is_ok(), "{accepted:?}");
    let at = "status.accessProviders[1].cluster";
    let extension = |extension: Value| {
        move |profile: &mut Value| {
            cluster(profile)["extensions"] = json!([{"name": EXEC, "extension": extension}]);
        }
    };
    let refused = |wanted: Wanted| refusal(&wanted).replace("InvalidClusterProfile: ", "");
    assert_eq!(refused(by_token(|_| {}, None)), "Secret ns/eu: does not exist");
    assert_eq!(
        refused(by_token(|_| {}, Some(""))),
        "Secret ns/eu: data[token]: has neither a token nor a client certificate"
    );
    assert_eq!(
        refused(by_token(extension(json!({})), Some("t"))),
        format!("{at}.extensions[0].extension.clusterName: is missing")
    );
    assert_eq!(
        refused(by_token(|profile| cluster(profile)["extensions"] = json!([]), Some("t"))),
        format!("{at}.extensions: lacks {EXEC}")
    );
    assert_eq!(
        refused(by_token(|profile| cluster(profile)["insecure-skip-tls-verify"] = true.into(), Some("t"))),
        format!("{at}.insecure-skip-tls-verify: would trust any server: use certificate-authority-data")
    );
    assert_eq!(
        refused(by_token(|profile| cluster(profile)["proxy-url"] = "http://p".into(), Some("t"))),
        format!("{at}.proxy-url: is not supported")
    );
    let none = "status.accessProviders: has neither secretreader nor kubeconfig-secretreader";
    assert_eq!(refused(by_token(|profile| profile["status"] = Value::Null, Some("t"))), none);
    let elsewhere =
        json!({"name": EXEC, "extension": {"name": "s", "key": "value", "namespace": "kube-system"}});
    let elsewhere = profile("kubeconfig-secretreader", &elsewhere, |_| {});
    assert_eq!(
        refused(profiles::wanted(&elsewhere, None, "ns")),
        format!("{at}.extensions[0].extension.namespace: only Secrets of namespace ns are read")
    );
}

#[test]
fn an_object_of_another_tool_allows_actions_by_its_annotation_alone() {
    let kubeconfig = kubeconfig(|_| {}).to_string();
    let [labelled, of_capi, profile] = with_kubeconfig(&kubeconfig);
    let of_argocd = argocd(|_| {}).unwrap();
    let allowed = [labelled, of_capi, profile, of_argocd].map(|wanted| wanted.allows_actions);
    assert_eq!(allowed, [true, false, false, false], "the first was made for Gatehouse");
    for (value, is_allowed) in [("true", true), ("True", false), ("yes", false), ("", false)] {
        let metadata = json!({
            "name": "eu-kubeconfig", "namespace": "ns", "labels": {"cluster.x-k8s.io/cluster-name": "eu"},
            "annotations": {ALLOW_ACTIONS: value},
        });
        let of_capi = secret(&metadata, "cluster.x-k8s.io/secret", &[("value", &kubeconfig)]);
        let of_capi = (cluster_api::FORMAT.read)(&of_capi).unwrap();
        let of_argocd = (argocd::FORMAT.read)(&secret(&metadata, "Opaque", &[])).unwrap();
        let profile = by_token(
            |profile| profile["metadata"]["annotations"] = metadata["annotations"].clone(),
            Some("t"),
        );
        let allowed = [of_capi, of_argocd, profile].map(|wanted| wanted.allows_actions);
        assert_eq!(allowed, [is_allowed; 3], "{value:?}");
    }
}

#[test]
fn the_deprecated_list_of_providers_counts_after_the_other() {
    let moved = by_token(
        |profile| {
            let list = profile["status"]["accessProviders"].take();
            profile["status"] = json!({"credentialProviders": list});
        },
        Some("t"),
    );
    assert!(moved.credential.is_ok(), "{moved:?}");
}

#[test]
fn a_context_that_is_named_may_be_one_of_several() {
    let text = kubeconfig(|document| {
        let several = json!([
            {"name": "x", "context": {"cluster": "c", "user": "runs"}},
            {"name": "y", "context": {"cluster": "c", "user": "u"}},
        ]);
        document["contexts"] = several;
        document["users"].as_array_mut().unwrap().push(json!({"name": "runs", "user": {"exec": {}}}));
    });
    let secret = secret(&json!({"name": "s", "namespace": "ns"}), "Opaque", &[("k", &text.to_string())]);
    let of = |context: &str| {
        let extension = json!({"name": EXEC, "extension": {"name": "s", "key": "k", "context": context}});
        profiles::wanted(&profile("kubeconfig-secretreader", &extension, |_| {}), Some(&secret), "ns")
    };
    assert!(of("y").credential.is_ok());
    let at = "InvalidClusterProfile: Secret ns/s: ";
    assert!(refusal(&of("x")).starts_with(&format!("{at}users[1].user.exec: would run a program")));
    assert_eq!(refusal(&of("z")), format!("{at}contexts: lacks the entry that is named"));
    assert!(refusal(&of("")).starts_with(&format!("{at}contexts: has 2 entries")));
}

#[test]
fn the_label_names_the_cluster_of_any_origin() {
    let labels = json!({LABEL: "eu-west", "cluster.x-k8s.io/cluster-name": "eu"});
    let metadata = json!({"name": "eu-kubeconfig", "namespace": "ns", "labels": labels});
    let of_capi = (cluster_api::FORMAT.read)(&secret(&metadata, "cluster.x-k8s.io/secret", &[])).unwrap();
    assert_eq!((&*of_capi.name, &*of_capi.name_field), ("eu-west", "metadata.labels[gatehouse.dev/cluster]"));
    let labelled = by_token(|profile| profile["metadata"]["labels"] = json!({LABEL: "eu-west"}), Some("t"));
    assert_eq!(&*labelled.name, "eu-west");
}

#[test]
fn the_older_object_keeps_a_name_and_a_server_over_all_origins() {
    let created = |mut wanted: Wanted, second: i64| {
        wanted.created = Some(Timestamp::from_second(1_800_000_000 + second).unwrap());
        Arc::new(wanted)
    };
    let [labelled, of_capi, of_profile] = with_kubeconfig(&kubeconfig(|_| {}).to_string());
    let of_argocd = argocd(|data| drop(data.insert("name", "us".to_owned()))).unwrap();
    let asked =
        vec![created(labelled, 3), created(of_capi, 1), created(of_profile, 2), created(of_argocd, 4)];
    let found = decide(asked, "local", None);
    let eu = &found.clusters["eu"];
    assert_eq!(&*eu.wanted.origin, "Secret ns/eu-kubeconfig");
    let ignored = [
        "ClusterProfile fleet/eu: metadata.name: is taken by Secret ns/eu-kubeconfig",
        "Secret ns/s: metadata.labels[gatehouse.dev/cluster]: is taken by Secret ns/eu-kubeconfig",
    ];
    assert_eq!(eu.ignored, ignored.map(Str::from));
    let us = found.clusters["us"].refused.as_ref().unwrap();
    assert_eq!((&*us.reason, &*us.message), ("SameCluster", "server: is that of eu"));
}

#[test]
fn the_hub_is_refused_and_names_that_cannot_be_shown_are_ignored_over_all_origins() {
    let hub: url::Url = "https://spoke.example:6443".parse().unwrap();
    let text = kubeconfig(|_| {}).to_string();
    let of_argocd = || argocd(|_| {}).unwrap();
    for wanted in with_kubeconfig(&text).into_iter().chain([of_argocd()]) {
        let found = decide(vec![Arc::new(wanted)], "prod", Some(&hub));
        let refused = found.clusters["eu"].refused.as_ref().unwrap();
        assert_eq!((&*refused.reason, &*refused.message), ("TheHub", "server: is this cluster itself"));
    }
    for name in ["local", "prod", "No_Label", "a.b", ""] {
        for wanted in with_kubeconfig(&text).into_iter().chain([of_argocd()]) {
            let found = decide(vec![Arc::new(Wanted { name: name.into(), ..wanted })], "prod", None);
            assert_eq!((found.clusters.len(), found.ignored.len()), (0, 1), "{found:?}");
        }
    }
}

#[test]
fn a_secret_without_a_kubeconfig_says_which_keys_there_are() {
    let metadata = json!({"name": "s", "namespace": "ns", "labels": {LABEL: "eu"}});
    let empty = (labelled::FORMAT.read)(&secret(&metadata, "Opaque", &[])).unwrap();
    let keys = "InvalidKubeconfig: data: has none of the keys value, value.yaml, kubeconfig, Config";
    assert_eq!(refusal(&empty), keys);
    let mut binary = secret(&metadata, "Opaque", &[("value", "x")]);
    binary.data.as_mut().unwrap().get_mut("value").unwrap().0 = vec![0xff];
    let binary = (labelled::FORMAT.read)(&binary).unwrap();
    assert_eq!(refusal(&binary), "InvalidKubeconfig: data[value]: is not text");
}

#[test]
fn an_object_is_read_again_when_its_version_changes() {
    let versions = |version: &str| [(Some("u".to_owned()), Some(version.to_owned())), Version::default()];
    let entry = |version: &str| Entry { versions: versions(version), wanted: None };
    let mut known = Known::default();
    assert!(known.replace([("a".to_owned(), entry("1"))].into()));
    assert!(!known.replace([("a".to_owned(), entry("1"))].into()));
    assert!(known.same("a", &versions("1")).is_some() && known.same("a", &versions("2")).is_none());
    assert!(known.replace([("a".to_owned(), entry("2"))].into()));
    assert!(known.replace(BTreeMap::new()), "it is gone");
}

#[test]
fn an_origin_that_cannot_be_read_keeps_what_is_known_and_does_not_hold_others_up_for_ever() {
    let origins = Origins { argocd: vec!["argocd".to_owned()], ..Origins::default() };
    let unread = |is_refused| Unread { error: "why".to_owned(), is_refused, is_unknown: false };
    let [mut origin] = <[Origin; 1]>::try_from(origins.each()).ok().unwrap();
    let entry = Entry { versions: Default::default(), wanted: argocd(|_| {}).map(Arc::new) };
    let next = || BTreeMap::from([("cluster-eu".to_owned(), entry.clone())]);
    let followed = |has_changed, is_current| Followed { has_changed, is_current };
    assert_eq!(origin.take(next()), followed(true, true));
    assert_eq!(origin.take(next()), followed(false, true));
    assert_eq!(origin.miss(unread(false)), followed(false, false));
    // The right is taken away: that is told, and other replicas see the same.
    assert_eq!(origin.miss(unread(true)), followed(true, true));
    assert_eq!(origin.miss(unread(true)), followed(false, true));
    let told = "cluster Secrets of Argo CD in namespace argocd: why";
    assert_eq!((origin.refused().as_deref(), origin.wanted().count()), (Some(told), 1));
    assert_eq!(origin.take(next()), followed(true, true));
    assert_eq!(origin.refused(), None);

    let [mut silent] = <[Origin; 1]>::try_from(origins.each()).ok().unwrap();
    for _ in 1..GIVEN_UP {
        assert_eq!(silent.miss(unread(false)), followed(false, false));
        assert!(!silent.is_answered());
    }
    assert_eq!(silent.miss(unread(false)), followed(true, false));
    assert!(silent.is_answered());
}
