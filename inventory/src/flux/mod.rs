//! Decodes and judges objects of Flux's kinds: JSON in, record out.
//!
//! The first list of a cluster decodes ten thousand of these objects, and each later reconciliation decodes one.
//!
//! **Invariant:** The input is parsed once, and only the fields that a view shows are built.

mod awaited;
mod history;
mod messages;
mod object;
mod pruning;
mod rule;
mod suspension;
mod wire;

pub(crate) use awaited::names_some;
use gatehouse_apiservice::duration;
pub(crate) use messages::{
    asks_by_expression, asks_for_more, may_be_the_source, needs_a_source, reason, waits_for_health,
};
use object::{Annotations, Chart, Object, Ref, Snapshot, Spec, Status};

use crate::{
    Above, Applied, Detail, FluxDetail, FluxLinks, FluxRequest, FluxTexts, ForeignName, Interner, Readiness,
    Record, Reference, Seconds, State, Str, Verdict,
    catalogue::{Catalogue, KindId, clip, namespace_of},
};

/// Revisions, URLs and author names are cut to this length, because an object may hold megabytes of each.
const TEXT_BYTES: usize = 1024;
/// This is longer than any name that Kubernetes admits.
const NAME_BYTES: usize = 256;

pub(crate) use object::Named;
pub use pruning::Named as Unpruned;
pub use suspension::{DISABLED, GENERATOR_ANNOTATION, OPERATOR_ANNOTATION, Suspension};
pub(crate) use wire::{Instant, Text};

/// Decodes and judges an object of a kind that the built-in Flux rule judges.
pub(crate) fn observe(
    catalogue: &Catalogue,
    id: KindId,
    json: &str,
    interner: &Interner,
    now: Seconds,
) -> Result<Record, serde_json::Error> {
    let Object { metadata, spec, status } = serde_json::from_str(json)?;
    let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
    let kind = catalogue.kind(id);
    let own = Own { catalogue, id, namespace: namespace_of(kind, metadata.namespace.as_ref()), interner };
    let annotations = metadata.annotations.as_ref();
    let suspended = Suspension::of(&kind.group, &kind.kind)
        .is_in_force(spec.suspend, |name| annotations.and_then(|annotations| annotations.reconcile(name)));
    let newest = status.history.as_ref().and_then(|history| history.0.first());

    let artifact = status.artifact.as_ref();
    let facts = rule::Facts {
        kind: &kind.kind,
        created: metadata.creation_timestamp.map(|at| at.0),
        timeout: spec.timeout.as_ref().and_then(|timeout| seconds(timeout.as_str())),
        unapplied: unapplied(&kind.kind, &status),
        ignores_tests: spec.test.as_ref().is_some_and(|test| test.ignore_failures == Some(true)),
        now,
        deleted: metadata.deletion_timestamp.map(|at| at.0),
        suspended,
        generation: metadata.generation,
        observed_generation: status.observed_generation,
        conditions: status.conditions.as_deref().unwrap_or_default(),
        last_attempt: newest.and_then(|newest| last_attempt(&kind.kind, newest)),
        failing_since: status.history.as_ref().and_then(|history| rule::failing_since(&history.0)),
        statusless: match kind.kind.as_str() {
            "Alert" | "Provider" => true,
            "HelmRepository" => spec.type_.as_ref().is_some_and(|type_| type_.as_str() == "oci"),
            // Its controller is not required to write conditions.
            "ExternalArtifact" => artifact.is_some(),
            _ => false,
        },
    };
    let verdict = rule::judge(&facts).finish(interner);
    let suspended_by = annotations.and_then(|annotations| annotations.suspended_by.as_ref());
    let depends_on = spec.depends_on.as_deref().unwrap_or_default();
    let (kept, omitted) = depends_on.split_at(depends_on.len().min(FluxDetail::DEPENDENCIES));
    let depends_on = own.dependencies(kept);
    let waits_for =
        if verdict.state == State::Blocked { named(catalogue, &depends_on, &verdict.message) } else { None };
    let above = match &metadata.labels {
        Some(labels) if verdict.state != State::Ready || verdict.deadline.is_some() => {
            Above::of(None, labels.manager(catalogue, interner))
        }
        _ => None,
    };
    let detail = FluxDetail {
        revision: revision(&status, interner),
        history: history::history(&kind.kind, &status, interner).keep(catalogue.history_entries()),
        applied: applied(&status),
        suspended,
        suspend: spec.suspend,
        ready: ready(&status),
        texts: if catalogue.keeps_flux_texts() { texts(&kind.kind, &spec, &status, interner) } else { None },
        suspended_by: suspended_by.map(|by| interner.intern(clip(by.as_str(), TEXT_BYTES))),
        request: request(annotations, &status, interner),
        source: own.source(&spec, &verdict.message),
        links: own.links(&kind.kind, &spec, &status, &verdict),
        depends_on,
        depends_on_omitted: u16::try_from(omitted.len()).unwrap_or(u16::MAX),
        waits_for,
    };
    Ok(Record {
        key: own.key(metadata.name.as_str()),
        created: metadata.creation_timestamp.map_or(0, |at| at.0),
        layer: kind.layer,
        verdict,
        detail: Detail::Flux(Box::new(detail)),
        above,
    })
}

/// Describes why [`observe`] rejected an object: the path of the field and the type that it should have.
pub(crate) fn field_error(json: &str) -> String {
    path_error::<Object<'_>>(json)
}

/// Describes why an object is no `T`.
pub(crate) fn path_error<'a, T: serde::Deserialize<'a>>(json: &'a str) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut deserializer) else {
        // The object itself is valid, but the text after it is not.
        return deserializer.end().err().map_or_else(String::new, |error| error.to_string());
    };
    let message = error.inner().to_string();
    if !error.inner().is_data() {
        return message;
    }
    // The position in the JSON is cut off: users do not see that document, and the path says more.
    let message = message.rfind(" at line ").map_or(message.as_str(), |end| &message[..end]);
    format!("{}: {message}", error.path())
}

fn last_attempt<'a>(kind: &str, newest: &'a Snapshot<'_>) -> Option<rule::Attempt<'a>> {
    if kind == "HelmRelease" { rule::released(newest) } else { rule::reconciled(newest) }
}

/// The revision that a Kustomization attempted last, if it has not applied that revision. Of the other kinds with such
/// revisions the history tells of each attempt: a FluxInstance has an entry for a build that failed, too.
fn unapplied<'a>(kind: &str, status: &'a Status<'_>) -> Option<&'a str> {
    let text = |text: &'a Option<Text<'_>>| text.as_ref().map(Text::as_str).filter(|text| !text.is_empty());
    let attempted = text(&status.last_attempted_revision).filter(|_| kind == "Kustomization")?;
    let applied = text(&status.last_applied_revision);
    (applied != Some(attempted)).then_some(attempted)
}

/// Parses a duration in Go's syntax into whole seconds.
fn seconds(text: &str) -> Option<Seconds> {
    duration::parse(text).ok().map(|duration| duration.as_secs())
}

/// The index of the dependency that the controller names in its message.
fn named(catalogue: &Catalogue, depends_on: &[Reference], message: &str) -> Option<u8> {
    let is_named = |reference: &Reference| match reference {
        Reference::Known(key) => {
            messages::names(message, &catalogue.kind(key.kind).kind, &key.namespace, &key.name)
        }
        Reference::Foreign(foreign) => {
            messages::names(message, &foreign.kind, &foreign.namespace, &foreign.name)
        }
    };
    depends_on.iter().position(is_named).and_then(|at| u8::try_from(at).ok())
}

/// The status of the Ready condition, regardless of the verdict of the rule.
fn ready(status: &Status<'_>) -> Option<Readiness> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_.as_str() == "Ready")?;
    match ready.status.as_str() {
        "True" => Some(Readiness::True),
        "False" => Some(Readiness::False),
        "Unknown" => Some(Readiness::Unknown),
        _ => None,
    }
}

/// What the annotations request. Whatever is no time is no end of a suspension.
fn request(
    annotations: Option<&Annotations<'_>>,
    status: &Status<'_>,
    interner: &Interner,
) -> Option<Box<FluxRequest>> {
    let text = |text: Option<&Text<'_>>| {
        let text = text.map(Text::as_str).filter(|text| !text.is_empty())?;
        Some(interner.intern(clip(text, NAME_BYTES)))
    };
    let until = annotations.and_then(|annotations| annotations.suspended_until.as_ref());
    let until = until.and_then(|until| until.as_str().parse::<jiff::Timestamp>().ok());
    let request = FluxRequest {
        token: text(annotations.and_then(|annotations| annotations.requested_at.as_ref())),
        handled: text(status.last_handled_reconcile_at.as_ref()),
        suspended_until: until.map(jiff::Timestamp::as_second),
    };
    (request != FluxRequest::default()).then(|| Box::new(request))
}

/// The fields of each kind that only metrics expose.
fn texts(kind: &str, spec: &Spec<'_>, status: &Status<'_>, interner: &Interner) -> Option<Box<FluxTexts>> {
    let texts = match kind {
        "GitRepository" | "HelmRepository" | "OCIRepository" => [spec.url.as_ref(), None],
        "Bucket" => [spec.endpoint.as_ref(), spec.bucket_name.as_ref()],
        "HelmChart" => [spec.chart.as_ref().and_then(Chart::name), spec.version.as_ref()],
        "ImageRepository" => [spec.image.as_ref(), None],
        "Receiver" => [status.webhook_path.as_ref(), None],
        "HelmRelease" => {
            let newest = status.history.as_ref().and_then(|history| history.0.first());
            [newest.and_then(|newest| newest.app_version.as_ref()), None]
        }
        _ => return None,
    };
    let kept = texts.map(|text| text.map(|text| interner.intern(clip(text.as_str(), TEXT_BYTES))));
    kept.iter().any(Option::is_some).then(|| Box::new(kept))
}

fn revision(status: &Status<'_>, interner: &Interner) -> Option<Str> {
    let present = |text: &Option<Text<'_>>| {
        text.as_ref()
            .filter(|text| !text.as_str().is_empty())
            .map(|text| interner.intern(clip(text.as_str(), TEXT_BYTES)))
    };
    let chart = || {
        let newest = status.history.as_ref()?.0.first()?;
        let (name, version) = (newest.chart_name.as_ref()?, newest.chart_version.as_ref()?);
        Some(interner.intern(clip(&format!("{}@{}", name.as_str(), version.as_str()), TEXT_BYTES)))
    };
    let image = || {
        let latest = status.latest_ref.as_ref()?;
        let (name, tag) = (latest.name.as_ref()?, latest.tag.as_ref()?);
        Some(interner.intern(clip(&format!("{}:{}", name.as_str(), tag.as_str()), TEXT_BYTES)))
    };
    // A HelmRelease of an older version has both fields; the Helm snapshot is more recent.
    chart()
        .or_else(|| present(&status.last_applied_revision))
        .or_else(|| status.artifact.as_ref().and_then(|artifact| present(&artifact.revision)))
        .or_else(image)
        .or_else(|| present(&status.latest_image))
        .or_else(|| status.last_scan_result.as_ref().and_then(|scan| present(&scan.revision)))
        .or_else(|| present(&status.last_push_commit))
}

/// The inventory in the status.
fn applied(status: &Status<'_>) -> Option<Box<Applied>> {
    let inventory = status.inventory.as_ref()?;
    let applied = Applied::pack(inventory.ids.iter().map(Text::as_str), inventory.omitted);
    (applied != Applied::default()).then(|| Box::new(applied))
}

/// The object whose references are resolved.
struct Own<'a> {
    catalogue: &'a Catalogue,
    id: KindId,
    namespace: &'a str,
    interner: &'a Interner,
}

impl Own<'_> {
    fn key(&self, name: &str) -> crate::ObjectKey {
        self.interner.key(self.id, self.namespace, name)
    }

    /// The source of the object: if it has several, the one that its controller names in `message`, else the first. A
    /// repository that a GitRepository includes is its source only if `message` names it.
    fn source(&self, spec: &Spec<'_>, message: &str) -> Option<Reference> {
        let chart = || spec.chart.as_ref().and_then(Chart::source);
        let is_named = |source: &&Ref<'_>| {
            let kind = source.kind.as_ref().map_or("", Text::as_str);
            let namespace = source.namespace.as_ref().map_or(self.namespace, Text::as_str);
            messages::names(message, kind, namespace, source.name.as_str())
        };
        let generator = || {
            let sources = spec.sources.as_deref()?;
            sources.iter().find(is_named).or(sources.first())
        };
        if let Some(image) = &spec.image_repository_ref {
            return Some(self.reference(image, "image.toolkit.fluxcd.io", "ImageRepository"));
        }
        let included = || {
            let all = spec.include.as_deref().unwrap_or_default().iter();
            all.filter_map(|include| include.repository.as_ref())
                .find(|repository| messages::names_include(message, repository.name.as_str()))
        };
        let provider = || {
            let all = spec.inputs_from.as_deref().unwrap_or_default().iter();
            all.filter_map(|input| input.name.as_ref())
                .find(|name| messages::names_provider(message, self.namespace, name.as_str()))
        };
        if let Some(name) = provider() {
            let provider = Ref { api_version: None, kind: None, name: name.clone(), namespace: None };
            let group = "fluxcd.controlplane.io";
            return Some(self.reference(&provider, group, "ResourceSetInputProvider"));
        }
        if let Some(repository) = included() {
            return Some(self.reference(repository, "source.toolkit.fluxcd.io", "GitRepository"));
        }
        let source =
            spec.source_ref.as_ref().or(spec.chart_ref.as_ref()).or_else(chart).or_else(generator)?;
        let group = match source.kind.as_ref().map(Text::as_str) {
            Some("ArtifactGenerator") => "source.extensions.fluxcd.io",
            _ => "source.toolkit.fluxcd.io",
        };
        Some(self.reference(source, group, ""))
    }

    /// The HelmChart that a HelmRelease created for itself, or the artifacts that an ArtifactGenerator produces; what could
    /// not be deleted, and what was waited for in vain.
    fn links(
        &self,
        kind: &str,
        spec: &Spec<'_>,
        status: &Status<'_>,
        verdict: &Verdict,
    ) -> Option<Box<FluxLinks>> {
        let known = |group: &str, kind: &str, namespace: &str, name: &str| {
            let kind = self.catalogue.find(group, kind)?;
            Some(self.interner.key(kind, clip(namespace, NAME_BYTES), clip(name, NAME_BYTES)))
        };
        let group = "source.toolkit.fluxcd.io";
        let target = || {
            let config = spec.kube_config.as_ref()?;
            let secret = config.secret_ref.as_ref().map(|secret| ("Secret", secret));
            let (kind, target) = secret.or_else(|| Some(("ConfigMap", config.config_map_ref.as_ref()?)))?;
            Some((kind, self.interner.intern(clip(target.name.as_ref()?.as_str(), NAME_BYTES))))
        };
        let links = match kind {
            "Kustomization" => FluxLinks { target: target(), ..FluxLinks::default() },
            "HelmRelease" => {
                let chart = status.helm_chart.as_ref().and_then(|chart| chart.as_str().split_once('/'));
                let chart = chart.and_then(|(namespace, name)| known(group, "HelmChart", namespace, name));
                FluxLinks { chart, target: target(), ..FluxLinks::default() }
            }
            "ArtifactGenerator" => {
                let artifacts =
                    spec.artifacts.as_deref().unwrap_or_default().iter().take(FluxDetail::DEPENDENCIES);
                let made = artifacts.filter_map(|artifact| {
                    known(group, "ExternalArtifact", self.namespace, artifact.name.as_ref()?.as_str())
                });
                FluxLinks { makes: made.collect(), ..FluxLinks::default() }
            }
            _ => FluxLinks::default(),
        };
        let awaited = if verdict.outcome().is_failure() {
            awaited::awaited(self.catalogue, self.interner, self.namespace, &verdict.message)
        } else {
            Box::default()
        };
        let links = FluxLinks { unpruned: pruning::unpruned(status, self.interner), awaited, ..links };
        (links != FluxLinks::default()).then(|| Box::new(links))
    }

    fn dependencies(&self, depends_on: &[Ref<'_>]) -> Box<[Reference]> {
        let kind = self.catalogue.kind(self.id);
        depends_on.iter().map(|to| self.reference(to, &kind.group, &kind.kind)).collect()
    }

    /// Resolves a reference; `group` and `kind` are the defaults for the parts that it omits.
    fn reference(&self, to: &Ref<'_>, group: &str, kind: &str) -> Reference {
        let api_version = to.api_version.as_ref().map(Text::as_str).filter(|version| !version.is_empty());
        let group = match api_version {
            Some(version) => version.split_once('/').map_or("", |(group, _)| group),
            None => group,
        };
        let kind = to.kind.as_ref().map_or(kind, |kind| kind.as_str());
        // A text longer than a name can be names no object, and neither does its prefix.
        let cut = |text: &str| self.interner.intern(clip(text, NAME_BYTES));
        let name = to.name.as_str();
        let given = to.namespace.as_ref().map(Text::as_str).filter(|namespace| !namespace.is_empty());
        match self.catalogue.find(group, kind) {
            Some(id) => {
                let namespaced = self.catalogue.kind(id).namespaced;
                let namespace = if namespaced { given.unwrap_or(self.namespace) } else { "" };
                let key = self.interner.key(id, clip(namespace, NAME_BYTES), clip(name, NAME_BYTES));
                Reference::Known(key)
            }
            None => Reference::Foreign(Box::new(ForeignName {
                api_version: cut(api_version.unwrap_or_default()),
                kind: cut(kind),
                // Whether the kind is cluster-scoped is unknown, so the namespace is used as written.
                namespace: cut(given.unwrap_or_default()),
                name: cut(name),
            })),
        }
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
