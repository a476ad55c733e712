//! What an API server's refusal means for a watch.

use gatehouse_apiservice::client::explain;
use kube::{Error, core::Status};

/// Why a list or watch did not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// 403: this account may not.
    Forbidden(String),
    /// 404: nothing is served under this name and version (any more).
    NotServed(String),
    /// 410: the version to go on from is too old. Not a failure: everything is listed anew.
    Expired,
    /// The server does not know streaming lists.
    NoStreaming,
    /// What was sent makes no sense; going on from the same version would bring the same.
    Garbled(String),
    /// Anything else: unreachable, overloaded, unauthorised.
    Failed(String),
}

impl Trouble {
    /// What `error` means. `streaming`: it answers a request for a streaming list.
    pub(super) fn of(error: &Error, streaming: bool) -> Self {
        match error {
            Error::Api(status) => Self::of_status(status, streaming),
            Error::SerdeError(_) | Error::FromUtf8(_) => Self::Garbled(explain(error)),
            _ => Self::Failed(explain(error)),
        }
    }

    /// The same for a Status, which also arrives as an event of a running watch.
    pub(super) fn of_status(status: &Status, streaming: bool) -> Self {
        let message = explain(status);
        match status.code {
            403 => Self::Forbidden(message),
            404 => Self::NotServed(message),
            410 => Self::Expired,
            // 422 from a server with the feature turned off, 400 from one that never heard of it.
            400 | 422 if streaming => Self::NoStreaming,
            _ => Self::Failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, message: &str) -> Error {
        Error::Api(Status { code, message: message.into(), ..Status::default() }.boxed())
    }

    #[test]
    fn refusals_are_told_apart() {
        for (code, streaming, expected) in [
            (403, false, Trouble::Forbidden("why".into())),
            (404, false, Trouble::NotServed("why".into())),
            (410, false, Trouble::Expired),
            (400, true, Trouble::NoStreaming),
            (422, true, Trouble::NoStreaming),
            (422, false, Trouble::Failed("why".into())),
            (401, false, Trouble::Failed("why".into())),
            (500, true, Trouble::Failed("why".into())),
        ] {
            assert_eq!(Trouble::of(&api(code, "why"), streaming), expected, "{code}");
        }
    }
}
