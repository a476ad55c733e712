//! Decides how a cluster is observed: through its Gatehouse where that answers, directly where there is none.
//!
//! A Gatehouse that does not answer is waited for, since it may be restarted, and since kube-apiserver answers that there
//! is none before it has read its registration. A cluster that does not answer at all changes nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::relay::{Found, Gatehouse};

/// How long a Gatehouse may be missing from a cluster that has shown rows of it.
const ABSENT: Duration = Duration::from_secs(15);
/// How long it may fail to answer.
const FAILING: Duration = Duration::from_secs(45);
/// When to look again while a Gatehouse is waited for.
const SOON: Duration = Duration::from_secs(5);
/// When to look for one in a cluster that is observed directly.
const LATER: Duration = Duration::from_secs(30);
/// When to look again for one that answers. It is also looked for when its rows can no longer be watched.
const MUCH_LATER: Duration = Duration::from_mins(10);

/// How a cluster is observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Its objects are watched.
    Direct,
    /// The rows of its Gatehouse are shown.
    Views(Gatehouse),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Decider {
    /// The way that was decided on last.
    way: Option<Way>,
    missed_since: Option<Instant>,
}

/// What to do, and when to look again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) way: Way,
    pub(super) next: Duration,
    /// What the row of the cluster says of a Gatehouse whose rows are not shown.
    pub(super) lacks: Option<String>,
}

impl Decider {
    /// Forgets what was decided: the cluster may be another one.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    pub(super) fn decide(&mut self, found: Found, now: Instant) -> Decision {
        let lacks = match &found {
            Found::Failing(why) => Some(format!("its Gatehouse does not show its views: {why}")),
            _ => None,
        };
        let patience = match &found {
            Found::Absent => Some(ABSENT),
            Found::Failing(_) => Some(FAILING),
            Found::Gatehouse(_) | Found::Unanswered => None,
        };
        let next = match (found, self.way.take()) {
            (Found::Gatehouse(gatehouse), _) => {
                self.missed_since = None;
                self.way = Some(Way::Views(gatehouse));
                MUCH_LATER
            }
            (_, Some(Way::Views(gatehouse))) => {
                let is_missed =
                    patience.is_some_and(|patience| now - *self.missed_since.get_or_insert(now) >= patience);
                if is_missed {
                    (self.way, self.missed_since) = (Some(Way::Direct), None);
                    LATER
                } else {
                    self.way = Some(Way::Views(gatehouse));
                    SOON
                }
            }
            (_, way) => {
                self.way = way.or(Some(Way::Direct));
                LATER
            }
        };
        let way = self.way.clone().unwrap_or(Way::Direct);
        // While its rows are shown, these say themselves that they may be stale.
        let lacks = lacks.filter(|_| way == Way::Direct);
        Decision { way, next, lacks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gatehouse(name: &str) -> Gatehouse {
        Gatehouse { name: name.into(), unknown: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gatehouse_is_used_at_once_and_waited_for_when_it_is_missed() {
        let mut decider = Decider::default();
        let mut decide = |found, after| {
            let Decision { way, next, lacks } =
                decider.decide(found, Instant::now() + Duration::from_secs(after));
            (way, next, lacks.is_some())
        };
        let views = |name| Way::Views(gatehouse(name));
        let failing = || Found::Failing("503".to_owned());
        assert_eq!(decide(Found::Unanswered, 0), (Way::Direct, LATER, false));
        assert_eq!(decide(failing(), 1), (Way::Direct, LATER, true));
        assert_eq!(decide(Found::Gatehouse(gatehouse("a")), 2), (views("a"), MUCH_LATER, false));
        assert_eq!(decide(Found::Gatehouse(gatehouse("b")), 3), (views("b"), MUCH_LATER, false));
        assert_eq!(decide(failing(), 10), (views("b"), SOON, false));
        assert_eq!(decide(Found::Unanswered, 100), (views("b"), SOON, false), "the cluster is silent");
        assert_eq!(decide(Found::Gatehouse(gatehouse("b")), 110), (views("b"), MUCH_LATER, false));
        assert_eq!(decide(Found::Absent, 120), (views("b"), SOON, false));
        assert_eq!(decide(Found::Absent, 134), (views("b"), SOON, false));
        assert_eq!(decide(Found::Absent, 135), (Way::Direct, LATER, false));
        assert_eq!(decide(Found::Absent, 165), (Way::Direct, LATER, false));
    }
}
