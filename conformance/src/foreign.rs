//! Informers of other languages' Kubernetes clients. Their programs are in the folder `informers`; their
//! dependencies are installed once, with pinned versions, into the user's cache folder.
//!
//! A program watches the `fluxresources` of some scopes. For each line on its stdin it prints the content of
//! its caches. It ends when its stdin closes, and so never outlives its owner.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cache::{self, Filling, Unavailable, at};
use crate::pace::patience;
use crate::progress;

/// Enough to print some hundred objects on a busy machine.
const DUMP_TIMEOUT: Duration = Duration::from_mins(1);
/// How many lines of a program's stderr an error message shows.
const ERROR_LINES: usize = 30;

/// A language, and the client library that is usual in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// client-go: a shared informer with streaming lists (WatchList).
    Go,
    /// The package `kubernetes`: its shared informer.
    Python,
    /// The package `@kubernetes/client-node`: the informer of `makeInformer`.
    JavaScript,
}

/// What one informer watches: everything that matches all of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// The namespace; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A label selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
    /// A field selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<String>,
}

/// An installed program.
#[derive(Debug, Clone)]
pub struct Client {
    program: PathBuf,
    args: Vec<OsString>,
    /// Its working directory, where node looks for imported packages.
    folder: PathBuf,
}

/// A running program. Dropping it ends it.
pub struct Informers {
    name: String,
    errors: PathBuf,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    process: Child,
}

/// The content of a program's caches.
#[derive(Debug, Deserialize)]
pub struct Caches {
    /// The objects of each scope.
    pub caches: Vec<Vec<Value>>,
    /// How many streaming lists client-go could not compare with a plain list, and repeated.
    #[serde(default)]
    pub unverified: usize,
}

impl Language {
    /// The program, built or installed if needed.
    pub async fn client(self) -> Result<Client, Unavailable> {
        match self {
            Self::Go => go().await,
            Self::Python => python().await,
            Self::JavaScript => javascript().await,
        }
    }
}

impl Client {
    /// Runs the program as the user of a kubeconfig, with one informer per scope. Its stderr goes to a file
    /// in `folder`.
    pub fn start(
        &self,
        name: &str,
        (kubeconfig, folder): (&Path, &Path),
        scopes: &[Scope],
        env: &[(&str, &str)],
    ) -> anyhow::Result<Informers> {
        let errors = folder.join(format!("informer-{name}.log"));
        let mut process = Command::new(&self.program)
            .args(&self.args)
            .arg(kubeconfig)
            .arg(serde_json::to_string(scopes)?)
            .current_dir(&self.folder)
            .env_clear()
            .envs(["PATH", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("HOME", folder)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&errors)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the informers {name}"))?;
        let input = process.stdin.take().expect("piped above");
        let output = BufReader::new(process.stdout.take().expect("piped above")).lines();
        Ok(Informers { name: name.to_owned(), errors, input, output, process })
    }
}

impl Informers {
    /// The name that it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current content of the caches; an error if the program has ended.
    pub async fn caches(&mut self) -> anyhow::Result<Caches> {
        let asked = async {
            self.input.write_all(b"dump\n").await?;
            self.input.flush().await?;
            self.output.next_line().await
        };
        let line = match tokio::time::timeout(patience(DUMP_TIMEOUT), asked).await {
            Ok(Ok(Some(line))) => line,
            Ok(outcome) => {
                let status = self.process.try_wait()?;
                bail!("the informers {} ended ({outcome:?}, {status:?}): {}", self.name, self.complaints());
            }
            Err(_) => bail!("the informers {} do not answer: {}", self.name, self.complaints()),
        };
        serde_json::from_str(&line).with_context(|| format!("the informers {} print: {line}", self.name))
    }

    /// The last lines of its stderr.
    pub fn complaints(&self) -> String {
        let text = std::fs::read(&self.errors).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(ERROR_LINES)..].join("\n")
    }
}

async fn go() -> Result<Client, Unavailable> {
    const NAME: &str = "informer";
    const MODULE: [(&str, &str); 3] = [
        ("go.mod", include_str!("../informers/go/go.mod")),
        ("go.sum", include_str!("../informers/go/go.sum")),
        ("main.go", include_str!("../informers/go/main.go")),
    ];
    let folder = cache::folder("informer-go", &MODULE.map(|(_, text)| text))?;
    let program = folder.join(NAME);
    installed(&program, "client-go", &MODULE, async |filling| filling.go(NAME, ".", "-s -w").await).await?;
    Ok(Client { program, args: Vec::new(), folder })
}

async fn python() -> Result<Client, Unavailable> {
    const REQUIREMENTS: [(&str, &str); 1] =
        [("requirements.txt", include_str!("../informers/python/requirements.txt"))];
    const PROGRAM: &str = include_str!("../informers/python/informer.py");
    // A virtual environment refers to the interpreter that created it.
    let version = version("python3").await?;
    let folder = cache::folder("informer-python", &[REQUIREMENTS[0].1, &version])?;
    let environment = folder.join("environment");
    installed(&environment, "Python's client", &REQUIREMENTS, async |filling| {
        filling.run("python3", ["-m", "venv", "environment"], [], "an environment").await?;
        let pip =
            ["-m", "pip", "--disable-pip-version-check", "install", "--requirement", "requirements.txt"];
        filling.run(filling.work().join("environment/bin/python"), pip, [], "Python's client").await
    })
    .await?;
    let args = vec!["-c".into(), PROGRAM.into()];
    Ok(Client { program: environment.join("bin/python"), args, folder })
}

async fn javascript() -> Result<Client, Unavailable> {
    const PACKAGE: [(&str, &str); 2] = [
        ("package.json", include_str!("../informers/javascript/package.json")),
        ("package-lock.json", include_str!("../informers/javascript/package-lock.json")),
    ];
    const PROGRAM: &str = include_str!("../informers/javascript/informer.mjs");
    version("node").await?;
    let folder = cache::folder("informer-javascript", &PACKAGE.map(|(_, text)| text))?;
    let modules = folder.join("node_modules");
    installed(&modules, "JavaScript's client", &PACKAGE, async |filling| {
        let args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        filling.run("npm", args, [], "JavaScript's client").await
    })
    .await?;
    let args = vec!["--input-type=module".into(), "--eval".into(), PROGRAM.into()];
    Ok(Client { program: "node".into(), args, folder })
}

/// Installs `result`, a file or folder in its own cache folder, unless it exists.
async fn installed(
    result: &Path,
    what: &str,
    files: &[(&str, &str)],
    install: impl AsyncFnOnce(&Filling) -> Result<(), Unavailable>,
) -> Result<(), Unavailable> {
    let (Some(folder), Some(name)) = (result.parent(), result.file_name().and_then(|name| name.to_str()))
    else {
        return Err(at(result)(std::io::ErrorKind::InvalidFilename.into()));
    };
    if result.exists() {
        return Ok(());
    }
    let filling = Filling::begin(folder).await?;
    if result.exists() {
        return Ok(());
    }
    for (name, text) in files {
        filling.write(name, text)?;
    }
    let what = format!("installing {what} for tests, once, into {}", folder.display());
    progress::during(what, install(&filling)).await?;
    filling.keep(name)
}

/// The version that a tool reports; an error if it cannot be run.
async fn version(program: &str) -> Result<String, Unavailable> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    match output.await {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Err(source) => Err(Unavailable::NoProgram { program: program.to_owned(), source }),
    }
}
