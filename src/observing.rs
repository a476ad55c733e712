//! Flags for what is written down of requests, and what they stand for.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
#[cfg(feature = "otel")]
use gatehouse_serving::traces::Traces;
use gatehouse_serving::{
    audit::{Auditor, Destination, Policy, Rotation},
    metrics::RequestMetrics,
    pipeline::Observers,
};

const MEGABYTE: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_hours(24);

/// The audit log.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Audit log")]
#[expect(clippy::struct_field_names, reason = "the flags' names, which are kube-apiserver's")]
pub(crate) struct AuditArgs {
    /// A Policy of audit.k8s.io/v1, as kube-apiserver takes it: which requests are logged. Bodies never are: the levels
    /// Request and RequestResponse are taken for Metadata.
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    audit_policy_file: Option<PathBuf>,
    /// Where audit events are written, one JSON object a line; `-` for standard output. Requests do not wait for it: what
    /// cannot be written in time is dropped, and counted in apiserver_audit_error_total.
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// How audit events are written.
    #[arg(long, value_enum, default_value_t = AuditFormat::Json)]
    audit_log_format: AuditFormat,
    /// Megabytes of the audit log's file before it is put aside.
    #[arg(long, value_name = "MEGABYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    audit_log_maxsize: u64,
    /// Days that files which were put aside are kept; 0 for no limit.
    #[arg(long, value_name = "DAYS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=36_500))]
    audit_log_maxage: u32,
    /// How many files that were put aside are kept; 0 for no limit.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    audit_log_maxbackup: usize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AuditFormat {
    /// An Event of audit.k8s.io/v1 a line.
    Json,
}

/// What is written down of requests, beyond log lines.
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
    #[cfg_attr(not(feature = "otel"), expect(unused_variables, reason = "traces alone name who tells them"))]
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
        let (Some(policy), Some(path)) = (&self.audit_policy_file, &self.audit_log_path) else {
            return Ok(None);
        };
        let policy = Policy::load(policy).context("--audit-policy-file")?;
        if policy.asks_for_bodies() {
            tracing::warn!("--audit-policy-file asks for bodies, which are never logged: metadata is");
        }
        let AuditFormat::Json = self.audit_log_format;
        let auditor = Auditor::start(policy, self.destination(path), metrics.registry());
        let auditor =
            auditor.with_context(|| format!("--audit-log-path: cannot write {}", path.display()))?;
        Ok(Some(Arc::new(auditor)))
    }

    fn destination(&self, path: &std::path::Path) -> Destination {
        if path.as_os_str() == "-" {
            return Destination::Stdout;
        }
        let rotation = Rotation {
            max_bytes: self.audit_log_maxsize * MEGABYTE,
            max_backups: self.audit_log_maxbackup,
            max_age: DAY * self.audit_log_maxage,
        };
        Destination::File(path.to_owned(), rotation)
    }
}
