//! The bundled example: a cluster of ten namespaces with much that is well and a few things that are not, and two small
//! ones: one with a failure of its own, one that has not answered for two hours.
//!
//! Times in the manifests are relative, `{{now-2h30m}}`, and filled in when they are written out, so that ages
//! look real whenever the demo runs.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use jiff::{SignedDuration, Timestamp};

const MANIFESTS: [(&str, &str); 15] = [
    ("agones.yaml", include_str!("example/agones.yaml")),
    ("argocd.yaml", include_str!("example/argocd.yaml")),
    ("cluster.yaml", include_str!("example/cluster.yaml")),
    ("flux-automation.yaml", include_str!("example/flux-automation.yaml")),
    ("flux-platform.yaml", include_str!("example/flux-platform.yaml")),
    ("flux-sources.yaml", include_str!("example/flux-sources.yaml")),
    ("flux-tenants.yaml", include_str!("example/flux-tenants.yaml")),
    ("games.yaml", include_str!("example/games.yaml")),
    ("helm-platform.yaml", include_str!("example/helm-platform.yaml")),
    ("helm-tenants.yaml", include_str!("example/helm-tenants.yaml")),
    ("pods.yaml", include_str!("example/pods.yaml")),
    ("services.yaml", include_str!("example/services.yaml")),
    ("storage.yaml", include_str!("example/storage.yaml")),
    ("tenants.yaml", include_str!("example/tenants.yaml")),
    ("workloads.yaml", include_str!("example/workloads.yaml")),
];

/// A remote cluster of the example.
pub(super) struct Remote {
    pub(super) name: &'static str,
    manifest: &'static str,
    /// When its credential expires, from now.
    pub(super) expires: SignedDuration,
    /// How long ago it answered last, if it does not answer any more, and the error.
    pub(super) lost: Option<(SignedDuration, &'static str)>,
}

pub(super) const REMOTE: [Remote; 2] = [
    Remote {
        name: "prod-eu",
        manifest: include_str!("example/others/prod-eu.yaml"),
        expires: SignedDuration::from_hours(24 * 5),
        lost: None,
    },
    Remote {
        name: "prod-us",
        manifest: include_str!("example/others/prod-us.yaml"),
        expires: SignedDuration::from_hours(24 * 200),
        lost: Some((SignedDuration::from_hours(2), "connect to us.example.com:6443: timed out")),
    },
];

impl Remote {
    /// Writes its manifest to a folder, which is made.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let file = folder.join("cluster.yaml");
        let text =
            at(self.manifest, Timestamp::now()).with_context(|| format!("the example's {}", self.name))?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Writes the manifests of the first cluster to a folder, which is made if need be and must be empty.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {shown}"))?;
    let mut entries = folder.read_dir().with_context(|| format!("cannot read {shown}"))?;
    ensure!(entries.next().is_none(), "{shown} is not empty");
    let now = Timestamp::now();
    for (name, text) in MANIFESTS {
        let file = folder.join(name);
        let text = at(text, now).with_context(|| format!("the example's {name}"))?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Replaces every `{{now±DURATION}}` by the time it means.
fn at(text: &str, now: Timestamp) -> anyhow::Result<String> {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("{{now") {
        let Some((offset, after)) = from.split_once("}}") else { bail!("a time is not closed by }}}}") };
        let time = now.checked_add(parse(offset)?)?;
        made += before;
        made += &time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        rest = after;
    }
    made += rest;
    Ok(made)
}

/// `-2h30m`, `+60d`, or nothing. Days are of 24 hours: these are ages, not dates.
fn parse(offset: &str) -> anyhow::Result<SignedDuration> {
    let (sign, mut rest) = match offset.split_at_checked(1) {
        None => return Ok(SignedDuration::ZERO),
        Some(("-", rest)) => (-1, rest),
        Some(("+", rest)) => (1, rest),
        Some(_) => bail!("{offset:?} has no sign"),
    };
    let mut seconds = 0;
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, unit) = rest.split_at(end);
        let number: i64 = number.parse().with_context(|| format!("{offset:?} is no duration"))?;
        let unit_seconds = match unit.as_bytes()[0] {
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => bail!("{offset:?} has a unit other than d, h, m, s"),
        };
        seconds += number * unit_seconds;
        rest = &unit[1..];
    }
    ensure!(rest.is_empty(), "{offset:?} ends without a unit");
    Ok(SignedDuration::from_secs(sign * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_filled_in() {
        let now: Timestamp = "2026-11-21T08:40:40.5Z".parse().unwrap();
        let text = "a: \"{{now-2h30m}}\"\nb: \"{{now+30d}}\"\nc: \"{{now}}\"\n";
        let expected =
            "a: \"2026-11-21T06:10:40Z\"\nb: \"2026-12-21T08:40:40Z\"\nc: \"2026-11-21T08:40:40Z\"\n";
        assert_eq!(at(text, now).unwrap(), expected);
    }

    #[test]
    fn every_time_of_the_example_can_be_read() {
        let others = REMOTE.iter().map(|remote| (remote.name, remote.manifest));
        for (name, text) in MANIFESTS.into_iter().chain(others) {
            let text = at(text, Timestamp::now()).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(!text.contains("{{"), "{name}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["{{now-2x}}", "{{now2h}}", "{{now-2h", "{{now-5}}"] {
            assert!(at(text, Timestamp::now()).is_err(), "{text}");
        }
    }
}
