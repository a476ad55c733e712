//! `gatehouse crds`: the CustomResourceDefinitions, for an installation.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Context;
use gatehouse_apiservice::crds::definitions;
use serde_json::Value;

/// What the file says before the first definition.
const HEADING: &str = "# Made by `gatehouse crds` from the types in apiservice/src/policy.\n";

/// Print the CustomResourceDefinitions of policy.gatehouse.dev as YAML
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints them.
pub(crate) fn run(Args {}: &Args) -> anyhow::Result<()> {
    let text = yaml(&definitions())?;
    io::stdout().lock().write_all(text.as_bytes()).context("cannot print")
}

fn yaml(definitions: &[Value]) -> anyhow::Result<String> {
    let mut text = HEADING.to_owned();
    for definition in definitions {
        write!(text, "---\n{}", serde_saphyr::to_string(definition)?)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../charts/gatehouse/crds/policy.gatehouse.dev.yaml");

    #[test]
    fn the_chart_has_the_current_definitions() {
        let current = yaml(&definitions()).expect("prints");
        assert!(
            FILE == current,
            "run `cargo run -- crds > charts/gatehouse/crds/policy.gatehouse.dev.yaml` and commit the file"
        );
    }

    #[test]
    fn what_is_printed_reads_as_what_was_meant() {
        let read: Vec<Value> = serde_saphyr::from_multiple(FILE).expect("YAML");
        assert_eq!(read, definitions());
    }
}
