//! `sources`: where sources may fetch from.
//!
//! **Invariant:** addresses are parsed, see [`address`]; string prefixes are never compared.
//!
//! The rule judges `url` of GitRepository, OCIRepository, HelmRepository and ResourceSetInputProvider, `image` of
//! ImageRepository, `endpoint` and `bucketName` of Bucket, `sync` and `distribution` of FluxInstance. References by
//! name have no address of their own: `sourceRef` and `chartRef` of any kind, `include` of GitRepository, `sources` of
//! ArtifactGenerator. A proxy is judged by whether there is one, since a Secret has its address. Not judged, since no
//! content is fetched from there: the address of a Provider or Receiver, credentials (`sts`), and what verifies signatures.
//! What a source itself links to cannot be judged here: the addresses in the index of a Helm repository, and submodules of
//! a Git repository.

mod address;
mod pattern;

#[cfg(test)]
mod tests;

use gatehouse_apiservice::policy::{Proxies, SourcesRule};

use self::{
    address::{Address, Form},
    pattern::Pattern,
};
use super::{Errors, Report};
use crate::{
    Kind, Subject,
    look::{Look, WrongType},
    parameters::{Parameters, Usable},
};

/// The host of Google's buckets.
const GOOGLE_STORAGE: &str = "storage.googleapis.com";

/// The fields that identify a bucket.
struct Bucket<'a> {
    provider: Look<'a>,
    endpoint: Look<'a>,
    name: Look<'a>,
    insecure: bool,
}

#[derive(Debug)]
pub(crate) struct Sources {
    /// `None` allows any.
    allowed: Option<Vec<Pattern>>,
    denied: Vec<Pattern>,
    forbids_proxies: bool,
}

/// Whether objects of a kind have an address that content is fetched from.
pub(crate) fn has_address(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::GitRepository
            | Kind::OciRepository
            | Kind::HelmRepository
            | Kind::ImageRepository
            | Kind::Bucket
            | Kind::ResourceSetInputProvider
            | Kind::FluxInstance
            | Kind::HelmChart
            | Kind::HelmRelease
    )
}

impl Sources {
    pub(crate) fn compile(
        rule: &SourcesRule,
        parameters: &Parameters<'_>,
        errors: &mut Errors,
    ) -> Usable<Self> {
        let SourcesRule { allowed, allowed_from, denied, denied_from, proxies } = rule;
        let field = "spec.rules.sources";
        let is_limited = allowed.is_some() || !allowed_from.is_empty();
        let is_empty = !is_limited && denied.is_empty() && denied_from.is_empty();
        if is_empty && *proxies != Some(Proxies::Forbid) {
            errors.refuse(field, "{}", "must set allowed or denied, or proxies to Forbid");
        }
        let own = allowed.as_deref().unwrap_or_default();
        let allowed = parameters.list(&format!("{field}.allowed"), own, allowed_from, errors, Pattern::parse);
        let denied = parameters.list(
            &format!("{field}.denied"),
            denied,
            denied_from,
            errors,
            Pattern::parse_denied,
        )?;
        let forbids_proxies = proxies.map_or(is_limited, |proxies| proxies == Proxies::Forbid);
        Ok(Self { allowed: is_limited.then_some(allowed?), denied, forbids_proxies })
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        let spec = Look::spec(&subject.object);
        match subject.kind {
            Kind::GitRepository => self.url(&spec.field("url")?, Form::Git, report)?,
            Kind::OciRepository => self.url(&spec.field("url")?, Form::Oci, report)?,
            Kind::HelmRepository => self.url(&spec.field("url")?, Form::Url, report)?,
            Kind::ImageRepository => self.url(&spec.field("image")?, Form::Image, report)?,
            Kind::Bucket => {
                let bucket = Bucket {
                    provider: spec.field("provider")?,
                    endpoint: spec.field("endpoint")?,
                    name: spec.field("bucketName")?,
                    insecure: spec.field("insecure")?.boolean()? == Some(true),
                };
                self.bucket(&bucket, report)?;
            }
            Kind::ResourceSetInputProvider => {
                let url = spec.field("url")?;
                // Some providers have no URL; some of the others list the tags of a registry.
                let is_oci = url.string()?.is_some_and(|url| url.starts_with("oci://"));
                self.url(&url, if is_oci { Form::Oci } else { Form::Api }, report)?;
            }
            Kind::FluxInstance => {
                self.sync(&spec.field("sync")?, report)?;
                self.distribution(&spec.field("distribution")?, report)?;
            }
            Kind::HelmChart => chart(&spec.field("chart")?, report)?,
            Kind::HelmRelease => chart(&spec.at(&["chart", "spec", "chart"])?, report)?,
            _ => {}
        }
        self.proxy(&spec, subject.kind, report)
    }

    /// Judges the proxy of a source. Who also gives the CA that is trusted (`ca.crt`), or fetches without TLS, is answered
    /// by the proxy alone.
    fn proxy(&self, spec: &Look<'_>, kind: Kind, report: &mut Report<'_>) -> Result<(), WrongType> {
        let has_proxy =
            matches!(kind, Kind::GitRepository | Kind::OciRepository | Kind::Bucket | Kind::ImageRepository);
        let proxy = spec.field("proxySecretRef")?;
        if self.forbids_proxies && has_proxy && proxy.is_some() {
            let why = "a proxy may answer in the place of any address";
            report.broken(proxy.path(), why, "remove it; a policy permits it by `proxies: Allow`");
        }
        Ok(())
    }

    fn url(&self, field: &Look<'_>, form: Form, report: &mut Report<'_>) -> Result<(), WrongType> {
        // The API server checks whether the field is required.
        let Some(text) = field.string()? else { return Ok(()) };
        self.judge(field.path(), Address::parse(text, form), report);
        Ok(())
    }

    /// Judges a bucket, whose address depends on the provider: the S3 client takes a host as endpoint, Azure's a URL,
    /// and Google's ignores it. A region does not change the bucket.
    fn bucket(&self, bucket: &Bucket<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        let Bucket { provider, endpoint, name, insecure } = bucket;
        let field = endpoint.path();
        let bucket = name.string()?.unwrap_or_default();
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        // Azure has special containers, such as $web.
        let plain = if provider.string()? == Some("azure") { bucket.trim_start_matches('$') } else { bucket };
        if !plain.bytes().all(is_of_name) {
            report.broken(
                name.path(),
                format!("{:?} is the name of no bucket", clipped(bucket)),
                self.hint(),
            );
            return Ok(());
        }
        let address = match provider.string()?.unwrap_or_default() {
            "" | "generic" | "aws" => {
                let Some(host) = endpoint.string()? else { return Ok(()) };
                let host = host.strip_suffix('/').unwrap_or(host);
                if host.contains('/') {
                    report.broken(field, "must be a host, with a port if need be", self.hint());
                    return Ok(());
                }
                let scheme = if *insecure { "http" } else { "https" };
                format!("{scheme}://{host}/{bucket}")
            }
            "azure" => {
                let Some(url) = endpoint.string()? else { return Ok(()) };
                format!("{}/{bucket}", url.strip_suffix('/').unwrap_or(url))
            }
            "gcp" => format!("https://{GOOGLE_STORAGE}/{bucket}"),
            other => {
                let why =
                    format!("{:?} is not known: where its buckets are cannot be judged", clipped(other));
                report.broken(provider.path(), why, "use generic, aws, azure or gcp");
                return Ok(());
            }
        };
        self.judge(field, Address::parse(&address, Form::Bucket), report);
        Ok(())
    }

    /// Judges the source that the Flux operator creates.
    fn sync(&self, sync: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        let (kind, url) = (sync.field("kind")?, sync.field("url")?);
        match kind.string()? {
            None if !url.is_some() => Ok(()),
            Some("GitRepository") => self.url(&url, Form::Git, report),
            Some("OCIRepository") => self.url(&url, Form::Oci, report),
            Some("Bucket") => {
                let (provider, name) = (sync.field("provider")?, sync.field("ref")?);
                self.bucket(&Bucket { provider, endpoint: url, name, insecure: false }, report)
            }
            other => {
                let why = format!("{:?} is no kind of a source", clipped(other.unwrap_or_default()));
                report.broken(kind.path(), why, "use GitRepository, OCIRepository or Bucket");
                Ok(())
            }
        }
    }

    /// Judges where the Flux operator gets Flux from: its images, and the artifact with its manifests.
    fn distribution(&self, distribution: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        let registry = distribution.field("registry")?;
        if let Some(text) = registry.string()? {
            self.judge(registry.path(), Address::of_registry(text), report);
        }
        let artifact = distribution.field("artifact")?;
        if let Some(text) = artifact.string()? {
            self.judge(artifact.path(), Address::parse(without_tag(text), Form::Oci), report);
        }
        Ok(())
    }

    fn judge(&self, field: &str, address: Result<Address, String>, report: &mut Report<'_>) {
        let address = match address {
            Ok(address) => address,
            Err(why) => {
                report.broken(field, why, self.hint());
                return;
            }
        };
        if let Some(pattern) = self.denied.iter().find(|pattern| pattern.denies(&address)) {
            let hint = format!("use a source that {} does not match", pattern.written());
            report.broken(field, format!("{address} is a denied source"), hint);
        } else if self.allowed.iter().any(|allowed| !allowed.iter().any(|pattern| pattern.matches(&address)))
        {
            report.broken(field, format!("{address} is not an allowed source"), self.hint());
        }
    }

    fn hint(&self) -> String {
        match self.allowed.as_deref() {
            None => "use a plain address".into(),
            Some([]) => "the policy allows no source at all".into(),
            Some(allowed) => {
                let shown: Vec<_> = allowed.iter().map(Pattern::written).collect();
                format!("use a source that matches {}", shown.join(", "))
            }
        }
    }
}

/// Judges the name of a chart, which is joined to the address of its repository: it must not leave the repository.
fn chart(field: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
    let Some(chart) = field.string()? else { return Ok(()) };
    let decoded = percent_decoded(chart);
    if decoded.split(['/', '\\']).any(|segment| segment == "..") || chart.contains("://") {
        report.broken(
            field.path(),
            format!("{chart:?} leads out of its source"),
            "name a chart within its source",
        );
    }
    Ok(())
}

/// An OCI address without the tag or digest: `:latest`, `@sha256:…`.
fn without_tag(text: &str) -> &str {
    let name = text.split_once('@').map_or(text, |(name, _)| name);
    match name.rsplit_once('/') {
        Some((path, last)) if path.contains("://") || path.contains('/') => {
            let last = last.split_once(':').map_or(last, |(last, _)| last);
            &name[..path.len() + 1 + last.len()]
        }
        _ => name,
    }
}

/// The beginning of a text, for a message.
fn clipped(text: &str) -> String {
    text.chars().take(256).collect()
}

/// Decodes percent-encoding such as `%2e`; invalid UTF-8 is replaced.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (*first, hex(0), hex(1)) {
            bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
