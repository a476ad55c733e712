//! Judges requests by the policies of their namespace, and reports the violations.
//!
//! **Invariant:** a request is not validated before every kind that decides about it has been observed. Mutation never
//! denies.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatehouse_apiservice::client::explain;
use gatehouse_apiservice::policy::{Enforcement, GROUP, VERSION};
use gatehouse_apiservice::{UserInfo, requester};
use gatehouse_object::Read;
use gatehouse_policy::{Accounts, Case, Kind, Operation, Policy, Scaling, Subject, Verb};
use gatehouse_quota::GroupResource;
use gatehouse_serving::ApiError;
use gatehouse_serving::authz::{Access, Target};
use gatehouse_serving::error::Subject as Resource;
use gatehouse_serving::events::{EventRecorder, Level, Notice};
use gatehouse_serving::fair::Held;
use gatehouse_serving::pipeline::Holder;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::LATER;
use super::Webhook;
use super::answer::Answer;
use super::blocking::block_in_place_if_long;
use super::freeze;
use super::memory::{Reservation, ReviewMemory};
use super::messages::{DECISIONS, Finding, answer, missing, regarding, rule_of, sentence};
use super::object::{self, Looks, Objects};
use super::request::{Request, cost_of_user};
use super::verdicts::{Judged, Verdict, Verdicts};
use crate::metrics::{DryRun, Metrics};
use crate::own_user::OwnUser;
use crate::quota::Quotas;
use crate::world::{KindState, Live, NamespaceInfo, Snapshot, World};

/// The subresource that scales fleets and sets.
const SCALE: &str = "scale";

/// Everything that judging needs.
pub struct Judge {
    /// The observed objects.
    pub world: World,
    /// Reads from the API server, for what has not been observed yet.
    pub live: Live,
    /// Checks rights.
    pub access: Access,
    /// Gatehouse's own namespace.
    pub namespace: String,
    /// The user of this process. It is never judged, because it freezes and resumes objects itself.
    pub own_user: OwnUser,
    /// Enforces quotas.
    pub quotas: Quotas,
    /// Records decisions as Events.
    pub events: EventRecorder,
    /// Counts decisions.
    pub metrics: Arc<Metrics>,
    /// Limits the memory for what is built from reviews.
    pub room: ReviewMemory,
    /// Recent verdicts, for the other webhook.
    pub verdicts: Verdicts,
}

/// A request, read once for all policies.
struct OwnedCase {
    operation: Operation,
    object: Option<Subject>,
    old: Option<Subject>,
    scaling: Option<Scaling>,
    user: UserInfo,
    field_manager: String,
    /// Held as long as the objects are used.
    _room: Reservation,
}

impl Judge {
    /// Makes a request of `gatehouse apiserver` that of the user for whom it writes. Nobody else's report counts:
    /// whoever may impersonate can set such a field.
    pub(super) fn attribute(&self, request: &mut Request<'_>) -> Result<(), ApiError> {
        // Without knowing ourselves, every request is refused anyway.
        let Ok(own) = self.own_user.known() else { return Ok(()) };
        if own.apiserver.as_deref() != Some(request.user_info.name.as_str()) {
            return Ok(());
        }
        request.by_gatehouse = true;
        match requester::decode(&request.user_info) {
            None => Ok(()),
            Some(requester) => {
                request.user_info = requester.map_err(|error| ApiError::bad_request(error.to_string()))?;
                Ok(())
            }
        }
    }

    /// The snapshot, once every required kind has been synced. Before that, an object that was not observed may still
    /// exist.
    pub(super) fn known(&self) -> Result<Arc<Snapshot>, ApiError> {
        let snapshot = self.world.snapshot();
        let is_known = |state: &KindState| state.is_synced || !state.is_required;
        if snapshot.kinds.is_empty() || !snapshot.kinds.values().all(is_known) {
            let why = "what decides about the request has not been observed yet: try again";
            return Err(ApiError::try_again(why, LATER));
        }
        Ok(snapshot)
    }

    /// The labels and metadata of the namespace of a request: as observed, or else as the API server returns it.
    pub(super) async fn namespace(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Arc<NamespaceInfo>, ApiError> {
        if name.is_empty() {
            return Ok(Arc::default());
        }
        if let Some(info) = snapshot.namespaces.get(name) {
            return Ok(Arc::clone(info));
        }
        match self.live.namespace(name).await {
            Ok(Some(info)) => Ok(Arc::new(info)),
            Ok(None) => Err(ApiError::not_found(Resource { group: "", resource: "namespaces", name })),
            Err(error) => {
                tracing::warn!(namespace = name, error = %explain(&error), "cannot read a namespace that was not observed yet");
                let why =
                    format!("the namespace {name:?} was not observed yet and cannot be read: try again");
                Err(ApiError::try_again(why, LATER))
            }
        }
    }

    /// Judges a request by the policies that select its namespace.
    pub(super) async fn validate(&self, request: &Request<'_>, until: Instant) -> Result<Answer, ApiError> {
        let Some(verdict) = self.verdict(Webhook::Validate, request, until).await? else {
            return Ok(Answer::allowed());
        };
        let mut findings = Vec::new();
        for judged in &verdict.judged {
            let forbidden = self.missing_right(request, &verdict.name, judged).await?;
            let missing = forbidden.as_ref().map(|(verb, why)| missing(*verb, why));
            let violations: Vec<_> = judged.violations.iter().cloned().chain(missing).collect();
            if !violations.is_empty() {
                let (policy, forbidden) = (Arc::clone(&judged.policy), forbidden.map(|(_, why)| why));
                findings.push(Finding { policy, violations, forbidden });
            }
        }
        // A denial by policies takes precedence over one that keeps an object held by a freeze.
        if !findings.iter().any(Finding::denies) {
            verdict.kept.clone()?;
        }
        self.record_event(request, &findings);
        Ok(answer(&findings))
    }

    /// The denial by policies that the other webhook is about to return, missing rights aside. No Event is made and
    /// nothing is counted here.
    pub(super) async fn foreseen(
        &self,
        request: &Request<'_>,
        until: Instant,
    ) -> Result<Option<Answer>, ApiError> {
        let Some(verdict) = self.verdict(Webhook::Quota, request, until).await? else { return Ok(None) };
        let finding = |judged: &Judged| Finding {
            policy: Arc::clone(&judged.policy),
            violations: judged.violations.clone(),
            forbidden: None,
        };
        let findings: Vec<_> = verdict.judged.iter().map(finding).filter(Finding::denies).collect();
        if findings.is_empty() {
            return verdict.kept.clone().map(|()| None);
        }
        Ok(Some(answer(&findings)))
    }

    /// The violations by each policy that selects the namespace; `None` if no policy judges the request.
    async fn verdict(
        &self,
        asker: Webhook,
        request: &Request<'_>,
        until: Instant,
    ) -> Result<Option<Arc<Verdict>>, ApiError> {
        let kind = Kind::of_resource(&request.resource.group, &request.resource.resource);
        let Some(kind) = kind.filter(|_| matches!(&*request.sub_resource, "" | SCALE)) else {
            return Ok(None);
        };
        let own = self.own_user.known()?;
        if request.user_info.name == own.name {
            return Ok(None);
        }
        let snapshot = self.known()?;
        let info = self.namespace(&snapshot, &request.namespace).await?;
        let policies = snapshot.policies_over(&info.labels);
        if policies.is_empty() && !freeze::bears_marks(request) {
            return Ok(None);
        }
        if snapshot.awaits_parameters_of(&policies) {
            let why = "the ConfigMap of a policy that decides about the request has not been observed yet: try again";
            return Err(ApiError::try_again(why, LATER));
        }
        let judge = async || {
            let owned_case = self.owned_case(request, kind, &snapshot, &policies).await?;
            let asks_for_namespace = policies.iter().any(|policy| policy.asks_for_namespace());
            let owned_case = if asks_for_namespace { owned_case.within(&info) } else { owned_case };
            let over: Vec<&Policy> = policies.iter().map(|policy| &**policy).collect();
            let case = owned_case.case(&own.accounts);
            freeze::guard(request, &over, &case)?;
            let kept = freeze::keep(request, &case);
            let name = owned_case.name().to_owned();
            let (snapshot, accounts) = (Arc::clone(&snapshot), Arc::clone(&own.accounts));
            let judged = self.judged(policies.clone(), owned_case, snapshot, accounts, until).await?;
            Ok(Verdict { name, kept, judged })
        };
        self.verdicts.once(asker, request, &policies, judge).await.map(Some)
    }

    /// The violations by each policy. Judging runs on a thread of its own if it may take long, so that a deadline can
    /// pass and other requests are answered meanwhile; otherwise it runs inline, which is faster.
    async fn judged(
        &self,
        policies: Vec<Arc<Policy>>,
        owned_case: OwnedCase,
        snapshot: Arc<Snapshot>,
        accounts: Arc<Accounts>,
        until: Instant,
    ) -> Result<Vec<Judged>, ApiError> {
        let may_take_long = policies.iter().any(|policy| policy.may_take_long());
        let judge = move || {
            let case = owned_case.case(&accounts);
            let judge = |policy: Arc<Policy>| {
                let violations = policy.judge_until(&case, &*snapshot, Some(until.into_std()));
                Judged { violations, verbs: policy.required_verbs(&case), policy }
            };
            policies.into_iter().map(judge).collect()
        };
        if !may_take_long {
            return Ok(judge());
        }
        let turn = self.verdicts.turn().await;
        let judged = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            judge()
        });
        let panicked = |_| ApiError::internal("reviewing the request panicked; see the log");
        judged.await.map_err(panicked)
    }

    /// Fills in the defaults of the policies, and holds what their freezes hold. Nothing here denies: a request that
    /// lacks a default, is not held or cannot be read is left to the validating webhook. `room` is for patches that
    /// restore an object.
    pub(super) async fn mutate(&self, request: &Request<'_>, room: Held<Holder>) -> Answer {
        self.mutated(request, room).await.unwrap_or_else(Answer::allowed)
    }

    async fn mutated(&self, request: &Request<'_>, room: Held<Holder>) -> Option<Answer> {
        let kind = Kind::of_resource(&request.resource.group, &request.resource.resource)?;
        if !request.is_whole() || request.object.is_none() {
            return None;
        }
        let own = self.own_user.known().ok()?;
        if request.user_info.name == own.name {
            return None;
        }
        let snapshot = self.world.snapshot();
        let info = self.namespace(&snapshot, &request.namespace).await.ok()?;
        let policies = snapshot.policies_over(&info.labels);
        if policies.is_empty() && !freeze::bears_marks(request) {
            return None;
        }
        // Defaults do not need what conditions look at.
        let owned_case = self.owned_case(request, kind, &snapshot, &[]).await.ok()?;
        let policies: Vec<&Policy> = policies.iter().map(|policy| &**policy).collect();
        let case = owned_case.case(&own.accounts);
        Some(freeze::mutated(request, &policies, &case, &self.metrics, room))
    }

    /// The first right that a policy requires and the user lacks.
    async fn missing_right(
        &self,
        request: &Request<'_>,
        name: &str,
        Judged { policy, verbs, .. }: &Judged,
    ) -> Result<Option<(Verb, ApiError)>, ApiError> {
        let target = Target {
            group: &request.resource.group,
            version: &request.resource.version,
            resource: &request.resource.resource,
            subresource: "",
            namespace: &request.namespace,
            name,
        };
        let of_policy = Target {
            group: GROUP,
            version: VERSION,
            resource: "reconcilepolicies",
            subresource: "",
            namespace: "",
            name: &policy.name,
        };
        for verb in verbs {
            let target = if *verb == Verb::Exempt { of_policy } else { target };
            match self.access.check(&request.user_info, verb.as_str(), target).await {
                Ok(()) => {}
                Err(why) if why.code() == StatusCode::FORBIDDEN => return Ok(Some((*verb, why))),
                // Rules that only warn or audit do not report a failed check.
                Err(_) if policy.enforcement_of(rule_of(*verb)) != Enforcement::Deny => {}
                Err(_) => {
                    let verb = verb.as_str();
                    let why = format!("cannot check the right to {verb}: try again");
                    return Err(ApiError::try_again(why, LATER));
                }
            }
        }
        Ok(None)
    }

    /// Counts violations, and makes Events of them unless the request is a dry run.
    fn record_event(&self, request: &Request<'_>, findings: &[Finding]) {
        let enforced = |finding| {
            DECISIONS.into_iter().map(move |(enforcement, outcome)| (finding, enforcement, outcome))
        };
        for (finding, enforcement, outcome) in findings.iter().flat_map(enforced) {
            let policy = &finding.policy;
            let rules: BTreeSet<&str> =
                finding.enforced(enforcement).map(|violation| &*violation.rule).collect();
            for rule in &rules {
                self.metrics.count_policy_decision(&policy.name, rule, DryRun(request.dry_run), outcome);
            }
            if request.dry_run || rules.is_empty() {
                continue;
            }
            self.events.record(Notice {
                regarding: regarding(request),
                level: Level::Warning,
                reason: if enforcement == Enforcement::Deny { "PolicyDenied" } else { "PolicyViolated" },
                action: "Admission",
                note: sentence(policy, enforcement, finding.enforced(enforcement)),
                cause: format!("{}/{}", policy.name, rules.into_iter().collect::<Vec<_>>().join(",")),
            });
        }
    }
}

impl Judge {
    /// Reads the objects of a review. The reservation that is returned with them holds their room.
    pub(super) async fn read(
        &self,
        request: &Request<'_>,
        looks: Looks,
    ) -> Result<(Objects, Reservation), ApiError> {
        let text = |raw: Option<&RawValue>| raw.map_or(0, |raw| raw.get().len());
        let text = text(request.object) + text(request.old_object);
        let most = ReviewMemory::bound(text);
        let user = cost_of_user(&request.user_info);
        let mut room = self.room.reserve(most + user).await;
        let objects = block_in_place_if_long(text, || object::read(request, looks, most))?;
        room.shrink(objects.cost + user);
        Ok((objects, room))
    }

    /// Reads a request, as far as these policies look at it.
    async fn owned_case(
        &self,
        request: &Request<'_>,
        kind: Kind,
        snapshot: &Snapshot,
        policies: &[Arc<Policy>],
    ) -> Result<OwnedCase, ApiError> {
        // A deletion is not judged by the content of the object.
        let is_judged = request.is_whole() && request.operation != Operation::Delete;
        let needs_all = is_judged && policies.iter().any(|policy| policy.has_conditions());
        let (objects, room) =
            self.read(request, if needs_all { Looks::Whole } else { Looks::Fields }).await?;
        OwnedCase::new(request, kind, snapshot, objects, room)
    }
}

impl OwnedCase {
    fn new(
        request: &Request<'_>,
        kind: Kind,
        snapshot: &Snapshot,
        objects: Objects,
        room: Reservation,
    ) -> Result<Self, ApiError> {
        let (operation, user) = (request.operation, request.user_info.clone());
        let field_manager = request.options.field_manager.clone().into_owned();
        if &*request.sub_resource == SCALE {
            let (Some(new), Some(old)) = (objects.object, objects.old) else {
                return Err(ApiError::bad_request("request.oldObject: Required value: a scale is an update"));
            };
            let replicas = |scale: Read| object::replicas(request, &scale.value);
            let scaling = Some(Scaling { from: replicas(old)?, to: replicas(new)? });
            let object = Some(scaled(request, kind, snapshot));
            return Ok(Self { operation, object, old: None, scaling, user, field_manager, _room: room });
        }
        let subject = |Read { value, rest, .. }: Read| {
            let own = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let name = if own.is_empty() { &*request.name } else { own }.to_owned();
            let subject = Subject::new(kind, &request.namespace, &name, value).with_rest(rest);
            match &objects.unread {
                None => subject,
                Some(why) => subject.not_whole(why.clone()),
            }
        };
        Ok(Self {
            operation,
            object: objects.object.map(subject),
            old: objects.old.map(subject),
            scaling: None,
            user,
            field_manager,
            _room: room,
        })
    }

    /// Adds the namespace, for conditions.
    fn within(self, info: &NamespaceInfo) -> Self {
        let within = |subject: Subject| {
            let namespace = Arc::new(info.object(&subject.namespace));
            subject.within(namespace)
        };
        Self { object: self.object.map(within), ..self }
    }

    fn name(&self) -> &str {
        self.object.as_ref().or(self.old.as_ref()).map(|subject| subject.name.as_str()).unwrap_or_default()
    }

    fn case<'a>(&'a self, accounts: &'a Accounts) -> Case<'a> {
        Case {
            operation: self.operation,
            subresource: self.scaling.map(|_| SCALE),
            object: self.object.as_ref(),
            old: self.old.as_ref(),
            scaling: self.scaling,
            user: Some(&self.user),
            field_manager: (!self.field_manager.is_empty()).then_some(&*self.field_manager),
            now: Timestamp::now(),
            accounts,
        }
    }
}

/// The scaled object as observed; with an empty spec if it is unknown.
fn scaled(request: &Request<'_>, kind: Kind, snapshot: &Snapshot) -> Subject {
    let (group, resource) = (&*request.resource.group, &*request.resource.resource);
    let resource = GroupResource { group: group.into(), resource: resource.into() };
    let held = snapshot.object(&resource, &request.namespace, &request.name);
    held.and_then(|held| held.subject()).unwrap_or_else(|| {
        Subject::new(kind, &request.namespace, &request.name, serde_json::json!({"spec": {}}))
    })
}
