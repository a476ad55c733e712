//! The query parameters of get, list and watch, parsed and validated before a handler sees them.
//!
//! Input: the raw query string. Invariants: what is accepted, what is refused and with which words follows
//! `meta/internalversion` of `k8s.io/apimachinery`; parameters that Kubernetes does not know are ignored, and
//! of one that is given twice the first counts. Where Kubernetes reads a bad value as something else, or
//! names no parameter in its answer, this is stricter and does.

mod continue_token;
mod version;

use std::{num::NonZeroUsize, time::Duration};

pub(crate) use continue_token::ContinueToken;
pub(crate) use version::ResourceVersion;

use gatehouse_serving::{ApiError, error::FieldProblem, query::Query, selector::LabelSelector};

/// Longer than any watch lasts (they end after an hour at most), and short enough to be added to any time.
const MAX_TIMEOUT: i64 = 24 * 60 * 60;

/// The parameters of a list or a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: LabelSelector,
    /// As given: what it may name depends on the resource (`FieldSelector::parse`).
    pub(crate) field_selector: String,
    /// `None`: everything at once. Zero and negative limits mean that too, as in Kubernetes.
    pub(crate) limit: Option<NonZeroUsize>,
    /// Only in a list.
    pub(crate) continue_token: Option<ContinueToken>,
    /// `None`: the most recent; `ResourceVersion::ANY`: whatever is at hand.
    pub(crate) resource_version: Option<ResourceVersion>,
    pub(crate) resource_version_match: Option<ResourceVersionMatch>,
    pub(crate) watch: bool,
    pub(crate) allow_watch_bookmarks: bool,
    /// As given; see [`ListOptions::initial_events`].
    pub(crate) send_initial_events: Option<bool>,
    /// `None`: the server decides.
    pub(crate) timeout: Option<Duration>,
    pub(crate) include_object: IncludeObject,
    /// `None`: the media type, or the user agent, decides.
    pub(crate) pretty: Option<bool>,
}

/// The parameters of a get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GetOptions {
    /// `None`: the most recent; otherwise one that is not older.
    pub(crate) resource_version: Option<ResourceVersion>,
    pub(crate) include_object: IncludeObject,
    pub(crate) pretty: Option<bool>,
}

/// How `resourceVersion` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResourceVersionMatch {
    /// That version and no other.
    Exact,
    /// That version or a later one.
    NotOlderThan,
}

/// What a row of a Table carries beside its cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum IncludeObject {
    /// Nothing.
    None,
    /// The object's metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl ListOptions {
    /// From the query string, without its question mark.
    pub(crate) fn parse(query: &str) -> Result<Self, ApiError> {
        let query = Query::parse(query);
        let watch = query.flag("watch").unwrap_or_default();
        let mut options = Self {
            label_selector: LabelSelector::parse(query.text("labelSelector"))?,
            field_selector: query.text("fieldSelector").to_owned(),
            limit: limit(&query)?,
            continue_token: None,
            resource_version: None,
            resource_version_match: None,
            watch,
            allow_watch_bookmarks: query.flag("allowWatchBookmarks").unwrap_or_default(),
            send_initial_events: query.flag("sendInitialEvents"),
            timeout: timeout(&query)?,
            include_object: include_object(&query)?,
            pretty: pretty(&query),
        };
        options.validate_match(&query)?;
        options.resource_version = resource_version(&query, watch)?;
        if !watch && !query.text("continue").is_empty() {
            options.continue_token = Some(ContinueToken::decode(query.text("continue"))?);
            if options.resource_version.is_some_and(|version| version != ResourceVersion::ANY) {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
        }
        Ok(options)
    }

    /// Whether a watch starts with an ADDED event for each object there is: if that is asked for, and, as it
    /// was before one could ask, if no version is named to start from.
    pub(crate) fn initial_events(&self) -> bool {
        self.send_initial_events
            .unwrap_or(self.resource_version.is_none_or(|version| version == ResourceVersion::ANY))
    }

    /// Whether the end of those events is marked by a bookmark. Whoever asks for the events waits for it.
    pub(crate) fn initial_events_end(&self) -> bool {
        self.send_initial_events == Some(true) || (self.initial_events() && self.allow_watch_bookmarks)
    }

    /// `ValidateListOptions`: which parameters go together.
    fn validate_match(&mut self, query: &Query<'_>) -> Result<(), ApiError> {
        const MATCH: &str = "resourceVersionMatch";
        let given = query.text(MATCH);
        let forbidden = |field: &'static str, why: &str| FieldProblem {
            field: field.into(),
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {why}"),
        };
        let unsupported = |supported| FieldProblem {
            field: MATCH.into(),
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: \"{}\": supported values: {supported}",
                given.escape_debug()
            ),
        };
        let mut problems = Vec::new();
        self.resource_version_match = match given {
            "Exact" => Some(ResourceVersionMatch::Exact),
            "NotOlderThan" => Some(ResourceVersionMatch::NotOlderThan),
            _ => None,
        };
        if self.watch {
            if self.send_initial_events.is_some() && given != "NotOlderThan" {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                problems.push(forbidden(MATCH, why));
            }
            if !given.is_empty() && self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                problems.push(forbidden(MATCH, why));
            }
            if !given.is_empty() && given != "NotOlderThan" {
                problems.push(unsupported("\"NotOlderThan\""));
            }
        } else {
            if !given.is_empty() && query.text("resourceVersion").is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                problems.push(forbidden(MATCH, why));
            }
            if !given.is_empty() && self.resource_version_match.is_none() {
                problems.push(unsupported("\"Exact\", \"NotOlderThan\", \"\""));
            }
            if given == "Exact" && query.text("resourceVersion") == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                problems.push(forbidden(MATCH, why));
            }
            if self.send_initial_events.is_some() {
                problems.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
            }
        }
        if !given.is_empty() && !query.text("continue").is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            problems.push(forbidden(MATCH, why));
        }
        if problems.is_empty() { Ok(()) } else { Err(ApiError::invalid_options(&problems)) }
    }
}

impl GetOptions {
    /// From the query string, without its question mark.
    pub(crate) fn parse(query: &str) -> Result<Self, ApiError> {
        let query = Query::parse(query);
        Ok(Self {
            resource_version: resource_version(&query, false)?,
            include_object: include_object(&query)?,
            pretty: pretty(&query),
        })
    }
}

fn integer(query: &Query<'_>, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(value) = query.find(name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "{name}: Invalid value: \"{}\": must be an integer",
            value.escape_debug()
        ))
    })
}

fn limit(query: &Query<'_>) -> Result<Option<NonZeroUsize>, ApiError> {
    let limit = integer(query, "limit")?.map(|limit| usize::try_from(limit.max(0)).unwrap_or(usize::MAX));
    Ok(limit.and_then(NonZeroUsize::new))
}

/// Zero leaves it to the server; a negative one has passed before it starts.
fn timeout(query: &Query<'_>) -> Result<Option<Duration>, ApiError> {
    Ok(match integer(query, "timeoutSeconds")? {
        None | Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds.clamp(0, MAX_TIMEOUT).unsigned_abs())),
    })
}

/// What is wrong is told as kube-apiserver does: 422 in a watch, 400 elsewhere.
fn resource_version(query: &Query<'_>, watch: bool) -> Result<Option<ResourceVersion>, ApiError> {
    const FIELD: &str = "resourceVersion";
    let text = query.text(FIELD);
    if text.is_empty() {
        return Ok(None);
    }
    ResourceVersion::parse(text).map(Some).map_err(|message| {
        if watch {
            ApiError::invalid_options(&[FieldProblem {
                field: FIELD.into(),
                reason: "FieldValueInvalid",
                message,
            }])
        } else {
            ApiError::bad_request(format!("invalid resource version: {FIELD}: {message}"))
        }
    })
}

fn include_object(query: &Query<'_>) -> Result<IncludeObject, ApiError> {
    match query.text("includeObject") {
        "None" => Ok(IncludeObject::None),
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "Object" => Ok(IncludeObject::Object),
        other => Err(ApiError::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: \"{}\": must be 'Metadata', \
             'Object', 'None', or empty",
            other.escape_debug()
        ))),
    }
}

fn pretty(query: &Query<'_>) -> Option<bool> {
    let text = Some(query.text("pretty")).filter(|text| !text.is_empty())?;
    Some(matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

#[cfg(test)]
mod tests;
