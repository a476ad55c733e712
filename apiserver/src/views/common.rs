//! Parts of a status that several views have in common.

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    denial::Denier,
    view::{BlockedBy, BlockedReason, Failure, KindCount, ObjectReference, StateCounts},
};
use gatehouse_inventory::{
    AppliedEntry, Cluster, Counts, Cycle, Detail, HistoryEntry, KindStatus, Named, ObjectKey, Record,
    Reference, Root, RootCause, State, Str,
    catalogue::{Catalogue, Kind, KindId},
};

/// The most objects that a path in a status names.
const MAX_PATH: usize = 16;

pub(super) fn reference(catalogue: &Catalogue, key: &ObjectKey) -> ObjectReference {
    ObjectReference {
        kind: catalogue.kind(key.kind).kind.clone(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}

pub(super) fn any_reference(catalogue: &Catalogue, reference: &Reference) -> ObjectReference {
    match reference {
        Reference::Known(key) => self::reference(catalogue, key),
        Reference::Foreign(foreign) => ObjectReference {
            kind: foreign.kind.to_string(),
            namespace: foreign.namespace.to_string(),
            name: foreign.name.to_string(),
        },
    }
}

/// An object that a message names.
pub(crate) fn named(Named { kind, namespace, name }: &Named) -> ObjectReference {
    ObjectReference { kind: kind.to_string(), namespace: namespace.to_string(), name: name.to_string() }
}

/// A quota or a policy, which are cluster-scoped.
pub(super) fn denied_by(denier: &Denier<Str>) -> ObjectReference {
    ObjectReference {
        kind: denier.kind.as_str().to_owned(),
        namespace: String::new(),
        name: denier.name.to_string(),
    }
}

pub(super) fn path<'a>(
    catalogue: &Catalogue,
    keys: impl IntoIterator<Item = &'a ObjectKey>,
) -> Vec<ObjectReference> {
    keys.into_iter().take(MAX_PATH).map(|key| reference(catalogue, key)).collect()
}

/// The root cause that blocks `record`, if it is blocked by another object.
pub(super) fn blocked_by(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> Option<BlockedBy> {
    let RootCause { root, path: passed } = cluster.root_cause(record)?;
    let of = |reason, record: &Record| BlockedBy {
        reason,
        object: reference(catalogue, &record.key),
        state: Some(record.verdict.state.as_str().into()),
        message: record.verdict.message.to_string(),
        path: path(catalogue, passed.iter().copied()),
    };
    let named = |reason, object, message: &str| BlockedBy {
        reason,
        object,
        state: None,
        message: message.into(),
        path: path(catalogue, passed.iter().copied()),
    };
    Some(match root {
        Root::Dependency(failed) if failed.verdict.state.is_failure() => {
            of(BlockedReason::DependencyFailed, failed)
        }
        Root::Dependency(waiting) => of(BlockedReason::DependencyNotReady, waiting),
        Root::NotEnough { dependency, waiting } => BlockedBy {
            message: waiting.verdict.message.to_string(),
            ..of(BlockedReason::DependencyNotReady, dependency)
        },
        Root::Source(source) if source.verdict.outcome().is_failure() => {
            of(BlockedReason::SourceFailed, source)
        }
        Root::Source(source) => of(BlockedReason::SourceNotReady, source),
        Root::MissingSource(key) => {
            named(BlockedReason::SourceMissing, reference(catalogue, key), "no such object")
        }
        Root::Missing(key) => {
            named(BlockedReason::DependencyMissing, reference(catalogue, key), "no such object")
        }
        Root::Unseen(unseen) => named(
            BlockedReason::DependencyNotReady,
            any_reference(catalogue, unseen),
            "objects of this kind cannot be seen",
        ),
        Root::Cycle(key) => BlockedBy {
            path: cycle(catalogue, cluster, key).0,
            ..named(
                BlockedReason::DependencyCycle,
                reference(catalogue, key),
                "the dependencies form a cycle",
            )
        },
    })
}

/// The members of the cycle through `key`, and how many more there are. Empty without a cycle.
pub(super) fn cycle(
    catalogue: &Catalogue,
    cluster: &Cluster,
    key: &ObjectKey,
) -> (Vec<ObjectReference>, u32) {
    let Cycle { path, omitted } = cluster.cycle(key).unwrap_or_default();
    (self::path(catalogue, path), omitted)
}

pub(super) fn failure(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> Failure {
    let verdict = &record.verdict;
    Failure {
        object: reference(catalogue, &record.key),
        // An object that is being retried after a failure still counts as a failure of its layer until the
        // retry ends.
        state: verdict.outcome().as_str().into(),
        reason: verdict.reason.to_string(),
        message: verdict.message.to_string(),
        since: verdict.outcome_since().map(Time),
        blocked_by: blocked_by(catalogue, cluster, record),
    }
}

/// The failures of `keys`, at most `limit`, and how many were omitted.
pub(super) fn worst_failures<'a>(
    catalogue: &Catalogue,
    cluster: &Cluster,
    keys: impl ExactSizeIterator<Item = &'a ObjectKey>,
    limit: usize,
) -> (Vec<Failure>, u32) {
    let omitted = keys.len().saturating_sub(limit);
    let records = keys.take(limit).filter_map(|key| cluster.record(key));
    let failures = records.map(|record| failure(catalogue, cluster, record)).collect();
    (failures, u32::try_from(omitted).unwrap_or(u32::MAX))
}

pub(super) fn kind_count(kind: &Kind, counts: &Counts) -> KindCount {
    KindCount { kind: kind.kind.clone(), group: kind.group.clone(), counts: state_counts(counts) }
}

/// The API does not distinguish failed objects by whether they are retried.
pub(super) fn state_counts(counts: &Counts) -> StateCounts {
    StateCounts {
        total: counts.total(),
        ready: counts.of(State::Ready),
        failed: counts.of(State::Failed) + counts.of(State::Failing),
        stalled: counts.of(State::Stalled),
        blocked: counts.of(State::Blocked),
        progressing: counts.of(State::Progressing),
        suspended: counts.of(State::Suspended),
        pending: counts.of(State::Pending),
        terminating: counts.of(State::Terminating),
        unknown: counts.of(State::Unknown),
    }
}

/// Why the objects of a kind are unknown or may be stale, as reason and message; `None` if they are known.
pub(super) fn unreadable_reason(cluster: &Cluster, kind: KindId) -> Option<(&'static str, &str)> {
    match cluster.kind_status(kind) {
        Some(KindStatus::Forbidden { message }) => Some(("Forbidden", message)),
        Some(KindStatus::Failing { message }) => Some(("Failing", message)),
        None => Some(("Pending", "not listed yet")),
        Some(KindStatus::Served { .. }) if !cluster.is_settled(kind) => Some(("Pending", "being listed")),
        Some(KindStatus::Absent | KindStatus::Served { .. }) => None,
    }
}

/// Why the objects of a kind are not known, as reason and message; `None` if they are, however stale.
pub(super) fn unknown_reason(cluster: &Cluster, kind: KindId) -> Option<(&'static str, &str)> {
    unreadable_reason(cluster, kind).filter(|(reason, _)| *reason == "Forbidden" || !cluster.is_settled(kind))
}

/// The condition `Fresh`: whether the cluster, and the watches of these kinds, were heard from recently.
pub(super) fn fresh(cluster: &Cluster, kinds: impl IntoIterator<Item = KindId>) -> Condition {
    let (fresh, since) = cluster.freshness_of(kinds);
    let (reason, message) = match (fresh, cluster.freshness().0) {
        (true, _) => ("Observed", ""),
        (false, true) => ("WatchFailing", "a watch fails; rows may be stale"),
        (false, false) => ("ClusterSilent", cluster.contact().silent.as_deref().unwrap_or_default()),
    };
    Condition {
        kind: "Fresh".into(),
        status: ConditionStatus::from(fresh),
        last_transition_time: Time(since),
        reason: reason.into(),
        message: message.into(),
    }
}

/// The condition `Ready` of an object. While a controller reconciles again, the outcome of its last attempt holds, so that
/// the condition does not flap.
pub(super) fn ready(record: &Record) -> Condition {
    let verdict = &record.verdict;
    let outcome = match verdict.state {
        State::Progressing | State::Suspended => verdict.last_outcome.unwrap_or(verdict.state),
        state => state,
    };
    let status = match outcome {
        State::Ready => ConditionStatus::True,
        state if state.is_failure() => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    Condition {
        kind: "Ready".into(),
        status,
        last_transition_time: Time(verdict.outcome_since().unwrap_or(record.created)),
        reason: verdict.state.as_str().into(),
        message: String::new(),
    }
}

/// The entry of its history since which an object fails, if it does.
pub(super) fn first_failure(record: &Record) -> Option<&HistoryEntry> {
    let history = &record.flux().filter(|_| record.verdict.outcome().is_failure())?.history;
    history.entries().get(history.first_failure()?)
}

/// The most objects that the condition `ManagedTwice` names.
const TWICE: usize = 4;

/// The condition `ManagedTwice`, if another object of Flux or Argo CD applies some of the same objects: they undo each other's changes.
pub(super) fn managed_twice(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> Option<Condition> {
    let twice = cluster.managed_twice(record, TWICE + 1);
    let named = twice.iter().take(TWICE).map(|(AppliedEntry { namespace, kind, name, .. }, other)| {
        let entry = ObjectReference { kind: kind.clone(), namespace: namespace.clone(), name: name.clone() };
        format!("{entry} is applied by {} as well", reference(catalogue, other))
    });
    let mut named: Vec<_> = named.collect();
    if twice.len() > TWICE {
        named.push("and others".to_owned());
    }
    (!named.is_empty()).then(|| Condition {
        kind: "ManagedTwice".into(),
        status: ConditionStatus::True,
        last_transition_time: Time(record.verdict.since.unwrap_or(record.created)),
        reason: "ManagedTwice".into(),
        message: named.join(", "),
    })
}

/// The tenant of a Namespace.
pub(super) fn tenant(namespace: Option<&Record>) -> Option<Str> {
    match &namespace?.detail {
        Detail::Namespace { tenant } => tenant.clone(),
        _ => None,
    }
}
