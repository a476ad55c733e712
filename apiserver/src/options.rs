//! Parses and validates the query parameters of get, list and watch, before a handler sees them.
//!
//! Acceptance and error messages follow `meta/internalversion` of `k8s.io/apimachinery`. Parameters that
//! Kubernetes does not know are ignored; of a parameter that is given twice, the first counts. This parser is
//! stricter where Kubernetes reads a bad value as another one, and names the parameter where Kubernetes does
//! not.

mod continue_token;
mod version;

use std::{num::NonZeroUsize, time::Duration};

pub(crate) use continue_token::ContinueToken;
pub(crate) use version::ResourceVersion;

use gatehouse_apiservice::labels::Selector;
use gatehouse_serving::{ApiError, error::FieldProblem, query::Query};

/// An upper limit of `timeoutSeconds`: longer than any watch lasts (at most an hour), and short enough to be
/// added to any time.
const MAX_TIMEOUT: i64 = 24 * 60 * 60;

/// The parameters of a list or a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: Selector,
    /// Not parsed yet, because the allowed fields depend on the resource (`FieldSelector::parse`).
    pub(crate) field_selector: String,
    /// `None`: no limit. As in Kubernetes, zero and negative limits mean the same.
    pub(crate) limit: Option<NonZeroUsize>,
    /// Only parsed for a list.
    pub(crate) continue_token: Option<ContinueToken>,
    /// `None`: the most recent; `ResourceVersion::ANY`: any that is available.
    pub(crate) resource_version: Option<ResourceVersion>,
    pub(crate) resource_version_match: Option<ResourceVersionMatch>,
    pub(crate) watch: bool,
    pub(crate) allow_watch_bookmarks: bool,
    /// As given in the request; see [`ListOptions::initial_events`].
    pub(crate) send_initial_events: Option<bool>,
    /// `None`: the server decides.
    pub(crate) timeout: Option<Duration>,
    pub(crate) include_object: IncludeObject,
    /// `None`: depends on the media type and the user agent.
    pub(crate) pretty: Option<bool>,
}

/// The parameters of a get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GetOptions {
    /// `None`: the most recent; otherwise the result must not be older.
    pub(crate) resource_version: Option<ResourceVersion>,
    pub(crate) include_object: IncludeObject,
    pub(crate) pretty: Option<bool>,
}

/// `resourceVersionMatch`: how `resourceVersion` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResourceVersionMatch {
    /// Exactly that version.
    Exact,
    /// That version or a later one.
    NotOlderThan,
}

/// `includeObject`: the `object` of each row of a Table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum IncludeObject {
    /// Null.
    None,
    /// The object's metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl ListOptions {
    /// Parses a query string without its question mark.
    pub(crate) fn parse(query: &str) -> Result<Self, ApiError> {
        let query = Query::parse(query);
        let watch = query.flag("watch").unwrap_or_default();
        let mut options = Self {
            label_selector: Selector::parse(query.text("labelSelector"))
                .map_err(|problem| ApiError::bad_request(format!("labelSelector: {problem}")))?,
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

    /// Whether a watch starts with an ADDED event for each existing object: if `sendInitialEvents` asks for
    /// it, and without that parameter if no resourceVersion is given or it is 0.
    pub(crate) fn initial_events(&self) -> bool {
        self.send_initial_events
            .unwrap_or(self.resource_version.is_none_or(|version| version == ResourceVersion::ANY))
    }

    /// Whether a bookmark marks the end of the initial events, which a client that asks for them waits for.
    pub(crate) fn initial_events_end(&self) -> bool {
        self.send_initial_events == Some(true) || (self.initial_events() && self.allow_watch_bookmarks)
    }

    /// Checks which parameters may be combined, like `ValidateListOptions` in Kubernetes.
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
    /// Parses a query string without its question mark.
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

/// Zero means that the server decides; a negative timeout counts as over.
fn timeout(query: &Query<'_>) -> Result<Option<Duration>, ApiError> {
    Ok(match integer(query, "timeoutSeconds")? {
        None | Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds.clamp(0, MAX_TIMEOUT).unsigned_abs())),
    })
}

/// An invalid value gives the error that kube-apiserver gives: 422 for a watch, otherwise 400.
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
