//! Policies from elsewhere, fetched from a server on this machine.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use sha2::{Digest as _, Sha256};

use crate::{BAD, Files, GOOD, STRICT};

/// An answer: status, headers, body.
type Answer = (u16, String, Vec<u8>);

/// A server that gives fixed answers, for as long as the test runs.
struct Server {
    host: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    /// Path and `Authorization` of each request. That of a form is `POST PATH FORM`.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (answers, asked) =
            (Arc::<Mutex<HashMap<String, Answer>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (known, log) = (Arc::clone(&answers), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let first = reader.by_ref().lines().next().unwrap().unwrap();
                let (method, path) = first.split_once(' ').unwrap();
                let mut path = path.split(' ').next().unwrap().to_owned();
                let headers: Vec<String> = reader
                    .by_ref()
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let header = |name: &str| {
                    let found = headers.iter().find_map(|line| line.strip_prefix(name));
                    found.unwrap_or_default().to_owned()
                };
                let authorization = header("authorization: ");
                if method == "POST" {
                    let mut form = vec![0; header("content-length: ").parse().unwrap()];
                    reader.read_exact(&mut form).unwrap();
                    let form = String::from_utf8(form).unwrap();
                    let answer = known.lock().unwrap().get(&format!("POST {path}")).cloned();
                    path = format!("POST {path} {form}");
                    if let Some(answer) = answer {
                        known.lock().unwrap().insert(path.clone(), answer);
                    }
                }
                let key =
                    if authorization.is_empty() { path.clone() } else { format!("{path} {authorization}") };
                let answers = known.lock().unwrap().clone();
                let answer = answers.get(&key).or(answers.get(&path)).cloned();
                log.lock().unwrap().push((path, authorization));
                let (status, headers, body) = answer.unwrap_or((404, String::new(), Vec::new()));
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self { host, answers, asked }
    }

    fn answer(&self, path: &str, status: u16, headers: &str, body: impl Into<Vec<u8>>) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, headers.to_owned(), body.into()));
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A `.tar.gz` of files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        // As it is, without what the library would refuse to write.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn strict() -> Vec<u8> {
    std::fs::read(STRICT).unwrap()
}

fn check(files: &Files, policies: &str) -> crate::Checked {
    let mut command = files.command(&["bad.yaml", "--policies", policies]);
    command.env("DOCKER_CONFIG", files.path("docker")).env_remove("HTTPS_PROXY");
    crate::Checked::from(command.output().unwrap())
}

#[test]
fn a_file_or_archive_at_a_url_is_read() {
    let (server, files) = (Server::start(), Files::new(&[("bad.yaml", BAD)]));
    server.answer("/strict.yaml", 200, "", strict());
    let url = format!("http://{}/strict.yaml", server.host);
    let found = check(&files, &url);
    assert_eq!((found.code, found.findings().len()), (1, 5), "{found:?}");
    let pinned = |digest: &str| check(&files, &format!("{url}#sha256={digest}"));
    assert_eq!(pinned(&digest(&strict())).code, 1);
    pinned(&"0".repeat(64)).expect(2, &["the digest is sha256:", ", not sha256:0000"]);
    pinned("12").expect(2, &["\"12\" is no SHA-256 digest"]);
    // An archive, where what is named leads nowhere, and a redirect to it.
    let content = strict();
    let bytes = archive(&[
        ("./p/strict.yaml", &content),
        ("../../escape.yaml", b"x"),
        ("README.md", b"x"),
        (".hidden.yaml", b"a: ["),
    ]);
    server.answer("/all.tar.gz", 200, "", bytes);
    server.answer("/latest", 302, "Location: /all.tar.gz\r\n", "");
    let found = check(&files, &format!("http://{}/latest", server.host));
    assert_eq!((found.code, found.findings().len()), (1, 5), "{found:?}");
    assert!(!files.path("../escape.yaml").exists());
    // A policy that does not compile is reported with its address.
    server.answer(
        "/strict.yaml",
        200,
        "",
        String::from_utf8(content).unwrap().replace("min: 1m", "min: often"),
    );
    check(&files, &url)
        .expect(2, &["/strict.yaml:11:16: error: ReconcilePolicy strict: spec.rules.interval.min"]);
}

#[test]
fn what_cannot_be_fetched_is_bad_input() {
    let (server, files) = (Server::start(), Files::new(&[("bad.yaml", BAD)]));
    let at = |path: &str| format!("http://{}{path}", server.host);
    check(&files, &at("/absent")).expect(2, &["answers 404"]);
    server.answer("/loop", 302, "Location: /loop\r\n", "");
    check(&files, &at("/loop")).expect(2, &["more than 5 redirects"]);
    server.answer("/out", 302, "Location: http://example.com/p.yaml\r\n", "");
    check(&files, &at("/out"))
        .expect(2, &["http://example.com/p.yaml: https is required, but for this machine"]);
    server.answer("/damaged", 200, "", b"\x1f\x8bnothing".to_vec());
    check(&files, &at("/damaged")).expect(2, &["the archive is damaged"]);
    server.answer("/none", 200, "", archive(&[("README.md", b"x")]));
    check(&files, &at("/none")).expect(2, &["holds no manifest"]);
    check(&files, "http://example.com/p.yaml").expect(2, &["https is required, but for this machine"]);
    check(&files, "ftp://example.com/p.yaml").expect(2, &["neither a path, nor https:// or oci://"]);
    check(&files, "http://127.0.0.1:1/p.yaml")
        .expect(2, &["--policies http://127.0.0.1:1/p.yaml: ", "refused"]);
}

#[test]
fn an_artifact_is_read_by_its_digest() {
    let (server, files) = (Server::start(), Files::new(&[("bad.yaml", BAD)]));
    let content = strict();
    let layer = archive(&[("strict.yaml", &content)]);
    let manifest = format!(
        "{{\"schemaVersion\": 2, \"layers\": [{{\"mediaType\": \"application/vnd.cncf.flux.content.v1.tar+gzip\", \"digest\": \"sha256:{}\", \"size\": {}}}]}}",
        digest(&layer),
        layer.len()
    );
    let (manifest_at, blob_at) = (
        format!("/v2/my-org/policies/manifests/sha256:{}", digest(manifest.as_bytes())),
        format!("/v2/my-org/policies/blobs/sha256:{}", digest(&layer)),
    );
    server.answer(&manifest_at, 200, "", manifest.clone());
    server.answer(&blob_at, 200, "", layer.clone());
    let name = format!("oci://{}/my-org/policies@sha256:{}", server.host, digest(manifest.as_bytes()));
    let found = check(&files, &name);
    assert_eq!((found.code, found.findings().len()), (1, 5), "{found:?}");
    // A registry that wants a token, which it gives to whoever `docker login` knows.
    let challenge =
        format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"reg\"\r\n", server.host);
    server.answer(&manifest_at, 401, &challenge, "");
    server.answer(&blob_at, 401, &challenge, "");
    let token = "/token?service=reg&scope=repository%3Amy%2Dorg%2Fpolicies%3Apull";
    server.answer(token, 200, "", "{\"token\": \"anonymous\"}");
    check(&files, &name).expect(2, &["answers 401 Unauthorized (credentials are those of `docker login`)"]);
    server.answer(&format!("{token} Basic amFuZTpzZWNyZXQ="), 200, "", "{\"token\": \"t\"}");
    server.answer(&format!("{manifest_at} Bearer t"), 200, "", manifest.clone());
    // The blob is elsewhere, where the token has no business.
    let other = Server::start();
    other.answer("/blob", 200, "", layer.clone());
    server.answer(
        &format!("{blob_at} Bearer t"),
        307,
        &format!("Location: http://{}/blob\r\n", other.host),
        "",
    );
    files.write(
        "docker/config.json",
        format!("{{\"auths\": {{\"{}\": {{\"auth\": \"amFuZTpzZWNyZXQ=\"}}}}}}", server.host),
    );
    let found = check(&files, &name);
    assert_eq!((found.code, found.findings().len()), (1, 5), "{found:?}");
    assert_eq!(*other.asked.lock().unwrap(), [("/blob".to_owned(), String::new())]);
    // What is served is not what was named.
    other.answer("/blob", 200, "", archive(&[("other.yaml", b"a: b")]));
    check(&files, &name).expect(2, &["the layer: the digest is sha256:"]);
    server.answer(&format!("{manifest_at} Bearer t"), 200, "", manifest.replace("flux", "flax"));
    check(&files, &name).expect(2, &["the manifest: the digest is sha256:"]);
}

#[test]
fn an_artifact_without_a_digest_is_refused() {
    let files = Files::new(&[("bad.yaml", BAD)]);
    check(&files, "oci://ghcr.io/my-org/policies:v1")
        .expect(2, &["oci://REGISTRY/REPOSITORY@sha256:DIGEST: a tag may be moved"]);
    check(&files, "oci://ghcr.io/my-org/policies@sha256:12").expect(2, &["\"12\" is no SHA-256 digest"]);
    check(&files, "oci://ghcr.io@sha256:12").expect(2, &["\"12\" is no SHA-256 digest"]);
    let digest = "0".repeat(64);
    check(&files, &format!("oci://ghcr.io/../x@sha256:{digest}")).expect(2, &["is no repository"]);
    check(&files, &format!("oci://ghcr.io@sha256:{digest}")).expect(2, &["an artifact is named oci://"]);
}

/// A program on `PATH` that answers as a credential helper. It is written by another process: one that this process
/// writes may be open in a process that another test starts, and could not be executed then.
fn helper(files: &Files, name: &str, script: &str) {
    let (folder, file) = (files.path("bin"), files.path(&format!("bin/docker-credential-{name}")));
    std::fs::create_dir_all(folder).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod +x \"$2\"", "sh", script])
        .arg(file);
    assert!(shell.status().unwrap().success());
}

/// With the helpers on `PATH`, which this process has too: helpers call `cat`.
fn check_with_helpers(files: &Files, policies: &str) -> crate::Checked {
    let path = format!("{}:{}", files.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = files.command(&["bad.yaml", "--policies", policies]);
    command.env("DOCKER_CONFIG", files.path("docker")).env("PATH", path).env_remove("HTTPS_PROXY");
    crate::Checked::from(command.output().unwrap())
}

/// An artifact of the example policy that `authorization` may read, with its address.
fn artifact(server: &Server, authorization: &str, challenge: &str) -> String {
    let layer = archive(&[("strict.yaml", &strict())]);
    let manifest = format!(
        "{{\"layers\": [{{\"mediaType\": \"application/vnd.cncf.flux.content.v1.tar+gzip\", \"digest\": \"sha256:{}\"}}]}}",
        digest(&layer)
    );
    let named = digest(manifest.as_bytes());
    for (path, body) in [
        (format!("/v2/my-org/policies/manifests/sha256:{named}"), manifest.into_bytes()),
        (format!("/v2/my-org/policies/blobs/sha256:{}", digest(&layer)), layer),
    ] {
        server.answer(&path, 401, challenge, "");
        server.answer(&format!("{path} {authorization}"), 200, "", body);
    }
    format!("oci://{}/my-org/policies@sha256:{named}", server.host)
}

const ANSWERS: &str = "test \"$1\" = get && test \"$(cat)\" = \"$(cat \"$0.server\")\" && \
                       echo '{\"ServerURL\": \"x\", \"Username\": \"jane\", \"Secret\": \"hunter-2\"}'";

#[test]
fn a_credential_helper_is_asked() {
    let (server, files) = (Server::start(), Files::new(&[("bad.yaml", BAD)]));
    // base64 of jane:hunter-2
    let name = artifact(&server, "Basic amFuZTpodW50ZXItMg==", "WWW-Authenticate: Basic realm=\"r\"\r\n");
    helper(&files, "own", ANSWERS);
    files.write("bin/docker-credential-own.server", &server.host);
    let own = format!("{{\"credHelpers\": {{\"{}\": \"own\"}}, \"credsStore\": \"absent\"}}", server.host);
    for config in [own.as_str(), "{\"credsStore\": \"own\"}"] {
        files.write("docker/config.json", config);
        let found = check_with_helpers(&files, &name);
        assert_eq!((found.code, found.findings().len()), (1, 5), "{found:?}");
    }
    // A file of the folder that is checked is no program, even if PATH says so.
    files.write("docker/config.json", "{\"credsStore\": \"own\"}");
    let mut command = files.command(&["bad.yaml", "--policies", &name]);
    command.env("DOCKER_CONFIG", files.path("docker")).env("PATH", "bin::.");
    crate::Checked::from(command.output().unwrap())
        .expect(2, &["docker-credential-own: there is no such program in a folder of PATH"]);
}

#[test]
fn what_a_credential_helper_lacks_is_told_without_its_secret() {
    let (server, files) = (Server::start(), Files::new(&[("bad.yaml", BAD)]));
    let name = artifact(&server, "Basic eDp5", "WWW-Authenticate: Basic realm=\"r\"\r\n");
    for (script, told) in [
        ("echo 'credentials not found in native keychain'; exit 1", "has no credentials for 127.0.0.1:"),
        ("echo 'the keychain is locked'; exit 3", "exit status: 3: the keychain is locked"),
        ("echo '{\"Secret\": \"hunter-2\"}'; exit 1", "exit status: 1: it says nothing that can be shown"),
        ("echo hunter-2; exit 1", "it says nothing that can be shown"),
        ("echo '{\"Username\": 1, \"Secret\": \"hunter-2\"}'", "its answer is not JSON"),
        (
            "echo '{\"Username\": \"jane\", \"Secret\": \"hunter-2\"}'",
            "credentials are those of docker-credential-own",
        ),
        ("kill -9 $$", "signal: 9"),
        // Longer than a pipe holds.
        ("cat /dev/zero", "docker-credential-own: "),
    ] {
        helper(&files, "own", script);
        files.write("docker/config.json", "{\"credsStore\": \"own\"}");
        let found = check_with_helpers(&files, &name);
        found.expect(2, &[told]);
        assert!(!found.err.contains("hunter-2"), "{found:?}");
        // What the file itself has goes on to count.
        let config = format!(
            "{{\"credsStore\": \"own\", \"auths\": {{\"https://{}/v1/\": {{\"auth\": \"eDp5\"}}}}}}",
            server.host
        );
        files.write("docker/config.json", config);
        if !script.contains("jane") {
            assert_eq!(check_with_helpers(&files, &name).code, 1, "{script}");
        }
    }
    for (config, told) in [
        ("{\"credsStore\": \"../own\"}", "docker-credential-../own: there is no such program"),
        ("{\"auths\": \"hunter-2\"}", "the configuration of docker cannot be read (line 1, column 20)"),
    ] {
        files.write("docker/config.json", config);
        let found = check_with_helpers(&files, &name);
        found.expect(2, &[told]);
        assert!(!found.err.contains("hunter-2"), "{found:?}");
    }
}

#[test]
fn an_identity_token_is_exchanged() {
    let (server, files) = (Server::start(), Files::new(&[("bad.yaml", BAD)]));
    let challenge =
        format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"reg\"\r\n", server.host);
    let name = artifact(&server, "Bearer t", &challenge);
    helper(&files, "own", "echo '{\"Username\": \"<token>\", \"Secret\": \"hunter-2\"}'");
    files.write("docker/config.json", "{\"credsStore\": \"own\"}");
    server.answer("POST /token", 200, "", "{\"access_token\": \"t\"}");
    assert_eq!(check_with_helpers(&files, &name).code, 1);
    let sent = server.asked.lock().unwrap().iter().find(|(path, _)| path.starts_with("POST")).cloned();
    let form = "grant_type=refresh_token&client_id=gatehouse&service=reg&scope=repository%3Amy%2Dorg%2Fpolicies%3Apull&refresh_token=hunter%2D2";
    assert_eq!(sent, Some((format!("POST /token {form}"), String::new())));
    // It is sent to nobody else.
    let other = Server::start();
    server.answer("POST /token", 307, &format!("Location: http://{}/token\r\n", other.host), "");
    let found = check_with_helpers(&files, &name);
    found.expect(2, &["gives no token: 307"]);
    assert!(!found.err.contains("hunter"), "{found:?}");
    assert!(other.asked.lock().unwrap().is_empty());
}

/// A PolicyTest by the policies of `addresses`.
fn policy_test(files: &Files, addresses: &[&str]) -> crate::Checked {
    let suite = format!(
        "apiVersion: test.gatehouse.dev/v1alpha1\nkind: PolicyTest\nmetadata: {{name: remote}}\npolicies:\n- {}\ncases:\n\
         - name: too short\n  object: good.yaml\n  patch: {{spec: {{interval: 1s}}}}\n  \
         expect: {{decision: Denied, violations: [{{policy: strict, rule: interval}}]}}\n",
        addresses.join("\n- ")
    );
    files.write("suite.yaml", suite);
    files.write("good.yaml", GOOD);
    let mut command = files.subcommand("test", &["suite.yaml"]);
    command.env("DOCKER_CONFIG", files.path("docker")).env_remove("HTTPS_PROXY");
    crate::Checked::from(command.output().unwrap())
}

#[test]
fn a_policy_test_takes_policies_from_the_same_places() {
    let (server, files) = (Server::start(), Files::new(&[]));
    server.answer("/strict.yaml", 200, "", strict());
    let url = format!("http://{}/strict.yaml", server.host);
    let pinned = format!("{url}#sha256={}", digest(&strict()));
    let passed = ["1 case: 1 passed, 0 failed"];
    policy_test(&files, &[&url]).expect(0, &passed);
    policy_test(&files, &[&pinned]).expect(0, &passed);
    let name = artifact(&server, "Basic eDp5", "WWW-Authenticate: Basic realm=\"r\"\r\n");
    files.write(
        "docker/config.json",
        format!("{{\"auths\": {{\"{}\": {{\"auth\": \"eDp5\"}}}}}}", server.host),
    );
    policy_test(&files, &[&name]).expect(0, &passed);
    // What is wrong names the field and its line.
    let absent = format!("http://{}/absent", server.host);
    policy_test(&files, &[&absent, "ftp://x/y", &url, &url, "oci://ghcr.io/my-org/policies:v1"]).expect(
        2,
        &[
            &format!("suite.yaml:5:3: error: policies[0]: {absent}: {absent} answers 404"),
            "suite.yaml:6:3: error: policies[1]: ftp://x/y: neither a path, nor https:// or oci://",
            &format!("suite.yaml:8:3: error: policies[3]: {url} is there already"),
            "suite.yaml:9:3: error: policies[4]: oci://ghcr.io/my-org/policies:v1: an artifact is named",
        ],
    );
    server.answer(
        "/strict.yaml",
        200,
        "",
        String::from_utf8(strict()).unwrap().replace("min: 1m", "min: often"),
    );
    policy_test(&files, &[&url]).expect(2, &[&format!("{url}:11:16: error: ReconcilePolicy strict")]);
    policy_test(&files, &[&pinned]).expect(2, &["policies[0]: ", "the digest is sha256:"]);
    // Objects that exist are in files; and what no case needs is not fetched.
    let asked = server.asked.lock().unwrap().len();
    let suite = std::fs::read_to_string(files.path("suite.yaml")).unwrap();
    files.write("suite.yaml", suite.replace("cases:", &format!("existing: [\"{url}\"]\ncases:")));
    let test = |args: &[&str]| {
        let mut command = files.subcommand("test", args);
        crate::Checked::from(command.env_remove("HTTPS_PROXY").output().unwrap())
    };
    test(&["suite.yaml", "--run", "other/"]).expect(2, &["no case is selected"]);
    assert_eq!(server.asked.lock().unwrap().len(), asked);
    test(&["suite.yaml"]).expect(2, &["existing[0]: must be the path of a file or folder"]);
}
