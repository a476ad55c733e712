//! `/healthz`, `/livez`, `/readyz`, and a path for each of their checks, in the format of kube-apiserver.
//!
//! **Invariants:** liveness never depends on the cluster, since an outage there would restart every replica. The reason
//! of a failure is logged and never sent, since every user, anonymous ones included, may read these paths.

use std::fmt::Write;

use http::{HeaderValue, Response, StatusCode, header};

use crate::body::{Body, full};
use crate::error::ApiError;

/// A named check. It runs on every probe, so it must only read state in memory, without waiting.
pub struct HealthCheck {
    name: &'static str,
    check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    is_liveness: bool,
}

/// All checks of a server, in the order of the report.
pub struct Health(Vec<HealthCheck>);

impl HealthCheck {
    /// A check that fails if only a restart helps. It runs on all three paths. The error is the reason for the log.
    pub fn liveness(
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { name, check: Box::new(check), is_liveness: true }
    }

    /// A check that fails while requests should go to another replica. It runs on `/readyz` only. The error is the
    /// reason for the log.
    pub fn readiness(
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { name, check: Box::new(check), is_liveness: false }
    }
}

impl Health {
    /// These checks, after `ping`, which always passes.
    pub fn new(checks: impl IntoIterator<Item = HealthCheck>) -> Self {
        Self(std::iter::once(HealthCheck::liveness("ping", || Ok(()))).chain(checks).collect())
    }

    /// Answers `/readyz`, `/readyz/NAME`, and so on.
    pub(crate) fn respond(&self, path: &str, query: &str) -> Response<Body> {
        let mut segments = path.trim_matches('/').splitn(2, '/');
        let probe = match segments.next() {
            Some("healthz") => "healthz",
            Some("livez") => "livez",
            Some("readyz") => "readyz",
            _ => return ApiError::no_such_path().into_response(),
        };
        let mut checks = self.0.iter().filter(|check| check.is_liveness || probe == "readyz");
        match segments.next() {
            None => report_all(probe, checks, query),
            Some(name) => match checks.find(|check| check.name == name) {
                Some(check) => report_one(probe, check),
                None => ApiError::no_such_path().into_response(),
            },
        }
    }
}

fn report_all<'a>(probe: &str, checks: impl Iterator<Item = &'a HealthCheck>, query: &str) -> Response<Body> {
    let parameters = || url::form_urlencoded::parse(query.as_bytes());
    let mut excluded: Vec<_> =
        parameters().filter(|(key, _)| key == "exclude").map(|(_, name)| name).collect();
    let mut report = String::new();
    let mut is_healthy = true;
    for check in checks {
        let before = excluded.len();
        excluded.retain(|name| name != check.name);
        // Writing to a string cannot fail.
        let _ = if excluded.len() < before {
            writeln!(report, "[+]{} excluded: ok", check.name)
        } else if passes(probe, check) {
            writeln!(report, "[+]{} ok", check.name)
        } else {
            is_healthy = false;
            writeln!(report, "[-]{} failed: reason withheld", check.name)
        };
    }
    if !excluded.is_empty() {
        let names: Vec<_> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(", ");
        let _ = writeln!(report, "warn: some health checks cannot be excluded: no matches for {names}");
    }
    if !is_healthy {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{probe} check failed\n"));
    }
    if parameters().any(|(key, _)| key == "verbose") {
        return text(StatusCode::OK, format!("{report}{probe} check passed\n"));
    }
    text(StatusCode::OK, "ok".to_owned())
}

fn report_one(probe: &str, check: &HealthCheck) -> Response<Body> {
    if passes(probe, check) {
        text(StatusCode::OK, "ok".to_owned())
    } else {
        text(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: reason withheld\n".to_owned())
    }
}

fn passes(probe: &str, check: &HealthCheck) -> bool {
    let result = (check.check)();
    if let Err(reason) = &result {
        tracing::info!(probe, check = check.name, reason, "health check failed");
    }
    result.is_ok()
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn ask(path: &str, query: &str) -> (u16, String) {
        let health = Health::new([
            HealthCheck::liveness("loop", || Ok(())),
            HealthCheck::readiness("informer-sync", || Err("10.0.0.1 does not answer".to_owned())),
        ]);
        let response = health.respond(path, query);
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.expect("infallible").to_bytes();
        (code, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn probes_answer_as_kube_apiserver_does() {
        for (path, query, code, expected) in [
            ("/healthz", "", 200, "ok"),
            ("/livez", "verbose", 200, "[+]ping ok\n[+]loop ok\nlivez check passed\n"),
            (
                "/readyz",
                "",
                500,
                "[+]ping ok\n[+]loop ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n",
            ),
            ("/readyz", "exclude=informer-sync", 200, "ok"),
            (
                "/readyz",
                "exclude=informer-sync&verbose=1&exclude=x",
                200,
                "[+]ping ok\n[+]loop ok\n[+]informer-sync excluded: ok\n\
                 warn: some health checks cannot be excluded: no matches for \"x\"\nreadyz check passed\n",
            ),
            ("/readyz/ping", "", 200, "ok"),
            ("/livez/loop", "", 200, "ok"),
            ("/readyz/informer-sync", "", 500, "internal server error: reason withheld\n"),
        ] {
            assert_eq!(ask(path, query).await, (code, expected.to_owned()), "{path}?{query}");
        }
    }

    #[tokio::test]
    async fn a_check_is_found_only_where_it_is_asked() {
        for path in ["/livez/informer-sync", "/healthz/informer-sync", "/readyz/x", "/readyz/ping/x"] {
            assert_eq!(ask(path, "").await.0, 404, "{path}");
        }
    }
}
