//! Flags for the audit log and traces.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
#[cfg(feature = "otel")]
use gatehouse_serving::traces::Traces;
use gatehouse_serving::{
    audit::{Auditor, Policy},
    metrics::RequestMetrics,
    pipeline::Observers,
};

/// The audit log.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Audit log")]
pub(crate) struct AuditArgs {
    /// File with an audit.k8s.io/v1 Policy. The requests that it selects are written to standard output, one JSON
    /// object per line. Bodies are never logged: the levels Request and RequestResponse are treated as Metadata.
    /// Requests do not wait for the log: events that cannot be written in time are dropped and counted in
    /// apiserver_audit_error_total.
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
}

/// Flags for what is recorded of requests in addition to log lines.
#[derive(Debug, clap::Args)]
pub(crate) struct Observing {
    #[command(flatten)]
    audit: AuditArgs,
    #[cfg(feature = "otel")]
    #[command(flatten)]
    traces: TraceArgs,
}

/// Traces.
#[cfg(feature = "otel")]
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Traces")]
struct TraceArgs {
    /// An OpenTelemetry collector that takes OTLP over HTTP: `http://HOST:4318`. Each request is a span there, in the
    /// trace that its traceparent names.
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Of the requests whose sender leaves it open, the part that is traced, from 0 to 1. What the sender samples always
    /// is.
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = ratio, requires = "otlp_endpoint")]
    otlp_sampling_ratio: f64,
}

#[cfg(feature = "otel")]
fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err("must be from 0 to 1".to_owned()) }
}

impl Observing {
    /// Opens what is to be written, by a process that is called `service`.
    #[cfg_attr(not(feature = "otel"), expect(unused_variables, reason = "only traces name the process"))]
    pub(crate) fn observers(
        &self,
        metrics: &RequestMetrics,
        service: &'static str,
    ) -> anyhow::Result<Observers> {
        Ok(Observers {
            auditor: self.audit.auditor(metrics)?,
            #[cfg(feature = "otel")]
            traces: self.traces.traces(service)?,
        })
    }
}

#[cfg(feature = "otel")]
impl TraceArgs {
    fn traces(&self, service: &'static str) -> anyhow::Result<Option<Arc<Traces>>> {
        let start = |endpoint: &String| Traces::start(endpoint, service, self.otlp_sampling_ratio);
        let traces = self.otlp_endpoint.as_ref().map(start).transpose().context("--otlp-endpoint")?;
        Ok(traces.map(Arc::new))
    }
}

impl AuditArgs {
    fn auditor(&self, metrics: &RequestMetrics) -> anyhow::Result<Option<Arc<Auditor>>> {
        let Some(policy) = &self.audit_policy_file else { return Ok(None) };
        let policy = Policy::load(policy).context("--audit-policy-file")?;
        if policy.asks_for_bodies() {
            tracing::warn!(
                "--audit-policy-file requests bodies, which are never logged: using the level Metadata"
            );
        }
        let auditor = Auditor::start(policy, Box::new(std::io::stdout()), metrics.registry());
        Ok(Some(Arc::new(auditor.context("cannot start the audit log")?)))
    }
}
