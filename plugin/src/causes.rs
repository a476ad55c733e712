//! The root causes behind many rows, and how many objects wait for each.

use std::cmp::Reverse;

use crate::{
    output::age,
    rows::{BlockedBy, LOCAL_CLUSTER, Reference, Row},
    table::align,
};

/// A root cause, and the objects that wait for it.
pub(crate) struct RootCause<'a> {
    cluster: &'a str,
    object: Reference,
    is_cycle: bool,
    state: &'a str,
    message: &'a str,
    blocked: usize,
    /// Its own row, if that is among those listed.
    pub(crate) row: Option<&'a Row>,
}

/// The root causes behind these rows, those that block most first.
pub(crate) fn root_causes(rows: &[Row]) -> Vec<RootCause<'_>> {
    let mut roots: Vec<RootCause<'_>> = Vec::new();
    for row in rows {
        let status = &row.status;
        let is_failure = matches!(&*status.state, "Failing" | "Failed" | "Stalled" | "Blocked");
        let (object, blocked) = match &status.blocked_by {
            _ if !is_failure => continue,
            // One member stands for the cycle, whichever the server names.
            Some(by) if by.is_cycle() => (by.path.iter().min().unwrap_or(&by.object).clone(), 1),
            Some(by) => (by.object.clone(), 1),
            None => (row.reference(), 0),
        };
        let cluster = &*status.cluster;
        let known = roots.iter().position(|root| root.cluster == cluster && root.object == object);
        let at = known.unwrap_or_else(|| {
            let (state, message) = match &status.blocked_by {
                Some(by) if by.is_missing() => ("Missing", &*by.message),
                Some(by) => (by.state.as_deref().unwrap_or("Blocked"), &*by.message),
                None => (&*status.state, &*status.message),
            };
            let is_cycle = status.blocked_by.as_ref().is_some_and(BlockedBy::is_cycle);
            let mut others = rows.iter();
            let own = others.find(|other| other.status.cluster == cluster && other.reference() == object);
            roots.push(RootCause { cluster, object, is_cycle, state, message, blocked: 0, row: own });
            roots.len() - 1
        });
        roots[at].blocked += blocked;
    }
    roots.sort_by_key(|root| Reverse(root.blocked));
    roots
}

/// The list, with a column for the clusters if there are causes in others than the one that serves the API.
pub(crate) fn list(roots: &[RootCause<'_>], namespace: Option<&str>) -> String {
    if roots.is_empty() {
        return match namespace {
            Some(namespace) => format!("No root causes in {namespace} namespace: nothing has failed.\n"),
            None => "No root causes: nothing has failed.\n".to_owned(),
        };
    }
    let headings = ["CLUSTER", "ROOT-CAUSE", "STATE", "AGE", "BLOCKS", "MESSAGE"];
    let mut lines = vec![headings.map(ToOwned::to_owned).to_vec()];
    lines.extend(roots.iter().map(|root| {
        let since = root.row.and_then(|row| row.status.since);
        let cycle = if root.is_cycle { " (cycle)" } else { "" };
        vec![
            root.cluster.to_owned(),
            format!("{}{cycle}", root.object),
            root.state.to_owned(),
            since.map(|since| age(since).to_string()).unwrap_or_default(),
            root.blocked.to_string(),
            root.message.lines().next().unwrap_or_default().to_owned(),
        ]
    }));
    if roots.iter().all(|root| root.cluster == LOCAL_CLUSTER) {
        for line in &mut lines {
            line.remove(0);
        }
    }
    align(&lines)
}
