//! The query string of a request. Authorization and handlers both parse it here, so that they cannot disagree.

use std::borrow::Cow;

/// A decoded query string. If a parameter is repeated, the first one counts, as in kube-apiserver.
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Parses a query string without its question mark.
    pub fn parse(query: &'a str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// The value of a parameter; `None` if it is missing.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_ref())
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_ref())
    }

    /// The value of a parameter; empty if it is missing. Kubernetes treats the two alike.
    pub fn text(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// The value of a boolean parameter, as apimachinery parses it (`Convert_Slice_string_To_bool`): only `0` and
    /// `false` are false, so a bare `?watch` is true. `None` if it is missing.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.find(name).map(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }
}
