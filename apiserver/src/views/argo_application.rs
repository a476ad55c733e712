//! `argoapplications`: a row for each Application of Argo CD.

use gatehouse_apiservice::{
    Condition, ConditionStatus, Time,
    view::{
        ArgoApplicationStatus, ArgoCause, ArgoCondition, ArgoDestination, ArgoOperation, ObjectReference,
    },
};
use gatehouse_inventory::{
    Application, Cluster, Culprit, Delta, Inventory, Record, Seconds, Step, Str,
    catalogue::{Catalogue, Kind},
};

use super::{Projected, Projection, common, objects};

#[derive(Debug, Default)]
pub(super) struct ArgoApplications;

impl Projection for ArgoApplications {
    type Status = ArgoApplicationStatus;

    fn needs(kind: &Kind) -> bool {
        // The project of an Application may say why it is not synced.
        kind.is_application() || kind.is_argo_project() || kind.is_namespace()
    }

    fn project<'a>(
        &'a mut self,
        inventory: &'a Inventory,
        delta: &'a Delta,
    ) -> impl Iterator<Item = Projected<ArgoApplicationStatus>> + 'a {
        let name = |kind: &Kind| kind.is_application().then(|| "application".to_owned());
        objects::project(inventory, delta, name, |catalogue, cluster, record| {
            Some(status(catalogue, cluster, record))
        })
    }
}

fn status(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> ArgoApplicationStatus {
    // Nothing is known of one whose fields cannot be read.
    let unread = Application::default();
    let application = record.application().unwrap_or(&unread);
    let verdict = &record.verdict;
    let revisions = application.synced.as_deref();
    let good = revisions.and_then(|revisions| revisions.good.as_ref());
    let failed = revisions.and_then(|revisions| revisions.failed.as_ref());
    let revision = |one: Option<&(Str, Option<Seconds>)>| one.map(|(revision, _)| revision.to_string());
    let since = |one: Option<&(Str, Option<Seconds>)>| one.and_then(|(_, at)| at.map(Time));
    let [destination, namespace] =
        application.destination.each_ref().map(|text| text.as_deref().unwrap_or_default());
    ArgoApplicationStatus {
        cluster: cluster.name.to_string(),
        name: record.key.name.to_string(),
        project: application.project.to_string(),
        state: verdict.state.as_str().into(),
        last_outcome: verdict.last_outcome.map(|state| state.as_str().into()),
        sync: application.sync.to_string(),
        health: application.health.to_string(),
        drifted: application.has_drifted(),
        drifted_resources: application.drifted,
        revision: application.revision.as_deref().map(str::to_owned),
        last_good_revision: revision(good),
        last_good_since: since(good),
        failed_revision: revision(failed),
        failed_since: since(failed),
        destination: ArgoDestination::of(destination, namespace),
        operation: application
            .operation
            .as_ref()
            .map(|(phase, time)| ArgoOperation { phase: phase.to_string(), time: time.map(Time) }),
        condition: application.condition.as_deref().map(|(kind, message): &(Str, Str)| ArgoCondition {
            kind: kind.to_string(),
            message: message.to_string(),
        }),
        cause: application.culprit.as_deref().map(cause).or_else(|| applied(catalogue, cluster, record)),
        reason: verdict.reason.to_string(),
        message: verdict.message.to_string(),
        since: verdict.since.map(Time),
        conditions: [common::ready(record), synced(record, application)]
            .into_iter()
            .chain(common::managed_twice(catalogue, cluster, record))
            .chain([common::fresh(cluster, [record.key.kind])])
            .collect(),
    }
}

fn cause(culprit: &Culprit) -> ArgoCause {
    ArgoCause {
        object: ObjectReference {
            kind: culprit.kind.to_string(),
            namespace: culprit.namespace.to_string(),
            name: culprit.name.to_string(),
        },
        reason: culprit.reason.to_string(),
        message: culprit.message.to_string(),
    }
}

/// Of what it applies to its own cluster, the likeliest cause. Since version 3, Argo CD writes no health of resources.
fn applied(catalogue: &Catalogue, cluster: &Cluster, record: &Record) -> Option<ArgoCause> {
    let Some(Step::To(next)) = cluster.step(record) else { return None };
    Some(ArgoCause {
        object: common::reference(catalogue, &next.key),
        reason: next.verdict.reason.to_string(),
        message: next.verdict.message.to_string(),
    })
}

/// The condition `Synced`. Argo CD does not say since when an Application has drifted.
fn synced(record: &Record, application: &Application) -> Condition {
    let status = match &*application.sync {
        "Synced" => ConditionStatus::True,
        "OutOfSync" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    let reason =
        if application.sync.is_empty() { "NotCompared".into() } else { application.sync.to_string() };
    let since = application.operation.as_ref().and_then(|(_, time)| *time).unwrap_or(record.created);
    Condition {
        kind: "Synced".into(),
        status,
        last_transition_time: Time(since),
        reason: reason.into(),
        message: String::new(),
    }
}
