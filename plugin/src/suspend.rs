//! `suspend` and `resume`.

use std::io::Write;

use clap::ArgGroup;
use gatehouse_apiservice::duration;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    act::{ActArgs, Answer, all_or_errors},
    connection::Connection,
    error::PluginError,
    many::{self, ManyArgs},
    object::Target,
    output::visible,
};

/// The kind of bodies and answers.
const KIND: &str = "Suspension";

/// Suspend objects: their controllers leave them alone until they are resumed
///
/// Needs the right to create fluxresources/suspend, and the verb suspend on the Flux object; see docs/actions.md.
#[derive(Debug, Clone, clap::Args)]
#[command(group(ArgGroup::new("objects").args(["targets", "all", "state"]).required(true).multiple(true)))]
pub struct SuspendArgs {
    /// Objects, for example ks/shop hr/cart.
    #[arg(value_name = "KIND/NAME")]
    targets: Vec<Target>,
    #[command(flatten)]
    many: ManyArgs,
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
#[command(group(ArgGroup::new("objects").args(["targets", "all", "state"]).required(true).multiple(true)))]
pub struct ResumeArgs {
    /// Objects, for example ks/shop hr/cart.
    #[arg(value_name = "KIND/NAME")]
    targets: Vec<Target>,
    #[command(flatten)]
    many: ManyArgs,
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
        let Self { targets, many, act, .. } = self;
        Direction { subresource: "suspend", is_suspended: true, spec: spec.into(), act, many }
            .act_on(targets, connection, out)
            .await
    }
}

impl ResumeArgs {
    pub(crate) async fn run(&self, connection: &Connection, out: &mut dyn Write) -> Result<(), PluginError> {
        let Self { targets, many, act } = self;
        Direction { subresource: "resume", is_suspended: false, spec: Map::new().into(), act, many }
            .act_on(targets, connection, out)
            .await
    }
}

/// What is done to each object.
struct Direction<'a> {
    subresource: &'static str,
    is_suspended: bool,
    spec: Value,
    act: &'a ActArgs,
    many: &'a ManyArgs,
}

impl Direction<'_> {
    async fn act_on(
        &self,
        targets: &[Target],
        connection: &Connection,
        out: &mut dyn Write,
    ) -> Result<(), PluginError> {
        let Self { subresource, spec, act, many, .. } = self;
        let (mut errors, mut answers) = (Vec::new(), Vec::new());
        for target in targets {
            let answer = match act.create(connection, target, subresource, KIND, spec).await {
                Err(error @ PluginError::NoActions) => return Err(error),
                Err(error) if targets.len() > 1 => Err(error.about(&target.row_of(connection))),
                answer => answer,
            };
            self.take(answer, "", &mut answers, &mut errors, out)?;
        }
        let mut rows = Vec::new();
        if many.is_meant() {
            rows = many::rows(connection, many, act.cluster_name.as_deref()).await?;
            rows.retain(|row| row.status.suspended != self.is_suspended);
        }
        let mut is_any = false;
        for row in &rows {
            let answer = match act.create_at(connection, row, subresource, KIND, spec).await {
                // No controller reconciles objects of this kind.
                Err(error) if error.is_not_supported() => continue,
                Err(error @ PluginError::NoActions) => return Err(error),
                answer => answer.map_err(|error| error.about(&row.name)),
            };
            is_any = true;
            self.take(answer, &many.place(&row.namespace), &mut answers, &mut errors, out)?;
        }
        if many.is_meant() && !is_any && act.output.is_text() {
            writeln!(out, "Nothing to {subresource}")?;
        }
        let objects: Vec<&Value> = answers.iter().map(|answer| &answer.object).collect();
        let names: Vec<String> = answers.iter().map(Answer::named).collect();
        act.print_objects(&objects, &names, out)?;
        all_or_errors(errors)
    }

    fn take(
        &self,
        answer: Result<Answer, PluginError>,
        place: &str,
        answers: &mut Vec<Answer>,
        errors: &mut Vec<PluginError>,
        out: &mut dyn Write,
    ) -> Result<(), PluginError> {
        match answer {
            Ok(answer) => {
                if self.act.output.is_text() {
                    print(self.act, &answer, place, out)?;
                }
                answers.push(answer);
            }
            Err(error) => errors.push(error),
        }
        Ok(())
    }
}

/// Prints what the object's suspension is now.
fn print(act: &ActArgs, answer: &Answer, place: &str, out: &mut dyn Write) -> Result<(), PluginError> {
    let object = &answer.object;
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(visible);
    let is_suspended = object.pointer("/spec/suspended").and_then(Value::as_bool).unwrap_or_default();
    write!(out, "{} {}", answer.named(), if is_suspended { "suspended" } else { "resumed" })?;
    if let Some(until) = text("/spec/until") {
        write!(out, " until {until}")?;
    }
    writeln!(out, "{place}{}", act.dry_run_mark())?;
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
    let wrong = "must be a time before 9999-12-30 such as 2026-11-29T20:00:00Z, or a duration such as 2h";
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
