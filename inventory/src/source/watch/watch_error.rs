//! Errors of an API server, by what they mean for a watch.

use gatehouse_apiservice::client::explain;
use kube::{Error, core::Status};

/// Why a list or watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WatchError {
    /// 403: this account may not list or watch.
    Forbidden(String),
    /// 404: the resource is not, or no longer, served at this version.
    NotServed(String),
    /// 410: the resourceVersion is too old. Not a failure: the objects are listed again.
    Expired,
    /// The server does not support streaming lists.
    NoStreaming,
    /// The response cannot be parsed. Continuing from the same resourceVersion would give the same response.
    Garbled(String),
    /// Any other error: the server is unreachable or overloaded, or the account is not authenticated.
    Failed(String),
}

impl WatchError {
    /// Classifies `error`. `streaming`: the request was for a streaming list.
    pub(super) fn of(error: &Error, streaming: bool) -> Self {
        match error {
            Error::Api(status) => Self::of_status(status, streaming),
            Error::SerdeError(_) | Error::FromUtf8(_) => Self::Garbled(explain(error)),
            _ => Self::Failed(explain(error)),
        }
    }

    /// Classifies a Status, which may also be an event of an open watch.
    pub(super) fn of_status(status: &Status, streaming: bool) -> Self {
        let message = explain(status);
        match status.code {
            403 => Self::Forbidden(message),
            404 => Self::NotServed(message),
            410 => Self::Expired,
            // 422 from a server with the feature disabled, 400 from one that does not know it.
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
            (403, false, WatchError::Forbidden("why".into())),
            (404, false, WatchError::NotServed("why".into())),
            (410, false, WatchError::Expired),
            (400, true, WatchError::NoStreaming),
            (422, true, WatchError::NoStreaming),
            (422, false, WatchError::Failed("why".into())),
            (401, false, WatchError::Failed("why".into())),
            (500, true, WatchError::Failed("why".into())),
        ] {
            assert_eq!(WatchError::of(&api(code, "why"), streaming), expected, "{code}");
        }
    }
}
