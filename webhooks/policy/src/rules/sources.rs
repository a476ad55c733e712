//! `sources`: where sources may fetch from. Addresses are parsed, see [`address`]; no prefixes of strings are compared.
//!
//! An address is in `url` of GitRepository, OCIRepository, HelmRepository and ResourceSetInputProvider, `image` of
//! ImageRepository, `endpoint` and `bucketName` of Bucket, `sync` and `distribution` of FluxInstance. What refers to one of
//! these by name brings no address of its own: `sourceRef` and `chartRef` of any kind, `include` of GitRepository, `sources`
//! of ArtifactGenerator. Not judged, since they are no place that content is fetched from: a Provider's and a Receiver's
//! address, proxies and credentials (`sts`), what verifies signatures. What cannot be judged here is what a source itself
//! leads to: the addresses in the index of a Helm repository, submodules of a Git repository.

mod address;
mod pattern;

#[cfg(test)]
mod tests;

use gatehouse_apiservice::policy::SourcesRule;

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

/// The fields that say which bucket.
struct Bucket<'a> {
    provider: Look<'a>,
    endpoint: Look<'a>,
    name: Look<'a>,
    insecure: bool,
}

#[derive(Debug)]
pub(crate) struct Sources {
    /// None: any.
    allowed: Option<Vec<Pattern>>,
    denied: Vec<Pattern>,
}

/// Whether an object of a kind says where something is fetched from.
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
        let SourcesRule { allowed, allowed_from, denied, denied_from } = rule;
        let field = "spec.rules.sources";
        let is_limited = allowed.is_some() || !allowed_from.is_empty();
        if !is_limited && denied.is_empty() && denied_from.is_empty() {
            errors.refuse(field, "{}", "must set allowed or denied");
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
        Ok(Self { allowed: is_limited.then_some(allowed?), denied })
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
                // Some have none; of the others, some ask a registry for tags.
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
        Ok(())
    }

    fn url(&self, field: &Look<'_>, form: Form, report: &mut Report<'_>) -> Result<(), WrongType> {
        // Where it is required, the API server asks for it.
        let Some(text) = field.string()? else { return Ok(()) };
        self.judge(field.path(), Address::parse(text, form), report);
        Ok(())
    }

    /// Which bucket it is depends on the provider: the S3 client takes a host as endpoint, Azure's a URL, and Google's
    /// none, whatever is written there. A region names no other bucket.
    fn bucket(&self, bucket: &Bucket<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        let Bucket { provider, endpoint, name, insecure } = bucket;
        let field = endpoint.path();
        let bucket = name.string()?.unwrap_or_default();
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        // Azure has containers of its own, such as $web.
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

    /// What the Flux operator makes a source of.
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

    /// Where the Flux operator takes Flux from: its images, and the artifact with its manifests.
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

/// The name of a chart is joined to the address of its repository: it must not lead out of it.
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

/// An OCI address without what follows the name of the repository: `:latest`, `@sha256:…`.
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

/// Decodes `%2e` and the like; what is no UTF-8 then is shown as what it is not.
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
