//! The commands of docs/install.md.

use anyhow::{Context, bail, ensure};
use gatehouse_conformance::helm;

use super::Cluster;

/// The commands of a section, without the prompt and what explains them.
fn commands(section: &str) -> anyhow::Result<Vec<String>> {
    let path = helm::chart().join("../../docs/install.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut sections = text.split("\n## ");
    let text = sections.find(|text| text.starts_with(&format!("{section}\n")));
    let text = text.with_context(|| format!("docs/install.md has no section {section}"))?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("$ "));
    let commands: Vec<_> =
        lines.map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()).collect();
    ensure!(!commands.is_empty(), "the section {section} has no commands");
    Ok(commands)
}

/// Runs the commands of a section that `wanted` takes, in order. Paths are those of this repository.
pub(super) async fn run(
    cluster: &Cluster,
    section: &str,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<usize> {
    let chart = helm::chart();
    let chart = chart.to_str().context("a path of ASCII")?;
    let mut ran = 0;
    for command in commands(section)?.iter().filter(|command| wanted(command)) {
        let words: Vec<_> =
            command.split_whitespace().map(|word| word.replace("charts/gatehouse", chart)).collect();
        let (program, args) = words.split_first().context("a command")?;
        let output = match program.as_str() {
            "helm" => cluster.helm.run(args.iter().map(Into::into).collect()).await?,
            "kubectl" => cluster.kubectl.run(args).await?,
            other => bail!("{other} is not run here: {command}"),
        };
        output.ok()?;
        ran += 1;
    }
    Ok(ran)
}
