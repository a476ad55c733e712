//! Evaluates rules and expressions, and relabels scraped metrics, with Prometheus' own packages, in a Go
//! program of this repository that is built once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cache::{GoProgram, Unavailable};

const MODULE: [(&str, &str); 7] = [
    ("go.mod", include_str!("../tools/prometheus/go.mod")),
    ("go.sum", include_str!("../tools/prometheus/go.sum")),
    ("main.go", include_str!("../tools/prometheus/main.go")),
    ("parse.go", include_str!("../tools/prometheus/parse.go")),
    ("evaluate.go", include_str!("../tools/prometheus/evaluate.go")),
    ("store.go", include_str!("../tools/prometheus/store.go")),
    ("scrape.go", include_str!("../tools/prometheus/scrape.go")),
];

/// The program's executable.
#[derive(Debug, Clone)]
pub struct Prometheus {
    executable: PathBuf,
}

/// A selector in an expression.
#[derive(Debug, Clone, Deserialize)]
pub struct Selector {
    /// The selector as a query.
    pub text: String,
    /// The metric's name; empty if the selector matches it like any other label.
    pub metric: String,
    /// The labels that the expression selects or groups by.
    pub labels: Vec<String>,
}

/// The input of an evaluation.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Situation {
    /// The `spec` of a PrometheusRule, as YAML; empty for no rules.
    pub rules: String,
    /// Synthetic series: `metric{label="value"}`, with a value per minute in the notation of promtool's
    /// tests.
    pub series: BTreeMap<String, String>,
    /// Targets whose response never changes.
    pub scrapes: Vec<Scrape>,
    /// Expressions to evaluate at the end.
    pub queries: Vec<String>,
    /// How many minutes pass until the end.
    pub minutes: u32,
}

/// The response of a target, and the relabelling of its ServiceMonitor.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scrape {
    /// The response in Prometheus' text format.
    pub text: String,
    /// The labels that the Prometheus operator adds to a target.
    pub labels: BTreeMap<String, String>,
    /// The endpoint's `relabelings`.
    pub relabelings: Vec<Value>,
    /// The endpoint's `metricRelabelings`.
    pub metric_relabelings: Vec<Value>,
}

/// The state at the end.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    /// The firing alerts.
    pub alerts: Vec<Alert>,
    /// The result of each query.
    pub results: Vec<Vec<Sample>>,
}

/// A firing alert with its templates filled in.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields are Prometheus' own")]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// A series of a result.
#[derive(Debug, Deserialize)]
pub struct Sample {
    /// The labels; `__name__` is the metric's name.
    pub labels: BTreeMap<String, String>,
    /// The value as Go prints it.
    pub value: String,
}

impl Prometheus {
    /// Finds the program. It is built if needed, which takes a minute.
    pub async fn find() -> Result<Self, Unavailable> {
        let program =
            GoProgram { name: "prometheus", files: &MODULE, package: ".", ldflags: GoProgram::LDFLAGS };
        Ok(Self { executable: program.find().await? })
    }

    /// The selectors of each expression; an error if one is not PromQL.
    pub async fn parse(&self, expressions: &[&str]) -> anyhow::Result<Vec<Vec<Selector>>> {
        self.run("parse", &expressions).await
    }

    /// Evaluates a situation; an error if a rule is invalid.
    pub async fn evaluate(&self, situation: &Situation) -> anyhow::Result<Outcome> {
        self.run("evaluate", situation).await
    }

    async fn run<A: DeserializeOwned>(&self, command: &str, asked: &impl Serialize) -> anyhow::Result<A> {
        let mut child = Command::new(&self.executable)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.executable.display()))?;
        // The program reads all its input before it prints. If it ends early, its stderr says why.
        let mut stdin = child.stdin.take().expect("piped above");
        let _ = stdin.write_all(&serde_json::to_vec(asked)?).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).with_context(|| format!("prometheus {command}"))
    }
}
