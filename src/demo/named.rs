//! Which cluster each `--snapshot` is of.

use std::path::PathBuf;

use anyhow::ensure;
use gatehouse_apiservice::dns;

/// The name of a cluster that was given none.
const LOCAL: &str = "local";

/// A value of `--snapshot`: `PATH`, or `NAME=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) cluster: Option<String>,
    pub(super) path: PathBuf,
}

impl Named {
    /// What is before `=` is a name if it can be one: paths may contain `=`, too.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').filter(|(name, _)| dns::is_label(name));
        let (cluster, path) = named.map_or((None, text), |(name, path)| (Some(name.to_owned()), path));
        if path.is_empty() {
            return Err("the path is empty".to_owned());
        }
        Ok(Self { cluster, path: path.into() })
    }
}

/// The clusters by name, the one that serves the views first.
pub(super) fn clusters(mut named: Vec<Named>) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let unnamed = named.iter().filter(|named| named.cluster.is_none()).count();
    ensure!(unnamed <= 1, "--snapshot: of several, each needs a name: NAME=PATH");
    named.sort_by_key(|named| named.cluster.is_some());
    let mut clusters: Vec<(String, PathBuf)> = Vec::new();
    for Named { cluster, path } in named {
        let name = cluster.unwrap_or_else(|| LOCAL.to_owned());
        ensure!(clusters.iter().all(|(known, _)| *known != name), "--snapshot: {name} is named twice");
        clusters.push((name, path));
    }
    Ok(clusters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Vec<String>, String> {
        let named = texts.iter().map(|text| Named::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let clusters = clusters(named).map_err(|error| error.to_string())?;
        Ok(clusters.into_iter().map(|(name, path)| format!("{name} {}", path.display())).collect())
    }

    #[test]
    fn names_are_what_can_be_one_and_the_unnamed_serves() {
        assert_eq!(of(&["dir"]).unwrap(), ["local dir"]);
        assert_eq!(of(&["eu=a", "us=b"]).unwrap(), ["eu a", "us b"]);
        assert_eq!(of(&["eu=a", "b"]).unwrap(), ["local b", "eu a"]);
        assert_eq!(of(&["./x=y"]).unwrap(), ["local ./x=y"]);
        assert!(of(&["eu=a", "eu=b"]).unwrap_err().contains("eu is named twice"));
        assert!(of(&["a", "b"]).unwrap_err().contains("each needs a name"));
        assert!(of(&["eu="]).unwrap_err().contains("empty"));
    }
}
