//! Reads the kubeconfig of a remote cluster, strictly: it comes from a Secret, so that it must run nothing, read no
//! file, trust no server blindly, and carry one credential. Every refusal names the field. Other origins have the same
//! fields under other names.
//!
//! **Invariant:** no message contains a value of a kubeconfig, apart from the server's host.

use gatehouse_certs::expiry;
use gatehouse_inventory::{Refusal, Seconds};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use url::Url;

/// What a refused kubeconfig is called in a condition.
const REASON: &str = "InvalidKubeconfig";
/// The fields of a cluster and of a user that are known, and harmless or used.
pub(super) const CLUSTER_FIELDS: [&str; 5] =
    ["server", "certificate-authority-data", "tls-server-name", "disable-compression", "extensions"];
const USER_FIELDS: [&str; 4] = ["token", "client-certificate-data", "client-key-data", "extensions"];

/// How to reach a cluster, and as whom.
pub(super) struct Credential {
    /// The address of the API server.
    pub(super) server: Url,
    /// When the token or the certificate expires.
    pub(super) expires: Option<Seconds>,
    /// A kubeconfig with the fields that are used, and no others.
    pub(super) document: Value,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

impl Credential {
    /// Reads a kubeconfig. Without the name of a context it must have exactly one.
    pub(super) fn parse(text: &str, context: Option<&str>) -> Result<Self, Refusal> {
        let document = document(text)?;
        let (cluster_name, user_name) = names(&document, context)?;
        let (cluster_at, cluster) = named(&document, "clusters", "cluster", cluster_name)?;
        let (user_at, user) = named(&document, "users", "user", user_name)?;
        known_fields(&cluster_at, cluster, &CLUSTER_FIELDS)?;
        known_fields(&user_at, user, &USER_FIELDS)?;
        Self::of(cluster, user, |field| match field {
            "" => user_at.clone(),
            field if CLUSTER_FIELDS.contains(&field) => format!("{cluster_at}.{field}"),
            field => format!("{user_at}.{field}"),
        })
    }

    /// Checks a cluster and a user whose fields are named as in a kubeconfig, and are known. `at` tells where such a field
    /// was found, and for "" where the user was.
    pub(super) fn of(cluster: &Value, user: &Value, at: impl Fn(&str) -> String) -> Result<Self, Refusal> {
        let server = server(&at("server"), text_of(cluster, "server"))?;
        if let Some(data) = text_of(cluster, "certificate-authority-data") {
            let field = at("certificate-authority-data");
            expiry::of_pem(&decoded(&field, data)?).map_err(|error| refused(&field, error))?;
        }
        let expires = credential(at, user)?;
        let mut used_cluster = json!({"server": server.as_str()});
        copy(cluster, &mut used_cluster, &CLUSTER_FIELDS[1..3]);
        let mut used_user = json!({});
        copy(user, &mut used_user, &USER_FIELDS[..3]);
        let document = json!({
            "clusters": [{"name": "cluster", "cluster": used_cluster}],
            "users": [{"name": "user", "user": used_user}],
            "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "context",
        });
        Ok(Self { server, expires, document })
    }
}

/// The user of a context of a kubeconfig, and where it is. Its cluster is not looked at.
pub(super) fn of_user(text: &str, context: Option<&str>) -> Result<(String, Value), Refusal> {
    let document = document(text)?;
    let (_, user_name) = names(&document, context)?;
    let (user_at, user) = named(&document, "users", "user", user_name)?;
    known_fields(&user_at, user, &USER_FIELDS)?;
    Ok((user_at, user.clone()))
}

fn document(text: &str) -> Result<Value, Refusal> {
    let document: Value = serde_saphyr::from_str(text).map_err(|_| refused("kubeconfig", "is not YAML"))?;
    if document.is_object() { Ok(document) } else { Err(refused("kubeconfig", "is not a kubeconfig")) }
}

/// The names of the cluster and the user of the context with this name, or of the only one.
fn names<'a>(document: &'a Value, name: Option<&str>) -> Result<(&'a str, &'a str), Refusal> {
    let (at, context) = match name {
        Some(name) => named(document, "contexts", "context", name)?,
        None => only_context(document)?,
    };
    let of = |field: &str| {
        let name = context[field].as_str();
        name.ok_or_else(|| refused(&format!("{at}.{field}"), "is missing"))
    };
    Ok((of("cluster")?, of("user")?))
}

fn only_context(document: &Value) -> Result<(String, &Value), Refusal> {
    let contexts = list(document, "contexts")?;
    let [context] = contexts.as_slice() else {
        return Err(refused("contexts", format!("has {} entries; must have exactly one", contexts.len())));
    };
    if let Some(current) = text_of(document, "current-context")
        && Some(current) != context["name"].as_str()
    {
        return Err(refused("current-context", "is not the only context"));
    }
    Ok(("contexts[0].context".to_owned(), &context["context"]))
}

/// The entry of a list with this name, and the path of what it holds.
fn named<'a>(
    document: &'a Value,
    list_name: &str,
    holds: &str,
    name: &str,
) -> Result<(String, &'a Value), Refusal> {
    let entries = list(document, list_name)?;
    let found: Vec<_> = entries.iter().enumerate().filter(|(_, entry)| entry["name"] == name).collect();
    match found.as_slice() {
        [(at, entry)] => Ok((format!("{list_name}[{at}].{holds}"), &entry[holds])),
        [] => Err(refused(list_name, "lacks the entry that is named")),
        _ => Err(refused(list_name, "has several entries of the name that is named")),
    }
}

fn list<'a>(document: &'a Value, field: &str) -> Result<&'a Vec<Value>, Refusal> {
    document[field].as_array().ok_or_else(|| refused(field, "is missing, or not a list"))
}

/// Refuses fields that would run a program, read a file, or are not known.
pub(super) fn known_fields(at: &str, holder: &Value, known: &[&str]) -> Result<(), Refusal> {
    let fields = holder.as_object().ok_or_else(|| refused(at, "is missing"))?;
    for (field, value) in fields {
        let is_empty = matches!(value, Value::Null | Value::Bool(false)) || value == "";
        if is_empty || known.contains(&field.as_str()) {
            continue;
        }
        let why = match field.as_str() {
            "exec" | "auth-provider" | "execProviderConfig" | "awsAuthConfig" => {
                "would run a program: use a token or a client certificate"
            }
            "certificate-authority" | "tokenFile" | "client-certificate" | "client-key" => {
                "names a file: put its content into the Secret"
            }
            "insecure-skip-tls-verify" => "would trust any server: use certificate-authority-data",
            "insecure" => "would trust any server: use caData",
            "username" | "password" => "is not accepted by Kubernetes any more: use a token",
            _ => "is not supported",
        };
        // An unknown name may be anything.
        let field: String = field.chars().filter(char::is_ascii_graphic).take(64).collect();
        return Err(refused(&format!("{at}.{field}"), why));
    }
    Ok(())
}

fn server(field: &str, text: Option<&str>) -> Result<Url, Refusal> {
    let text = text.ok_or_else(|| refused(field, "is missing"))?;
    let url = Url::parse(text).map_err(|error| refused(field, format!("is not a URL: {error}")))?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match url.scheme() {
        "https" if is_plain => Ok(url),
        "https" => Err(refused(field, "must be scheme, host, port and path, and nothing else")),
        _ => Err(refused(field, "must begin with https://")),
    }
}

/// Checks that there is one credential. Returns when it expires, if it says so.
fn credential(at: impl Fn(&str) -> String, user: &Value) -> Result<Option<Seconds>, Refusal> {
    let [token, certificate, key] =
        [USER_FIELDS[0], USER_FIELDS[1], USER_FIELDS[2]].map(|f| text_of(user, f));
    match (token, certificate, key) {
        (Some(token), None, None) => {
            if token.chars().all(|c| c.is_ascii_graphic()) {
                Ok(token_expiry(token))
            } else {
                Err(refused(&at("token"), "has characters that no token has"))
            }
        }
        (None, Some(certificate), Some(key)) => {
            decoded(&at(USER_FIELDS[2]), key)?;
            let field = at(USER_FIELDS[1]);
            let validity = expiry::of_pem(&decoded(&field, certificate)?);
            let validity = validity.map_err(|error| refused(&field, error))?;
            let ends = validity.not_after.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Ok(Seconds::try_from(ends.as_secs()).ok())
        }
        (None, Some(_), None) => Err(refused(&at(USER_FIELDS[2]), "is missing")),
        (None, None, Some(_)) => Err(refused(&at(USER_FIELDS[1]), "is missing")),
        (None, None, None) => Err(refused(&at(""), "has neither a token nor a client certificate")),
        (Some(_), ..) => Err(refused(&at(""), "has a token and a client certificate; keep one")),
    }
}

/// The claim `exp` of a token that is a JWT. Nothing is decided by it, so that its signature does not matter.
fn token_expiry(token: &str) -> Option<Seconds> {
    let claims = token.split('.').nth(1)?.replace('-', "+").replace('_', "/");
    let padded = format!("{claims}{}", "=".repeat((4 - claims.len() % 4) % 4));
    let bytes: ByteString = serde_json::from_value(padded.into()).ok()?;
    let claims: Value = serde_json::from_slice(&bytes.0).ok()?;
    claims["exp"].as_i64()
}

fn decoded(field: &str, data: &str) -> Result<Vec<u8>, Refusal> {
    // Line breaks are common in base64 that somebody pasted.
    let data: String = data.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes: Result<ByteString, _> = serde_json::from_value(data.into());
    bytes.map(|bytes| bytes.0).map_err(|_| refused(field, "is not base64"))
}

fn text_of<'a>(holder: &'a Value, field: &str) -> Option<&'a str> {
    holder[field].as_str().filter(|text| !text.is_empty())
}

fn copy(from: &Value, to: &mut Value, fields: &[&str]) {
    for field in fields {
        if let Some(text) = text_of(from, field) {
            let is_data = field.ends_with("-data");
            let text = if is_data { text.split_ascii_whitespace().collect() } else { text.to_owned() };
            to[*field] = text.into();
        }
    }
}

/// A refusal that names the field.
pub(super) fn refused(field: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal { reason: REASON.into(), message: format!("{field}: {why}").into() }
}

#[cfg(test)]
mod tests;
