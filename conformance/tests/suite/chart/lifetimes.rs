//! The lifetimes of certificates in the values: the chart refuses those that no process accepts, and the alert about
//! certificates that were not renewed follows them.

use std::time::Duration;

use anyhow::{Context, ensure};
use gatehouse_certs::rotation::Policy;
use gatehouse_conformance::helm::{Helm, Values};

use super::alerts::expression;

const SECOND: Duration = Duration::from_secs(1);

/// At each bound, the chart accepts and refuses the same values as the processes. The other values are the defaults.
pub(super) async fn bounds() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    let (ca, leaf, overlap) = (Policy::CA_LIFETIME, Policy::LEAF_LIFETIME, Policy::OVERLAP);
    for (name, taken, refused) in [
        ("caLifetime", leaf * 2, (leaf * 2).saturating_sub(SECOND)),
        ("certificateLifetime", ca / 2, ca / 2 + SECOND),
        ("certificateLifetime", overlap * 6, (overlap * 6).saturating_sub(SECOND)),
        ("rotationOverlap", leaf / 6, leaf / 6 + SECOND),
        ("rotationOverlap", SECOND, Duration::ZERO),
    ] {
        for (value, is_taken) in [(taken, true), (refused, false)] {
            let one = |of: &str, usual: Duration| if name == of { value } else { usual };
            let lifetimes =
                [one("caLifetime", ca), one("certificateLifetime", leaf), one("rotationOverlap", overlap)];
            let [ca, leaf, overlap] = lifetimes;
            let policy = Policy::new(vec!["a.svc".to_owned()], ca, leaf, overlap);
            ensure!(policy.is_ok() == is_taken, "{name}={value:?}: {policy:?}");
            let set = format!("tls.selfManaged.{name}={}s", value.as_secs());
            let rendered = helm.template(&Values::default().and([set.as_str()])).await?;
            if is_taken {
                rendered.ok()?;
            } else {
                let said = rendered.failed()?;
                let named = format!("tls.selfManaged.{name} ({}s)", value.as_secs());
                ensure!(said.contains(&named), "{set}: {named} is not in\n{said}");
            }
        }
    }
    Ok(())
}

/// Values, and how many seconds before its expiry a certificate causes the alert. Whatever the values are, it should
/// have been renewed by then.
const ENDS: [(&str, &[&str], u64); 7] = [
    ("default", &[], 604_800),
    ("default", &["tls.selfManaged.certificateLifetime=24h"], 8_640),
    ("full", &[], 259_200),
    ("cert-manager", &[], 604_800),
    ("cert-manager", &["tls.certManager.renewBefore=24h"], 43_200),
    ("files", &[], 604_800),
    ("files", &["metrics.prometheusRule.certificateEnds=1h30m"], 5_400),
];

pub(super) async fn alert() -> anyhow::Result<()> {
    let helm = Helm::find().await?;
    for (file, set, expected) in ENDS {
        let values = Values::of(file).and(["metrics.prometheusRule.enabled=true"]).and(set.iter().copied());
        let expression = expression(&helm.objects(&values).await?, "GatehouseCertificateEnds")?;
        let (_, seconds) = expression.rsplit_once(" < ").context("no comparison")?;
        ensure!(seconds.parse() == Ok(expected), "{file} {set:?}: {expression}");
    }
    for (set, expected) in [("336h", 1_209_600), ("1h30m", 5_400)] {
        let set = format!("metrics.prometheusRule.credentialEnds={set}");
        let values = Values::default().and(["metrics.prometheusRule.enabled=true".to_owned(), set]);
        let expression = expression(&helm.objects(&values).await?, "GatehouseClusterCredentialEnds")?;
        let (_, seconds) = expression.rsplit_once(" < ").context("no comparison")?;
        ensure!(seconds.parse() == Ok(expected), "{expression}");
    }
    Ok(())
}
