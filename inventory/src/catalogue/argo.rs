//! Reads the fields of Argo CD's Applications that views show.

use kube_cel::cel::Value;

use super::{clip, matching, object::Object};
use crate::{Application, Culprit, Interner, Seconds, Str, Verdict};

/// The longest state, phase and condition type that are kept.
const WORD_BYTES: usize = 64;
/// The longest name of a project, a cluster or a namespace, and the longest revision.
const NAME_BYTES: usize = 253;

/// Conditions with an error, the causes before what follows from them. Other errors follow, and then warnings.
const ERRORS: [&str; 5] =
    ["InvalidSpecError", "ComparisonError", "UnknownError", "SyncError", "DeletionError"];

/// What is kept of an Application; the error names a field that has the wrong type.
pub(super) fn application(object: &Value, interner: &Interner) -> Result<Application, String> {
    Reader { object: Object(object), interner }.application()
}

struct Reader<'a> {
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
            // An Application without a project is one of `default`.
            project: self.name(&["spec", "project"])?.unwrap_or_else(|| self.interner.intern("default")),
            sync: self.word(&["status", "sync", "status"])?,
            health: self.word(&["status", "health", "status"])?,
            revision: self.revision()?,
            destination: [cluster, self.name(&["spec", "destination", "namespace"])?],
            operation: self.operation()?,
            condition: self.condition()?.map(Box::new),
            culprit: self.culprit()?.map(Box::new),
            drifted: self.drifted()?,
        })
    }

    fn word(&self, path: &[&str]) -> Result<Str, String> {
        Ok(self.interner.intern(clip(self.object.text(path)?, WORD_BYTES)))
    }

    fn name(&self, path: &[&str]) -> Result<Option<Str>, String> {
        let text = self.object.text(path)?;
        Ok((!text.is_empty()).then(|| self.interner.intern(clip(text, NAME_BYTES))))
    }

    fn revision(&self) -> Result<Option<Str>, String> {
        if let Some(one) = self.name(&["status", "sync", "revision"])? {
            return Ok(Some(one));
        }
        let several = self.object.list(&["status", "sync", "revisions"])?.take(Application::SOURCES);
        let several = several.map(|revision| {
            let text = revision.text(&[]).map_err(|error| format!("status.sync.revisions[]{error}"))?;
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

    fn instant(&self, path: &[&str]) -> Result<Option<Seconds>, String> {
        let text = self.object.text(path)?;
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || format!("{}: expected an RFC 3339 timestamp, got {text:?}", path.join("."));
        matching::seconds(text).map(Some).ok_or_else(wrong)
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
        let phase = self.object.text(&["status", "operationState", "phase"])?;
        let retried = self.object.number(&["status", "operationState", "retryCount"])?.unwrap_or(0) > 0;
        if matches!(phase, "Failed" | "Error") || retried {
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
        Ok(Culprit {
            kind: text("kind")?,
            namespace: text("namespace")?,
            name: text("name")?,
            reason: self.short(reason),
            message: self.message(message),
        })
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
