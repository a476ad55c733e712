//! The chain of causes of one object: what it waits for, and what explains the last of these.

use std::{collections::HashSet, fmt::Write as _};

use gatehouse_apiservice::FIELD_MANAGER;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    connection::Connection,
    error::PluginError,
    output::{Terminal, age, indent, visible},
    problems::{Cause, Problem},
    rows::{BlockedBy, Found, LOCAL_CLUSTER, Reference, Row, Rows, in_cluster},
    suspension::Suspension,
};

/// A chain that is longer is cut: the server searches a root cause over 64 objects.
const MAX_LINKS: usize = 128;

/// What is known of an object of the chain.
pub(crate) enum Known {
    /// A Flux object.
    Flux(Box<Row>),
    /// Another object that is not well.
    Problem(Box<Problem>),
    /// What another object's row says of it.
    Named(Box<Cause>),
    Missing,
    Forbidden,
}

/// An object of the chain.
struct Link {
    /// How the object before this one needs it.
    relation: &'static str,
    object: Reference,
    known: Known,
    /// Of a Flux object that is suspended.
    suspension: Option<Suspension>,
}

/// What an object waits for, the nearest first.
pub(crate) struct Chain {
    cluster: String,
    links: Vec<Link>,
    /// What the server says of the end, if the end's own row does not.
    last_words: Option<String>,
    /// Whether the last object waits for one of those before it.
    is_cycle: bool,
}

impl Chain {
    /// The chain of a Flux object.
    pub(crate) async fn of_row(
        first: Row,
        connection: &Connection,
        rows: &mut Rows<'_>,
    ) -> Result<Self, PluginError> {
        let cluster = first.status.cluster.clone();
        let mut chain = Self::begin(cluster, first.reference(), Known::Flux(Box::new(first)));
        chain.follow(rows).await?;
        for link in &mut chain.links {
            if let Known::Flux(row) = &link.known
                && row.status.suspended
            {
                link.suspension = Some(Suspension::of(connection, row).await);
            }
        }
        let is_explained = chain.end().is_none_or(Row::is_ready) || chain.is_cycle;
        if !is_explained && let Some(last) = chain.links.last() {
            let problem = Problem::of(connection, &chain.cluster, &last.object).await?;
            if let Some(problem) = problem {
                chain.explain(&problem, connection).await?;
            }
        }
        Ok(chain)
    }

    /// The chain of another object that is not well.
    pub(crate) async fn of_problem(
        first: Problem,
        cluster: &str,
        connection: &Connection,
    ) -> Result<Self, PluginError> {
        let problem = first.clone();
        let mut chain = Self::begin(cluster.to_owned(), first.reference(), Known::Problem(Box::new(first)));
        chain.explain(&problem, connection).await?;
        Ok(chain)
    }

    fn begin(cluster: String, object: Reference, known: Known) -> Self {
        Self {
            cluster,
            links: vec![Link { relation: "", object, known, suspension: None }],
            last_words: None,
            is_cycle: false,
        }
    }

    /// Follows what Flux objects wait for.
    async fn follow(&mut self, rows: &mut Rows<'_>) -> Result<(), PluginError> {
        let mut seen: HashSet<_> = self.links.iter().map(|link| link.object.clone()).collect();
        while let Some(blocked_by) = self.end().and_then(|row| row.status.blocked_by.clone()) {
            self.is_cycle = blocked_by.is_cycle();
            let members = if self.is_cycle {
                self.members_after_the_last(&blocked_by)
            } else {
                blocked_by.path.iter().chain([&blocked_by.object]).cloned().collect()
            };
            let before = self.links.len();
            for object in members {
                if seen.insert(object.clone()) && self.links.len() < MAX_LINKS {
                    let known = match rows.find(&self.cluster, &object).await? {
                        Found::Row(row) => Known::Flux(row),
                        Found::Missing => Known::Missing,
                        Found::Forbidden => Known::Forbidden,
                    };
                    let relation = self.relation(&object);
                    self.links.push(Link { relation, object, known, suspension: None });
                }
            }
            let says_more = !matches!(self.end(), Some(row) if !row.is_ready());
            self.last_words =
                (says_more && !self.is_cycle).then(|| both(&blocked_by.reason, &blocked_by.message));
            if self.is_cycle || self.links.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// Adds what explains the last object. The server has walked to the end already, down to the container.
    async fn explain(&mut self, problem: &Problem, connection: &Connection) -> Result<(), PluginError> {
        let Some(cause) = &problem.cause else { return Ok(()) };
        for object in problem.path.iter().chain([&cause.object]) {
            if self.links.iter().any(|link| link.object == *object) {
                continue;
            }
            let known = match Problem::of(connection, &self.cluster, object).await? {
                Some(problem) => Known::Problem(Box::new(problem)),
                None if *object == cause.object => Known::Named(Box::new(cause.clone())),
                None => Known::Named(Box::default()),
            };
            let object = object.clone();
            self.links.push(Link { relation: "because of", object, known, suspension: None });
        }
        Ok(())
    }

    /// The objects of the API that the chain was read from.
    pub(crate) fn objects(&self) -> Vec<&Value> {
        self.links
            .iter()
            .filter_map(|link| match &link.known {
                Known::Flux(row) => Some(&row.object),
                Known::Problem(problem) => Some(&problem.object),
                Known::Named(_) | Known::Missing | Known::Forbidden => None,
            })
            .collect()
    }

    /// The row of the last object, if that is a Flux object.
    fn end(&self) -> Option<&Row> {
        match &self.links.last()?.known {
            Known::Flux(row) => Some(row),
            _ => None,
        }
    }

    /// How the last object needs the next one.
    fn relation(&self, next: &Reference) -> &'static str {
        match self.end() {
            Some(row) if row.status.source.as_ref() == Some(next) => "takes its content from",
            Some(_) => "depends on",
            None => "waits for",
        }
    }

    /// The members of a cycle, beginning behind the last object if that is one of them.
    fn members_after_the_last(&self, blocked_by: &BlockedBy) -> Vec<Reference> {
        let mut members = blocked_by.path.clone();
        if members.is_empty() {
            members.push(blocked_by.object.clone());
        }
        let last = self.links.last().map(|link| &link.object);
        if let Some(at) = members.iter().position(|member| Some(member) == last) {
            members.rotate_left(at);
        }
        members
    }

    pub(crate) fn text(&self, terminal: Terminal, wide: bool) -> String {
        let mut out = String::new();
        for link in &self.links {
            if !link.relation.is_empty() {
                let _ = write!(out, "↳ {} ", link.relation);
            }
            let mut object = terminal.bold(&link.object.to_string());
            if link.relation.is_empty() {
                object += &in_cluster(&self.cluster);
            }
            match &link.known {
                Known::Flux(row) => {
                    describe(&mut out, &object, row, link.suspension.as_ref(), terminal, wide);
                }
                Known::Problem(problem) => {
                    let Problem { state, since, reason, message, .. } = &**problem;
                    head(&mut out, &object, state, *since, terminal);
                    indent(&mut out, "  ", &both(reason, message));
                }
                Known::Named(cause) => {
                    head(&mut out, &object, cause.state.as_deref().unwrap_or_default(), None, terminal);
                    indent(&mut out, "  ", &both(&cause.reason, &cause.message));
                }
                Known::Missing => head(&mut out, &object, "Missing", None, terminal),
                Known::Forbidden => {
                    head(&mut out, &object, "", None, terminal);
                    let namespace = &link.object.namespace;
                    let words = format!("you may not get fluxresources in namespace {namespace}");
                    indent(&mut out, "  ", &words);
                }
            }
        }
        if self.is_cycle {
            let _ = writeln!(out, "↳ which waits for the first of them again: a cycle of dependencies");
        }
        if let Some(words) = &self.last_words {
            indent(&mut out, "  ", words);
        }
        if let Some((place, next)) = self.next_command() {
            let _ = write!(out, "\nNext{place}: {next}\n");
        }
        out
    }

    /// What to look at next, and where if it is not here: the contexts of other clusters are not known.
    fn next_command(&self) -> Option<(String, String)> {
        if self.is_cycle {
            return None;
        }
        let mut place = if self.cluster == LOCAL_CLUSTER {
            String::new()
        } else {
            format!(", in cluster {}", visible(&self.cluster))
        };
        let Link { object, known, .. } = self.links.last()?;
        let (command, qualified) = match known {
            Known::Flux(row) if row.is_ready() => return None,
            // A freeze holds it, which its suspension names.
            Known::Flux(row) if row.status.suspended_by.as_deref() == Some(FIELD_MANAGER) => {
                place.clear();
                ("get --subresource=suspension", format!("fluxresource/{}", row.name))
            }
            Known::Flux(row) if row.status.suspended => {
                let is_here = std::mem::take(&mut place).is_empty();
                let named = if is_here { row.qualified() } else { format!("fluxresource/{}", row.name) };
                ("gatehouse resume", named)
            }
            Known::Flux(row) => ("describe", row.qualified()),
            Known::Problem(problem) if !problem.group.is_empty() => {
                ("describe", format!("{}.{}/{}", object.kind.to_lowercase(), problem.group, object.name))
            }
            Known::Named(cause) if cause.state.as_deref() == Some("Missing") => return None,
            Known::Problem(_) | Known::Named(_) => {
                ("describe", format!("{}/{}", object.kind.to_lowercase(), object.name))
            }
            Known::Missing | Known::Forbidden => return None,
        };
        let within =
            if object.namespace.is_empty() { String::new() } else { format!(" -n {}", object.namespace) };
        Some((place, visible(&format!("kubectl {command} {qualified}{within}"))))
    }
}

/// `Kind/namespace/name: State for AGE`.
fn head(out: &mut String, object: &str, state: &str, since: Option<Timestamp>, terminal: Terminal) {
    out.push_str(object);
    if !state.is_empty() {
        let _ = write!(out, ": {}", terminal.state(state));
    }
    if let Some(since) = since {
        let _ = write!(out, " for {}", age(since));
    }
    out.push('\n');
}

fn both(reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// An object with its state and what its controller says.
fn describe(
    out: &mut String,
    object: &str,
    row: &Row,
    suspension: Option<&Suspension>,
    terminal: Terminal,
    wide: bool,
) {
    let status = &row.status;
    head(out, object, &status.state, status.since, terminal);
    indent(out, "  ", &both(&status.reason, &status.message));
    if let Some(suspension) = suspension {
        indent(out, "  ", &suspension.text());
    }
    if !status.denied_by.is_empty() {
        let denied_by: Vec<_> = status.denied_by.iter().map(ToString::to_string).collect();
        indent(out, "  ", &format!("denied by {}", denied_by.join(", ")));
    }
    if wide {
        let facts = [
            ("revision", status.revision.clone()),
            ("source", status.source.as_ref().map(ToString::to_string)),
            ("since", status.since.map(|since| format!("{since:.0}"))),
            ("cluster", Some(status.cluster.clone())),
        ];
        for (name, fact) in facts {
            if let Some(fact) = fact {
                indent(out, "  ", &format!("{name} {fact}"));
            }
        }
    }
}
