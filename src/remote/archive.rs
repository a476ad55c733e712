//! The manifests of a `.tar.gz`, in memory: names are only shown, and lead nowhere.

use std::io::Read as _;

use anyhow::Context;
use flate2::read::GzDecoder;

use super::{Fetched, is_manifest};

/// What is in an archive may be this large.
const MOST: u64 = 256 << 20;
/// And so many files.
const MOST_FILES: usize = 10_000;

/// Whether bytes are compressed by gzip.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The files that may hold policies.
pub(super) fn manifests(bytes: &[u8]) -> anyhow::Result<Fetched> {
    // One byte more tells what is too large from what ends there.
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(MOST + 1));
    let mut files = Vec::new();
    let mut size = 0;
    for entry in archive.entries().context("not a .tar.gz")? {
        let entry = entry.context("the archive is damaged, or holds more than 256 MiB")?;
        size += entry.size();
        anyhow::ensure!(size <= MOST, "the archive holds more than 256 MiB");
        let path = entry.path().context("the archive has a name that is none")?.into_owned();
        // What links lead to is in the archive itself, or not of it.
        if !entry.header().entry_type().is_file() || !is_manifest(path.strip_prefix("./").unwrap_or(&path)) {
            continue;
        }
        anyhow::ensure!(files.len() < MOST_FILES, "the archive holds more than {MOST_FILES} manifests");
        let name = path.strip_prefix("./").unwrap_or(&path).display().to_string();
        let mut content = Vec::new();
        entry.take(MOST).read_to_end(&mut content).with_context(|| format!("{name} cannot be read"))?;
        files.push((Some(name), content));
    }
    files.sort();
    Ok(files)
}
