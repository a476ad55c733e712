//! Waits until the controllers have handled requests. A controller copies the token of the last request that it has
//! handled into the object's status, together with the outcome.

use std::{io::Write, pin::pin, time::Duration};

use futures::TryStreamExt as _;
use gatehouse_apiservice::duration;
use jiff::{SignedDuration, Timestamp};
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    act::Acted,
    connection::{Connection, Location},
    error::PluginError,
    output::{Terminal, visible},
    rows::{RESOURCE, RequestStatus, Row},
};

/// Between two attempts to watch an object.
const PAUSE: Duration = Duration::from_secs(1);

/// A request of this command.
pub(crate) struct Request {
    namespace: String,
    row: String,
    object: String,
    token: String,
    /// Whether its outcome is that of the command: the object that was named, and not its source.
    decides: bool,
}

impl Request {
    pub(crate) fn new(cluster: &str, object: Acted, decides: bool) -> Self {
        let row = format!("{cluster}.{}.{}", object.kind.to_lowercase(), object.name);
        let qualified = object.qualified();
        let Acted { namespace, requested_at: token, .. } = object;
        Self { namespace, row, object: qualified, token, decides }
    }

    /// Whether the controller has handled it, or a later one: of two that it meets together, it handles the later only.
    /// Other clients write other tokens, such as times of another zone, or none.
    fn is_handled(&self, row: &Row) -> bool {
        let Some(RequestStatus { handled }) = &row.status.request else { return false };
        let times = (handled.parse::<Timestamp>(), self.token.parse::<Timestamp>());
        *handled == self.token || matches!(times, (Ok(handled), Ok(own)) if handled >= own)
    }

    /// Whether nothing more is to be waited for.
    fn is_over(&self, row: &Row) -> bool {
        // A suspended object ignores requests.
        row.status.suspended || (self.is_handled(row) && row.status.state != "Progressing")
    }
}

/// Waits for all of them, and prints each outcome to `out`. Returns what did not become ready.
pub(crate) async fn until_handled(
    connection: &Connection,
    terminal: Terminal,
    requests: &[Request],
    limit: Duration,
    mut out: Option<&mut dyn Write>,
) -> Result<Vec<PluginError>, PluginError> {
    let deadline = Instant::now() + limit;
    let mut errors = Vec::new();
    for request in requests {
        let progress = Progress { is_shown: terminal.live, object: &request.object };
        let waited = timeout_at(deadline, request.wait(connection, &progress)).await;
        progress.end();
        let object = &request.object;
        match waited {
            Err(_) => {
                let after = SignedDuration::try_from(limit).map(duration::show).unwrap_or_default();
                let words =
                    format!("timed out after {after} waiting for {object}: the request is not handled yet");
                errors.push(PluginError::Timeout(words));
            }
            Ok(Err(error)) => errors.push(error),
            Ok(Ok(row)) if row.is_ready() => {
                let revision = row.status.revision.map(|revision| format!(" at {}", visible(&revision)));
                if let Some(out) = &mut out {
                    writeln!(out, "{object} reconciled{}", revision.unwrap_or_default())?;
                    out.flush()?;
                }
            }
            // The outcome of the object tells what its source led to.
            Ok(Ok(_)) if !request.decides => {}
            Ok(Ok(row)) => errors.push(PluginError::NotReady(outcome(object, &row))),
        }
    }
    Ok(errors)
}

fn outcome(object: &str, row: &Row) -> String {
    let status = &row.status;
    let words = [&status.reason, &status.message].into_iter().filter(|text| !text.is_empty());
    let words: Vec<String> = words.map(|text| visible(text.lines().next().unwrap_or_default())).collect();
    format!("{object} is {}: {}", status.state, words.join(": "))
}

impl Request {
    async fn wait(&self, connection: &Connection, progress: &Progress<'_>) -> Result<Row, PluginError> {
        loop {
            let (namespace, name) = (Some(&*self.namespace), Some(&*self.row));
            let location = Location { namespace, resource: RESOURCE, name, subresource: None };
            let row = Row::of(connection.get(location, &[]).await?)?;
            progress.show(&row);
            if self.is_over(&row) {
                return Ok(row);
            }
            if let Some(row) = self.watch(connection, &row, progress).await? {
                return Ok(row);
            }
            // The watch has ended, or may not be opened: what is missed meanwhile is read.
            sleep(PAUSE).await;
        }
    }

    /// Follows the row until the request is over; none if the watch ends before.
    async fn watch(
        &self,
        connection: &Connection,
        row: &Row,
        progress: &Progress<'_>,
    ) -> Result<Option<Row>, PluginError> {
        let version = row.object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let selector = format!("metadata.name={}", self.row);
        let query = [
            ("watch", "true"),
            ("fieldSelector", &*selector),
            ("resourceVersion", version.unwrap_or_default()),
        ];
        let namespace = Some(&*self.namespace);
        let location = Location { namespace, resource: RESOURCE, ..Location::default() };
        let Ok(events) = connection.watch(location, &query).await else { return Ok(None) };
        let mut events = pin!(events);
        while let Ok(Some(event)) = events.try_next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let row = Row::of(object)?;
                    progress.show(&row);
                    if self.is_over(&row) {
                        return Ok(Some(row));
                    }
                }
                WatchEvent::Deleted(_) => {
                    return Err(PluginError::NotReady(format!("{} was deleted", self.object)));
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// A line on a terminal that says how the object is doing meanwhile.
struct Progress<'a> {
    is_shown: bool,
    object: &'a str,
}

impl Progress<'_> {
    fn show(&self, row: &Row) {
        if self.is_shown {
            let message = visible(row.status.message.lines().next().unwrap_or_default());
            // A line that wraps could not be taken back.
            let line = format!("waiting for {}: {} {message}", self.object, row.status.state);
            let line: String = line.chars().take(79).collect();
            eprint!("\r\x1b[K{line}");
        }
    }

    fn end(&self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests;
