//! The authentication configuration from command-line flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_apiservice::client::explain;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::config::{header_names, header_prefixes};
use super::{AuthenticationConfig, CaBundle, ConfigError, RequestHeaderConfig};

/// The values of the flags, which have the names of kube-apiserver's.
#[derive(Debug, Clone, Default)]
pub struct AuthenticationFiles {
    /// `--client-ca-file`
    pub client_ca_file: Option<PathBuf>,
    /// `--requestheader-client-ca-file`; without it, the other requestheader flags have no effect.
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// `--requestheader-allowed-names`
    pub requestheader_allowed_names: Vec<String>,
    /// `--requestheader-username-headers`; empty means `X-Remote-User`.
    pub requestheader_username_headers: Vec<String>,
    /// `--requestheader-uid-headers`; empty means none.
    pub requestheader_uid_headers: Vec<String>,
    /// `--requestheader-group-headers`; empty means `X-Remote-Group`.
    pub requestheader_group_headers: Vec<String>,
    /// `--requestheader-extra-headers-prefix`; empty means `X-Remote-Extra-`.
    pub requestheader_extra_headers_prefix: Vec<String>,
}

impl AuthenticationFiles {
    /// Reads the files.
    pub fn load(&self) -> Result<AuthenticationConfig, ConfigError> {
        let client_ca = self.client_ca_file.as_deref().map(bundle).transpose()?;
        let request_header = match &self.requestheader_client_ca_file {
            Some(path) => Some(self.request_header(bundle(path)?)?),
            None => None,
        };
        Ok(AuthenticationConfig { request_header, client_ca })
    }

    fn request_header(&self, ca: CaBundle) -> Result<RequestHeaderConfig, ConfigError> {
        let mut config =
            RequestHeaderConfig::with_default_headers(ca, self.requestheader_allowed_names.clone());
        for (flag, given, headers) in [
            (
                "--requestheader-username-headers",
                &self.requestheader_username_headers,
                &mut config.username_headers,
            ),
            ("--requestheader-uid-headers", &self.requestheader_uid_headers, &mut config.uid_headers),
            ("--requestheader-group-headers", &self.requestheader_group_headers, &mut config.group_headers),
        ] {
            if !given.is_empty() {
                *headers = header_names(flag, given)?;
            }
        }
        if !self.requestheader_extra_headers_prefix.is_empty() {
            config.extra_header_prefixes = header_prefixes(
                "--requestheader-extra-headers-prefix",
                &self.requestheader_extra_headers_prefix,
            )?;
        }
        Ok(config)
    }

    /// Reads the files again every `period`, and publishes changes, until the last receiver is dropped. If a file is
    /// broken, that is logged and the last configuration stays in use.
    pub async fn poll_every(self, publish: watch::Sender<Arc<AuthenticationConfig>>, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = publish.closed() => return,
                _ = ticks.tick() => self.refresh(&publish),
            }
        }
    }

    fn refresh(&self, publish: &watch::Sender<Arc<AuthenticationConfig>>) {
        match self.load() {
            Ok(config) => super::config_map::publish_if_changed(publish, config),
            Err(error) => {
                tracing::warn!(error = %explain(&error), "cannot reload authentication files, keeping the previous ones");
            }
        }
    }
}

fn bundle(path: &Path) -> Result<CaBundle, ConfigError> {
    let origin = path.display().to_string();
    let pem = std::fs::read(path).map_err(|source| ConfigError::Read { path: origin.clone(), source })?;
    CaBundle::from_pem(&origin, &pem)
}

#[cfg(test)]
mod tests {
    use gatehouse_certs::issue::Authority;

    use super::*;

    fn write_ca(path: &Path) {
        let authority = Authority::new("ca").expect("authority");
        std::fs::write(path, authority.certificate_pem()).expect("written");
    }

    #[test]
    fn a_changed_file_is_published_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca.crt");
        write_ca(&path);
        let files =
            AuthenticationFiles { client_ca_file: Some(path.clone()), ..AuthenticationFiles::default() };
        let (publish, mut config) = watch::channel(Arc::new(files.load().expect("readable")));

        files.refresh(&publish);
        assert!(!config.has_changed().expect("open"), "nothing has changed");
        std::fs::write(&path, "-----BEGIN").expect("written");
        files.refresh(&publish);
        assert!(!config.has_changed().expect("open"), "nothing that can be used");
        write_ca(&path);
        files.refresh(&publish);
        assert!(config.has_changed().expect("open"));
        assert!(config.borrow_and_update().client_ca.is_some());
    }

    #[test]
    fn headers_have_usual_names_unless_given() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca.crt");
        write_ca(&path);
        let files = AuthenticationFiles {
            requestheader_client_ca_file: Some(path),
            requestheader_group_headers: vec!["X-Groups".to_owned()],
            ..AuthenticationFiles::default()
        };
        let config = files.load().expect("readable").request_header.expect("configured");
        assert_eq!(
            (config.username_headers[0].as_str(), config.group_headers[0].as_str()),
            ("x-remote-user", "x-groups")
        );
        assert!(config.uid_headers.is_empty(), "an old front proxy would hand its client's through");
        let files = AuthenticationFiles { requestheader_group_headers: vec!["a b".to_owned()], ..files };
        assert!(files.load().expect_err("refused").to_string().contains("--requestheader-group-headers"));
        assert_eq!(
            AuthenticationFiles::default().load().expect("nothing to read"),
            AuthenticationConfig::default()
        );
    }
}
