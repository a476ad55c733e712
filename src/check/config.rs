//! Options of `gatehouse check` from a file, which a repository keeps beside its manifests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context;
use gatehouse_check::Labels;
use serde::Deserialize;

use super::{Format, Level};

/// The file that is read if it is there.
const FILE: &str = ".gatehouse.yaml";

/// Each option as the flag of its name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Config {
    pub(super) files: Vec<PathBuf>,
    pub(super) policies: Vec<PathBuf>,
    pub(super) namespace_labels: BTreeMap<String, Labels>,
    pub(super) all_files: bool,
    pub(super) ignore: Vec<String>,
    pub(super) against: Option<String>,
    pub(super) baseline: Option<PathBuf>,
    pub(super) output: Option<Format>,
    pub(super) fail_on: Option<Level>,
}

impl Config {
    /// Of a file, else of the usual one, else nothing.
    pub(super) fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let path = match file {
            Some(file) => file,
            None if Path::new(FILE).is_file() => Path::new(FILE),
            None => return Ok(Self::default()),
        };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_saphyr::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.without_snippet()))
    }
}
