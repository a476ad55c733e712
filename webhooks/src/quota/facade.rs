//! Answers reviews by the quotas of their namespace, and runs the quotas' tasks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_apiservice::{denial, policy::Enforcement};
use gatehouse_inventory::Str;
use gatehouse_quota::{CompiledQuota, Proposal};
use tokio::{sync::mpsc, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ask::{self, AskError, Facts, Question},
    commit::{Admission, Asked, Committer, Job, QUEUE, Refusal, Shared},
    denials::Denials,
    replacements::{Refused, Replacement, Replacements, because_of_going},
    settle::BEYOND_TIMEOUT,
    status,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Admitted and charged.
    Admit {
        /// Warnings for the requester.
        warnings: Vec<String>,
        /// The quotas that limit it.
        quotas: Vec<String>,
        /// `warned` or `audited`, if it exceeds a quota that does not deny.
        decision: Option<&'static str>,
    },
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
    pub async fn review(&self, over: &[Arc<CompiledQuota>], facts: Facts<'_>) -> Verdict {
        let shared = &self.0.shared;
        let left = facts.until.saturating_duration_since(Instant::now());
        let until = Instant::now() + left.mul_f64(SHARE);
        let world = shared.world.snapshot();
        let question = match ask::question(&facts, &world, &shared.live).await {
            Ok(question) => question,
            Err(AskError::Invalid(message)) => return Verdict::Invalid(message),
            Err(AskError::Unknown(message)) => return Verdict::Contended(format!("{message}: try again")),
        };
        if let Some(name) = ask::taken(&facts, &question, &world, &shared.live).await {
            return Verdict::Exists(format!("{} {name:?} already exists", facts.resource));
        }
        drop(world);
        let replaced = question.charge.as_ref().zip(question.replacement.as_ref());
        let replaced = replaced.map(|(charge, amounts)| Replacement {
            uid: &charge.uid,
            namespace: facts.namespace,
            amounts,
            dry_run: facts.dry_run,
        });
        if let Some(new) = replaced {
            let admitted = self.0.replacements.admit(&shared.world, over, new, until).await;
            if let Err(Refused { quota, why }) = admitted {
                return self.exceeded(&quota, &facts, &question, &why);
            }
        }
        let verdict = self.decide(over, &facts, &question, until).await;
        if let Some(new) = replaced
            && !matches!(verdict, Verdict::Admit { .. })
        {
            self.0.replacements.withdraw(new.uid);
        }
        verdict
    }

    /// The verdict of the quotas on what a request asks for.
    async fn decide(
        &self,
        over: &[Arc<CompiledQuota>],
        facts: &Facts<'_>,
        question: &Question,
        until: Instant,
    ) -> Verdict {
        let shared = &self.0.shared;
        let count = |quota: &str, outcome: &str| {
            shared.metrics.count_quota_decision(quota, DryRun(facts.dry_run), outcome);
        };
        if let Some(why) = over.iter().find_map(|quota| question.shrunk_under(quota)) {
            return Verdict::Invalid(why);
        }
        let (mut warnings, mut quotas, mut decision) = (Vec::new(), Vec::new(), None);
        for quota in over {
            let Some(unstated) = question.unstated_under(quota) else { continue };
            let message = denial::unstated(&quota.name, &unstated);
            match quota.enforcement {
                Enforcement::Deny => return self.exceeded(quota, facts, question, &message),
                Enforcement::Warn => {
                    warnings.push(format!("{} {:?}: {message}", facts.resource, question.name));
                    decision = Some("warned");
                }
                Enforcement::Audit => decision = decision.or(Some("audited")),
            }
        }
        let mut charged: Vec<(&CompiledQuota, Proposal, i64)> = Vec::new();
        for quota in over.iter().filter(|quota| ask::concerns(quota, facts.resource)) {
            let name = &*quota.name;
            quotas.push(name.to_owned());
            let denies = quota.enforcement == Enforcement::Deny;
            let verdict = match self.ask(quota, question, facts.dry_run, until).await {
                Ok(Admission { receipt, exceeds }) => {
                    let forced = question.charge.as_ref().is_some_and(|charge| charge.forced);
                    if let (Some(receipt), Some(proposal)) = (receipt, &question.charge) {
                        charged.push((quota, proposal.clone(), receipt));
                    }
                    match exceeds {
                        Some(exceeds) if !denies && !forced => {
                            let is_warn = quota.enforcement == Enforcement::Warn;
                            if is_warn {
                                let message = exceeds.message(name);
                                warnings.push(format!("{} {:?}: {message}", facts.resource, question.name));
                            }
                            let done = if is_warn { "warned" } else { "audited" };
                            // `warned` takes precedence over `audited`.
                            decision = if is_warn { Some(done) } else { decision.or(Some(done)) };
                            count(name, done);
                        }
                        _ => count(name, "admitted"),
                    }
                    continue;
                }
                // A quota that does not deny never blocks a request; settling adds what the ledger lacks now.
                Err(Refusal::Contended) if !denies => {
                    count(name, "contended");
                    continue;
                }
                Err(Refusal::Contended) => {
                    count(name, "contended");
                    Verdict::Contended(format!("quota {name:?} could not be charged in time: try again"))
                }
                Err(Refusal::Exceeded(exceeded)) => {
                    let going = because_of_going(&shared.world.snapshot(), quota, &exceeded);
                    self.exceeded(quota, facts, question, &(exceeded.message(name) + &going))
                }
            };
            for (quota, proposal, receipt) in charged {
                self.withdraw(quota, proposal, receipt);
            }
            return verdict;
        }
        Verdict::Admit { warnings, quotas, decision }
    }

    /// Denies the request, and counts the denial.
    fn exceeded(&self, quota: &CompiledQuota, facts: &Facts<'_>, question: &Question, why: &str) -> Verdict {
        let Inner { shared, denials, .. } = &*self.0;
        shared.metrics.count_quota_decision(&quota.name, DryRun(facts.dry_run), "exceeded");
        if !facts.dry_run {
            denials.count(&quota.name, &quota.uid, why);
        }
        let message = denial::forbidden(facts.resource, &question.name, why);
        Verdict::Exceeded { message, quota: quota.name.clone() }
    }

    /// Whether any of the quotas of a namespace limits what objects of the resource use.
    pub fn concerned(over: &[Arc<CompiledQuota>], resource: &gatehouse_quota::GroupResource) -> bool {
        over.iter().any(|quota| ask::concerns(quota, resource))
    }

    async fn ask(
        &self,
        quota: &CompiledQuota,
        question: &Question,
        dry_run: bool,
        until: Instant,
    ) -> Result<Admission, Refusal> {
        let mut answer = Admission::default();
        let denies = quota.enforcement == Enforcement::Deny;
        if let Some(request) = &question.ceiling {
            let ceiling = quota.relevant(&request.ceiling);
            if !ceiling.is_empty() {
                let instead_of = quota.relevant(&request.instead_of);
                let asked = Asked::Ceiling { ceiling, instead_of, forced: !denies };
                answer = self.send(quota, asked, until).await?;
            }
        }
        let Some(proposal) = &question.charge else { return Ok(answer) };
        let grows = proposal.new.iter().any(|(dimension, quantity)| {
            *quantity > proposal.old.get(dimension) && quota.hard.contains_key(dimension)
        });
        if !grows {
            return Ok(answer);
        }
        let proposal = Proposal { forced: proposal.forced || !denies, ..proposal.clone() };
        let asked = if dry_run { Asked::Try(proposal) } else { Asked::Charge(proposal) };
        let Admission { receipt, exceeds } = self.send(quota, asked, until).await?;
        Ok(Admission { receipt, exceeds: exceeds.or(answer.exceeds) })
    }

    async fn send(&self, quota: &CompiledQuota, asked: Asked, until: Instant) -> Result<Admission, Refusal> {
        let (job, answer) = Job::new(asked, until);
        self.handle(&quota.name).try_send(job).map_err(|_| Refusal::Contended)?;
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::Contended),
        }
    }

    /// Withdraws a charge without waiting. If that fails, the charge expires.
    fn withdraw(&self, quota: &CompiledQuota, proposal: Proposal, receipt: i64) {
        /// Long enough for some hundred writes of a busy ledger.
        const PATIENCE: Duration = Duration::from_secs(10);
        let (job, _) = Job::new(Asked::Withdraw(proposal, receipt), Instant::now() + PATIENCE);
        let _ = self.handle(&quota.name).try_send(job.unanswered());
    }
}
