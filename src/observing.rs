//! Flags for what is written down of requests, and what they stand for.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use gatehouse_apiserver::{
    audit::{Auditor, Destination, Policy, Rotation},
    metrics::Metrics,
    pipeline::Observers,
};

const MEGABYTE: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_hours(24);

/// The audit log.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Audit log")]
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
}

impl Observing {
    /// Opens what is to be written.
    pub(crate) fn observers(&self, metrics: &Metrics) -> anyhow::Result<Observers> {
        Ok(Observers { auditor: self.audit.auditor(metrics)? })
    }
}

impl AuditArgs {
    fn auditor(&self, metrics: &Metrics) -> anyhow::Result<Option<Arc<Auditor>>> {
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
