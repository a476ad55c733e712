//! Objects whose pods crash in a loop.
//!
//! The numbers that a controller writes change with each restart: a pod is ready for seconds, and a Job counts no
//! container that is restarted in place. So the pods decide: an object with a pod that crashes has failed after a time,
//! until the pod has run for long enough, or is gone.

use crate::{
    Cluster, Deadline, Detail, End, Links, ObjectKey, Record, Seconds, State, Verdict, pod::CRASH_LOOP,
};

/// How long a pod may crash. A container is at kubelet's longest back-off after that time.
const LIMIT: Seconds = 300;

/// The reason for an object of which a pod crashes.
const PODS_CRASH: &str = "PodsCrash";

impl Cluster {
    /// The pod of `owner` that has crashed for longest.
    fn crashing_pod(&self, owner: &ObjectKey) -> Option<&Record> {
        let worst = self.record(self.below.worst(owner)?)?;
        let is_owned = worst.above.as_ref().is_some_and(|above| above.owner.as_ref() == Some(owner));
        let is_crashing = worst.verdict.state == State::Failing && *worst.verdict.reason == *CRASH_LOOP;
        (is_owned && is_crashing).then_some(worst)
    }
}

impl Record {
    /// Fails with a pod that crashes, now or in time. To be called after the own verdict has been restored. Of game
    /// servers their engine says whether they are healthy.
    pub(crate) fn crash_with_pods(&mut self, cluster: &Cluster, now: Seconds) {
        let links = match &self.detail {
            Detail::None => None,
            Detail::Linked(links) => Some(&**links),
            _ => return,
        };
        let judged = matches!(self.verdict.state, State::Ready | State::Progressing);
        let crash = cluster.crashing_pod(&self.key).filter(|_| judged);
        let Some((pod, since)) = crash.and_then(|pod| Some((pod, pod.verdict.since?))) else {
            let is_bare =
                |links: &Links| links.uses.is_empty() && links.series.is_none() && links.applied.is_none();
            if links.is_some_and(is_bare) {
                self.detail = Detail::None;
            }
            return;
        };
        if links.is_none() {
            let (own, layer) = (self.verdict.clone(), self.layer);
            let links = Links { own, layer, uses: Box::default(), series: None, applied: None };
            self.detail = Detail::Linked(Box::new(links));
        }
        let at = since.saturating_add(LIMIT);
        let message = format!("pod {}: {}", pod.key.name, pod.verdict.message);
        if at <= now {
            self.verdict = Verdict {
                state: State::Failed,
                last_outcome: None,
                reason: PODS_CRASH.into(),
                message: message.into(),
                since: Some(since),
                outcome_since: None,
                denied_by: None,
                deadline: None,
            };
        } else if self.verdict.due().is_none_or(|due| at < due) {
            let deadline = Deadline {
                at,
                since,
                observed: false,
                end: End::State(State::Failed),
                reason: PODS_CRASH.into(),
                message: message.into(),
                passed: false,
                next: self.verdict.deadline.take(),
            };
            self.verdict.deadline = Some(Box::new(deadline));
        }
    }
}
