//! Tests of what is accepted as a kubeconfig, and of the words for what is not.

use gatehouse_certs::issue::{Authority, Leaf, Usage};

use super::*;

/// A kubeconfig with a token, after a change.
fn kubeconfig(change: impl FnOnce(&mut Value)) -> String {
    let mut document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "spoke", "cluster": {"server": "https://spoke.example:6443"}}],
        "users": [{"name": "hub", "user": {"token": "s3cret"}}],
        "contexts": [{"name": "only", "context": {"cluster": "spoke", "user": "hub"}}],
        "current-context": "only",
    });
    change(&mut document);
    document.to_string()
}

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let refused = Credential::parse(&kubeconfig(change), None).expect_err("refused");
    assert_eq!(&*refused.reason, REASON);
    refused.message.to_string()
}

fn base64(bytes: &[u8]) -> Value {
    serde_json::to_value(ByteString(bytes.to_vec())).unwrap()
}

#[test]
fn a_token_and_its_end_are_read() {
    let parsed = Credential::parse(&kubeconfig(|_| {}), None).unwrap();
    assert_eq!((parsed.server.as_str(), parsed.expires), ("https://spoke.example:6443/", None));
    // {"alg":"none"} . {"exp":1800000000}
    let jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDAwMDB9.c2ln";
    let with_end = kubeconfig(|document| document["users"][0]["user"]["token"] = jwt.into());
    assert_eq!(Credential::parse(&with_end, None).unwrap().expires, Some(1_800_000_000));
}

#[tokio::test]
async fn a_certificate_is_read_and_makes_a_client() {
    let authority = Authority::new("spoke").unwrap();
    let leaf = Leaf {
        common_name: "hub".into(),
        organization: None,
        dns_names: Vec::new(),
        ips: Vec::new(),
        usage: Usage::ClientAuth,
        lifetime: std::time::Duration::from_hours(1),
    };
    let pair = authority.issue(&leaf).unwrap();
    let text = kubeconfig(|document| {
        document["clusters"][0]["cluster"]["certificate-authority-data"] =
            base64(authority.certificate_pem().as_bytes());
        document["users"][0]["user"] = json!({
            "client-certificate-data": base64(pair.certificate_pem.as_bytes()),
            "client-key-data": base64(pair.key_pem.as_bytes()),
        });
    });
    let parsed = Credential::parse(&text, None).unwrap();
    let ends = parsed.expires.unwrap() - jiff::Timestamp::now().as_second();
    assert!((3_000..=3_600).contains(&ends), "{ends}");
    super::super::connection::Connection::with(&parsed).await.unwrap();
}

#[test]
fn what_would_run_or_read_or_trust_anything_is_refused_by_name() {
    let user = |field: &'static str, value: Value| {
        refusal(move |document| document["users"][0]["user"][field] = value)
    };
    let exec = user("exec", json!({"command": "rm"}));
    assert_eq!(exec, "users[0].user.exec: would run a program: use a token or a client certificate");
    assert!(user("auth-provider", json!({"name": "gcp"})).starts_with("users[0].user.auth-provider: "));
    for field in ["tokenFile", "client-certificate", "client-key"] {
        let expected = format!("users[0].user.{field}: names a file: put its content into the Secret");
        assert_eq!(user(field, "/etc/passwd".into()), expected);
    }
    assert!(user("password", "hunter2".into()).starts_with("users[0].user.password: "));
    assert!(user("as", "admin".into()).starts_with("users[0].user.as: is not supported"));
    let cluster = |field: &'static str, value: Value| {
        refusal(move |document| document["clusters"][0]["cluster"][field] = value)
    };
    assert!(cluster("certificate-authority", "/ca".into()).contains("certificate-authority: names a file"));
    assert!(cluster("insecure-skip-tls-verify", true.into()).contains("would trust any server"));
    assert!(cluster("proxy-url", "http://p".into()).contains("proxy-url: is not supported"));
    assert!(
        Credential::parse(
            &kubeconfig(|document| {
                document["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = false.into();
            }),
            None
        )
        .is_ok()
    );
}

#[test]
fn a_server_is_an_https_url_and_a_ca_is_a_certificate() {
    let server = |text: &'static str| {
        refusal(move |document| document["clusters"][0]["cluster"]["server"] = text.into())
    };
    assert!(server("http://a").ends_with("server: must begin with https://"));
    assert!(server("https://a?x=1").contains("and nothing else"));
    assert!(server("https://u:p@a").contains("and nothing else"));
    assert!(server("spoke").contains("clusters[0].cluster.server: is not a URL"));
    assert!(server("").contains("clusters[0].cluster.server: is missing"));
    let ca = |value: Value| {
        refusal(move |document| document["clusters"][0]["cluster"]["certificate-authority-data"] = value)
    };
    assert_eq!(ca("%%".into()), "clusters[0].cluster.certificate-authority-data: is not base64");
    let garbage = ca(base64(b"hello"));
    assert!(garbage.starts_with("clusters[0].cluster.certificate-authority-data: "), "{garbage}");
}

#[test]
fn there_is_one_context_and_one_credential() {
    let two = refusal(|document| {
        let other = document["contexts"][0].clone();
        document["contexts"].as_array_mut().unwrap().push(other);
    });
    assert_eq!(two, "contexts: has 2 entries; must have exactly one");
    assert_eq!(refusal(|document| document["contexts"] = Value::Null), "contexts: is missing, or not a list");
    assert!(refusal(|document| document["current-context"] = "b".into()).starts_with("current-context: "));
    assert!(refusal(|document| document["clusters"][0]["name"] = "b".into()).starts_with("clusters: lacks"));
    let none = refusal(|document| document["users"][0]["user"] = json!({}));
    assert_eq!(none, "users[0].user: has neither a token nor a client certificate");
    let both = refusal(|document| document["users"][0]["user"]["client-key-data"] = "QQ==".into());
    assert_eq!(both, "users[0].user: has a token and a client certificate; keep one");
}

#[test]
fn no_message_shows_what_is_secret() {
    for text in ["token: s3cret: x", "- s3cret", "s3cret", "", "\u{0}", "{\"contexts\": \"s3cret\"}"] {
        let refused = Credential::parse(text, None).expect_err("refused");
        assert!(!refused.message.contains("s3cret"), "{}", refused.message);
    }
}
