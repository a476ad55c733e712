//! Argo CD's Applications: what is kept of one beyond its verdict, and how they are counted.

use crate::{Detail, Links, ObjectKey, Record, Seconds, Str, Tally};

/// What is kept of an Application beyond its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Application {
    /// Links to other objects, on which its verdict may depend.
    pub links: Option<Box<Links>>,
    /// `spec.project`.
    pub project: Str,
    /// The AppProject of that name in its own namespace. It exists where Argo CD runs, and nowhere else.
    pub project_object: Option<ObjectKey>,
    /// `status.sync.status`, as Argo CD writes it; empty before the first comparison.
    pub sync: Str,
    /// `status.health.status`, as Argo CD writes it; empty before the first comparison.
    pub health: Str,
    /// `status.sync.revision`, or the first [`Application::SOURCES`] of `status.sync.revisions`, with commas between.
    pub revision: Option<Str>,
    /// The name or the URL of the cluster that it applies to, and the namespace there.
    pub destination: [Option<Str>; 2],
    /// The last operation: its phase, and when it ended or else began.
    pub operation: Option<(Str, Option<Seconds>)>,
    /// The most important of its conditions: type and message.
    pub condition: Option<Box<(Str, Str)>>,
    /// The first of its resources that explains why it is not well.
    pub culprit: Option<Box<Culprit>>,
    /// How many of its resources differ from their source.
    pub drifted: u32,
    /// What its history and its last operation tell of revisions.
    pub synced: Option<Box<SyncedRevisions>>,
}

/// Which revisions were synced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncedRevisions {
    /// The last entry of `status.history`, to which only syncs that succeeded are added: revision and `deployedAt`.
    pub good: Option<(Str, Option<Seconds>)>,
    /// What the last operation could not sync, and when it ended, or else began.
    pub failed: Option<(Str, Option<Seconds>)>,
}

/// A resource of an Application that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// Its kind.
    pub kind: Str,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: Str,
    /// Its name.
    pub name: Str,
    /// The word that says what is wrong, such as Degraded or SyncFailed.
    pub reason: Str,
    /// Its message; may be empty.
    pub message: Str,
    /// The object, if its own state says more: it has failed by itself, in Argo CD's own cluster.
    pub object: Option<ObjectKey>,
}

impl Application {
    /// How many revisions of an Application with several sources are kept.
    pub const SOURCES: usize = 8;

    /// Whether it differs from its source.
    pub fn has_drifted(&self) -> bool {
        &*self.sync == "OutOfSync"
    }

    /// The object that it has failed because of, if that is observed.
    pub(crate) fn culprit_here(&self) -> Option<&ObjectKey> {
        self.culprit.as_ref()?.object.as_ref()
    }

    pub(crate) fn size(&self) -> usize {
        let boxed = |is_there: bool, bytes: usize| if is_there { bytes } else { 0 };
        size_of::<Self>()
            + self.links.as_ref().map_or(0, |links| links.size())
            + boxed(self.condition.is_some(), size_of::<(Str, Str)>())
            + boxed(self.culprit.is_some(), size_of::<Culprit>())
            + boxed(self.synced.is_some(), size_of::<SyncedRevisions>())
    }
}

/// Whether an Application equals its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgoSync {
    /// It does.
    Synced,
    /// It does not.
    OutOfSync,
    /// It could not be compared, or is not compared yet.
    Unknown,
}

/// The health of an Application's resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgoHealth {
    /// All are healthy.
    Healthy,
    /// Some are not healthy yet.
    Progressing,
    /// Some have failed.
    Degraded,
    /// Some are suspended.
    Suspended,
    /// Some do not exist.
    Missing,
    /// Not known, or not known yet.
    Unknown,
}

impl ArgoSync {
    fn of(word: &str) -> Self {
        match word {
            "Synced" => Self::Synced,
            "OutOfSync" => Self::OutOfSync,
            _ => Self::Unknown,
        }
    }
}

impl ArgoHealth {
    fn of(word: &str) -> Self {
        match word {
            "Healthy" => Self::Healthy,
            "Progressing" => Self::Progressing,
            "Degraded" => Self::Degraded,
            "Suspended" => Self::Suspended,
            "Missing" => Self::Missing,
            _ => Self::Unknown,
        }
    }
}

/// The Applications of a namespace.
#[derive(Debug, Default)]
pub struct ArgoTally {
    /// All of them, in their current states.
    pub objects: Tally,
    sync: [u32; 3],
    health: [u32; 6],
    drifted: u32,
}

impl ArgoTally {
    /// How many have this sync status.
    pub fn in_sync(&self, sync: ArgoSync) -> u32 {
        self.sync[sync as usize]
    }

    /// How many have this health.
    pub fn in_health(&self, health: ArgoHealth) -> u32 {
        self.health[health as usize]
    }

    /// How many differ from their source and have not failed.
    pub fn drifted(&self) -> u32 {
        self.drifted
    }

    pub(crate) fn add(&mut self, record: &Record) {
        self.objects.add(record, record.verdict.state);
        self.count(record, |number| *number += 1);
    }

    /// Removes a record, which must be the same as when it was added.
    pub(crate) fn remove(&mut self, record: &Record) {
        self.objects.remove(record, record.verdict.state);
        self.count(record, |number| *number -= 1);
    }

    fn count(&mut self, record: &Record, change: impl Fn(&mut u32)) {
        let application = record.application();
        let word = |of: fn(&Application) -> &Str| application.map_or("", |application| of(application));
        change(&mut self.sync[ArgoSync::of(word(|application| &application.sync)) as usize]);
        change(&mut self.health[ArgoHealth::of(word(|application| &application.health)) as usize]);
        if application.is_some_and(Application::has_drifted) && !record.verdict.outcome().is_failure() {
            change(&mut self.drifted);
        }
    }
}

impl Record {
    /// The fields of an Application.
    pub fn application(&self) -> Option<&Application> {
        match &self.detail {
            Detail::Application(application) => Some(application),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
