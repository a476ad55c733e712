//! A job for a quota's task, and its answer.
//!
//! **Invariant:** a job that cannot be decided in its time is answered with [`Refusal::Contended`]: the client retries.

use std::{collections::BTreeSet, time::Duration};

use gatehouse_quota::{Account, Amounts, Dimension, Exceeded, Outcome, Proposal, Totals};
use tokio::{sync::oneshot, time::Instant};

use super::RECALL_AGAIN;

/// How long a denial waits for room to be found: a deletion just before is normally observed and settled within some
/// tens of milliseconds.
const ROOM: Duration = Duration::from_secs(1);

/// A job.
pub(crate) struct Job {
    asked: Asked,
    /// After this, the request is told to retry.
    until: Instant,
    /// A denial is not answered before this.
    may_refuse_at: Instant,
    /// The recall that was made for it, and when.
    recall: Option<(u64, Instant)>,
    reply: Option<oneshot::Sender<Reply>>,
}

/// The kind of a job.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// To charge a request.
    Charge(Proposal),
    /// To try a request without charging it: a dry run.
    Try(Proposal),
    /// To check whether a fleet may grow to a ceiling.
    Ceiling {
        /// Its usage then.
        ceiling: Amounts,
        /// Its usage now.
        instead_of: Amounts,
        /// Whether it is admitted even if it exceeds a limit.
        forced: bool,
    },
    /// To withdraw a charge.
    Withdraw(Proposal, i64),
}

/// The answer of a quota.
pub(crate) type Reply = Result<Admission, Refusal>;

/// A request that a quota admits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The ticket that the charge can be withdrawn with.
    pub(crate) receipt: Option<i64>,
    /// The limits that it exceeds although it is admitted.
    pub(crate) exceeds: Option<Exceeded>,
}

/// Why a quota does not admit a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no room.
    Exceeded(Exceeded),
    /// It could not be decided.
    Contended,
}

/// The decision of a round, valid once the block is written.
pub(super) enum Decision {
    Done(Reply),
    Refuse(Exceeded),
    /// Only other blocks leave no room: their replicas must give back what they do not need. `true` if a recall is yet
    /// to be made.
    Recall(bool),
    /// It cannot be decided on this ledger.
    Wait,
}

impl Decision {
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refuse(_))
    }

    fn admitted(receipt: Option<i64>, exceeds: Option<Exceeded>) -> Self {
        Self::Done(Ok(Admission { receipt, exceeds }))
    }
}

impl Job {
    /// A job that expects an answer by `until`.
    pub(crate) fn new(asked: Asked, until: Instant) -> (Self, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        // There must be time to read the ledger once more.
        let now = Instant::now();
        let may_refuse_at = now + ROOM.min(until.saturating_duration_since(now) / 2);
        (Self { asked, until, may_refuse_at, recall: None, reply: Some(reply) }, answer)
    }

    /// The job without anybody waiting for its answer.
    pub(crate) fn unanswered(self) -> Self {
        Self { reply: None, ..self }
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn may_refuse_at(&self) -> Instant {
        self.may_refuse_at
    }

    /// When the job must be looked at again.
    pub(super) fn due(&self) -> Instant {
        let now = Instant::now();
        let again = self.recall.map(|(_, at)| at + RECALL_AGAIN);
        let dues = [Some(self.may_refuse_at), again, Some(self.until)];
        dues.into_iter().flatten().filter(|due| *due > now).min().unwrap_or(self.until)
    }

    /// The answer, if it needs no write: the block covers the request, or it is a withdrawal.
    pub(super) fn admit(&self, account: &mut Account, totals: Totals<'_>, is_valid: bool) -> Option<Reply> {
        if self.is_forgotten() {
            return Some(Err(Refusal::Contended));
        }
        match &self.asked {
            Asked::Charge(proposal) if is_valid => match account.propose(proposal, totals, false) {
                Outcome::Charged(charged) => {
                    Some(Ok(Admission { receipt: charged.receipt, exceeds: charged.exceeds }))
                }
                Outcome::NoIncrease | Outcome::Superseded => Some(Ok(Admission::default())),
                Outcome::Full => Some(Err(Refusal::Contended)),
                Outcome::Beyond | Outcome::Exceeded { .. } | Outcome::Untracked(_) => None,
            },
            Asked::Withdraw(proposal, _) if account.is_sent(&proposal.uid) => None,
            Asked::Withdraw(proposal, receipt) => {
                account.withdraw(proposal, *receipt);
                Some(Ok(Admission::default()))
            }
            Asked::Charge(_) | Asked::Try(_) | Asked::Ceiling { .. } => None,
        }
    }

    /// Nobody waits for it any more: a charge now would only take room from others.
    fn is_forgotten(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Decides, with or without growth of the block; an admission must not be answered before the block is written.
    pub(super) fn decide(
        &self,
        account: &mut Account,
        totals: Totals<'_>,
        may_grow: bool,
        now: Instant,
    ) -> Decision {
        match &self.asked {
            _ if self.is_forgotten() => Decision::Done(Err(Refusal::Contended)),
            Asked::Charge(proposal) => match account.propose(proposal, totals, may_grow) {
                Outcome::Charged(charged) => Decision::admitted(charged.receipt, charged.exceeds),
                Outcome::Exceeded { exceeded, is_certain } => {
                    self.exceeded(exceeded, is_certain, totals, now)
                }
                // Only a block that may grow shows that there is room; a certain lack of room shows before.
                Outcome::Beyond => match account.consider(proposal, totals) {
                    Outcome::Exceeded { exceeded, is_certain: true } => Decision::Refuse(exceeded),
                    _ => Decision::Wait,
                },
                outcome => undecided(&outcome),
            },
            Asked::Try(proposal) => match account.consider(proposal, totals) {
                Outcome::Charged(charged) => Decision::admitted(None, charged.exceeds),
                Outcome::Exceeded { exceeded, .. } => Decision::Refuse(exceeded),
                outcome => undecided(&outcome),
            },
            Asked::Ceiling { ceiling, instead_of, forced } => {
                match account.over_ceiling(ceiling, instead_of, totals) {
                    Some(exceeded) if !forced => Decision::Refuse(exceeded),
                    exceeds => Decision::admitted(None, exceeds),
                }
            }
            Asked::Withdraw(..) => Decision::admitted(None, None),
        }
    }

    /// Denies a request without room only once no replica holds room that it does not need.
    fn exceeded(&self, exceeded: Exceeded, is_certain: bool, totals: Totals<'_>, now: Instant) -> Decision {
        let dimensions: BTreeSet<Dimension> = exceeded.limited.keys().cloned().collect();
        match self.recall {
            _ if is_certain => Decision::Refuse(exceeded),
            Some((number, _)) if totals.ledger.is_answered(number, totals.own, &dimensions) => {
                Decision::Refuse(exceeded)
            }
            Some((_, at)) if now < at + RECALL_AGAIN => Decision::Recall(false),
            _ => Decision::Recall(true),
        }
    }

    /// A recall was made for it.
    pub(super) fn recalled(&mut self, number: u64, now: Instant) {
        self.recall = Some((number, now));
    }

    pub(super) fn answer(self, reply: Reply) {
        if let Some(sender) = self.reply {
            // The receiver may be gone.
            let _ = sender.send(reply);
        }
    }
}

fn undecided(outcome: &Outcome) -> Decision {
    match outcome {
        Outcome::NoIncrease | Outcome::Superseded | Outcome::Charged(_) => Decision::admitted(None, None),
        Outcome::Full => Decision::Done(Err(Refusal::Contended)),
        Outcome::Exceeded { .. } | Outcome::Beyond | Outcome::Untracked(_) => Decision::Wait,
    }
}

/// The jobs whose time is not over; the others are told to retry.
pub(super) fn without_late(jobs: Vec<Job>, now: Instant) -> Vec<Job> {
    let (late, rest): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.until <= now);
    for job in late {
        job.answer(Err(Refusal::Contended));
    }
    rest
}
