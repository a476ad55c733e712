//! `suspension`, `suspend` and `resume`: whether an object is suspended, why, and until when.

use std::sync::Arc;

use gatehouse_apiservice::{
    Time,
    action::{SUSPENSION, SuspensionSpec, SuspensionStatus},
    annotation::{SUSPEND_REASON, SUSPENDED_AT, SUSPENDED_BY, SUSPENDED_UNTIL},
};
use gatehouse_inventory::{DISABLED, Suspension};
use gatehouse_serving::ApiError;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Actions, Ask, Patching,
    attempts::Attempts,
    body::{self, Body, Preconditions},
    live::Live,
    reach::Place,
    report::{Action, Deed},
    target::Target,
};

/// The kind of the document that is patched: that of the rows, so that `kubectl edit` finds the resource.
const SHOWN_AS: &str = "FluxResource";

/// A suspension as it is shown: of this object, at this version.
pub(super) struct Shown {
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) spec: SuspensionSpec,
    pub(super) status: SuspensionStatus,
}

impl Shown {
    /// The suspension of an object.
    pub(super) fn of(live: &Live, target: &Target) -> Self {
        let is_suspended = live.is_suspended(target.suspension());
        // What an earlier suspension has left is not shown.
        let counts = |name| is_suspended && !live.is_left(target.suspension(), name);
        let note = |name| live.annotation(name).filter(|_| counts(name)).map(str::to_owned);
        let since = note(SUSPENDED_AT).and_then(|at| at.parse::<Timestamp>().ok());
        Self {
            uid: live.uid().to_owned(),
            version: live.version().to_owned(),
            spec: SuspensionSpec {
                suspended: Some(is_suspended),
                reason: note(SUSPEND_REASON),
                // Anybody who may write the object may have written it.
                until: note(SUSPENDED_UNTIL).filter(|until| until.parse::<Timestamp>().is_ok()),
            },
            status: SuspensionStatus {
                since: since.map(|since| Time(since.as_second())),
                by: note(SUSPENDED_BY),
                frozen_by: live.frozen_by(target.suspension()).map(str::to_owned),
            },
        }
    }

    /// The document that a patch applies to.
    pub(super) fn document(&self, ask: &Ask, kind: &str) -> Value {
        super::document(kind, ask, Some((&self.uid, &self.version)), &self.spec, &self.status)
    }
}

/// What is wanted of a suspension.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    is_suspended: bool,
    reason: Option<String>,
    until: Option<String>,
    /// Whether an absent reason or end is taken away. A short form leaves them.
    is_whole: bool,
}

impl Wanted {
    /// The verbs of the Flux operator that the change takes. A new end of a suspension that is there takes both: the
    /// object is resumed then. So does another reason in place of somebody else's, since it makes another suspension of
    /// it.
    fn verbs(&self, current: &Shown, user: &str) -> &'static [&'static str] {
        let sets_end = self.until.is_some() && self.until != current.spec.until;
        match (current.spec.suspended, self.is_suspended) {
            (_, false) => &["resume"],
            (Some(true), true) if sets_end || self.takes_over(current, user) => &["suspend", "resume"],
            (_, true) => &["suspend"],
        }
    }

    /// Whether the reason that somebody else gave is replaced or removed.
    fn takes_over(&self, current: &Shown, user: &str) -> bool {
        let is_changed = (self.reason.is_some() || self.is_whole) && self.reason != current.spec.reason;
        is_changed && current.spec.reason.is_some() && current.status.by.as_deref() != Some(user)
    }
}

/// Where a wanted suspension comes from.
pub(super) enum Given<'a> {
    /// A body that is the same whatever the object's state.
    Body(Body<SuspensionSpec>),
    /// A patch, which is applied to each version of the suspension that is met.
    Patch(Patching<'a>),
}

impl Actions {
    /// Reads the suspension of the object of a row.
    pub(super) async fn suspension(&self, ask: &Ask, place: &Place<'_>) -> Result<Shown, ApiError> {
        let target = self.target(ask, place)?;
        target.ensure_suspendable()?;
        let live = target.get(&ask.call).await?;
        Ok(Shown::of(&live, &target))
    }

    /// Changes the suspension of the object of a row, and returns it as it is then. `direction` is that of a short form.
    pub(super) async fn suspend(
        self: &Arc<Self>,
        ask: &Ask,
        place: &Place<'_>,
        given: Given<'_>,
        direction: Option<bool>,
    ) -> Result<Shown, ApiError> {
        let target = self.target(ask, place)?;
        target.ensure_suspendable()?;
        let _turn = self.turns.take(&target).await;
        let mut attempts = Attempts::new();
        loop {
            let live = target.get(&ask.call).await?;
            let current = Shown::of(&live, &target);
            let (preconditions, spec) = match &given {
                Given::Body(Body { preconditions, spec }) => (preconditions.clone(), spec.clone()),
                Given::Patch(patch) => {
                    let patched = patch(current.document(ask, SHOWN_AS))?;
                    let Body { spec, .. } =
                        body::decode(&patched, (&SUSPENSION, SHOWN_AS), (&ask.namespace, &ask.name))?;
                    (given_preconditions(&patched, &current), spec)
                }
            };
            let wanted = wanted(&spec, &current, direction)?;
            for verb in wanted.verbs(&current, &ask.user.name) {
                self.ensure_allowed(ask, verb, &target).await?;
            }
            ensure_ended(&target, &wanted, &current)?;
            live.ensure_acted_on(&target, &preconditions)?;
            ensure_not_frozen(&live, &target, &wanted)?;
            let Some(patch) = change(&live, &target, (&wanted, &current), ask, Timestamp::now()) else {
                return Ok(current);
            };
            match self.write_suspension(ask, &target, live, patch, wanted).await {
                Err(error) if attempts.try_again(&error) => {}
                written => return written.map(|live| Shown::of(&live, &target)),
            }
        }
    }

    /// The write goes on if the client disconnects, so that its Event is sent.
    async fn write_suspension(
        self: &Arc<Self>,
        ask: &Ask,
        target: &Target,
        live: Live,
        patch: Value,
        wanted: Wanted,
    ) -> Result<Live, ApiError> {
        let (actions, ask, target) = (Arc::clone(self), ask.clone(), target.clone());
        let writing = tokio::spawn(async move {
            let written = target.patch(&live, patch, &ask.call).await?;
            let action = if wanted.is_suspended { Action::Suspend } else { Action::Resume };
            let until = wanted.until.as_deref().filter(|_| wanted.is_suspended);
            let detail = until.map(|until| format!(" until {until}")).unwrap_or_default();
            // What stood there already may be any text: Events and chats get it as far as it would be accepted.
            let is_accepted = |text: &&str| body::reason(&SUSPENSION, Some(*text)).is_ok();
            let reason = wanted.reason.as_deref().filter(is_accepted);
            actions.reports.report(&ask, &target, &written, &Deed { action, reason, detail: &detail });
            Ok(written)
        });
        writing.await.map_err(ApiError::internal)?
    }
}

/// A patch that leaves uid and version alone is no precondition: it is applied to what is there.
fn given_preconditions(patched: &[u8], current: &Shown) -> Preconditions {
    let document: Value = serde_json::from_slice(patched).unwrap_or_default();
    let given = |name: &str, known: &str| {
        let text = document["metadata"][name].as_str().filter(|text| !text.is_empty() && *text != known);
        text.map(str::to_owned)
    };
    Preconditions {
        uid: given("uid", &current.uid),
        resource_version: given("resourceVersion", &current.version),
    }
}

fn wanted(spec: &SuspensionSpec, current: &Shown, direction: Option<bool>) -> Result<Wanted, ApiError> {
    let invalid = |field: &str, problem: &str| Err(ApiError::invalid(SUSPENSION.kind, field, problem));
    let is_suspended = match (direction, spec.suspended) {
        (Some(direction), Some(given)) if direction != given => {
            return invalid(
                "spec.suspended",
                &format!("Invalid value: {given}: the subresource is for {direction}"),
            );
        }
        (Some(direction), _) => direction,
        (None, Some(given)) => given,
        (None, None) => return invalid("spec.suspended", "Required value: whether the object is suspended"),
    };
    // A patch of the reason alone would change nothing.
    if direction.is_none() && !is_suspended && current.spec.suspended == Some(false) {
        for (field, given) in [("spec.reason", &spec.reason), ("spec.until", &spec.until)] {
            if given.as_ref().is_some_and(|text| !text.is_empty()) {
                return invalid(field, "Forbidden: may only be set while spec.suspended is true");
            }
        }
    }
    // A resumed object has no reason and no end, even if the document still names them.
    if !is_suspended {
        return Ok(Wanted { is_suspended, reason: None, until: None, is_whole: direction.is_none() });
    }
    // What stands there already is not judged: anybody who may write the object may have written it.
    let reason = match &spec.reason {
        Some(reason) if current.spec.reason.as_ref() == Some(reason) => Some(reason.clone()),
        given => body::reason(&SUSPENSION, given.as_deref())?,
    };
    let until =
        body::until(&SUSPENSION, spec.until.as_deref(), current.spec.until.as_deref(), Timestamp::now())?;
    Ok(Wanted { is_suspended, reason, until, is_whole: direction.is_none() })
}

/// Another cluster that runs no Gatehouse with actions has nobody who would resume the object.
fn ensure_ended(target: &Target, wanted: &Wanted, current: &Shown) -> Result<(), ApiError> {
    if target.cluster.is_local() || wanted.until.is_none() || wanted.until == current.spec.until {
        return Ok(());
    }
    let problem = format!(
        "Forbidden: cluster {} runs no Gatehouse with actions, which would end the suspension",
        target.cluster.name
    );
    Err(ApiError::invalid(SUSPENSION.kind, "spec.until", &problem))
}

/// A freeze owns the suspension of what it holds: whoever is exempt may resume it, and nobody can add to it.
fn ensure_not_frozen(live: &Live, target: &Target, wanted: &Wanted) -> Result<(), ApiError> {
    match live.frozen_by(target.suspension()).filter(|_| wanted.is_suspended) {
        None => Ok(()),
        Some(freeze) => {
            let why = format!("it is suspended by the freeze {freeze} already, which resumes it at its end");
            Err(ApiError::conflict(target.subject(), why))
        }
    }
}

/// The merge patch to what is wanted; `None` if the object is as wanted.
fn change(
    live: &Live,
    target: &Target,
    (wanted, current): (&Wanted, &Shown),
    ask: &Ask,
    now: Timestamp,
) -> Option<Value> {
    let is_left = |name: &str| live.is_left(target.suspension(), name);
    let mut annotations = Map::new();
    let mut set = |name: &str, value: Option<&str>| {
        if live.annotation(name) != value {
            annotations.insert(name.to_owned(), value.into());
        }
    };
    let was_suspended = live.is_suspended(target.suspension());
    if !wanted.is_suspended {
        return was_suspended.then(|| resumed(target));
    }
    let author = ask.call.requester.as_ref().map(|user| user.name.as_str());
    // What an earlier suspension has left does not count for this one.
    for name in [SUSPENDED_AT, SUSPENDED_BY].into_iter().filter(|name| is_left(name)) {
        set(name, None);
    }
    if !was_suspended {
        set(SUSPENDED_AT, Some(&format!("{now:.0}")));
        set(SUSPENDED_BY, author);
    } else if wanted.takes_over(current, &ask.user.name) {
        // A reason stands under the name of who gave it.
        set(SUSPENDED_BY, author);
    }
    for (name, value) in [(SUSPEND_REASON, &wanted.reason), (SUSPENDED_UNTIL, &wanted.until)] {
        if value.is_some() || wanted.is_whole || !was_suspended || is_left(name) {
            set(name, value.as_deref());
        }
    }
    if was_suspended && annotations.is_empty() {
        return None;
    }
    let mut patch = json!({});
    if !was_suspended {
        match target.suspension() {
            Suspension::Field => patch["spec"] = json!({"suspend": true}),
            Suspension::Annotation(name) => drop(annotations.insert(name.to_owned(), DISABLED.into())),
            Suspension::Never => {}
        }
    }
    patch["metadata"] = json!({"annotations": annotations});
    Some(patch)
}

/// The merge patch that resumes an object and takes away the notes of the suspension.
pub(super) fn resumed(target: &Target) -> Value {
    let mut annotations = Map::new();
    for name in [SUSPENDED_AT, SUSPENDED_BY, SUSPEND_REASON, SUSPENDED_UNTIL] {
        annotations.insert(name.to_owned(), Value::Null);
    }
    let mut patch = json!({});
    match target.suspension() {
        Suspension::Field => patch["spec"] = json!({"suspend": null}),
        Suspension::Annotation(name) => drop(annotations.insert(name.to_owned(), Value::Null)),
        Suspension::Never => {}
    }
    patch["metadata"] = json!({"annotations": annotations});
    patch
}
