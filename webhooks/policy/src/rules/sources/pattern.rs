//! What a policy allows: `https://github.com/my-org/*`, `oci://*.example.com/**`, `git@github.com:my-org/*`.

use globset::GlobMatcher;
use url::Url;

use super::address::{Address, Form, default_port, host, is_of_user, scp};
use crate::glob;

#[derive(Debug)]
pub(super) struct Pattern {
    scheme: String,
    user: User,
    host: Host,
    port: Option<u16>,
    /// The path as a glob; none, if the pattern has no path.
    path: Option<GlobMatcher>,
    /// What ends in `/**` also means what is there without: the root of a Helm repository, or of an organisation.
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
    /// This one.
    Named(String),
    /// One level below this one.
    Below(String),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
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
        if below && !matches!(url.host(), Some(url::Host::Domain(_))) {
            return Err("may have *. before the name of a domain only".into());
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            user,
            host: if below { Host::Below(named) } else { Host::Named(named) },
            port: url.port().or_else(|| default_port(url.scheme())),
            path: path_glob(path)?,
            root: path.strip_suffix("/**").map(glob::compile).transpose()?,
        })
    }

    pub(super) fn matches(&self, address: &Address) -> bool {
        self.scheme == address.scheme
            && self.port == address.port
            && self.allows_user(address.user.as_deref())
            && self.allows_host(&address.host)
            && self.allows_path(address)
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
            // An endpoint without a bucket stands for all of its buckets; a host without a path for its root alone.
            return path.is_empty() || address.form == Form::Bucket;
        };
        if glob.is_match(path) || self.root.as_ref().is_some_and(|root| root.is_match(path)) {
            return true;
        }
        // Git servers serve a repository under both names.
        address.form == Form::Git
            && match path.strip_suffix(".git") {
                Some(bare) => glob.is_match(bare),
                None => glob.is_match(format!("{path}.git")),
            }
    }
}

fn path_glob(path: &str) -> Result<Option<GlobMatcher>, String> {
    if path.contains('#') || path.contains('%') || path.contains("//") {
        return Err("must not have a fragment, escapes or empty segments in its path".into());
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("must not have dot segments in its path".into());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() { Ok(None) } else { glob::compile(path).map(Some) }
}
