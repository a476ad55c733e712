//! What is asked of a quota's task, and what it says.

use std::time::Duration;

use gatehouse_quota::{Amounts, CompiledQuota, Exceeded, Ledger, Outcome, Proposal};
use tokio::{sync::oneshot, time::Instant};

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

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It is admitted.
    Admitted {
        /// With this the charge can be taken back.
        receipt: Option<i64>,
        /// What it exceeds, and is admitted all the same.
        exceeds: Option<Exceeded>,
    },
    /// There is no room.
    Exceeded(Exceeded),
    /// It could not be decided.
    Contended,
}

/// What a round has decided, if it is written.
pub(super) enum Decision {
    Done(Reply),
    Refuse(Exceeded),
    /// It cannot be decided on this ledger.
    Wait,
}

impl Decision {
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refuse(_))
    }

    fn admitted(receipt: Option<i64>, exceeds: Option<Exceeded>) -> Self {
        Self::Done(Reply::Admitted { receipt, exceeds })
    }
}

impl Job {
    /// Asks, and expects an answer until then.
    pub(crate) fn new(asked: Asked, until: Instant) -> (Self, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        // There must be time to read the ledger once more.
        let now = Instant::now();
        let may_refuse_at = now + ROOM.min(until.saturating_duration_since(now) / 2);
        (Self { asked, until, may_refuse_at, reply: Some(reply) }, answer)
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

    /// When something must be done about it at the latest.
    pub(super) fn due(&self) -> Instant {
        if self.may_refuse_at > Instant::now() { self.may_refuse_at } else { self.until }
    }

    /// Decides on `ledger`, and says whether that has changed.
    pub(super) fn decide(&self, ledger: &mut Ledger, quota: &CompiledQuota) -> (Decision, bool) {
        match &self.asked {
            // Nobody waits for it any more: what is charged now would only be in the way of others.
            _ if self.reply.as_ref().is_some_and(oneshot::Sender::is_closed) => {
                (Decision::Done(Reply::Contended), false)
            }
            Asked::Charge(proposal) => match ledger.propose(proposal, &quota.hard) {
                Outcome::Charged(charged) => (Decision::admitted(charged.receipt, charged.exceeds), true),
                outcome => (undecided(outcome), false),
            },
            Asked::Try(proposal) => match ledger.consider(proposal, &quota.hard) {
                Outcome::Charged(charged) => (Decision::admitted(None, charged.exceeds), false),
                outcome => (undecided(outcome), false),
            },
            Asked::Ceiling { ceiling, instead_of, forced } => {
                let exceeds = ledger.over_ceiling(ceiling, instead_of, &quota.hard);
                match exceeds {
                    Some(exceeded) if !forced => (Decision::Refuse(exceeded), false),
                    exceeds => (Decision::admitted(None, exceeds), false),
                }
            }
            Asked::Withdraw(proposal, receipt) => {
                let is_changed = ledger.withdraw(proposal, *receipt);
                (Decision::admitted(None, None), is_changed)
            }
        }
    }

    pub(super) fn answer(self, reply: Reply) {
        if let Some(sender) = self.reply {
            // Whoever asked may have gone.
            let _ = sender.send(reply);
        }
    }
}

fn undecided(outcome: Outcome) -> Decision {
    match outcome {
        Outcome::NoIncrease | Outcome::Superseded | Outcome::Charged(_) => Decision::admitted(None, None),
        Outcome::Exceeded(exceeded) => Decision::Refuse(exceeded),
        Outcome::Untracked(_) | Outcome::Full => Decision::Wait,
    }
}

/// Those whose time is not over; the others are told to try again.
pub(super) fn without_late(jobs: Vec<Job>, now: Instant) -> Vec<Job> {
    let (late, rest): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.until <= now);
    for job in late {
        job.answer(Reply::Contended);
    }
    rest
}
