//! Policies from elsewhere: `https://…` and `oci://…`, fetched before files are read.
//!
//! Nothing is trusted but what a digest vouches for or TLS brings: an OCI artifact is named by its digest, which is
//! compared, and so is each part of it. A URL may have a digest. Without TLS only this machine is asked. What is fetched is
//! bounded, and read in memory: nothing in an archive names a file of this machine.

mod archive;
mod http;
mod oci;

use std::path::{Path, PathBuf};

use anyhow::Context;
use gatehouse_check::{Files, Role};
use sha2::{Digest as _, Sha256};

use self::http::Client;

/// Policies, and where they are from.
pub(crate) enum Policies {
    /// A file or folder.
    Local(PathBuf),
    /// What was fetched: each file by the name it is shown by.
    Fetched(Vec<(String, Vec<u8>)>),
}

impl Policies {
    /// Reads them as policies.
    pub(crate) fn read_into(&self, files: &mut Files) {
        match self {
            Self::Local(path) => files.read(path, Role::Policies),
            Self::Fetched(fetched) => {
                for (name, bytes) in fetched {
                    files.add(name, bytes, Role::Policies);
                }
            }
        }
    }
}

/// Fetches what is elsewhere of `--policies`.
pub(crate) async fn fetch(paths: &[PathBuf]) -> anyhow::Result<Vec<Policies>> {
    let mut policies = Vec::new();
    let mut client = None;
    for path in paths {
        let Some((scheme, rest)) = path.to_str().and_then(|text| text.split_once("://")) else {
            policies.push(Policies::Local(path.clone()));
            continue;
        };
        let client = match &mut client {
            Some(client) => client,
            None => client.insert(Client::new()?),
        };
        let name = path.display().to_string();
        let fetched = match scheme {
            "oci" => oci::pull(client, rest).await,
            "https" | "http" => download(client, &name).await,
            _ => Err(anyhow::anyhow!("neither a path, nor https:// or oci://")),
        };
        let fetched = fetched.with_context(|| format!("--policies {name}"))?;
        anyhow::ensure!(!fetched.is_empty(), "--policies {name}: holds no manifest (*.yaml, *.yml, *.json)");
        policies.push(Policies::Fetched(named(&name, fetched)));
    }
    Ok(policies)
}

/// The files of an address: one as the address itself.
fn named(address: &str, files: Vec<(Option<String>, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let name = |below: Option<String>| match below {
        Some(below) => format!("{address}/{below}"),
        None => address.to_owned(),
    };
    files.into_iter().map(|(below, bytes)| (name(below), bytes)).collect()
}

/// Files by their names in an archive; a single one has none.
type Fetched = Vec<(Option<String>, Vec<u8>)>;

/// A file or an archive, whose digest may be given as `#sha256=…`.
async fn download(client: &Client, address: &str) -> anyhow::Result<Fetched> {
    let (url, fragment) = address.split_once('#').map_or((address, None), |(url, rest)| (url, Some(rest)));
    let digest = match fragment {
        None => None,
        Some(fragment) => {
            let digest = fragment.strip_prefix("sha256=").context("what follows # must be sha256=DIGEST")?;
            Some(hexadecimal(digest)?)
        }
    };
    let bytes = client.get(url).await?;
    if let Some(digest) = digest {
        verify(&bytes, digest)?;
    }
    if archive::is_gzip(&bytes) {
        return archive::manifests(&bytes);
    }
    Ok(vec![(None, bytes)])
}

/// A digest, checked for its form.
fn hexadecimal(digest: &str) -> anyhow::Result<&str> {
    let is_right = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    anyhow::ensure!(is_right, "{digest:?} is no SHA-256 digest: 64 hexadecimal digits");
    Ok(digest)
}

/// Whether bytes have a digest.
fn verify(bytes: &[u8], digest: &str) -> anyhow::Result<()> {
    let found = format!("{:x}", Sha256::digest(bytes));
    anyhow::ensure!(found == digest, "the digest is sha256:{found}, not sha256:{digest}");
    Ok(())
}

/// Whether a file is read for policies.
fn is_manifest(path: &Path) -> bool {
    let is_hidden = path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}
