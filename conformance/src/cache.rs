//! What is built once and kept in the user's cache folder: programs from pinned sources, with the tools of their language.
//!
//! A folder is keyed by everything that goes into the build, so that a change of versions builds anew. What is built
//! appears under its name only when it is complete; builders that run at the same time wait for each other.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::progress;

/// A folder that a build runs in.
const WORK_PREFIX: &str = "build-";

/// The lines of a failed build worth showing.
const ERROR_LINES: usize = 15;

/// Why something cannot be built on this machine.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// Neither a cache folder nor a home folder is known.
    #[error("neither XDG_CACHE_HOME nor a home folder says where to keep what is built")]
    NoFolder,
    /// The cache folder cannot be used.
    #[error("cannot use {}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A tool is not there.
    #[error("`{program}` cannot be run")]
    NoProgram {
        /// The tool.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A tool did not succeed: no network, too old a version, a full disk.
    #[error("{program} cannot build {what}:\n{output}")]
    Build {
        /// The tool.
        program: String,
        /// What was to be built.
        what: String,
        /// The last lines of its output.
        output: String,
    },
}

/// Where something is kept that is built from `parts` on this platform. Nothing is made yet.
pub(crate) fn folder(kind: &str, parts: &[&str]) -> Result<PathBuf, Unavailable> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .and_then(absolute)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .ok_or(Unavailable::NoFolder)?;
    Ok(cache.join("gatehouse").join(kind).join(key(parts)))
}

fn key(parts: &[&str]) -> String {
    let platform = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let mut hash = Sha256::new();
    for part in parts.iter().copied().chain([platform.as_str()]) {
        hash.update(part);
        hash.update([0]);
    }
    let mut key = format!("{:x}", hash.finalize());
    // Enough to tell apart the few builds that a machine ever sees.
    key.truncate(16);
    key
}

/// A program of a Go module, built once.
pub(crate) struct GoProgram {
    /// Of the program, and of the folder that it is kept in.
    pub(crate) name: &'static str,
    /// The module's files, which is all there is of it.
    pub(crate) files: &'static [(&'static str, &'static str)],
    pub(crate) package: &'static str,
    pub(crate) ldflags: Cow<'static, str>,
}

impl GoProgram {
    /// Without symbols, which nobody reads.
    pub(crate) const LDFLAGS: Cow<'static, str> = Cow::Borrowed("-s -w");

    /// The program, if it has been built.
    pub(crate) fn kept(&self) -> Result<Option<PathBuf>, Unavailable> {
        Ok(Some(self.folder()?.join(self.name)).filter(|executable| executable.is_file()))
    }

    /// The program; built if need be, which takes minutes.
    pub(crate) async fn find(&self) -> Result<PathBuf, Unavailable> {
        if let Some(executable) = self.kept()? {
            return Ok(executable);
        }
        let folder = self.folder()?;
        let filling = Filling::begin(&folder).await?;
        if self.kept()?.is_none() {
            for (file, text) in self.files {
                filling.write(file, text)?;
            }
            let what = format!("building {} for tests, once, into {}", self.name, folder.display());
            progress::during(what, filling.go(self.name, self.package, &self.ldflags)).await?;
            filling.keep(self.name)?;
        }
        Ok(folder.join(self.name))
    }

    fn folder(&self) -> Result<PathBuf, Unavailable> {
        let texts = self.files.iter().map(|&(_, text)| text);
        folder(self.name, &texts.chain([&*self.ldflags]).collect::<Vec<_>>())
    }
}

/// The right to fill a folder, and another one to work in. Dropped, both are given up.
pub(crate) struct Filling {
    folder: PathBuf,
    work: tempfile::TempDir,
    _lock: File,
}

impl Filling {
    /// Waits until nobody else fills the folder; by then it may be complete.
    pub(crate) async fn begin(folder: &Path) -> Result<Self, Unavailable> {
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let lock = lock(&folder.join("lock")).await?;
        remove_abandoned(folder);
        // Beside the results, so that renaming stays within one file system; removed however the build ends.
        let work = tempfile::Builder::new().prefix(WORK_PREFIX).tempdir_in(folder).map_err(at(folder))?;
        Ok(Self { folder: folder.to_owned(), work, _lock: lock })
    }

    /// Where to work.
    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    /// Puts a file where the work is.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Unavailable> {
        let path = self.work().join(name);
        std::fs::write(&path, text).map_err(at(&path))
    }

    /// Keeps what has been made there: a file or a folder.
    pub(crate) fn keep(&self, name: &str) -> Result<(), Unavailable> {
        let path = self.folder.join(name);
        std::fs::rename(self.work().join(name), &path).map_err(at(&path))
    }

    /// Builds a package of the Go module that the work folder holds.
    pub(crate) async fn go(&self, file: &str, package: &str, ldflags: &str) -> Result<(), Unavailable> {
        // A workspace file above the cache folder must not take part; a C compiler must not be needed.
        let env = [("GOWORK", "off"), ("CGO_ENABLED", "0")];
        let args = ["build", "-ldflags", ldflags, "-o", file, package];
        self.run("go", args, env, package).await
    }

    /// Runs a tool in the work folder.
    pub(crate) async fn run(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        env: impl IntoIterator<Item = (&str, &str)>,
        what: &str,
    ) -> Result<(), Unavailable> {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.args(args).envs(env).current_dir(self.work()).stdin(Stdio::null()).kill_on_drop(true);
        let program = program.display().to_string();
        let output = match command.output().await {
            Ok(output) => output,
            Err(source) => return Err(Unavailable::NoProgram { program, source }),
        };
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = text.lines().collect();
        let output = lines[lines.len().saturating_sub(ERROR_LINES)..].join("\n");
        Err(Unavailable::Build { program, what: what.to_owned(), output })
    }
}

/// What a path has to do with an error.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Unavailable {
    let path = path.to_owned();
    move |source| Unavailable::Folder { path, source }
}

/// What a builder that was killed has left behind; called under the lock, so nobody is using it. Best effort: what
/// cannot be removed is only in the way of disk space.
fn remove_abandoned(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Held until it is dropped, or its process ends.
async fn lock(path: &Path) -> Result<File, Unavailable> {
    let file = File::options().create(true).append(true).open(path).map_err(at(path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(at(path)(error)),
    }
    progress::during("waiting for another process that builds the same", async {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(at(path)(error)),
            }
        }
    })
    .await?;
    Ok(file)
}
