//! What Prometheus makes of rules, of expressions and of what targets tell: its own packages, in a program of this
//! repository that is built once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cache::{self, Unavailable};

const MODULE: [(&str, &str); 7] = [
    ("go.mod", include_str!("../tools/prometheus/go.mod")),
    ("go.sum", include_str!("../tools/prometheus/go.sum")),
    ("main.go", include_str!("../tools/prometheus/main.go")),
    ("parse.go", include_str!("../tools/prometheus/parse.go")),
    ("evaluate.go", include_str!("../tools/prometheus/evaluate.go")),
    ("store.go", include_str!("../tools/prometheus/store.go")),
    ("scrape.go", include_str!("../tools/prometheus/scrape.go")),
];

/// The program.
#[derive(Debug, Clone)]
pub struct Prometheus {
    executable: PathBuf,
}

/// One of the selectors of an expression.
#[derive(Debug, Clone, Deserialize)]
pub struct Selector {
    /// As it can be queried.
    pub text: String,
    /// The name of the metric; empty where it is a label like others.
    pub metric: String,
    /// The labels that the expression chooses or groups its series by.
    pub labels: Vec<String>,
}

/// What has been collected, and what is asked of it in the end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Situation {
    /// What stands under `spec` of a PrometheusRule, as YAML; nothing for no rules.
    pub rules: String,
    /// Made up: `metric{label="value"}`, and a value a minute in the notation of promtool's tests.
    pub series: BTreeMap<String, String>,
    /// Targets that answer the same all the time.
    pub scrapes: Vec<Scrape>,
    /// Expressions.
    pub queries: Vec<String>,
    /// How long it goes on.
    pub minutes: u32,
}

/// What a target answers, and what a ServiceMonitor makes of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scrape {
    /// In Prometheus' text format.
    pub text: String,
    /// What the Prometheus operator gives a target.
    pub labels: BTreeMap<String, String>,
    /// The endpoint's `relabelings`.
    pub relabelings: Vec<Value>,
    /// The endpoint's `metricRelabelings`.
    pub metric_relabelings: Vec<Value>,
}

/// What there is in the end.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    /// Those that fire.
    pub alerts: Vec<Alert>,
    /// Of each query.
    pub results: Vec<Vec<Sample>>,
}

/// An alert that fires, its templates filled in.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields are Prometheus' own")]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// One series of a result.
#[derive(Debug, Deserialize)]
pub struct Sample {
    /// The metric's name is `__name__`.
    pub labels: BTreeMap<String, String>,
    /// As Go prints it.
    pub value: String,
}

impl Prometheus {
    /// Finds it; builds it if need be, which takes a minute.
    pub async fn find() -> Result<Self, Unavailable> {
        Ok(Self { executable: cache::go_program("prometheus", &MODULE, ".").await? })
    }

    /// The selectors of each expression; an error where one is not PromQL.
    pub async fn parse(&self, expressions: &[&str]) -> anyhow::Result<Vec<Vec<Selector>>> {
        self.run("parse", &expressions).await
    }

    /// What comes of it; an error where a rule is not sound.
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
        // It reads to the end before it prints. Should it end before, its own words say why.
        let mut stdin = child.stdin.take().expect("piped above");
        let _ = stdin.write_all(&serde_json::to_vec(asked)?).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).with_context(|| format!("prometheus {command}"))
    }
}
