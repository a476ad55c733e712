//! What is asked of a quota's task, and what it says.

use std::{collections::BTreeSet, time::Duration};

use gatehouse_quota::{Account, Amounts, Dimension, Exceeded, Outcome, Proposal, Totals};
use tokio::{sync::oneshot, time::Instant};

use super::RECALL_AGAIN;

/// How long a refusal waits for room to be found: what was deleted just before is seen, and settled, within some tens
/// of milliseconds as a rule.
const ROOM: Duration = Duration::from_secs(1);

/// Something to do.
pub(crate) struct Job {
    asked: Asked,
    /// Whoever asked is told to try again after this.
    until: Instant,
    /// A refusal is not given before this.
    may_refuse_at: Instant,
    /// The recall that was made for it, and when.
    recall: Option<(u64, Instant)>,
    reply: Option<oneshot::Sender<Reply>>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// To charge a request.
    Charge(Proposal),
    /// What would become of a request, which is not made.
    Try(Proposal),
    /// Whether a fleet might grow so far.
    Ceiling {
        /// What it would take up then.
        ceiling: Amounts,
        /// What it takes up.
        instead_of: Amounts,
        /// Whether that is admitted in any case.
        forced: bool,
    },
    /// To take back what was charged.
    Withdraw(Proposal, i64),
}

/// What a quota answers.
pub(crate) type Reply = Result<Admission, Refusal>;

/// A request that a quota admits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// With this the charge can be taken back.
    pub(crate) receipt: Option<i64>,
    /// What it exceeds, and is admitted all the same.
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

/// What a round has decided, if it is written.
pub(super) enum Decision {
    Done(Reply),
    Refuse(Exceeded),
    /// Only other blocks stand in the way: their replicas are to be asked for what they do not need, if that is not done
    /// already.
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
    /// Asks, and expects an answer until then.
    pub(crate) fn new(asked: Asked, until: Instant) -> (Self, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        // There must be time to read the ledger once more.
        let now = Instant::now();
        let may_refuse_at = now + ROOM.min(until.saturating_duration_since(now) / 2);
        (Self { asked, until, may_refuse_at, recall: None, reply: Some(reply) }, answer)
    }

    /// Nobody waits for the answer.
    pub(crate) fn unanswered(self) -> Self {
        Self { reply: None, ..self }
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn may_refuse_at(&self) -> Instant {
        self.may_refuse_at
    }

    /// When something is to be done about it.
    pub(super) fn due(&self) -> Instant {
        let now = Instant::now();
        let again = self.recall.map(|(_, at)| at + RECALL_AGAIN);
        let dues = [Some(self.may_refuse_at), again, Some(self.until)];
        dues.into_iter().flatten().filter(|due| *due > now).min().unwrap_or(self.until)
    }

    /// The answer, if it takes no write: the block covers it, or it takes something back.
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

    /// Nobody waits for it any more: what is charged now would only be in the way of others.
    fn is_forgotten(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Decides, if the block may grow or not; what is admitted here is not to be told before it is written.
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
                // Whether there is room is found out where the block may grow; that there is none, before.
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

    /// What there is no room for is refused when nobody holds room that is not needed.
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

    /// A recall is made for it.
    pub(super) fn recalled(&mut self, number: u64, now: Instant) {
        self.recall = Some((number, now));
    }

    pub(super) fn answer(self, reply: Reply) {
        if let Some(sender) = self.reply {
            // Whoever asked may have gone.
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

/// Those whose time is not over; the others are told to try again.
pub(super) fn without_late(jobs: Vec<Job>, now: Instant) -> Vec<Job> {
    let (late, rest): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.until <= now);
    for job in late {
        job.answer(Err(Refusal::Contended));
    }
    rest
}
