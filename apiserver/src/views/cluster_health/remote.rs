//! What the row of a cluster says about the way to it: whether it is registered, answers, and takes the credential.

use gatehouse_apiservice::{Condition, ConditionStatus, Time};
use gatehouse_inventory::{Cluster, Registration, Validity};

/// When a silent cluster last answered. The time is not told while it answers, since it would change all the time.
pub(super) fn last_heard(cluster: &Cluster) -> Option<Time> {
    let contact = cluster.contact();
    let is_registered = cluster.registration().is_some();
    contact.last_heard.filter(|_| is_registered && contact.silent.is_some()).map(Time)
}

/// The condition `Reachable`: whether the cluster answers, even if only to refuse the credential.
pub(super) fn reachable(cluster: &Cluster) -> Condition {
    let contact = cluster.contact();
    let silent = contact.silent.as_deref().filter(|_| !contact.unauthenticated);
    let (status, reason) = match silent {
        Some(_) => (ConditionStatus::False, "Silent"),
        None if is_unasked(cluster) => (ConditionStatus::Unknown, "NotAsked"),
        None => (ConditionStatus::True, "Answers"),
    };
    Condition {
        kind: "Reachable".into(),
        status,
        last_transition_time: Time(contact.since),
        reason: reason.into(),
        message: silent.unwrap_or_default().into(),
    }
}

/// The condition `Registered`: whether the cluster is observed, or why it is refused.
pub(super) fn registered(cluster: &Cluster, registration: &Registration) -> Condition {
    let refused = registration.refused.as_ref();
    Condition {
        kind: "Registered".into(),
        status: ConditionStatus::from(refused.is_none()),
        last_transition_time: Time(cluster.registered_since()),
        reason: refused.map_or("Accepted", |refusal| &refusal.reason).to_owned().into(),
        message: refused.map(|refusal| refusal.message.to_string()).unwrap_or_default(),
    }
}

/// The condition `Authenticated`: whether the cluster takes the credential.
pub(super) fn authenticated(cluster: &Cluster) -> Condition {
    let contact = cluster.contact();
    let expires = cluster.registration().and_then(|registration| registration.expires).map(Time);
    let (status, reason, message) = match (&contact.silent, cluster.validity(), expires) {
        (Some(message), Validity::Ended, Some(at)) if contact.unauthenticated => {
            (ConditionStatus::False, "CredentialExpired", format!("it expired at {at}: {message}"))
        }
        (Some(message), ..) if contact.unauthenticated => {
            (ConditionStatus::False, "CredentialRefused", message.to_string())
        }
        (Some(_), ..) => (ConditionStatus::Unknown, "Silent", String::new()),
        (None, ..) if is_unasked(cluster) => (ConditionStatus::Unknown, "NotAsked", String::new()),
        (None, Validity::Ending | Validity::Ended, Some(at)) => {
            (ConditionStatus::True, "CredentialExpiresSoon", format!("it expires at {at}"))
        }
        (None, ..) => (ConditionStatus::True, "CredentialAccepted", String::new()),
    };
    Condition {
        kind: "Authenticated".into(),
        status,
        last_transition_time: Time(contact.since),
        reason: reason.into(),
        message,
    }
}

/// Whether a remote cluster has not been asked yet, or is not to be.
fn is_unasked(cluster: &Cluster) -> bool {
    cluster
        .registration()
        .is_some_and(|registration| registration.refused.is_some() || cluster.contact().last_heard.is_none())
}
