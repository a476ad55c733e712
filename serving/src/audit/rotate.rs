//! A file that is put aside when it is full, under the names that kube-apiserver's logs have (`NAME-TIME.EXT`).
//!
//! Invariants: what is written is whole lines: a write that fails is taken back. Only files that this made are removed.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Of backups, in their names, in UTC.
const TIME: &str = "%Y-%m-%dT%H-%M-%S.%3f";

/// What names tell apart.
const SHORTEST: Duration = Duration::from_millis(1);

/// When a file is full, and how long full ones are kept.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// Bytes of a file. It is exceeded only by a line that is longer.
    pub max_bytes: u64,
    /// Files kept beside the one that is written; 0 is no limit.
    pub max_backups: usize,
    /// Since they were put aside; zero is no limit.
    pub max_age: Duration,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    /// `None` after a failure: it is opened again.
    open: Option<Open>,
    /// Of the last backup. Those of one millisecond get different names, in their order.
    rotated: Timestamp,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

impl RotatingFile {
    /// Opens the file, and makes its folder where there is none. Both are the owner's alone.
    pub(super) fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let mut file = Self { path, rotation, open: None, rotated: Timestamp::MIN };
        file.current()?;
        Ok(file)
    }

    /// Appends whole lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = lines.len() as u64;
        let bytes = self.current()?.bytes;
        if bytes > 0 && bytes + more > self.rotation.max_bytes {
            self.rotate(Timestamp::now())?;
        }
        let open = self.current()?;
        if let Err(error) = open.file.write_all(lines) {
            // What was written of it is half a line, at which readers would stumble. If it cannot be taken back either,
            // the error is the same one.
            let _ = open.file.set_len(open.bytes);
            self.open = None;
            return Err(error);
        }
        open.bytes += more;
        Ok(())
    }

    fn current(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.open = None;
        self.rotated = now.max(self.rotated.saturating_add(SHORTEST).unwrap_or(now));
        while self.backup(self.rotated).exists() {
            self.rotated += SHORTEST;
        }
        fs::rename(&self.path, self.backup(self.rotated))?;
        if let Err(error) = self.prune(now) {
            tracing::warn!(file = %self.path.display(), %error, "old audit logs cannot be looked for, and are not removed");
        }
        Ok(())
    }

    fn backup(&self, time: Timestamp) -> PathBuf {
        let mut name = self.stem().to_owned();
        name.push("-");
        name.push(time.strftime(TIME).to_string());
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        self.path.with_file_name(name)
    }

    fn stem(&self) -> &OsStr {
        self.path.file_stem().unwrap_or_default()
    }

    /// When a file was put aside, if it is one of ours.
    fn put_aside(&self, file: &Path) -> Option<Timestamp> {
        let name = file.file_name()?.to_str()?;
        let text = name.strip_prefix(self.stem().to_str()?)?.strip_prefix('-')?;
        let text = match self.path.extension() {
            Some(extension) => text.strip_suffix(extension.to_str()?)?.strip_suffix('.')?,
            None => text,
        };
        let time = DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", text).ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    }

    /// A backup that cannot be removed now is tried again when the next one is made.
    fn prune(&self, now: Timestamp) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut backups = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            backups.extend(self.put_aside(&path).map(|time| (time, path)));
        }
        backups.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let Rotation { max_backups, max_age, .. } = self.rotation;
        for (index, (time, path)) in backups.into_iter().enumerate() {
            let age = Duration::try_from(now.duration_since(time)).unwrap_or_default();
            let is_old = !max_age.is_zero() && age > max_age;
            let is_one_too_many = max_backups > 0 && index >= max_backups;
            if (is_old || is_one_too_many)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(file = %path.display(), %error, "an old audit log cannot be removed");
            }
        }
        Ok(())
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ROTATION: Rotation = Rotation { max_bytes: 10, max_backups: 2, max_age: Duration::ZERO };

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_removed() {
        let folder = tempfile::tempdir().expect("folder");
        for (name, extension) in [("audit.log", ".log"), ("audit", "")] {
            let path = folder.path().join(name).join(name);
            let mut file = RotatingFile::open(path.clone(), ROTATION).expect("opens");
            let other = path.with_file_name(format!("audit-notes{extension}"));
            fs::write(&other, "not ours").expect("written");
            for line in ["1234\n", "5678\n", "abcd\n", "much longer than ten\n", "efgh\n", "ijkl\n", "m\n"] {
                file.append(line.as_bytes()).expect("appended");
            }
            let names = names(path.parent().expect("folder"));
            assert_eq!(names.len(), 4, "{names:?}");
            let read = |name: &String| fs::read_to_string(path.with_file_name(name)).expect("read");
            let backups: Vec<_> = names.iter().filter(|name| name.starts_with("audit-2")).map(read).collect();
            assert_eq!(backups, ["much longer than ten\n", "efgh\nijkl\n"]);
            assert_eq!(fs::read_to_string(&path).expect("read"), "m\n");
            assert!(other.exists());
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn old_ones_are_removed_by_age_and_their_names_are_of_their_time() {
        let folder = tempfile::tempdir().expect("folder");
        let rotation = Rotation { max_age: Duration::from_hours(24), max_backups: 0, ..ROTATION };
        let mut file = RotatingFile::open(folder.path().join("audit.log"), rotation).expect("opens");
        let start: Timestamp = "2026-11-21T10:00:00.5Z".parse().expect("time");
        for hours in [0, 0, 1, 23, 25] {
            file.append(b"x\n").expect("appended");
            file.rotate(start + Duration::from_hours(hours)).expect("rotated");
        }
        let expected = [
            "audit-2026-11-21T11-00-00.500.log",
            "audit-2026-11-22T09-00-00.500.log",
            "audit-2026-11-22T11-00-00.500.log",
        ];
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn a_file_is_continued_and_one_that_is_gone_made_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit.log");
        fs::write(&path, "12345678\n").expect("written");
        let mut file = RotatingFile::open(path.clone(), ROTATION).expect("opens");
        file.append(b"next\n").expect("appended");
        assert_eq!(fs::read_to_string(&path).expect("read"), "next\n", "the one before was nearly full");
        fs::remove_dir_all(folder.path()).expect("removed");
        file.prune(Timestamp::now()).expect_err("where backups are is not hidden");
        file.append(b"123456\n").expect_err("there is nothing to put aside");
        file.append(b"again\n").expect("appended");
        assert_eq!(fs::read_to_string(&path).expect("read"), "again\n");
    }
}
