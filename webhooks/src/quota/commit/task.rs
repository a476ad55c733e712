//! The loop of a quota's task: when it acts, and for how long it lives.

use std::sync::Arc;

use gatehouse_quota::CompiledQuota;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Committer, SETTLE_FOR_ROOM};
use crate::quota::waiting;

/// How often the lease holder checks what no change announces: the status, a ledger that could not be created.
const IDLE: std::time::Duration = std::time::Duration::from_secs(5);

/// The least time between two looks, however urgent.
const SOON: std::time::Duration = std::time::Duration::from_millis(5);

impl Committer {
    /// Runs until `stop`, or until the quota is gone.
    pub(in crate::quota) async fn run(mut self, stop: CancellationToken) {
        while let Some(quota) = self.quota() {
            self.work(&quota).await;
            self.look_after(&quota);
            if self.jobs.is_closed() && self.jobs.is_empty() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.pause() => {}
            }
        }
        self.give_up().await;
    }

    fn quota(&self) -> Option<Arc<CompiledQuota>> {
        let world = self.shared.world.snapshot();
        world.quotas.iter().find(|quota| *quota.name == *self.name).cloned()
    }

    /// Background work: reads expired entries, and reports the status on the lease holder.
    fn look_after(&mut self, quota: &CompiledQuota) {
        let now = Instant::now();
        if self.reads.is_empty() {
            let overdue = self.entries.take_overdue(now);
            if !overdue.is_empty() {
                let world = self.shared.world.snapshot();
                self.reads.spawn(waiting::find(self.shared.live.clone(), world, overdue));
            }
        }
        if !*self.leading.borrow() {
            self.settler.reset();
            return;
        }
        self.cover(quota, now);
        let stands = self.base.as_ref().filter(|base| base.stands());
        let world = self.shared.world.snapshot();
        let interception = self.shared.interception.borrow().clone();
        let ledger = stands.map(|base| {
            let others = base.ledger.reserved(self.holder.name());
            (&base.ledger, self.holder.account.charge().saturating_add(&others))
        });
        self.reporter.report(&world, quota, ledger, &mut self.settler, &interception);
    }

    /// Gives the block back when the process ends, except for what covers uncounted admissions.
    async fn give_up(&mut self) {
        let Some(quota) = self.quota() else { return };
        if self.holder.written().is_some() && self.base.as_ref().is_some_and(super::Base::stands) {
            self.leave(&quota).await;
        }
    }

    /// Waits until there is work.
    async fn pause(&mut self) {
        let is_leading = *self.leading.borrow_and_update();
        let has_waiting = !self.waiting.is_empty();
        let next_look = self.round + if has_waiting { SETTLE_FOR_ROOM / 10 } else { SETTLE_FOR_ROOM };
        let has_duties = self.has_duties();
        let due = self.due(is_leading);
        let changed = &mut self.changed;
        let change = async {
            // The world changes constantly; the task looks at it at intervals.
            sleep_until(next_look).await;
            changed.changed().await
        };
        tokio::select! {
            () = std::future::ready(()), if !self.queue.is_empty() => {}
            job = self.jobs.recv() => self.queue.extend(job),
            _ = change, if is_leading || has_waiting || has_duties => {}
            changed = self.leading.changed() => {
                if changed.is_err() {
                    sleep_until(due).await;
                }
            }
            Some(found) = self.reads.join_next() => {
                self.entries.found(found.unwrap_or_default());
            }
            Some(found) = self.covers.join_next() => {
                self.covered(found.ok().flatten());
            }
            Some(found) = self.searches.join_next() => {
                self.found = found.ok();
            }
            () = sleep_until(due) => {}
        }
        let mut queue = std::mem::take(&mut self.queue);
        self.take_queued(&mut queue);
        self.queue = queue;
        sleep_until(self.not_before).await;
    }

    /// When the task must act at the latest.
    fn due(&self, is_leading: bool) -> Instant {
        let now = Instant::now();
        let waiting = self.waiting.iter().map(super::Job::due).min();
        let expiry = self.entries.next_expiry().filter(|_| self.reads.is_empty());
        let dead = self.settler.next_overdue().filter(|_| is_leading && self.covers.is_empty());
        // A change since the last look may have been skipped because it came too soon.
        let missed =
            (is_leading && self.settled_at + super::SETTLE > now).then_some(self.settled_at + super::SETTLE);
        let status = is_leading.then(|| self.reporter.next(now)).flatten();
        let dues = [
            waiting,
            expiry,
            dead.map(|dead| dead.max(now + IDLE / 5)),
            missed,
            status,
            self.next_duty(),
            self.turn,
        ];
        let soon = now + SOON;
        dues.into_iter().flatten().min().unwrap_or(now + IDLE).min(now + IDLE).max(soon)
    }
}
