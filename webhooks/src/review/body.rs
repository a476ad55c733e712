//! Reads the body of a review from an HTTP request, and checks its type, length and deadline.

use std::time::Duration;

use gatehouse_serving::ApiError;
use gatehouse_serving::body::RequestBody;
use gatehouse_serving::pipeline::Holder;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use tokio::time::Instant;

use super::body_memory::{BodyMemory, ReceivedBody};

/// The most bytes of a body. kube-apiserver reads at most 3 MiB of a request. It sends the new object (the stored one
/// with a patch of that size applied: at most 4.5 MiB), the old one (1.5 MiB, etcd's limit) and some kilobytes about
/// the request.
pub const MAX_BODY: usize = 7 * 1024 * 1024;

/// The default of kube-apiserver, if a webhook configuration sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest timeout that a webhook configuration may set.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
/// This fraction (1/10) of the timeout is left for sending the response: one that arrives too late is lost.
const WAY_BACK: u32 = 10;

/// Reads bodies within the limits of [`BodyMemory`].
pub(super) struct BodyReader {
    memory: BodyMemory,
}

impl BodyReader {
    pub(super) fn new() -> Self {
        Self { memory: BodyMemory::new() }
    }

    /// The whole body, if it is JSON, within the size limit, and arrives in time. It holds its room until it is
    /// dropped.
    pub(super) async fn read(
        &self,
        parts: &Parts,
        holder: Holder,
        body: RequestBody,
        until: Instant,
    ) -> Result<ReceivedBody, ApiError> {
        if parts.method != Method::POST {
            return Err(ApiError::only_post(&parts.method));
        }
        is_json(&parts.headers)?;
        let late = |_| ApiError::timeout("the body did not arrive in time");
        tokio::time::timeout_at(until, self.memory.take(holder, body)).await.map_err(late)?
    }
}

fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let sent = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::unsupported_media_type(&sent, "application/json"));
    }
    match text(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => {
            Err(ApiError::unsupported_media_type(
                &format!("{sent}, encoded as {encoding}"),
                "plain application/json",
            ))
        }
        _ => Ok(()),
    }
}

/// The deadline for the response to a call that begins now: somewhat before the timeout of kube-apiserver, which
/// `?timeout=` gives.
pub(super) fn deadline(query: &str) -> Result<Instant, ApiError> {
    let given = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "timeout");
    let timeout = match given {
        None => DEFAULT_TIMEOUT,
        Some((_, text)) => {
            let invalid =
                |why: String| ApiError::bad_request(format!("timeout: Invalid value: {text:?}: {why}"));
            let parsed: jiff::SignedDuration = text.parse().map_err(|error| invalid(format!("{error}")))?;
            let timeout = Duration::try_from(parsed).map_err(|_| invalid("must be positive".to_owned()))?;
            if timeout.is_zero() {
                return Err(invalid("must be positive".to_owned()));
            }
            timeout.min(LONGEST_TIMEOUT)
        }
    };
    Ok(Instant::now() + timeout * (WAY_BACK - 1) / WAY_BACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(query: &str) -> Result<f64, String> {
        let now = Instant::now();
        deadline(query).map(|deadline| (deadline - now).as_secs_f64()).map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_somewhat_before_the_caller_s() {
        for (query, expected) in
            [("", 9.0), ("timeout=5s", 4.5), ("x=1&timeout=1m0s", 27.0), ("timeout=500ms", 0.45)]
        {
            assert_eq!(seconds(query), Ok(expected), "{query}");
        }
        for query in ["timeout=", "timeout=soon", "timeout=0s", "timeout=-5s", "timeout=5"] {
            assert!(seconds(query).unwrap_err().starts_with("timeout: Invalid value: "), "{query}");
        }
    }
}
