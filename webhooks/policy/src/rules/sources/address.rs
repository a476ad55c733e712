//! Parses the address of a source.
//!
//! Flux's controllers parse addresses with Go's net/url, this crate by the URL standard. **Invariant:** the judged
//! address is the fetched one: an address that the two could read differently (backslashes, control characters, dots
//! in escapes, doubled slashes) is rejected.

use std::fmt;

use url::{Host, Url};

use super::percent_decoded;

/// The registry of images without one.
const DOCKER_HUB: &str = "docker.io";

/// The form of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A URL of a Git repository, or `user@host:path`.
    Git,
    /// A URL.
    Url,
    /// `oci://ghcr.io/org/app`.
    Oci,
    /// A URL that may have a query.
    Api,
    /// A URL composed of a bucket's endpoint and name.
    Bucket,
    /// An image without a scheme: `ghcr.io/org/app`.
    Image,
}

/// The address of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) form: Form,
    pub(super) scheme: String,
    pub(super) user: Option<String>,
    pub(super) host: String,
    /// The port, or that of the scheme.
    pub(super) port: Option<u16>,
    /// Starts with a slash and ends without one; percent-encoding is decoded.
    pub(super) path: String,
}

impl Address {
    pub(super) fn parse(text: &str, form: Form) -> Result<Self, String> {
        let text = match form {
            Form::Image => image(text),
            Form::Oci => text.strip_prefix("oci://").map_or_else(|| text.to_owned(), image),
            Form::Git => scp(text).unwrap_or_else(|| text.to_owned()),
            _ => text.to_owned(),
        };
        let shown = || format!("{:?} ", text.chars().take(256).collect::<String>());
        if let Some(why) = misread(&text, form) {
            return Err(shown() + why);
        }
        let url = Url::parse(&text).map_err(|error| format!("{}is not a URL: {error}", shown()))?;
        if url.password().is_some() {
            return Err("must not contain a password".to_owned());
        }
        if !url.has_authority() {
            return Err(shown() + "names no host");
        }
        let host = host(&url).ok_or_else(|| shown() + "names no valid host")?;
        if is_respelt(&text, &host) {
            return Err(shown() + "has a host that is read in more than one way");
        }
        let host = if url.scheme() == "oci" { registry_name(host) } else { host };
        let path = path(&text, &url, form).map_err(|why| shown() + why)?;
        let user = Some(percent_decoded(url.username())).filter(|user| !user.is_empty());
        if user.as_ref().is_some_and(|user| !user.bytes().all(is_of_user)) {
            return Err(shown() + "has a user that cannot be");
        }
        let port = url.port().or_else(|| default_port(url.scheme()));
        Ok(Self { form, scheme: url.scheme().to_owned(), user, host, port, path })
    }

    /// Parses the prefix of images, such as `ghcr.io/fluxcd`.
    pub(super) fn of_registry(text: &str) -> Result<Self, String> {
        const IMAGE: &str = "/image";
        let text = text.strip_suffix('/').unwrap_or(text);
        let image = Self::parse(&format!("{text}{IMAGE}"), Form::Image)?;
        let path = image.path.strip_suffix(IMAGE).unwrap_or_default().to_owned();
        Ok(Self { path, ..image })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, user, host, port, path, .. } = self;
        write!(f, "{scheme}://")?;
        if let Some(user) = user {
            write!(f, "{user}@")?;
        }
        f.write_str(host)?;
        if let Some(port) = port.filter(|port| Some(*port) != default_port(scheme)) {
            write!(f, ":{port}")?;
        }
        f.write_str(path)
    }
}

/// The default port of a scheme.
pub(super) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" | "oci" => Some(443),
        "http" => Some(80),
        "ssh" => Some(22),
        "git" => Some(9418),
        _ => None,
    }
}

/// The host, in lower case. The URL standard does not normalize hosts of schemes that it does not know.
pub(super) fn host(url: &Url) -> Option<String> {
    let host = match url.host()? {
        Host::Domain(domain) => domain.trim_end_matches('.').to_ascii_lowercase(),
        // The same host as without the prefix `::ffff:`.
        Host::Ipv6(address) => {
            return Some(address.to_ipv4_mapped().map_or(format!("[{address}]"), |short| short.to_string()));
        }
        Host::Ipv4(address) => return Some(address.to_string()),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!host.is_empty() && host.bytes().all(plain)).then_some(host)
}

/// Why an address could be read in more than one way, if so.
fn misread(text: &str, form: Form) -> Option<&'static str> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\' || !c.is_ascii()) {
        return Some("contains a backslash, a space, or a character that is not ASCII");
    }
    if text.contains('#') {
        return Some("must not have a fragment");
    }
    if text.contains('?') && form != Form::Api {
        return Some("must not have a query");
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Some("is not a URL: it has no scheme") };
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        return Some("is not a URL: it has no scheme");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.matches('@').count() > 1 || authority.contains('%') {
        return Some("has an ambiguous host");
    }
    None
}

/// Whether a host is parsed as something else than is written: the URL standard reads `0x7f.1` as an address, which is
/// a name elsewhere.
fn is_respelt(text: &str, host: &str) -> bool {
    let authority =
        text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    let written = authority.rsplit_once('@').map_or(authority, |(_, written)| written);
    if written.starts_with('[') {
        return false;
    }
    let written = written.split(':').next().unwrap_or_default().trim_end_matches('.');
    !written.eq_ignore_ascii_case(host)
}

pub(super) fn is_of_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+')
}

/// Whether a character may be in the path of an address. Characters that repository names do not have may mean
/// something to a program on the way: a list of addresses, a glob, a command.
fn is_of_path(c: char, form: Form) -> bool {
    let others = match form {
        Form::Oci | Form::Image => "-._",
        Form::Bucket => "-._$",
        // Azure DevOps has projects with spaces, written as %20; SourceHut and Bitbucket have ~user.
        Form::Git | Form::Url => "-._~+@&() ",
        Form::Api => "-._~+@&() :,=",
    };
    c.is_ascii_alphanumeric() || others.contains(c)
}

/// The path of an address, from the written text: the parser has already resolved dot segments, which are not allowed.
fn path(text: &str, url: &Url, form: Form) -> Result<String, &'static str> {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let written = rest.split('?').next().unwrap_or_default();
    let written = written.find('/').map_or("", |start| &written[start..]);
    let written = written.strip_suffix('/').unwrap_or(written);
    for segment in written.split('/').skip(1) {
        let decoded = percent_decoded(segment);
        if segment.is_empty() {
            return Err("has an empty segment in its path");
        }
        if decoded == "." || decoded == ".." {
            return Err("has dot segments in its path");
        }
        if decoded.contains(['/', '\\', '%', '?', '#']) || decoded.chars().any(char::is_control) {
            return Err("has escapes in its path that are read in more than one way");
        }
        let form = if url.scheme() == "oci" { Form::Oci } else { form };
        if !decoded.chars().all(|c| is_of_path(c, form)) {
            return Err("has a character in its path that no repository has");
        }
    }
    let parsed = url.path().strip_suffix('/').unwrap_or(url.path());
    let (parsed, written) = (percent_decoded(parsed), percent_decoded(written));
    if parsed == written { Ok(written) } else { Err("has a path that is read in more than one way") }
}

/// `git@github.com:org/repo` as `ssh://git@github.com/org/repo`.
pub(super) fn scp(text: &str) -> Option<String> {
    if text.contains("://") {
        return None;
    }
    let (authority, path) = text.split_once(':')?;
    if authority.contains('/') || authority.is_empty() {
        return None;
    }
    Some(format!("ssh://{authority}/{}", path.strip_prefix('/').unwrap_or(path)))
}

/// An image as an OCI address. As in Docker, a first segment without a dot or a port is not a registry unless it is
/// `localhost`, and an image of Docker Hub without an owner belongs to `library`.
fn image(text: &str) -> String {
    let (registry, image) = match text.split_once('/') {
        Some((first, image)) if first.contains(['.', ':']) || first == "localhost" => (first, image),
        _ => (DOCKER_HUB, text),
    };
    let is_of_library = registry_name(registry.to_ascii_lowercase()) == DOCKER_HUB && !image.contains('/');
    let library = if is_of_library { "library/" } else { "" };
    format!("oci://{registry}/{library}{image}")
}

/// The host of a registry; Docker Hub has several.
pub(super) fn registry_name(host: String) -> String {
    const OTHERS: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
    if OTHERS.contains(&&*host) { DOCKER_HUB.to_owned() } else { host }
}
