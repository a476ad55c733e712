//! Writes a TenantQuota's status: on the lease holder, upon change, at most once in a while.
//!
//! **Invariant:** it never writes `denied`, `lastDenial` and `lastDenials`: every replica adds to them
//! ([`super::denials`]), and a merge patch keeps fields that it does not name.

use std::{collections::BTreeMap, time::Duration};

use gatehouse_apiservice::{
    client::explain,
    policy::{Enforcement, FieldError, TenantQuota, TenantQuotaStatus},
    quantity::Quantity,
};
use gatehouse_quota::{Amounts, CompiledQuota, Dimension, GroupResource, Ledger};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use super::by_namespace::{self, map_patch};
use super::settle::Settler;
use crate::condition::{Proposed, shortened};
use crate::controllers::Interception;
use crate::world::{Broken, KindState, Snapshot};

/// The least time between two writes of a status, which under load changes with every settling.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same grows by [`INTERVAL`] for each so many namespaces, whose usage makes the status large.
const NAMESPACES: u32 = 100;

/// Writes the status of one quota.
pub(super) struct Reporter {
    client: Client,
    /// At most one write in progress.
    write: JoinSet<()>,
    /// The status that was last sent, with its generation; until it is observed, the observed status is older.
    sent: Option<TenantQuotaStatus>,
    at: Option<Instant>,
    /// Whether a write was postponed because it came too soon.
    is_owed: bool,
    interval: Duration,
}

impl Reporter {
    pub(super) fn new(client: Client) -> Self {
        Self { client, write: JoinSet::new(), sent: None, at: None, is_owed: false, interval: INTERVAL }
    }

    /// When to report again at the latest.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        // The sent status may take a while to be observed.
        self.is_owed.then(|| self.at.map_or(now, |at| at + self.interval).max(now + INTERVAL / 4))
    }

    /// Writes the status of a quota if it has changed: its ledger, and what replicas have admitted that is not counted
    /// yet.
    pub(super) fn report(
        &mut self,
        world: &Snapshot,
        quota: &CompiledQuota,
        ledger: Option<(&Ledger, Amounts)>,
        settler: &mut Settler,
        interception: &Interception,
    ) {
        while self.write.try_join_next().is_some() {}
        let now = Instant::now();
        if !self.write.is_empty() || self.at.is_some_and(|at| now < at + self.interval) {
            // Whether anything has changed is determined when a write is allowed.
            self.is_owed = true;
            return;
        }
        let Some(object) = world.tenant_quotas.get(&*quota.name) else { return };
        if object.metadata.uid.as_deref() != Some(&*quota.uid) {
            return;
        }
        let is_counted = ledger.is_some();
        let obstacle = obstacle(world, quota, is_counted, settler.behind())
            .or_else(|| not_sent(world, quota, interception));
        let known = object.status.as_ref();
        let namespaces = settler.namespaces(world, quota);
        self.interval = INTERVAL * (1 + u32::try_from(namespaces.len()).unwrap_or(u32::MAX) / NAMESPACES);
        let mut status = status(object, quota, ledger, namespaces.len(), obstacle, Timestamp::now());
        status.by_namespace = if is_counted && world.obstacles(quota).is_empty() {
            by_namespace::usage(world, quota, namespaces, known.map(|known| &known.by_namespace))
        } else {
            known.map(|known| known.by_namespace.clone()).unwrap_or_default()
        };
        self.is_owed = known.is_none_or(|known| !is_same(known, &status));
        if !self.is_owed {
            self.sent = None;
            return;
        }
        if self.sent.as_ref().is_some_and(|sent| is_same(sent, &status))
            && self.at.is_some_and(|at| now < at + 5 * self.interval)
        {
            // It was sent and is not observed yet; or it failed, and is sent again after a while.
            return;
        }
        self.at = Some(now);
        let body = patch(object, &status);
        self.sent = Some(status);
        self.write.spawn(send(self.client.clone(), quota.name.clone(), body));
    }
}

/// Reports that a quota does not compile.
pub(super) async fn report_broken(client: &Client, object: &TenantQuota, broken: &Broken) {
    let status = of_errors(object, &broken.errors, Timestamp::now());
    if object.status.as_ref().is_none_or(|known| !is_same(known, &status)) {
        send(client.clone(), broken.name.to_string(), patch(object, &status)).await;
    }
}

async fn send(client: Client, name: String, body: Value) {
    let api: Api<TenantQuota> = Api::all(client);
    match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&body)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
        Err(error) => {
            tracing::warn!(quota = name, error = %explain(&error), "cannot write the status of a quota");
        }
    }
}

/// Why limits are not fully enforced.
fn obstacle(
    world: &Snapshot,
    quota: &CompiledQuota,
    stands: bool,
    behind: Option<&GroupResource>,
) -> Option<(&'static str, String)> {
    if let Some((resource, why)) = world.obstacles(quota).into_iter().next() {
        return Some(("NotObserved", format!("{resource} {why}")));
    }
    if let Some(resource) = behind {
        let why = world.kinds.get(resource).and_then(KindState::obstacle);
        let why = why.unwrap_or_else(|| "was not seen as far as it had been counted before".to_owned());
        return Some(("NotObserved", format!("{resource} {why}")));
    }
    (!stands).then(|| ("NoLedger", "the ledger does not exist yet".to_owned()))
}

/// Why creations of counted objects are not sent to the webhook.
fn not_sent(
    world: &Snapshot,
    quota: &CompiledQuota,
    interception: &Interception,
) -> Option<(&'static str, String)> {
    // A misspelt resource name limits nothing; nor does one that is not served yet.
    if let Some(resource) = world.not_served(quota).into_iter().next() {
        return Some(("NotServed", format!("{resource} is not served by the cluster")));
    }
    let resource = interception.missing(quota).into_iter().next()?;
    Some(("NotIntercepted", format!("creations of {resource} are not sent to be counted yet")))
}

fn status(
    object: &TenantQuota,
    quota: &CompiledQuota,
    ledger: Option<(&Ledger, Amounts)>,
    namespaces: usize,
    obstacle: Option<(&'static str, String)>,
    now: Timestamp,
) -> TenantQuotaStatus {
    let known = object.status.as_ref();
    let mut overcommit = BTreeMap::new();
    let (mut used, mut reserved) = (BTreeMap::new(), BTreeMap::new());
    if let Some((ledger, admitted)) = ledger {
        for (dimension, quantity) in ledger.used() {
            let limit = quota.hard.get(dimension);
            let over = limit.and_then(|limit| quantity.checked_sub(*limit));
            if let Some(over) = over.filter(|over| *over > Quantity::ZERO) {
                overcommit.insert(dimension.clone(), over);
            }
            used.insert(dimension.clone(), *quantity);
        }
        reserved = admitted.iter().map(|(one, two)| (one.clone(), *two)).collect();
    } else if let Some(known) = known {
        // Keeps the last known values; the condition says that they may be outdated.
        let before = |texts: &BTreeMap<String, String>| {
            let parsed = texts.iter().filter_map(|(one, two)| Some((one.parse().ok()?, two.parse().ok()?)));
            parsed.collect::<BTreeMap<Dimension, Quantity>>()
        };
        (used, reserved, overcommit) =
            (before(&known.used), before(&known.reserved), before(&known.overcommit));
    }
    let ready = if let Some((reason, message)) = obstacle {
        Proposed { of: "Ready", status: "False", reason, message }
    } else {
        let message = match quota.enforcement {
            Enforcement::Deny => "every limit is enforced",
            Enforcement::Warn => "requests that exceed a limit are admitted with a warning",
            Enforcement::Audit => "requests that exceed a limit are admitted, and recorded",
        };
        Proposed { of: "Ready", status: "True", reason: "Enforced", message: message.to_owned() }
    };
    let over = if overcommit.is_empty() {
        let message = "no limit is exceeded".to_owned();
        Proposed { of: "Overcommitted", status: "False", reason: "WithinLimits", message }
    } else {
        let list: Vec<_> = overcommit.keys().map(ToString::to_string).collect();
        let message = format!("more is used than is allowed of {}", list.join(", "));
        Proposed { of: "Overcommitted", status: "True", reason: "LimitExceeded", message }
    };
    TenantQuotaStatus {
        observed_generation: Some(quota.generation),
        hard: texts(&quota.hard),
        used: texts(&used),
        reserved: texts(&reserved),
        overcommit: texts(&overcommit),
        namespaces: i64::try_from(namespaces).unwrap_or(i64::MAX),
        conditions: [ready, over]
            .map(|one| one.since(known_conditions(object), quota.generation, now))
            .into(),
        denied: known.map_or(0, |known| known.denied),
        last_denial: known.and_then(|known| known.last_denial.clone()),
        by_namespace: BTreeMap::new(),
    }
}

fn of_errors(object: &TenantQuota, errors: &[FieldError], now: Timestamp) -> TenantQuotaStatus {
    let generation = object.metadata.generation.unwrap_or_default();
    let message = shortened(&errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    let ready = Proposed { of: "Ready", status: "False", reason: "Invalid", message };
    TenantQuotaStatus {
        observed_generation: Some(generation),
        conditions: vec![ready.since(known_conditions(object), generation, now)],
        denied: object.status.as_ref().map_or(0, |known| known.denied),
        last_denial: object.status.as_ref().and_then(|known| known.last_denial.clone()),
        ..TenantQuotaStatus::default()
    }
}

fn texts(quantities: &BTreeMap<Dimension, Quantity>) -> BTreeMap<String, String> {
    quantities
        .iter()
        .map(|(dimension, quantity)| (dimension.to_string(), dimension.text(*quantity)))
        .collect()
}

/// Whether both agree in the fields that this module writes.
fn is_same(one: &TenantQuotaStatus, other: &TenantQuotaStatus) -> bool {
    let own = |status: &TenantQuotaStatus| TenantQuotaStatus {
        denied: 0,
        last_denial: None,
        by_namespace: BTreeMap::new(),
        ..status.clone()
    };
    by_namespace::is_same_usage(&one.by_namespace, &other.by_namespace) && own(one) == own(other)
}

/// A merge patch that sets the status, except for denials. It names the uid, so that it never changes another quota
/// of the same name.
fn patch(object: &TenantQuota, status: &TenantQuotaStatus) -> Value {
    let before = object.status.clone().unwrap_or_default();
    json!({
        "metadata": {"uid": object.metadata.uid},
        "status": {
            "observedGeneration": status.observed_generation,
            "hard": map_patch(&before.hard, &status.hard),
            "used": map_patch(&before.used, &status.used),
            "reserved": map_patch(&before.reserved, &status.reserved),
            "overcommit": map_patch(&before.overcommit, &status.overcommit),
            "namespaces": status.namespaces,
            "byNamespace": by_namespace::usage_patch(&before.by_namespace, &status.by_namespace),
            "conditions": status.conditions,
        },
    })
}

fn known_conditions(object: &TenantQuota) -> impl Iterator<Item = &Condition> {
    object.status.iter().flat_map(|status| &status.conditions)
}
