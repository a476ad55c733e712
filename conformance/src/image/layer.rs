//! The layers of the image: sorted entries without times or owners, so that the same files make the same bytes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Files of this machine that the Dockerfile takes from its build stage, with the Debian package that has them.
const FROM_HERE: [(&str, &str); 2] =
    [("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"), ("/usr/share/zoneinfo", "tzdata")];

const PASSWD: &str = "nonroot:x:65532:65532::/:/gatehouse\n";
const LICENSE: &str = include_str!("../../../LICENSE");

/// A layer, compressed.
pub(super) struct Layer {
    /// The gzipped tar archive.
    pub(super) bytes: Vec<u8>,
    /// SHA-256 of the archive before compression, in hexadecimal: the layer's diff ID.
    pub(super) diff_id: String,
}

/// What all releases share: time zones, CA certificates, the user, the license.
pub(super) fn common() -> anyhow::Result<Layer> {
    let mut entries = vec![
        Entry::file("etc/passwd", 0o644, PASSWD.as_bytes()),
        Entry::file("LICENSE", 0o644, LICENSE.as_bytes()),
    ];
    for (path, package) in FROM_HERE {
        collect(Path::new(path), &mut entries)
            .with_context(|| format!("cannot read {path} (Debian's package {package} has it)"))?;
    }
    layer(entries)
}

/// The executable.
pub(super) fn executable(content: &[u8]) -> anyhow::Result<Layer> {
    layer(vec![Entry::file("gatehouse", 0o555, content)])
}

struct Entry {
    /// Relative to the root of the image.
    path: PathBuf,
    mode: u32,
    content: Content,
}

enum Content {
    File(Vec<u8>),
    Link(PathBuf),
}

impl Entry {
    fn file(path: &str, mode: u32, content: &[u8]) -> Self {
        Self { path: path.into(), mode, content: Content::File(content.to_owned()) }
    }
}

/// The files and symbolic links at and below `path`. Folders are made by those who unpack.
fn collect(path: &Path, entries: &mut Vec<Entry>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), entries)?;
        }
        return Ok(());
    }
    let content = if metadata.is_symlink() {
        Content::Link(fs::read_link(path)?)
    } else {
        Content::File(fs::read(path)?)
    };
    let path = path.strip_prefix("/").unwrap_or(path).to_owned();
    entries.push(Entry { path, mode: 0o644, content });
    Ok(())
}

fn layer(mut entries: Vec<Entry>) -> anyhow::Result<Layer> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut archive = tar::Builder::new(Vec::new());
    for Entry { path, mode, content } in &entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_mtime(0);
        match content {
            Content::File(content) => {
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, path, content.as_slice())?;
            }
            Content::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, path, target)?;
            }
        }
    }
    let archive = archive.into_inner()?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&archive)?;
    Ok(Layer { bytes: gzip.finish()?, diff_id: format!("{:x}", Sha256::digest(&archive)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_entries_does_not_change_a_layer() {
        let entry = |path| Entry::file(path, 0o644, path.as_bytes());
        let one = layer(vec![entry("a"), entry("b/c")]).expect("layer");
        let other = layer(vec![entry("b/c"), entry("a")]).expect("layer");
        assert_eq!(one.bytes, other.bytes);
        assert_eq!(one.diff_id, other.diff_id);
        let changed = layer(vec![entry("a"), Entry::file("b/c", 0o644, b"")]).expect("layer");
        assert_ne!(one.diff_id, changed.diff_id);
    }

    #[test]
    fn links_stay_links() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("zone"), "TZif").expect("write");
        std::os::unix::fs::symlink("zone", folder.path().join("alias")).expect("link");
        let mut entries = Vec::new();
        collect(folder.path(), &mut entries).expect("read");
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(matches!(&entries[0].content, Content::Link(target) if target == Path::new("zone")));
        assert!(matches!(&entries[1].content, Content::File(content) if content == b"TZif"));
        assert!(entries.iter().all(|entry| entry.path.is_relative()));
    }
}
