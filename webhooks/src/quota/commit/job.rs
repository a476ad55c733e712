//! A job for a quota's task. Its answer is the [`Outcome`] that the ledger gives.
//!
//! **Invariant:** a job that cannot be decided in its time is dropped without an answer: the client retries.

use std::{collections::BTreeSet, time::Duration};

use gatehouse_quota::{Account, Amounts, Charged, Dimension, Outcome, Proposal, Totals};
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
    reply: Option<oneshot::Sender<Outcome>>,
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

impl Job {
    /// A job that expects an answer by `until`.
    pub(crate) fn new(asked: Asked, until: Instant) -> (Self, oneshot::Receiver<Outcome>) {
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
    pub(super) fn admit(&self, account: &mut Account, totals: Totals<'_>, is_valid: bool) -> Option<Outcome> {
        match &self.asked {
            Asked::Charge(proposal) if is_valid => {
                let outcome = account.propose(proposal, totals, false);
                (!is_undecided(&outcome) && !matches!(outcome, Outcome::Exceeded { .. })).then_some(outcome)
            }
            Asked::Withdraw(proposal, _) if account.is_sent(&proposal.uid) => None,
            Asked::Withdraw(proposal, receipt) => {
                account.withdraw(proposal, *receipt);
                Some(Outcome::NoIncrease)
            }
            Asked::Charge(_) | Asked::Try(_) | Asked::Ceiling { .. } => None,
        }
    }

    /// Whether nobody waits for its answer any more: a charge now would only take room from others.
    pub(super) fn is_forgotten(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// The outcome of a round, with or without growth of the block. An admission must not be answered before the block
    /// is written, and a denial that is not certain not before other replicas have given back what they do not need.
    pub(super) fn decide(&self, account: &mut Account, totals: Totals<'_>, may_grow: bool) -> Outcome {
        match &self.asked {
            Asked::Charge(proposal) => match account.propose(proposal, totals, may_grow) {
                Outcome::Exceeded { exceeded, is_certain } => {
                    let dimensions: BTreeSet<Dimension> = exceeded.limited.keys().cloned().collect();
                    let is_answered = |number| totals.ledger.is_answered(number, totals.own, &dimensions);
                    let is_certain = is_certain || self.recall.is_some_and(|(number, _)| is_answered(number));
                    Outcome::Exceeded { exceeded, is_certain }
                }
                // Only a block that may grow shows that there is room; a certain lack of room shows before.
                Outcome::Beyond => match account.consider(proposal, totals) {
                    exceeded @ Outcome::Exceeded { is_certain: true, .. } => exceeded,
                    _ => Outcome::Beyond,
                },
                outcome => outcome,
            },
            Asked::Try(proposal) => account.consider(proposal, totals),
            Asked::Ceiling { ceiling, instead_of, forced } => {
                match account.over_ceiling(ceiling, instead_of, totals) {
                    Some(exceeded) if !forced => Outcome::Exceeded { exceeded, is_certain: true },
                    exceeds => Outcome::Charged(Charged { exceeds, receipt: None }),
                }
            }
            Asked::Withdraw(..) => Outcome::NoIncrease,
        }
    }

    /// Whether a denial of it that is not certain must be preceded by a recall now.
    pub(super) fn needs_recall(&self, now: Instant) -> bool {
        self.recall.is_none_or(|(_, at)| now >= at + RECALL_AGAIN)
    }

    /// A recall was made for it.
    pub(super) fn recalled(&mut self, number: u64, now: Instant) {
        self.recall = Some((number, now));
    }

    pub(super) fn answer(self, outcome: Outcome) {
        if let Some(sender) = self.reply {
            // The receiver may be gone.
            let _ = sender.send(outcome);
        }
    }
}

/// Whether an outcome is none yet: it cannot be decided on this ledger.
pub(super) fn is_undecided(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Beyond | Outcome::Untracked(_))
}
