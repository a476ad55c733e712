//! `suspend` and `resume`.

use std::io::Write;

use gatehouse_apiservice::duration;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    act::{ActArgs, Answer, all_or_errors},
    connection::Connection,
    error::PluginError,
    object::Target,
    output::visible,
};

/// Suspend objects: their controllers leave them alone until they are resumed
///
/// Needs the right to create fluxresources/suspend, and the verb suspend on the Flux object; see docs/actions.md.
#[derive(Debug, Clone, clap::Args)]
pub struct SuspendArgs {
    /// Objects, for example ks/shop hr/cart.
    #[arg(value_name = "KIND/NAME", required = true)]
    targets: Vec<Target>,
    /// Why. Policies may require it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// When the suspension ends by itself: a time such as 2026-11-29T20:00:00Z, or a duration such as 2h.
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<Timestamp>,
    #[command(flatten)]
    act: ActArgs,
}

/// Resume suspended objects
///
/// Needs the right to create fluxresources/resume, and the verb resume on the Flux object; see docs/actions.md.
#[derive(Debug, Clone, clap::Args)]
pub struct ResumeArgs {
    /// Objects, for example ks/shop hr/cart.
    #[arg(value_name = "KIND/NAME", required = true)]
    targets: Vec<Target>,
    #[command(flatten)]
    act: ActArgs,
}

impl SuspendArgs {
    pub(crate) async fn run(&self, connection: &Connection, out: &mut dyn Write) -> Result<(), PluginError> {
        let mut spec = Map::new();
        if let Some(reason) = &self.reason {
            spec.insert("reason".to_owned(), reason.clone().into());
        }
        if let Some(until) = self.until {
            spec.insert("until".to_owned(), format!("{until:.0}").into());
        }
        act_on(&self.act, &self.targets, connection, "suspend", &spec.into(), out).await
    }
}

impl ResumeArgs {
    pub(crate) async fn run(&self, connection: &Connection, out: &mut dyn Write) -> Result<(), PluginError> {
        act_on(&self.act, &self.targets, connection, "resume", &Map::new().into(), out).await
    }
}

async fn act_on(
    act: &ActArgs,
    targets: &[Target],
    connection: &Connection,
    subresource: &str,
    spec: &Value,
    out: &mut dyn Write,
) -> Result<(), PluginError> {
    let (mut errors, mut answers) = (Vec::new(), Vec::new());
    for target in targets {
        match act.create(connection, target, subresource, "Suspension", spec).await {
            Ok(answer) => {
                if act.output.is_text() {
                    print(act, &answer, out)?;
                }
                answers.push(answer);
            }
            Err(error) => errors.push(error),
        }
    }
    let objects: Vec<&Value> = answers.iter().map(|answer| &answer.object).collect();
    let names: Vec<String> = answers.iter().map(Answer::named).collect();
    act.print_objects(&objects, &names, out)?;
    all_or_errors(errors)
}

/// Prints what the object's suspension is now.
fn print(act: &ActArgs, answer: &Answer, out: &mut dyn Write) -> Result<(), PluginError> {
    let object = &answer.object;
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(visible);
    let is_suspended = object.pointer("/spec/suspended").and_then(Value::as_bool).unwrap_or_default();
    write!(out, "{} {}", answer.named(), if is_suspended { "suspended" } else { "resumed" })?;
    if let Some(until) = text("/spec/until") {
        write!(out, " until {until}")?;
    }
    writeln!(out, "{}", act.dry_run_mark())?;
    // What was resumed may still stand still.
    if let Some(freeze) = text("/status/frozenBy") {
        writeln!(out, "  held by the freeze {freeze}")?;
    }
    Ok(())
}

/// A time, or a duration from now on.
fn until(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = "must be a time such as 2026-11-29T20:00:00Z or a duration such as 2h";
    let duration = duration::parse(text).map_err(|_| wrong)?;
    Timestamp::now().checked_add(duration).map_err(|_| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_duration() {
        let time = until("2026-11-29T20:00:00Z").expect("a time");
        assert_eq!(time.to_string(), "2026-11-29T20:00:00Z");
        let ahead = until("2h").expect("a duration").as_second() - Timestamp::now().as_second();
        assert!((7190..=7200).contains(&ahead), "{ahead}");
        assert!(until("tomorrow").is_err());
    }
}
