//! Reloads a certificate and its key from disk when they change.
//!
//! The files are polled, and compared by content. A file watch would miss changes of a mounted Secret, where kubelet
//! swaps a symlink two levels above the file.
//!
//! **Invariant:** the published certificate and key always loaded without an error. If new files are broken, the old
//! pair stays, and a problem is logged once for as long as it stays the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::load::{LoadError, PemPair};

/// A certificate file and a key file, with their last content.
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    loaded: PemPair,
    problem: Option<String>,
    publish: watch::Sender<Arc<CertifiedKey>>,
}

impl CertificateFiles {
    /// Loads both files. Fails if they are broken, since there is no earlier content to go on with.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, LoadError> {
        let loaded = PemPair::read(&certificate, &key)?;
        let (publish, _) = watch::channel(loaded.parse(&certificate, &key)?);
        Ok(Self { certificate, key, loaded, problem: None, publish })
    }

    /// The current certificate and key; reports changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<CertifiedKey>> {
        self.publish.subscribe()
    }

    /// Reads the files again every `period`, until the last receiver is dropped.
    pub async fn poll_every(mut self, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.publish.closed() => return,
                _ = ticks.tick() => self.refresh(),
            }
        }
    }

    /// Reads the files synchronously: they are small, and a Secret volume keeps them in memory (tmpfs).
    fn refresh(&mut self) {
        match self.changed_key() {
            Ok(None) => {}
            Ok(Some(key)) => {
                tracing::info!(certificate = %self.certificate.display(), "serving certificate reloaded");
                self.problem = None;
                self.publish.send_replace(key);
            }
            Err(error) => self.report(&error),
        }
    }

    fn changed_key(&mut self) -> Result<Option<Arc<CertifiedKey>>, LoadError> {
        let contents = PemPair::read(&self.certificate, &self.key)?;
        if contents == self.loaded {
            return Ok(None);
        }
        // If the files are swapped between the two reads, an old one is paired with a new one and does not load. The
        // next poll reads both new files, finds other content again, and loads that.
        self.loaded = contents;
        self.loaded.parse(&self.certificate, &self.key).map(Some)
    }

    fn report(&mut self, error: &LoadError) {
        let problem = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(error = %problem, "cannot load the new certificate, keeping the old one");
            self.problem = Some(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::issue::KeyPair;
    use crate::load::tests::key_pair;

    fn write(folder: &Path, pair: &KeyPair) {
        std::fs::create_dir_all(folder).expect("folder");
        std::fs::write(folder.join("tls.crt"), &pair.certificate_pem).expect("certificate");
        std::fs::write(folder.join("tls.key"), &pair.key_pem).expect("key");
    }

    fn open(folder: &Path) -> CertificateFiles {
        CertificateFiles::open(folder.join("tls.crt"), folder.join("tls.key")).expect("good files")
    }

    #[test]
    fn unchanged_files_publish_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), &key_pair("a"));
        let mut files = open(folder.path());
        let keys = files.subscribe();
        files.refresh();
        assert!(!keys.has_changed().expect("open"));
    }

    #[test]
    fn symlink_swap_publishes_the_new_key() {
        let folder = tempfile::tempdir().expect("folder");
        write(&folder.path().join("1"), &key_pair("a"));
        write(&folder.path().join("2"), &key_pair("b"));
        let data = folder.path().join("data");
        symlink("1", &data).expect("symlink");
        let mut files = open(&data);
        let keys = files.subscribe();
        let before = keys.borrow().cert.clone();

        symlink("2", folder.path().join("next")).expect("symlink");
        std::fs::rename(folder.path().join("next"), &data).expect("swap");
        files.refresh();
        assert_ne!(keys.borrow().cert, before);
    }

    #[test]
    fn broken_file_keeps_the_old_key_and_a_good_one_replaces_it() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), &key_pair("a"));
        let mut files = open(folder.path());
        let keys = files.subscribe();
        let before = keys.borrow().cert.clone();

        std::fs::write(folder.path().join("tls.key"), "half a ke").expect("write");
        files.refresh();
        assert_eq!(keys.borrow().cert, before);
        std::fs::remove_file(folder.path().join("tls.key")).expect("remove");
        files.refresh();
        assert_eq!(keys.borrow().cert, before);

        write(folder.path(), &key_pair("b"));
        files.refresh();
        assert_ne!(keys.borrow().cert, before);
    }

    #[tokio::test(start_paused = true)]
    async fn polling_ends_with_its_last_subscriber() {
        let folder = tempfile::tempdir().expect("folder");
        write(folder.path(), &key_pair("a"));
        let files = open(folder.path());
        let keys = files.subscribe();
        let polling = tokio::spawn(files.poll_every(Duration::from_secs(10)));
        drop(keys);
        polling.await.expect("ends");
    }
}
