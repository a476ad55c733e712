//! `gatehouse check` as CI runs it: the executable on files, its output and its exit code.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with what it met")]

mod built;
mod flux;
mod input;
mod namespaces;
mod options;
mod outputs;
mod quotas;
mod remote;
mod resource_sets;
mod settings;
mod suites;
mod verdicts;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

const STRICT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policies/strict.yaml");
const QUOTA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policies/tenant-quota.yaml");

/// A folder of files to check, which the command runs in, so that paths are short and the same everywhere.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            folder.write(path, text);
        }
        folder
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        self.subcommand("check", args)
    }

    fn subcommand(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.arg(name).args(args).current_dir(self.0.path());
        command.env_remove("RUST_LOG").env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    fn check(&self, args: &[&str]) -> Checked {
        Checked::from(self.command(args).output().unwrap())
    }

    /// With the example policy.
    fn strict(&self, args: &[&str]) -> Checked {
        self.check(&[&["--policies", STRICT], args].concat())
    }
}

#[derive(Debug)]
struct Checked {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Checked {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Checked {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The first line of each finding, without the hints.
    fn findings(&self) -> Vec<&str> {
        self.out.lines().filter(|line| !line.starts_with(' ')).collect()
    }

    /// `code`, and standard error has each of `said`.
    fn expect(&self, code: i32, printed: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for printed in printed {
            assert!(self.err.contains(printed), "{printed:?} is missing in {self:?}");
        }
    }
}

const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: apps
  labels: {gatehouse.dev/tenant: team-a}
";

/// Nothing is wrong with it.
const GOOD: &str = "\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: good, namespace: apps}
spec:
  serviceAccountName: flux-apps
  targetNamespace: apps
  sourceRef: {kind: GitRepository, name: apps}
";

/// Nearly everything is.
const BAD: &str = "\
# Two documents.
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: apps
  namespace: apps
spec:
  interval: 10s
  url: https://git.example.com/apps
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: bad
  namespace: apps
spec:
  prune: false
  sourceRef:
    kind: GitRepository
    name: fleet
    namespace: flux-system
";
