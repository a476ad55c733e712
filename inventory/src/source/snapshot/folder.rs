//! Finds the manifest files in a folder.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The result of a scan.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Manifest files by their paths relative to the root, in path order.
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// Folders of Helm templates. Their files are not listed, since templates are not manifests.
    pub(crate) templates: Vec<PathBuf>,
    /// Folders below the root that could not be listed, with the error. Their known objects are kept.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
    /// The root and the folders that symbolic links lead to, with their inodes. If any of them changes, the operating
    /// system's watch must be renewed.
    pub(crate) identity: Vec<(PathBuf, u64)>,
}

/// Detects most changes of a file without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// Two writes within the granularity of the clock have the same stamp, so younger files are read again. Two seconds is
/// the coarsest granularity of a file system in use (FAT).
const GRANULARITY: Duration = Duration::from_secs(2);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), length: metadata.len(), inode: inode(metadata) }
    }

    /// Whether a later write is certain to change the stamp.
    pub(crate) fn is_settled(&self) -> bool {
        self.modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > GRANULARITY)
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// Lists the manifests under `root`. Fails only if the root itself cannot be listed.
pub(crate) fn list(root: &Path) -> io::Result<Listing> {
    let metadata = fs::metadata(root)?;
    let mut listing = Listing::default();
    listing.identity.push((root.to_path_buf(), inode(&metadata)));
    let mut seen = HashSet::new();
    walk(root, Path::new(""), &mut seen, &mut listing)?;
    Ok(listing)
}

fn walk(root: &Path, relative: &Path, seen: &mut HashSet<PathBuf>, listing: &mut Listing) -> io::Result<()> {
    let path = root.join(relative);
    // Symbolic links can form cycles, so each real folder is entered once.
    if !seen.insert(fs::canonicalize(&path)?) {
        return Ok(());
    }
    let mut entries = fs::read_dir(&path)?.collect::<Result<Vec<_>, _>>()?;
    // If two paths lead to one folder, which of them counts must not depend on the order on disk.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        // Hidden entries are version control, and the real folders of a mounted ConfigMap, whose files are linked to.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let relative = relative.join(&name);
        // This follows symbolic links. A broken link is ignored.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            if name == "templates" && path.join("Chart.yaml").is_file() {
                listing.templates.push(relative);
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                listing.identity.push((relative.clone(), inode(&metadata)));
            }
            match walk(root, &relative, seen, listing) {
                // The folder was removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => listing.unreadable.push((relative, error.to_string())),
                Ok(()) => {}
            }
        } else if metadata.is_file() && is_manifest(&relative) {
            listing.files.insert(relative, Stamp::of(&metadata));
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Whether a file is read as JSON, by its extension.
pub(crate) fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}
