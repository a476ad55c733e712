//! What went wrong, in the words and forms that kubectl uses, and the exit codes.

use std::fmt;

use gatehouse_apiservice::{client::explain, view::GROUP};
use kube::core::Status;
use thiserror::Error;

/// Exit codes. clap ends with 2 if the command line is wrong.
pub mod exit {
    /// The command did what it says, or showed what was asked for.
    pub const OK: u8 = 0;
    /// The server refused or did not answer, or the object does not exist.
    pub const ERROR: u8 = 1;
    /// The object is not ready: after `--wait`, or with `--exit-code`.
    pub const NOT_READY: u8 = 3;
    /// `--wait` ended before the controller had handled the request.
    pub const TIMEOUT: u8 = 4;
}

/// Why a command ended without success.
#[derive(Debug, Error)]
pub enum PluginError {
    /// The server answered with an error.
    #[error("{}", refusal(.0))]
    Refused(Box<Status>),
    /// The server does not serve Gatehouse's API.
    #[error(
        "error: the server doesn't have the API group {GROUP}: Gatehouse is not installed in this cluster"
    )]
    NotInstalled,
    /// The server did not answer, or not in a way that can be read.
    #[error("Unable to connect to the server: {0}")]
    Unreachable(String),
    /// A request cannot be made of what was given.
    #[error("error: {0}")]
    Invalid(String),
    /// The output cannot be written.
    #[error("error: cannot write: {0}")]
    Write(#[from] std::io::Error),
    /// The wait ended too early.
    #[error("error: {0}")]
    Timeout(String),
    /// The request was handled, and the object is not ready.
    #[error("error: {0}")]
    NotReady(String),
    /// The server shows and does not act.
    #[error("error: actions are not enabled in this cluster: see the chart value actions.enabled")]
    NoActions,
    /// About one of several objects, by the name of its row.
    #[error("{1} ({0})")]
    About(String, Box<Self>),
    /// Some of what was asked for.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Self>),
}

/// `Error from server (Reason): message`, as kubectl prints a Status.
fn refusal(status: &Status) -> String {
    let reason = status.reason.as_str();
    // What is no Status, kube makes one of, with a sentence for a reason.
    if reason.is_empty() || reason.contains(' ') {
        let Status { code, message, .. } = status;
        return format!("Error from server: {message} (HTTP {code})");
    }
    format!("Error from server ({reason}): {}", status.message)
}

impl PluginError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Timeout(_) => exit::TIMEOUT,
            Self::NotReady(_) => exit::NOT_READY,
            // The worse of two is the smaller number, and an error is worse than a state.
            Self::About(_, error) => error.exit_code(),
            Self::Several(errors) => errors.iter().map(Self::exit_code).min().unwrap_or(exit::ERROR),
            _ => exit::ERROR,
        }
    }

    /// Whether the server says that there is no such object.
    pub(crate) fn is_object_missing(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404 && names_an_object(status))
    }

    /// Whether the server does not serve the resource at all.
    pub(crate) fn is_resource_missing(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404 && !names_an_object(status))
    }

    /// Whether the user may not see it.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 403)
    }

    /// Whether this is not done to objects of the kind, whoever asks.
    pub(crate) fn is_not_supported(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 405)
    }

    /// Names the row of an object, which the server does not name in each of its errors.
    pub(crate) fn about(self, row: &str) -> Self {
        let text = self.to_string();
        let name = row.splitn(3, '.').nth(2).unwrap_or(row);
        if text.contains(row) || text.contains(&format!("{name:?}")) {
            return self;
        }
        Self::About(row.to_owned(), Box::new(self))
    }

    pub(crate) fn invalid(what: impl fmt::Display) -> Self {
        Self::Invalid(what.to_string())
    }
}

/// A 404 about an object has its name; one about a path has nothing to name.
fn names_an_object(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

impl From<kube::Error> for PluginError {
    fn from(error: kube::Error) -> Self {
        match error {
            // kube-apiserver answers a path that nothing serves in plain text.
            kube::Error::Api(status) if status.code == 404 && status.reason.contains(' ') => {
                Self::NotInstalled
            }
            kube::Error::Api(status) => Self::Refused(status),
            error => Self::Unreachable(explain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, reason: &str, message: &str) -> PluginError {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        kube::Error::Api(Status { code, reason, message, ..Status::default() }.boxed()).into()
    }

    #[test]
    fn errors_read_as_those_of_kubectl() {
        let forbidden = answered(403, "Forbidden", "fluxresources.view.gatehouse.dev is forbidden");
        let words = "Error from server (Forbidden): fluxresources.view.gatehouse.dev is forbidden";
        assert_eq!(forbidden.to_string(), words);
        assert_eq!(forbidden.exit_code(), exit::ERROR);
        let proxy = answered(502, "Failed to parse error data", "bad gateway");
        assert_eq!(proxy.to_string(), "Error from server: bad gateway (HTTP 502)");
    }

    #[test]
    fn an_error_about_one_of_several_objects_names_it() {
        let denied = answered(403, "Forbidden", "nothing may change").about("local.kustomization.shop");
        let words = "Error from server (Forbidden): nothing may change (local.kustomization.shop)";
        assert_eq!(denied.to_string(), words);
        assert_eq!(denied.exit_code(), exit::ERROR);
        let named = "Error from server (NotFound): kustomizations \"shop\" not found";
        let missing = answered(404, "NotFound", "kustomizations \"shop\" not found");
        assert_eq!(missing.about("local.kustomization.shop").to_string(), named);
    }

    #[test]
    fn a_cluster_without_gatehouse_is_told_from_a_missing_object() {
        let absent = answered(404, "Failed to parse error data", "404 page not found");
        assert!(absent.to_string().contains("not installed"), "{absent}");
        let path = answered(404, "NotFound", "the server could not find the requested resource");
        assert!(path.is_resource_missing() && !path.is_object_missing());
    }
}
