//! Why an object is suspended, by whom and until when.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::{
    connection::{Connection, Location},
    rows::{RESOURCE, Row},
};

/// The subresource `suspension`. Every field may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Suspension {
    spec: Spec,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    reason: Option<String>,
    until: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    by: Option<String>,
    frozen_by: Option<String>,
}

impl Suspension {
    /// What the subresource says, to those who may read it where actions are enabled; else what the row says.
    pub(crate) async fn of(connection: &Connection, row: &Row) -> Self {
        let (namespace, name, subresource) = (Some(&*row.namespace), Some(&*row.name), Some("suspension"));
        let location = Location { namespace, resource: RESOURCE, name, subresource };
        let shown = connection.get(location, &[]).await.ok();
        let mut shown = shown.and_then(|shown| Self::deserialize(&shown).ok()).unwrap_or_default();
        shown.status.by = shown.status.by.or_else(|| row.status.suspended_by.clone());
        shown.spec.until = shown.spec.until.or_else(|| row.status.suspended_until.clone());
        shown
    }

    /// `suspended by jane until 2026-11-29T20:00:00Z: database migration`, and the freeze that holds the object.
    pub(crate) fn text(&self) -> String {
        let Self { spec: Spec { reason, until }, status: Status { by, frozen_by } } = self;
        let mut text = "suspended".to_owned();
        for (word, said) in [(" by ", by), (" until ", until), (": ", reason)] {
            if let Some(said) = said {
                let _ = write!(text, "{word}{said}");
            }
        }
        if let Some(freeze) = frozen_by {
            let _ = write!(text, "\nheld by the freeze {freeze}");
        }
        text
    }
}
