//! The query string of a request, read in one way for authorization and for what answers: so they cannot part.

use std::borrow::Cow;

/// A decoded query string. Where a parameter is repeated, the first counts, as upstream.
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads it, without its question mark.
    pub fn parse(query: &'a str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// The value of a parameter.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_ref())
    }

    /// The same, empty where it is missing: Kubernetes does not tell the two apart either.
    pub fn text(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// As apimachinery reads booleans: only `0` and `false` are false, so a bare `?watch` is true.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.find(name).map(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }
}
