//! Who asks a registry: what Docker's configuration says, as `docker pull` reads it. It holds credentials itself
//! (`auths`), or names a program that has them (`credHelpers`, `credsStore`).
//!
//! **Invariant:** No secret is in an error or a log, and no shell is involved. A program is only taken from an absolute
//! folder of `PATH`: what is checked cannot bring one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use http::HeaderValue;
use k8s_openapi::ByteString;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

/// For one program. It may ask a server, or a user.
const TIMEOUT: Duration = Duration::from_secs(30);
/// More than any token has.
const MOST: u64 = 64 << 10;
/// The name of an identity token in place of a user.
const TOKEN: &str = "<token>";
/// Docker Hub, as `docker login` names it.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Credentials.
pub(super) enum Login {
    /// The value of `Authorization`.
    Basic(HeaderValue),
    /// A token that the server of tokens takes instead of a password.
    Identity(String),
}

/// What is known about a registry.
#[derive(Default)]
pub(super) struct Known {
    pub(super) login: Option<Login>,
    /// The credential helper that was asked, and what came of it.
    pub(super) helper: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: Option<BTreeMap<String, Entry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Reads what `file`, Docker's configuration, has for a registry. Without a file nothing is known.
pub(super) async fn of(registry: &str, file: Option<&Path>) -> anyhow::Result<Known> {
    let Some(text) = file.and_then(|file| std::fs::read_to_string(file).ok()) else {
        return Ok(Known::default());
    };
    // The parser's own message may quote a secret.
    let config: Config = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow::anyhow!("the configuration of docker cannot be read (line {line}, column {column})")
    })?;
    let server = if is_docker_hub(registry) { DOCKER_HUB } else { registry };
    let mut known = Known::default();
    if let Some(helper) = config.helper(server) {
        let program = format!("docker-credential-{helper}");
        match ask(&program, server).await {
            Ok(Some(login)) => {
                let helper = Some(format!("credentials are those of {program}"));
                return Ok(Known { login: Some(login), helper });
            }
            Ok(None) => known.helper = Some(format!("{program} has no credentials for {server}")),
            Err(why) => known.helper = Some(format!("{program}: {why}")),
        }
    }
    known.login = config.login(server)?;
    Ok(known)
}

impl Config {
    /// The program that is asked about a server. An empty name means none.
    fn helper(&self, server: &str) -> Option<&str> {
        let own = of_server(self.cred_helpers.as_ref(), server);
        own.or(self.creds_store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn login(&self, server: &str) -> anyhow::Result<Option<Login>> {
        let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        let Some(auth) = of_server(self.auths.as_ref(), server) else { return Ok(None) };
        if let Some(token) = text(&auth.identitytoken) {
            return Ok(Some(Login::Identity(token)));
        }
        if let Some(encoded) = text(&auth.auth) {
            return Ok(Some(Login::Basic(secret(&format!("Basic {encoded}"))?)));
        }
        let pair = text(&auth.username).zip(text(&auth.password));
        pair.map(|(user, password)| basic(&user, &password)).transpose()
    }
}

/// What a map has for a server, whose name may be written as a URL.
fn of_server<'a, T>(map: Option<&'a BTreeMap<String, T>>, server: &str) -> Option<&'a T> {
    let map = map?;
    map.get(server).or_else(|| {
        let is_it = |name: &str| host(name) == host(server) || (is_docker_hub(name) && server == DOCKER_HUB);
        map.iter().find(|(name, _)| is_it(name)).map(|(_, value)| value)
    })
}

fn host(name: &str) -> &str {
    let name = name.strip_prefix("https://").or(name.strip_prefix("http://")).unwrap_or(name);
    name.split('/').next().unwrap_or_default()
}

fn is_docker_hub(name: &str) -> bool {
    matches!(host(name), "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// The answer of a credential helper.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a program for the credentials of a server; `None` if it has none. The error says what is wrong with it.
async fn ask(program: &str, server: &str) -> Result<Option<Login>, String> {
    let is_name = program.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    let path = is_name.then(|| find(program)).flatten();
    let path = path.ok_or("there is no such program in a folder of PATH")?;
    let (status, answer) = run(&path, server, TIMEOUT).await?;
    if !status.success() {
        let message = said(&answer);
        let has_none = message == "credentials not found in native keychain";
        return if has_none { Ok(None) } else { Err(format!("{status}: {message}")) };
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| "its answer is not JSON with Username and Secret".to_owned())?;
    match answer {
        Answer { secret, .. } if secret.is_empty() => Ok(None),
        Answer { username, secret } if username == TOKEN => Ok(Some(Login::Identity(secret))),
        Answer { username, secret } => basic(&username, &secret).map(Some).map_err(|error| error.to_string()),
    }
}

/// Runs a helper: how it ended, and what it printed.
async fn run(path: &Path, server: &str, limit: Duration) -> Result<(ExitStatus, Vec<u8>), String> {
    let mut command = Command::new(path);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        command.kill_on_drop(true).spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let answered = async {
        if let Some(mut stdin) = stdin {
            // One that does not read this may answer nevertheless.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MOST).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    match tokio::time::timeout(limit, answered).await {
        Ok(answered) => answered.map_err(|error| format!("does not answer: {error}")),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// The file of a program. Relative folders of `PATH` are passed over: they may be part of what is checked.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The error that a helper prints on its standard output, if it is a line of words. Anything else may be a secret.
fn said(answer: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(answer);
    let text = text.trim();
    let is_line = text.contains(' ') && text.len() <= LONGEST && !text.contains(['{', '\n']);
    let text = if is_line { text } else { "it says nothing that can be shown" };
    text.chars().filter(|letter| !letter.is_control()).collect()
}

fn basic(user: &str, password: &str) -> anyhow::Result<Login> {
    // Kubernetes writes bytes in base64, as HTTP does.
    let encoded = serde_json::json!(ByteString(format!("{user}:{password}").into_bytes()));
    Ok(Login::Basic(secret(&format!("Basic {}", encoded.as_str().unwrap_or_default()))?))
}

/// The value of a header that is never shown.
pub(super) fn secret(text: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).context("credentials that no header can hold")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_written_in_several_ways() {
        let config: Config = serde_json::from_str(
            r#"{"credHelpers": {"https://ghcr.io/v1/": "a", "docker.io": "b", "none.example.com": ""},
                "credsStore": "all", "auths": null}"#,
        )
        .expect("JSON");
        assert_eq!(config.helper("ghcr.io"), Some("a"));
        assert_eq!(config.helper(DOCKER_HUB), Some("b"));
        assert_eq!(config.helper("none.example.com"), None);
        assert_eq!(config.helper("io"), Some("all"));
    }

    #[tokio::test]
    async fn a_helper_that_never_answers_is_given_up() {
        for name in ["docker-credential-of-nobody", "../sh", "/bin/sh", ""] {
            let asked = ask(name, "ghcr.io").await;
            assert_eq!(
                asked.err().as_deref(),
                Some("there is no such program in a folder of PATH"),
                "{name}"
            );
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("helper");
        // Written by another process: a file that is open for writing here cannot be executed.
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "printf '#!/bin/sh\\nexec sleep 600\\n' > \"$1\" && chmod +x \"$1\"", "sh"])
            .arg(&path);
        assert!(shell.status().expect("a shell").success());
        let asked = run(&path, "ghcr.io", Duration::from_secs(1)).await;
        assert_eq!(asked.err().as_deref(), Some("no answer within 1 s"));
    }
}
