//! `clusters`: the observed clusters, as `kubectl get` prints them; and what is known of their registrations, for
//! `gatehouse clusters`.

use std::{collections::BTreeMap, io::Write};

use gatehouse_apiservice::age::Age;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    connection::{Connection, Location},
    error::PluginError,
    output::{OutputArgs, age, visible},
    table::align,
};

const RESOURCE: &str = "clusterhealths";
/// The conditions that a registered cluster has when all is well, in the order in which they come to be true.
const READY: [&str; 4] = ["Registered", "Reachable", "Authenticated", "Fresh"];

/// List the observed clusters and their health
///
/// The same as kubectl get clusterhealths.
#[derive(Debug, Clone, clap::Args)]
pub struct ClustersArgs {
    #[command(flatten)]
    output: OutputArgs,
}

impl ClustersArgs {
    /// Prints them.
    pub(crate) async fn run(&self, connection: &Connection, out: &mut dyn Write) -> Result<(), PluginError> {
        let text = if self.output.is_text() {
            connection.table(RESOURCE).await?.render(self.output.is_wide())
        } else {
            objects(self.output, &list(connection).await?)?
        };
        Ok(out.write_all(text.as_bytes())?)
    }
}

/// List the clusters and how they are registered: origin, mode, last contact, end of the credential
///
/// From the clusterhealths of the hub; -o json and -o yaml print these. READY is True if a cluster is registered, answers
/// and takes the credential; -o wide tells why not.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistrationsArgs {
    #[command(flatten)]
    output: OutputArgs,
}

impl RegistrationsArgs {
    /// Prints them.
    pub async fn run(&self, connection: &Connection, out: &mut dyn Write) -> Result<(), PluginError> {
        let list = list(connection).await?;
        let text = if self.output.is_text() {
            let rows: Result<Vec<_>, _> = items(&list).into_iter().map(ClusterRow::of).collect();
            registrations(&rows?, self.output.is_wide())
        } else {
            objects(self.output, &list)?
        };
        Ok(out.write_all(text.as_bytes())?)
    }
}

async fn list(connection: &Connection) -> Result<Value, PluginError> {
    connection.get(Location { resource: RESOURCE, ..Location::default() }, &[]).await
}

fn items(list: &Value) -> Vec<&Value> {
    list["items"].as_array().into_iter().flatten().collect()
}

fn objects(output: OutputArgs, list: &Value) -> Result<String, PluginError> {
    Ok(output.objects(&items(list))?.unwrap_or_default())
}

/// A condition of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClusterCondition {
    #[serde(rename = "type")]
    kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    health: String,
    version: String,
    origin: Option<String>,
    mode: Option<String>,
    last_heard_time: Option<Timestamp>,
    credential_expires_time: Option<Timestamp>,
    conditions: Vec<ClusterCondition>,
}

/// A row of clusterhealths, as far as registrations go. Every field may be missing, since the server may be older.
#[derive(Debug, Clone)]
pub struct ClusterRow {
    name: String,
    health: String,
    version: String,
    /// The object that registers the cluster; none for the hub itself.
    pub origin: Option<String>,
    mode: Option<String>,
    last_heard: Option<Timestamp>,
    expires: Option<Timestamp>,
    conditions: BTreeMap<String, ClusterCondition>,
}

impl ClusterRow {
    /// Reads the row of a cluster; none, if there is no such row.
    pub async fn find(connection: &Connection, name: &str) -> Result<Option<Self>, PluginError> {
        let row = Location { resource: RESOURCE, name: Some(name), ..Location::default() };
        match connection.get(row, &[]).await {
            Ok(object) => Self::of(&object).map(Some),
            Err(error) if error.is_object_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(object: &Value) -> Result<Self, PluginError> {
        let status = object.get("status").map(Status::deserialize).transpose();
        let status = status
            .map_err(|error| PluginError::Unreachable(format!("its answer cannot be read: {error}")))?
            .unwrap_or_default();
        let Status { health, version, origin, mode, last_heard_time, credential_expires_time, conditions } =
            status;
        Ok(Self {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            health,
            version,
            origin,
            mode,
            last_heard: last_heard_time,
            expires: credential_expires_time,
            conditions: conditions.into_iter().map(|one| (one.kind.clone(), one)).collect(),
        })
    }

    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&ClusterCondition> {
        self.conditions.get(kind)
    }

    /// The first of the conditions of a cluster that is not True; none, if it is registered, answers and takes the
    /// credential. Of the hub itself only what it has.
    pub fn not_ready(&self) -> Option<&ClusterCondition> {
        READY.iter().filter_map(|kind| self.condition(kind)).find(|condition| condition.status != "True")
    }
}

/// The rows as a table.
fn registrations(rows: &[ClusterRow], is_wide: bool) -> String {
    let headings = ["NAME", "ORIGIN", "MODE", "LAST-HEARD", "CREDENTIAL-EXPIRES", "READY"];
    let wide = ["HEALTH", "VERSION", "REASON", "MESSAGE"];
    let shown = |wide: Vec<String>| if is_wide { wide } else { Vec::new() };
    let mut lines: Vec<Vec<String>> = vec![headings.map(str::to_owned).into()];
    lines[0].extend(shown(wide.map(str::to_owned).into()));
    for row in rows {
        let not_ready = row.not_ready();
        let is_heard = row.condition("Reachable").is_some_and(|condition| condition.status == "True");
        let heard = match row.last_heard {
            Some(time) => age(time).to_string(),
            None if is_heard => Age(0).to_string(),
            None => NOTHING.to_owned(),
        };
        let or_nothing =
            |text: Option<&str>| text.filter(|text| !text.is_empty()).map_or(NOTHING.to_owned(), visible);
        let mut line = vec![
            visible(&row.name),
            or_nothing(row.origin.as_deref()),
            or_nothing(row.mode.as_deref()),
            heard,
            or_nothing(row.expires.map(|time| time.to_string()).as_deref()),
            not_ready.map_or("True", |condition| condition.status.as_str()).to_owned(),
        ];
        line.extend(shown(vec![
            or_nothing(Some(&row.health)),
            or_nothing(Some(&row.version)),
            or_nothing(not_ready.map(|condition| condition.reason.as_str())),
            or_nothing(not_ready.map(|condition| condition.message.as_str())),
        ]));
        lines.push(line);
    }
    align(&lines)
}

/// What kubectl prints for a cell that is empty.
const NOTHING: &str = "<none>";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(name: &str, origin: &str, conditions: &[(&str, &str, &str)]) -> ClusterRow {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({"type": kind, "status": status, "reason": reason, "message": "users[0].user.exec: no\u{1b}"})
            })
            .collect();
        let origin = if origin.is_empty() { Value::Null } else { origin.into() };
        ClusterRow::of(&json!({
            "metadata": {"name": name},
            "status": {"health": "Healthy", "origin": origin, "mode": "direct", "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_cluster_is_ready_when_each_condition_that_it_has_is_true() {
        let hub = row("local", "", &[("Healthy", "False", "Degraded"), ("Reachable", "True", "Answers")]);
        assert_eq!(hub.not_ready(), None);
        let refused = row("eu", "Secret a/eu", &[("Registered", "False", "InvalidKubeconfig")]);
        assert_eq!(refused.not_ready().unwrap().reason, "InvalidKubeconfig");
        let text = registrations(&[hub, refused], true);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..6], ["NAME", "ORIGIN", "MODE", "LAST-HEARD", "CREDENTIAL-EXPIRES", "READY"]);
        assert_eq!(lines[1][..6], ["local", "<none>", "direct", "0s", "<none>", "True"]);
        assert_eq!(lines[2][..6], ["eu", "Secret", "a/eu", "direct", "<none>", "<none>"]);
        assert!(text.contains("InvalidKubeconfig   users[0].user.exec: no\u{fffd}"), "{text}");
    }

    #[test]
    fn a_row_of_an_older_server_lacks_what_it_does_not_know() {
        let row = ClusterRow::of(&json!({"metadata": {"name": "eu"}})).unwrap();
        assert_eq!((row.not_ready(), row.origin.as_deref()), (None, None));
    }
}
