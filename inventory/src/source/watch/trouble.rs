//! What an API server's refusal means for a watch, and words for it.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

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
        let message = words(status);
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

/// An error in one line. kube's own Display repeats its sources and adds their Debug.
pub(super) fn explain(error: &Error) -> String {
    let inner: &dyn std::error::Error = match error {
        Error::Api(status) => return words(status),
        Error::Service(inner) => inner.as_ref(),
        Error::HyperError(inner) => inner,
        Error::ReadEvents(inner) => inner,
        _ => return error.to_string(),
    };
    let mut text = inner.to_string();
    let mut next = inner.source();
    while let Some(source) = next {
        let cause = source.to_string();
        // Some errors tell their source's text as part of their own.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = source.source();
    }
    text
}

fn words(status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("the API server answered {}", status.code),
        ("", reason) => reason.to_owned(),
        (message, _) => message.to_owned(),
    }
}

/// `base` to twice `base`, at random: clients that failed together must not come back together.
pub(super) fn jittered(base: Duration) -> Duration {
    // Every RandomState hashes nothing to another number.
    let random = RandomState::new().build_hasher().finish();
    let share = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    base + base.mul_f64(f64::from(share) / f64::from(u32::MAX))
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

    #[test]
    fn errors_are_explained_in_one_line_without_repetition() {
        assert_eq!(explain(&api(503, "")), "the API server answered 503");
        let io = std::io::Error::other(std::fmt::Error);
        let text = std::fmt::Error.to_string();
        assert_eq!(explain(&Error::ReadEvents(io)), text);
    }

    #[test]
    fn jitter_stays_between_once_and_twice() {
        let base = Duration::from_secs(30);
        let delays: Vec<_> = (0..100).map(|_| jittered(base)).collect();
        assert!(delays.iter().all(|delay| (base..=2 * base).contains(delay)));
        assert!(delays.iter().any(|delay| delay != &delays[0]));
    }
}
