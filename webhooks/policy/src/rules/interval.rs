//! `interval`: bounds of `spec.interval`, and of the chart's interval in a HelmRelease, which becomes the interval of
//! a HelmChart.

use gatehouse_apiservice::{duration, policy::IntervalRule};
use jiff::SignedDuration;

use super::{Errors, Report};
use crate::{
    Kind, Subject,
    look::{Look, WrongType},
};

/// Whether objects of this kind have `spec.interval`.
pub(crate) fn has_interval(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bucket
            | Kind::GitRepository
            | Kind::HelmChart
            | Kind::HelmRepository
            | Kind::OciRepository
            | Kind::Kustomization
            | Kind::HelmRelease
            | Kind::Provider
            | Kind::Receiver
            | Kind::ImagePolicy
            | Kind::ImageRepository
            | Kind::ImageUpdateAutomation
    )
}

#[derive(Debug)]
pub(crate) struct Interval {
    min: Option<SignedDuration>,
    max: Option<SignedDuration>,
}

impl Interval {
    pub(crate) fn compile(rule: &IntervalRule, errors: &mut Errors) -> Self {
        let mut bound = |name: &str, value: &Option<String>| {
            let value = value.as_deref()?;
            errors.duration(&format!("spec.rules.interval.{name}"), value)
        };
        let (min, max) = (bound("min", &rule.min), bound("max", &rule.max));
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let text = rule.max.clone().unwrap_or_default();
            errors.refuse("spec.rules.interval.max", text, "must not be shorter than min");
        }
        Self { min, max }
    }

    pub(crate) fn check(&self, subject: &Subject, report: &mut Report<'_>) -> Result<(), WrongType> {
        if !has_interval(subject.kind) {
            return Ok(());
        }
        let spec = Look::spec(&subject.object);
        self.bounds(&spec.field("interval")?, report)?;
        if subject.kind == Kind::HelmRelease {
            self.bounds(&spec.at(&["chart", "spec", "interval"])?, report)?;
        }
        Ok(())
    }

    fn bounds(&self, field: &Look<'_>, report: &mut Report<'_>) -> Result<(), WrongType> {
        // The API server checks whether the field is required.
        let Some(text) = field.string()? else { return Ok(()) };
        match duration::parse(text) {
            Err(why) => report.broken(field.path(), format!("{text:?} {why}"), self.hint()),
            Ok(interval) => {
                if let Some(problem) = self.problem(interval) {
                    report.broken(field.path(), format!("{text} {problem}"), self.hint());
                }
            }
        }
        Ok(())
    }

    /// Why an interval is out of bounds, if it is.
    pub(crate) fn problem(&self, interval: SignedDuration) -> Option<String> {
        if let Some(min) = self.min.filter(|min| interval < *min) {
            return Some(format!("is shorter than {}", duration::show(min)));
        }
        let max = self.max.filter(|max| interval > *max)?;
        Some(format!("is longer than {}", duration::show(max)))
    }

    fn hint(&self) -> String {
        match (self.min.map(duration::show), self.max.map(duration::show)) {
            (Some(min), Some(max)) => format!("use an interval from {min} to {max}"),
            (Some(min), None) => format!("use an interval of {min} or more"),
            (None, Some(max)) => format!("use an interval of {max} or less"),
            (None, None) => "use a duration such as 10m".into(),
        }
    }
}
