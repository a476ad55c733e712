//! Answers reviews by the quotas of their namespace, and runs the quotas' tasks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_apiservice::{denial, policy::Enforcement};
use gatehouse_inventory::Str;
use gatehouse_quota::{Charged, CompiledQuota, Outcome, Proposal};
use tokio::{sync::mpsc, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    commit::{Asked, Committer, Job, QUEUE, Shared},
    denials::Denials,
    replacements::{Refused, Replacement, Replacements, because_of_going},
    settle::BEYOND_TIMEOUT,
    status,
    usage_change::{self, QuotaRequest, UsageChange, UsageChangeError},
};
use crate::{
    controllers::Interception,
    metrics::{DryRun, Metrics},
    world::{Live, Snapshot, World},
};

/// The share of a request's time that deciding may take; the rest is for the response.
const SHARE: f64 = 0.8;
/// The wait before quotas that do not compile are reported.
const BROKEN: Duration = Duration::from_secs(1);

/// The quotas of the cluster and their tasks. Cheap to clone.
#[derive(Clone)]
pub struct Quotas(Arc<Inner>);

struct Inner {
    shared: Shared,
    denials: Denials,
    replacements: Replacements,
    tasks: TaskTracker,
    stop: CancellationToken,
    handles: Mutex<HashMap<Str, mpsc::Sender<Job>>>,
}

/// The verdict of the quotas of a namespace on a request.
pub type Verdict = Result<Admission, Refusal>;

/// A request that the quotas admit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Warnings for the requester.
    pub warnings: Vec<String>,
    /// The quotas that limit it.
    pub quotas: Vec<String>,
    /// `warned` or `audited`, if it exceeds a quota that does not deny.
    pub decision: Option<&'static str>,
}

/// Why the quotas do not admit a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Denied: there is no room.
    Exceeded {
        /// The message, worded as ResourceQuota's.
        message: String,
        /// The exceeded quota.
        quota: String,
    },
    /// Not decided: retry.
    Contended(String),
    /// The object is invalid.
    Invalid(String),
    /// The object already exists, which kube-apiserver would report itself.
    Exists(String),
}

impl Quotas {
    /// The quotas of `world`. `client` must not retry requests by itself. `leading` says whether this replica holds the
    /// lease and settles, `interception` which kinds kube-apiserver sends to be counted, and `request_timeout` how long
    /// it works on a request.
    pub fn new(
        world: World,
        live: Live,
        client: kube::Client,
        metrics: Arc<Metrics>,
        leading: watch::Receiver<bool>,
        interception: watch::Receiver<Interception>,
        request_timeout: Duration,
    ) -> Self {
        let patience = request_timeout + BEYOND_TIMEOUT;
        let shared = Shared { world, live, client, metrics, leading, interception, patience };
        Self(Arc::new(Inner {
            shared,
            denials: Denials::default(),
            replacements: Replacements::new(patience),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            handles: Mutex::default(),
        }))
    }

    /// Runs a task for each quota until `stop`, and then until all have ended.
    pub async fn run(self, stop: CancellationToken) {
        let Inner { shared, denials, tasks, stop: end, .. } = &*self.0;
        let counting = tasks.spawn(denials.clone().run(shared.client.clone(), end.clone()));
        let mut changed = shared.world.changed();
        let mut leading = shared.leading.clone();
        while !stop.is_cancelled() && !counting.is_finished() {
            let world = shared.world.snapshot();
            self.keep(&world);
            if *leading.borrow_and_update() {
                for broken in world.broken_quotas.iter() {
                    if let Some(object) = world.tenant_quotas.get(&broken.name) {
                        status::report_broken(&shared.client, object, broken).await;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = async {
                    // The world changes constantly, quotas rarely.
                    tokio::time::sleep(BROKEN).await;
                    let _ = changed.changed().await;
                } => {}
                Ok(()) = leading.changed() => {}
            }
        }
        end.cancel();
        tasks.close();
        tasks.wait().await;
    }

    /// Keeps one task for each existing quota.
    fn keep(&self, world: &Snapshot) {
        for quota in world.quotas.iter() {
            self.handle(&quota.name);
        }
        let mut handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|name, _| world.quotas.iter().any(|quota| *quota.name == **name));
    }

    fn handle(&self, quota: &str) -> mpsc::Sender<Job> {
        let mut handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        match handles.get(quota) {
            Some(handle) if !handle.is_closed() => handle.clone(),
            _ => {
                let (handle, jobs) = mpsc::channel(QUEUE);
                let name = Str::from(quota);
                let committer = Committer::new(Str::clone(&name), self.0.shared.clone(), jobs);
                self.0.tasks.spawn(committer.run(self.0.stop.clone()));
                handles.insert(name, handle.clone());
                handle
            }
        }
    }

    /// The verdict of the quotas of a namespace on a request. `over` are these quotas, by name; if none limits the
    /// resource, the request need not be read: see [`Quotas::concerned`].
    pub async fn review(&self, over: &[Arc<CompiledQuota>], request: QuotaRequest<'_>) -> Verdict {
        let shared = &self.0.shared;
        let left = request.until.saturating_duration_since(Instant::now());
        let until = Instant::now() + left.mul_f64(SHARE);
        let world = shared.world.snapshot();
        let change = match usage_change::of(&request, &world, &shared.live).await {
            Ok(change) => change,
            Err(UsageChangeError::Invalid(message)) => return Err(Refusal::Invalid(message)),
            Err(UsageChangeError::Unknown(message)) => {
                return Err(Refusal::Contended(format!("{message}: try again")));
            }
        };
        if let Some(name) = usage_change::taken(&request, &change, &world, &shared.live).await {
            return Err(Refusal::Exists(format!("{} {name:?} already exists", request.resource)));
        }
        drop(world);
        let replaced = change.charge.as_ref().zip(change.replacement.as_ref());
        let replaced = replaced.map(|(charge, amounts)| Replacement {
            uid: &charge.uid,
            namespace: request.namespace,
            amounts,
            dry_run: request.dry_run,
        });
        if let Some(new) = replaced {
            let admitted = self.0.replacements.admit(&shared.world, over, new, until).await;
            if let Err(Refused { quota, why }) = admitted {
                return Err(self.exceeded(&quota, &request, &change, &why));
            }
        }
        let verdict = self.decide(over, &request, &change, until).await;
        if let Some(new) = replaced.filter(|_| verdict.is_err()) {
            self.0.replacements.withdraw(new.uid);
        }
        verdict
    }

    /// The verdict of the quotas on what a request asks for.
    async fn decide(
        &self,
        over: &[Arc<CompiledQuota>],
        request: &QuotaRequest<'_>,
        change: &UsageChange,
        until: Instant,
    ) -> Verdict {
        let shared = &self.0.shared;
        let count = |quota: &str, outcome: &str| {
            shared.metrics.count_quota_decision(quota, DryRun(request.dry_run), outcome);
        };
        if let Some(why) = over.iter().find_map(|quota| change.shrunk_under(quota)) {
            return Err(Refusal::Invalid(why));
        }
        let mut admission = Admission::default();
        for quota in over {
            let Some(unstated) = change.unstated_under(quota) else { continue };
            let message = denial::unstated(&quota.name, &unstated);
            match quota.enforcement {
                Enforcement::Deny => return Err(self.exceeded(quota, request, change, &message)),
                Enforcement::Warn => admission.warn(request, change, &message),
                Enforcement::Audit => admission.audit(),
            }
        }
        let mut charged: Vec<(&CompiledQuota, Proposal, i64)> = Vec::new();
        for quota in over.iter().filter(|quota| usage_change::concerns(quota, request.resource)) {
            let name = &*quota.name;
            admission.quotas.push(name.to_owned());
            let denies = quota.enforcement == Enforcement::Deny;
            let refusal = match self.ask(quota, change, request.dry_run, until).await {
                Some(Outcome::Charged(Charged { receipt, exceeds })) => {
                    let forced = change.charge.as_ref().is_some_and(|charge| charge.forced);
                    if let (Some(receipt), Some(proposal)) = (receipt, &change.charge) {
                        charged.push((quota, proposal.clone(), receipt));
                    }
                    match exceeds.filter(|_| !denies && !forced) {
                        Some(exceeds) if quota.enforcement == Enforcement::Warn => {
                            admission.warn(request, change, &exceeds.message(name));
                            count(name, "warned");
                        }
                        Some(_) => {
                            admission.audit();
                            count(name, "audited");
                        }
                        None => count(name, "admitted"),
                    }
                    continue;
                }
                Some(Outcome::Exceeded { exceeded, .. }) => {
                    let going = because_of_going(&shared.world.snapshot(), quota, &exceeded);
                    self.exceeded(quota, request, change, &(exceeded.message(name) + &going))
                }
                _ => {
                    count(name, "contended");
                    // A quota that does not deny never blocks a request; settling adds what the ledger lacks now.
                    if !denies {
                        continue;
                    }
                    Refusal::Contended(format!("quota {name:?} could not be charged in time: try again"))
                }
            };
            for (quota, proposal, receipt) in charged {
                self.withdraw(quota, proposal, receipt);
            }
            return Err(refusal);
        }
        Ok(admission)
    }

    /// Denies the request, and counts the denial.
    fn exceeded(
        &self,
        quota: &CompiledQuota,
        request: &QuotaRequest<'_>,
        change: &UsageChange,
        why: &str,
    ) -> Refusal {
        let Inner { shared, denials, .. } = &*self.0;
        shared.metrics.count_quota_decision(&quota.name, DryRun(request.dry_run), "exceeded");
        if !request.dry_run {
            denials.count(&quota.name, &quota.uid, request.namespace, why);
        }
        let message = denial::forbidden(request.resource, &change.name, why);
        Refusal::Exceeded { message, quota: quota.name.clone() }
    }

    /// Whether any of the quotas of a namespace limits what objects of the resource use.
    pub fn concerned(over: &[Arc<CompiledQuota>], resource: &gatehouse_quota::GroupResource) -> bool {
        over.iter().any(|quota| usage_change::concerns(quota, resource))
    }

    /// What a quota decides about what a request asks for; `None` if it does not decide in time.
    async fn ask(
        &self,
        quota: &CompiledQuota,
        change: &UsageChange,
        dry_run: bool,
        until: Instant,
    ) -> Option<Outcome> {
        let mut admitted = Charged::default();
        let denies = quota.enforcement == Enforcement::Deny;
        if let Some(growth) = &change.ceiling {
            let ceiling = quota.relevant(&growth.ceiling);
            if !ceiling.is_empty() {
                let instead_of = quota.relevant(&growth.instead_of);
                let asked = Asked::Ceiling { ceiling, instead_of, forced: !denies };
                match self.send(quota, asked, until).await? {
                    Outcome::Charged(charged) => admitted = charged,
                    outcome => return Some(outcome),
                }
            }
        }
        let grows = |proposal: &&Proposal| {
            proposal.new.iter().any(|(dimension, quantity)| {
                *quantity > proposal.old.get(dimension) && quota.hard.contains_key(dimension)
            })
        };
        let Some(proposal) = change.charge.as_ref().filter(grows) else {
            return Some(Outcome::Charged(admitted));
        };
        let proposal = Proposal { forced: proposal.forced || !denies, ..proposal.clone() };
        let asked = if dry_run { Asked::Try(proposal) } else { Asked::Charge(proposal) };
        Some(match self.send(quota, asked, until).await? {
            Outcome::Charged(Charged { exceeds, receipt }) => {
                Outcome::Charged(Charged { exceeds: exceeds.or(admitted.exceeds), receipt })
            }
            Outcome::NoIncrease | Outcome::Superseded => Outcome::Charged(admitted),
            outcome => outcome,
        })
    }

    /// What a quota's task answers; `None` if it does not answer in time.
    async fn send(&self, quota: &CompiledQuota, asked: Asked, until: Instant) -> Option<Outcome> {
        let (job, outcome) = Job::new(asked, until);
        self.handle(&quota.name).try_send(job).ok()?;
        tokio::time::timeout_at(until, outcome).await.ok()?.ok()
    }

    /// Withdraws a charge without waiting. If that fails, the charge expires.
    fn withdraw(&self, quota: &CompiledQuota, proposal: Proposal, receipt: i64) {
        /// Long enough for some hundred writes of a busy ledger.
        const PATIENCE: Duration = Duration::from_secs(10);
        let (job, _) = Job::new(Asked::Withdraw(proposal, receipt), Instant::now() + PATIENCE);
        let _ = self.handle(&quota.name).try_send(job.unanswered());
    }
}

impl Admission {
    /// Admits with a warning, which takes precedence over an audit.
    fn warn(&mut self, request: &QuotaRequest<'_>, change: &UsageChange, message: &str) {
        self.warnings.push(format!("{} {:?}: {message}", request.resource, change.name));
        self.decision = Some("warned");
    }

    fn audit(&mut self) {
        self.decision = self.decision.or(Some("audited"));
    }
}
