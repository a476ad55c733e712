//! Matches addresses against the patterns of a policy: `https://github.com/my-org/*`, `oci://*.example.com/**`,
//! `git@github.com:my-org/*`.
//!
//! **Invariant:** another spelling of an address does not avoid a denial. Patterns of denied addresses ignore users
//! and the case of paths, which the large hosts ignore too; their scheme may be `*`.

use globset::GlobMatcher;
use url::Url;

use super::address::{Address, Form, default_port, host, is_of_user, registry_name, scp};
use crate::glob;

#[derive(Debug)]
pub(super) struct Pattern {
    /// The pattern as written.
    written: String,
    /// `None` matches any scheme, in denied patterns.
    scheme: Option<String>,
    user: User,
    host: Host,
    /// The port, or that of the scheme.
    port: Option<u16>,
    named_port: Option<u16>,
    /// The path as a glob; `None` if the pattern has no path.
    path: Option<GlobMatcher>,
    /// A pattern that ends in `/**` also matches the path without it: the root of a Helm repository or an
    /// organisation.
    root: Option<GlobMatcher>,
}

#[derive(Debug, PartialEq, Eq)]
enum User {
    Nobody,
    Anybody,
    Named(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Host {
    /// This host.
    Named(String),
    /// A host one level below this one.
    Below(String),
}

impl Pattern {
    /// Parses an allowed pattern.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text, text, glob::compile)
    }

    /// Parses a denied pattern.
    pub(super) fn parse_denied(text: &str) -> Result<Self, String> {
        match text.strip_prefix("*://") {
            // The rest is parsed with a scheme whose hosts are normalized.
            Some(rest) => {
                let read = Self::read(text, &format!("https://{rest}"), glob::compile_caseless)?;
                Ok(Self { scheme: None, ..read })
            }
            None => Self::read(text, text, glob::compile_caseless),
        }
    }

    fn read(
        written: &str,
        text: &str,
        compile: impl Fn(&str) -> Result<GlobMatcher, String>,
    ) -> Result<Self, String> {
        let text = scp(text).unwrap_or_else(|| text.to_owned());
        let (scheme, rest) =
            text.split_once("://").ok_or("must be a URL such as https://github.com/my-org/*")?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (user, authority) = match authority.rsplit_once('@') {
            Some(("*", authority)) => (User::Anybody, authority),
            Some((user, _)) if user.is_empty() || !user.bytes().all(is_of_user) => {
                return Err("has a user that cannot be: a name without a password, or *".into());
            }
            Some((user, authority)) => (User::Named(user.to_owned()), authority),
            None => (User::Nobody, authority),
        };
        let (below, authority) = match authority.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, authority),
        };
        if authority.contains('*') {
            return Err("may have * in place of the first level of a host only: *.example.com".into());
        }
        let url = Url::parse(&format!("{scheme}://{authority}/"))
            .map_err(|error| format!("is not a URL: {error}"))?;
        let named = host(&url).ok_or("names no valid host")?;
        let named = if url.scheme() == "oci" { registry_name(named) } else { named };
        if below && !matches!(url.host(), Some(url::Host::Domain(_))) {
            return Err("may have *. before the name of a domain only".into());
        }
        Ok(Self {
            written: written.to_owned(),
            scheme: Some(url.scheme().to_owned()),
            user,
            host: if below { Host::Below(named) } else { Host::Named(named) },
            port: url.port().or_else(|| default_port(url.scheme())),
            named_port: url.port(),
            path: path_glob(path, &compile)?,
            root: path.strip_suffix("/**").map(&compile).transpose()?,
        })
    }

    /// The pattern as written.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// Whether it allows an address.
    pub(super) fn matches(&self, address: &Address) -> bool {
        self.scheme.as_ref().is_some_and(|scheme| *scheme == address.scheme)
            && self.port == address.port
            && self.allows_user(address.user.as_deref())
            && self.allows_host(&address.host)
            && self.allows_path(address)
    }

    /// Whether it denies an address. A host without a path is denied as a whole, on any port if none is named, and
    /// with `*.` everything below it.
    pub(super) fn denies(&self, address: &Address) -> bool {
        let is_host = match &self.host {
            Host::Named(named) => *named == address.host,
            Host::Below(domain) => {
                let before = address.host.strip_suffix(domain.as_str());
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }
        };
        is_host
            && self.scheme.as_ref().is_none_or(|scheme| *scheme == address.scheme)
            && self.named_port.is_none_or(|port| address.port == Some(port))
            && (self.path.is_none() || {
                // So `.GIT` at its end is that of a Git repository too.
                let path = address.path.to_ascii_lowercase();
                self.allows_path(&Address { path, ..address.clone() })
            })
    }

    fn allows_user(&self, user: Option<&str>) -> bool {
        match (&self.user, user) {
            (User::Nobody, user) => user.is_none(),
            (User::Anybody, _) => true,
            (User::Named(named), user) => user == Some(named),
        }
    }

    fn allows_host(&self, host: &str) -> bool {
        match &self.host {
            Host::Named(named) => named == host,
            Host::Below(domain) => {
                host.split_once('.').is_some_and(|(level, rest)| !level.is_empty() && rest == domain)
            }
        }
    }

    fn allows_path(&self, address: &Address) -> bool {
        let path = address.path.as_str();
        let Some(glob) = &self.path else {
            // An endpoint without a bucket matches all of its buckets; another host without a path matches only its
            // root.
            return path.is_empty() || address.form == Form::Bucket;
        };
        if glob.is_match(path) || self.root.as_ref().is_some_and(|root| root.is_match(path)) {
            return true;
        }
        // Git servers serve a repository with and without `.git`.
        address.form == Form::Git
            && match path.strip_suffix(".git") {
                Some(bare) => glob.is_match(bare),
                None => glob.is_match(format!("{path}.git")),
            }
    }
}

fn path_glob(
    path: &str,
    compile: impl Fn(&str) -> Result<GlobMatcher, String>,
) -> Result<Option<GlobMatcher>, String> {
    if path.contains('#') || path.contains('%') || path.contains("//") {
        return Err("must not have a fragment, escapes or empty segments in its path".into());
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("must not have dot segments in its path".into());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() { Ok(None) } else { compile(path).map(Some) }
}
