//! `reconcile` of one object: the annotation by which the controllers of Flux are asked, with a token.

use std::sync::Arc;

use gatehouse_apiservice::{
    action::{RECONCILE_REQUEST, ReconcileRequestSpec, ReconcileRequestStatus, RequestedObject},
    annotation::{FORCE_AT, REQUESTED_AT, RESET_AT},
    view::GROUP,
};
use gatehouse_serving::{ApiError, authz};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};

use super::{
    Actions, Ask,
    attempts::Attempts,
    body::{self, Body, Preconditions},
    live::Live,
    reach::Place,
    report::{Action, Deed},
    target::{ROWS, Target},
};

/// Kinds that can be forced.
const FORCED: [&str; 2] = ["HelmRelease", "ResourceSetInputProvider"];

/// How an object is asked to reconcile.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    pub(super) token: String,
    pub(super) force: bool,
    pub(super) reset: bool,
    pub(super) reason: Option<String>,
}

impl Actions {
    /// Requests a reconciliation of the object of a row.
    pub(super) async fn reconcile(
        self: &Arc<Self>,
        ask: &Ask,
        place: &Place<'_>,
        request: Body<ReconcileRequestSpec>,
    ) -> Result<ReconcileRequestStatus, ApiError> {
        let Body { preconditions, spec } = request;
        let target = self.target(ask, place)?;
        let reason = body::reason(&RECONCILE_REQUEST, spec.reason.as_deref())?;
        target.ensure_reconciled()?;
        check(&spec, &target)?;
        self.ensure_allowed(ask, "reconcile", &target).await?;
        let manner = Manner { token: token(), force: spec.force, reset: spec.reset, reason };
        let mut wanted = Vec::new();
        if spec.with_source {
            let live = target.get(&ask.call).await?;
            live.ensure_acted_on(&target, &preconditions)?;
            live.ensure_running(&target)?;
            let plain = Manner { force: false, reset: false, ..manner.clone() };
            let sources = self.sources(ask, &target, &live).await?;
            wanted.extend(sources.into_iter().map(|one| (one, plain.clone(), Preconditions::default())));
        }
        wanted.push((target, manner.clone(), preconditions));
        // Admission may refuse the last of them: then none is requested.
        if wanted.len() > 1 && !ask.call.dry_run {
            let mut trial = ask.clone();
            trial.call.dry_run = true;
            for (target, manner, preconditions) in wanted.clone() {
                self.request(&trial, target, manner, preconditions).await?;
            }
        }
        let mut objects = Vec::new();
        for (target, manner, preconditions) in wanted {
            objects.push(self.request(ask, target, manner, preconditions).await?);
        }
        Ok(ReconcileRequestStatus { requested_at: manner.token, objects, not_requested: Vec::new() })
    }

    /// What the object takes its content from, as far as that can be reconciled. Each needs the rights of its own.
    async fn sources(&self, ask: &Ask, target: &Target, live: &Live) -> Result<Vec<Target>, ApiError> {
        let mut sources = Vec::new();
        for (kind, namespace, name) in live.sources(target) {
            let known = self.catalogue.kinds().find(|(_, known)| known.is_flux() && known.kind == kind);
            let Some((kind, _)) = known else { continue };
            let source = self.target_of(&target.cluster, kind, &namespace, &name)?;
            if source.ensure_reconciled().is_err() {
                continue;
            }
            let row = source.row();
            let subresource = authz::Target {
                group: GROUP,
                version: gatehouse_apiservice::view::VERSION,
                resource: ROWS,
                subresource: "reconcile",
                namespace: &source.namespace,
                name: &row,
            };
            ask.access.check(&ask.user, "create", subresource).await?;
            self.ensure_allowed(ask, "reconcile", &source).await?;
            let live = source.get(&ask.call).await?;
            if live.ensure_reconciled(&source).is_ok() {
                live.ensure_running(&source)?;
                sources.push(source);
            }
        }
        if sources.is_empty() {
            let problem =
                format!("Invalid value: true: this {} has no source that is reconciled", target.kind);
            return Err(ApiError::invalid(RECONCILE_REQUEST.kind, "spec.withSource", &problem));
        }
        Ok(sources)
    }

    /// Asks one object. The write goes on if the client disconnects, so that its Event is sent.
    pub(super) async fn request(
        self: &Arc<Self>,
        ask: &Ask,
        target: Target,
        manner: Manner,
        preconditions: Preconditions,
    ) -> Result<RequestedObject, ApiError> {
        let (actions, ask) = (Arc::clone(self), ask.clone());
        let writing =
            tokio::spawn(async move { actions.write_request(&ask, &target, &manner, &preconditions).await });
        writing.await.map_err(ApiError::internal)?
    }

    async fn write_request(
        &self,
        ask: &Ask,
        target: &Target,
        manner: &Manner,
        preconditions: &Preconditions,
    ) -> Result<RequestedObject, ApiError> {
        let _turn = self.turns.take(target).await;
        let mut attempts = Attempts::new();
        loop {
            let live = target.get(&ask.call).await?;
            live.ensure_acted_on(target, preconditions)?;
            live.ensure_reconciled(target)?;
            live.ensure_running(target)?;
            let token = later(&manner.token, live.annotation(REQUESTED_AT));
            let mut annotations = Map::new();
            for (name, _) in [(REQUESTED_AT, true), (FORCE_AT, manner.force), (RESET_AT, manner.reset)]
                .into_iter()
                .filter(|(_, is_set)| *is_set)
            {
                annotations.insert(name.to_owned(), token.clone().into());
            }
            let patch = json!({"metadata": {"annotations": annotations}});
            match target.patch(&live, patch, &ask.call).await {
                Ok(written) => {
                    let deed =
                        Deed { action: Action::Reconcile, reason: manner.reason.as_deref(), detail: "" };
                    self.reports.report(ask, target, &written, &deed);
                    return Ok(RequestedObject {
                        api_version: target.api_version(),
                        kind: target.kind.clone(),
                        namespace: target.namespace.clone(),
                        name: target.name.clone(),
                        uid: written.uid().to_owned(),
                        resource_version: written.version().to_owned(),
                        requested_at: token,
                    });
                }
                Err(error) if attempts.try_again(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Checks that the options fit one object of this kind.
fn check(spec: &ReconcileRequestSpec, target: &Target) -> Result<(), ApiError> {
    let kind = target.kind.as_str();
    let invalid =
        |field: &str, problem: String| Err(ApiError::invalid(RECONCILE_REQUEST.kind, field, &problem));
    if spec.states.is_some() {
        return invalid("spec.states", "Forbidden: is for fluxsummaries only".to_owned());
    }
    if spec.force && !FORCED.contains(&kind) {
        let problem =
            format!("Invalid value: true: a {kind} cannot be forced, a {} can", FORCED.join(" or "));
        return invalid("spec.force", problem);
    }
    if spec.reset && kind != "HelmRelease" {
        return invalid(
            "spec.reset",
            format!("Invalid value: true: a {kind} counts no failures, a HelmRelease does"),
        );
    }
    Ok(())
}

/// The token of a request that begins now.
pub(super) fn token() -> String {
    format!("{:.9}", Timestamp::now())
}

/// `token`, or one after `current` if that is not before it: the tokens of an object increase, whatever clocks say.
/// What is no time was not made here, and is replaced.
fn later(token: &str, current: Option<&str>) -> String {
    let (new, current) = (token.parse::<Timestamp>(), current.map(str::parse::<Timestamp>));
    match (new, current) {
        (Ok(new), Some(Ok(current))) if current >= new => {
            let next = current.checked_add(SignedDuration::from_nanos(1));
            next.map_or_else(|_| token.to_owned(), |next| format!("{next:.9}"))
        }
        _ => token.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_increase() {
        let first = token();
        assert_eq!(first.len(), "2026-11-29T18:20:01.123456789Z".len(), "{first}");
        let second = later(&first, Some(&first));
        assert!(second > first, "{second} {first}");
        let ahead = "2027-01-01T00:00:00.999999999Z";
        assert_eq!(later(&first, Some(ahead)), "2027-01-01T00:00:01.000000000Z");
        for current in [None, Some(""), Some("1732900000"), Some("2020-01-01T00:00:00+01:00")] {
            assert_eq!(later(&first, current), first, "{current:?}");
        }
        assert_eq!(later(&first, Some("9999-12-30T22:00:00.999999999Z")), first, "there is no later time");
    }
}
