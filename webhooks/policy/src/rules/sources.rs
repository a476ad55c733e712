//! `sources`: where sources may fetch from. Addresses are parsed, see [`address`]; no prefixes of strings are compared.

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
};

#[derive(Debug)]
pub(crate) struct Sources {
    allowed: Vec<Pattern>,
    /// The patterns as they were written.
    shown: String,
}

impl Sources {
    pub(crate) fn compile(rule: &SourcesRule, errors: &mut Errors) -> Self {
        let mut allowed = Vec::new();
        for (index, text) in rule.allowed.iter().enumerate() {
            match Pattern::parse(text) {
                Ok(pattern) => allowed.push(pattern),
                Err(why) => errors.refuse(format!("spec.rules.sources.allowed[{index}]"), text, why),
            }
        }
        Self { allowed, shown: rule.allowed.join(", ") }
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        let spec = Look::spec(&subject.object);
        match subject.kind {
            Kind::GitRepository => self.url(&spec.field("url")?, Form::Git, report)?,
            Kind::OciRepository | Kind::HelmRepository => self.url(&spec.field("url")?, Form::Url, report)?,
            Kind::ResourceSetInputProvider => self.url(&spec.field("url")?, Form::Api, report)?,
            Kind::ImageRepository => self.url(&spec.field("image")?, Form::Image, report)?,
            Kind::Bucket => self.bucket(&spec, report)?,
            Kind::HelmChart => chart(&spec.field("chart")?, report)?,
            Kind::HelmRelease => chart(&spec.at(&["chart", "spec", "chart"])?, report)?,
            _ => {}
        }
        Ok(())
    }

    fn url(&self, field: &Look<'_>, form: Form, report: &mut Report<'_>) -> Result<(), WrongType> {
        // Where it is required, the API server asks for it; some input providers have none.
        let Some(text) = field.string()? else { return Ok(()) };
        self.judge(field.path(), Address::parse(text, form), report);
        Ok(())
    }

    /// A bucket's endpoint is a host; which bucket is said beside it.
    fn bucket(&self, spec: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        let field = spec.field("endpoint")?;
        let Some(endpoint) = field.string()? else { return Ok(()) };
        let name = spec.field("bucketName")?.string()?.unwrap_or_default();
        let scheme = if spec.field("insecure")?.boolean()? == Some(true) { "http" } else { "https" };
        if endpoint.contains('/') {
            report.broken(field.path(), "must be a host, with a port if need be", self.hint());
            return Ok(());
        }
        self.judge(
            field.path(),
            Address::parse(&format!("{scheme}://{endpoint}/{name}"), Form::Bucket),
            report,
        );
        Ok(())
    }

    fn judge(&self, field: &str, address: Result<Address, String>, report: &mut Report<'_>) {
        match address {
            Err(why) => report.broken(field, why, self.hint()),
            Ok(address) if !self.allowed.iter().any(|pattern| pattern.matches(&address)) => {
                report.broken(field, format!("{address} is not an allowed source"), self.hint());
            }
            Ok(_) => {}
        }
    }

    fn hint(&self) -> String {
        if self.allowed.is_empty() {
            "the policy allows no source at all".into()
        } else {
            format!("use a source that matches {}", self.shown)
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
