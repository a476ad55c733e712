//! Logging: text for people, JSON for collectors, always to standard error.

use std::io::{IsTerminal, stderr};

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Flags of every subcommand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LogArgs {
    /// Format of log lines.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log level (error, warn, info, debug, trace), or directives such as `info,gatehouse_apiserver=debug`. Default:
    /// `info`; `warn` for check, demo, plugin and test.
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// What the flags are where there are none.
impl Default for LogArgs {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_level: std::env::var("RUST_LOG").ok() }
    }
}

impl LogArgs {
    /// Starts logging; `quiet` is for commands whose own output is what people look at.
    pub(crate) fn install(&self, quiet: bool) -> anyhow::Result<()> {
        let default = if quiet { "warn" } else { "info" };
        let filter = self.log_level.as_deref().unwrap_or(default);
        // The client logs whole bodies when it cannot decode them, Secrets included; errors it also returns, and commands
        // for people print them.
        let client = if quiet { "off" } else { "error" };
        let filter = format!("kube_client={client},{filter}");
        let filter = EnvFilter::try_new(&filter)
            .with_context(|| format!("--log-level: {filter:?} is not a valid log filter"))?;
        let registry = tracing_subscriber::registry().with(filter);
        match self.log_format {
            LogFormat::Text => {
                // Colours are for terminals; in a file they hide words from grep.
                registry.with(fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr)).init();
            }
            LogFormat::Json => {
                registry.with(fmt::layer().json().flatten_event(true).with_writer(stderr)).init();
            }
        }
        Ok(())
    }
}
