//! Reads the fields of Argo CD's Applications that views show.

use kube_cel::cel::Value;

use super::{Catalogue, clip, matching, object::Object, resources};
use crate::{Application, Culprit, Interner, ObjectKey, Seconds, Str, SyncedRevisions, Verdict};

/// The longest state, phase and condition type that are kept.
const WORD_BYTES: usize = 64;
/// The longest name of a project, a cluster or a namespace, and the longest revision.
const NAME_BYTES: usize = 253;

/// Conditions with an error, the causes before what follows from them. Other errors follow, and then warnings.
const ERRORS: [&str; 5] =
    ["InvalidSpecError", "ComparisonError", "UnknownError", "SyncError", "DeletionError"];

/// What is kept of an Application; the error names a field that has the wrong type.
pub(super) fn application(
    catalogue: &Catalogue,
    object: &Value,
    interner: &Interner,
) -> Result<Application, String> {
    Reader { catalogue, object: Object(object), interner }.application()
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    object: Object<'a>,
    interner: &'a Interner,
}

impl Reader<'_> {
    fn application(&self) -> Result<Application, String> {
        let cluster = match self.name(&["spec", "destination", "name"])? {
            None => self.name(&["spec", "destination", "server"])?,
            name => name,
        };
        Ok(Application {
            links: None,
            project_object: self.project()?,
            project: self.project_name()?,
            sync: self.word(&["status", "sync", "status"])?,
            health: self.word(&["status", "health", "status"])?,
            revision: self.revision(self.object, &["status", "sync"])?,
            destination: [cluster, self.name(&["spec", "destination", "namespace"])?],
            operation: self.operation()?,
            condition: self.condition()?.map(Box::new),
            culprit: self.culprit()?.map(Box::new),
            drifted: self.drifted()?,
            synced: self.synced()?.map(Box::new),
        })
    }

    /// An Application without a project is one of `default`.
    fn project_name(&self) -> Result<Str, String> {
        Ok(self.name(&["spec", "project"])?.unwrap_or_else(|| self.interner.intern("default")))
    }

    fn project(&self) -> Result<Option<ObjectKey>, String> {
        let namespace = clip(self.object.text(&["metadata", "namespace"])?, NAME_BYTES);
        let kind = self.catalogue.find("argoproj.io", "AppProject").filter(|_| !namespace.is_empty());
        let name = self.project_name()?;
        Ok(kind.map(|kind| self.interner.key(kind, namespace, &name)))
    }

    fn word(&self, path: &[&str]) -> Result<Str, String> {
        Ok(self.interner.intern(clip(self.object.text(path)?, WORD_BYTES)))
    }

    fn name(&self, path: &[&str]) -> Result<Option<Str>, String> {
        self.name_in(self.object, path)
    }

    fn name_in(&self, object: Object<'_>, path: &[&str]) -> Result<Option<Str>, String> {
        let text = object.text(path)?;
        Ok((!text.is_empty()).then(|| self.interner.intern(clip(text, NAME_BYTES))))
    }

    /// The `revision` or the `revisions` at a path.
    fn revision(&self, object: Object<'_>, path: &[&str]) -> Result<Option<Str>, String> {
        if let Some(one) = self.name_in(object, &[path, &["revision"]].concat())? {
            return Ok(Some(one));
        }
        let path = [path, &["revisions"]].concat();
        let several = object.list(&path)?.take(Application::SOURCES);
        let several = several.map(|revision| {
            let text = revision.text(&[]).map_err(|error| format!("{}[]{error}", path.join(".")))?;
            Ok(clip(text, NAME_BYTES))
        });
        let several: Vec<_> = several.collect::<Result<_, String>>()?;
        Ok((!several.is_empty()).then(|| self.interner.intern(&several.join(","))))
    }

    fn operation(&self) -> Result<Option<(Str, Option<Seconds>)>, String> {
        let at = |field: &str| self.instant(&["status", "operationState", field]);
        let phase = self.word(&["status", "operationState", "phase"])?;
        let ended = at("finishedAt")?;
        let time = if ended.is_none() { at("startedAt")? } else { ended };
        Ok((!phase.is_empty()).then_some((phase, time)))
    }

    fn synced(&self) -> Result<Option<SyncedRevisions>, String> {
        // Argo CD appends.
        let last = self.object.list(&["status", "history"])?.last();
        let deployed = |last| match self.revision(last, &[])? {
            Some(revision) => Ok(Some((revision, instant(last, &["deployedAt"])?))),
            None => Ok(None),
        };
        let good = last.map(deployed).transpose();
        let good = good.map_err(|error: String| format!("status.history[].{error}"))?.flatten();
        let failed = match self.operation()? {
            Some((_, at)) if self.has_failed_to_sync()? => {
                let tried = self.revision(self.object, &["status", "operationState", "syncResult"])?;
                let asked = || self.revision(self.object, &["status", "operationState", "operation", "sync"]);
                let revision = if tried.is_none() { asked()? } else { tried };
                revision.map(|revision| (revision, at))
            }
            _ => None,
        };
        let synced = SyncedRevisions { good, failed };
        Ok((synced != SyncedRevisions::default()).then_some(synced))
    }

    /// Whether the last operation has failed, or is repeated since it has.
    fn has_failed_to_sync(&self) -> Result<bool, String> {
        let phase = self.object.text(&["status", "operationState", "phase"])?;
        let retried = self.object.number(&["status", "operationState", "retryCount"])?.unwrap_or(0) > 0;
        Ok(matches!(phase, "Failed" | "Error") || phase == "Running" && retried)
    }

    fn instant(&self, path: &[&str]) -> Result<Option<Seconds>, String> {
        instant(self.object, path)
    }

    /// The condition that explains most; of several of one rank, the first.
    fn condition(&self) -> Result<Option<(Str, Str)>, String> {
        let mut best: Option<(usize, &str, &str)> = None;
        for condition in self.object.list(&["status", "conditions"])? {
            let text = |field| condition.item_text("status.conditions", field);
            let (type_, message) = (text("type")?, text("message")?);
            let known = ERRORS.iter().position(|error| *error == type_);
            let is_error = type_.ends_with("Error");
            let rank = known.unwrap_or(if is_error { ERRORS.len() } else { ERRORS.len() + 1 });
            if !type_.is_empty() && best.is_none_or(|(other, ..)| rank < other) {
                best = Some((rank, type_, message));
            }
        }
        Ok(best.map(|(_, type_, message)| (self.short(type_), self.message(message))))
    }

    /// The resource that explains why the Application is not well: one that could not be synced, or else a degraded one.
    fn culprit(&self) -> Result<Option<Culprit>, String> {
        if self.has_failed_to_sync()? {
            for one in self.object.list(&["status", "operationState", "syncResult", "resources"])? {
                let text = |field| one.item_text("status.operationState.syncResult.resources", field);
                let (status, hook) = (text("status")?, text("hookPhase")?);
                let reason = if matches!(status, "SyncFailed" | "PruneFailed") { status } else { hook };
                // Of a resource that is no hook, the phase is that of its health check.
                if matches!(reason, "SyncFailed" | "PruneFailed" | "Failed" | "Error") {
                    return Ok(Some(self.named(one, reason, text("message")?)?));
                }
            }
        }
        for one in self.object.list(&["status", "resources"])? {
            let health = one.text(&["health", "status"])?;
            if health == "Degraded" {
                return Ok(Some(self.named(one, health, one.text(&["health", "message"])?)?));
            }
        }
        Ok(None)
    }

    fn named(&self, resource: Object<'_>, reason: &str, message: &str) -> Result<Culprit, String> {
        let text = |field| Ok::<_, String>(self.interner.intern(clip(resource.text(&[field])?, NAME_BYTES)));
        // What could not be synced says nothing of that itself.
        let says_more = !matches!(reason, "SyncFailed" | "PruneFailed") && resources::is_here(self.object.0);
        Ok(Culprit {
            object: if says_more { self.key(resource)? } else { None },
            kind: text("kind")?,
            namespace: text("namespace")?,
            name: text("name")?,
            reason: self.short(reason),
            message: self.message(message),
        })
    }

    fn key(&self, resource: Object<'_>) -> Result<Option<ObjectKey>, String> {
        let text = |field| Ok::<_, String>(clip(resource.text(&[field])?, NAME_BYTES));
        let Some(kind) = self.catalogue.find(text("group")?, text("kind")?) else { return Ok(None) };
        let namespace = if self.catalogue.kind(kind).namespaced { text("namespace")? } else { "" };
        Ok(Some(self.interner.key(kind, namespace, text("name")?)))
    }

    fn drifted(&self) -> Result<u32, String> {
        let mut drifted = 0;
        for one in self.object.list(&["status", "resources"])? {
            drifted += u32::from(one.item_text("status.resources", "status")? == "OutOfSync");
        }
        Ok(drifted)
    }

    fn short(&self, text: &str) -> Str {
        self.interner.intern(clip(text, WORD_BYTES))
    }

    fn message(&self, text: &str) -> Str {
        self.interner.intern(clip(text, Verdict::MESSAGE_BYTES))
    }
}

fn instant(object: Object<'_>, path: &[&str]) -> Result<Option<Seconds>, String> {
    let text = object.text(path)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("{}: expected an RFC 3339 timestamp, got {text:?}", path.join("."));
    matching::seconds(text).map(Some).ok_or_else(wrong)
}
