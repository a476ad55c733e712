//! Policies from elsewhere: `https://…` and `oci://…`, fetched before files are read.
//!
//! Nothing is trusted but what a digest vouches for or TLS brings: an OCI artifact is named by its digest, which is
//! compared, and so is each part of it. A URL may have a digest. Without TLS only this machine is asked. What is fetched is
//! bounded, and read in memory: nothing in an archive names a file of this machine.

mod archive;
mod credentials;
mod http;
mod oci;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context;
use gatehouse_check::{Content, Files, Role, is_address};
use sha2::{Digest as _, Sha256};

use self::http::Client;

/// Policies, and where they are from.
pub(crate) enum Policies {
    /// A file or folder.
    Local(PathBuf),
    /// What was fetched.
    Fetched(Content),
}

impl Policies {
    /// Reads them as policies.
    pub(crate) fn read_into(&self, files: &mut Files) {
        match self {
            Self::Local(path) => files.read(path, Role::Policies),
            Self::Fetched(content) => {
                for (name, bytes) in content {
                    files.add(name, bytes, Role::Policies);
                }
            }
        }
    }
}

/// Fetches what is elsewhere of `--policies`.
pub(crate) async fn fetch(paths: &[PathBuf]) -> anyhow::Result<Vec<Policies>> {
    let mut remote = Remote::default();
    let mut policies = Vec::new();
    for path in paths {
        policies.push(match path.to_str().filter(|text| is_address(text)) {
            None => Policies::Local(path.clone()),
            Some(address) => {
                let content = remote.content(address).await;
                Policies::Fetched(content.with_context(|| format!("--policies {address}"))?)
            }
        });
    }
    Ok(policies)
}

/// Fetches addresses, each once, with the reasons why others cannot be.
pub(crate) async fn each(
    addresses: impl IntoIterator<Item = String>,
) -> BTreeMap<String, Result<Content, String>> {
    let mut remote = Remote::default();
    let mut fetched = BTreeMap::new();
    for address in addresses {
        let content = remote.content(&address).await.map_err(|error| format!("{error:#}"));
        fetched.insert(address, content);
    }
    fetched
}

/// The client, once it is needed.
#[derive(Default)]
struct Remote(Option<Client>);

impl Remote {
    /// The files of an address, of which there is at least one.
    async fn content(&mut self, address: &str) -> anyhow::Result<Content> {
        let client = match &mut self.0 {
            Some(client) => client,
            none => none.insert(Client::new()?),
        };
        let files = match address.split_once("://") {
            Some(("oci", rest)) => oci::pull(client, rest).await?,
            Some(("https" | "http", _)) => download(client, address).await?,
            _ => anyhow::bail!("neither a path, nor https:// or oci://"),
        };
        anyhow::ensure!(!files.is_empty(), "holds no manifest (*.yaml, *.yml, *.json)");
        Ok(named(address, files))
    }
}

/// The files of an address: one as the address itself.
fn named(address: &str, files: Fetched) -> Content {
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
