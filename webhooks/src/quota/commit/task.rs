//! When a quota's task does something, and for how long it lives.

use std::sync::Arc;

use gatehouse_quota::CompiledQuota;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Committer, ROUND, Reply, SETTLE, SETTLE_ALONG, SETTLE_FOR_ROOM};
use crate::quota::settle;

/// How often a leader looks at what has nothing to do with changes: its status, a ledger that could not be made.
const IDLE: std::time::Duration = std::time::Duration::from_secs(5);

impl Committer {
    /// Works until `stop`, or until there is no such quota any more.
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
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            self.queue.push(job);
        }
        for job in self.waiting.into_iter().chain(self.queue) {
            job.answer(Reply::Contended);
        }
    }

    fn quota(&self) -> Option<Arc<CompiledQuota>> {
        let world = self.shared.world.snapshot();
        world.quotas.iter().find(|quota| *quota.name == *self.name).cloned()
    }

    /// What the leader does beside: reads what has expired, and tells how things stand.
    fn look_after(&mut self, quota: &CompiledQuota) {
        if !*self.leading.borrow() {
            self.settler.reset();
            return;
        }
        let now = Instant::now();
        if self.reads.is_empty() {
            let overdue = self.settler.take_overdue(now);
            if !overdue.is_empty() {
                let world = self.shared.world.snapshot();
                let absent = self.settler.absent(now);
                self.reads.spawn(settle::find(self.shared.live.clone(), world, absent, overdue));
            }
        }
        let stands = self.base.as_ref().filter(|base| base.stands);
        let world = self.shared.world.snapshot();
        let interception = self.shared.interception.borrow().clone();
        let ledger = stands.map(|base| &base.ledger);
        self.reporter.report(&world, quota, ledger, &self.settler, &interception);
    }

    /// Waits until there is something to do.
    async fn pause(&mut self) {
        let is_leading = *self.leading.borrow_and_update();
        let has_waiting = !self.waiting.is_empty();
        let settle = if has_waiting { SETTLE_FOR_ROOM } else { SETTLE };
        let next_look = self.round.0 + settle;
        let due = self.due(is_leading);
        let changed = &mut self.changed;
        let change = async {
            // The world changes all the time; it is looked at once in a while.
            sleep_until(next_look).await;
            changed.changed().await
        };
        tokio::select! {
            job = self.jobs.recv() => self.queue.extend(job),
            _ = change, if is_leading || has_waiting => {}
            changed = self.leading.changed() => {
                if changed.is_err() {
                    sleep_until(due).await;
                }
            }
            Some(found) = self.reads.join_next() => {
                self.settler.found(found.unwrap_or_default());
            }
            () = sleep_until(due) => {}
        }
        let mut queue = std::mem::take(&mut self.queue);
        self.take_queued(&mut queue);
        let (began, requests) = self.round;
        if !queue.is_empty() && requests > 1 {
            // There are others who will ask within a moment.
            sleep_until(began + ROUND).await;
            self.take_queued(&mut queue);
        }
        self.queue = queue;
        sleep_until(self.not_before).await;
    }

    /// When something is to be done, whatever happens.
    fn due(&self, is_leading: bool) -> Instant {
        let now = Instant::now();
        let waiting = self.waiting.iter().map(super::Job::due).min();
        let expiry = self.settler.next_expiry().filter(|_| is_leading && self.reads.is_empty());
        // What changed since the last look was perhaps passed over for being too soon.
        let missed = (is_leading && self.settled_at + SETTLE_ALONG > now).then_some(now + SETTLE);
        let status = is_leading.then(|| self.reporter.next(now)).flatten();
        [waiting, expiry, missed, status].into_iter().flatten().min().unwrap_or(now + IDLE).min(now + IDLE)
    }
}
