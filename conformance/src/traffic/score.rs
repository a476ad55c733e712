//! What came of it all.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many are kept of each sort; the others are only counted.
const KEPT: usize = 50;

/// Something that should not have been.
#[derive(Debug, Clone)]
pub struct Incident {
    /// Since the beginning.
    pub after: Duration,
    /// Who saw it.
    pub client: &'static str,
    /// What was said.
    pub text: String,
}

impl Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s, {}: {}", self.after.as_secs_f32(), self.client, self.text)
    }
}

/// What clients have seen.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How many requests came out as they should, by client.
    pub succeeded: BTreeMap<&'static str, u64>,
    /// How many did not.
    pub failed: u64,
    /// The first of those.
    pub failures: Vec<Incident>,
    /// What was forbidden and done all the same. Nothing is worse.
    pub unadmitted: Vec<Incident>,
}

impl Outcome {
    /// All requests that came out as they should.
    pub fn total(&self) -> u64 {
        self.succeeded.values().sum()
    }

    /// Those of one client.
    pub fn of(&self, client: &str) -> u64 {
        self.succeeded.get(client).copied().unwrap_or_default()
    }

    /// Says what failed, if anything did.
    pub fn without_failure(&self) -> anyhow::Result<()> {
        let lines = |incidents: &[Incident]| {
            let lines: Vec<_> = incidents.iter().map(Incident::to_string).collect();
            lines.join("\n  ")
        };
        anyhow::ensure!(
            self.failed == 0 && self.unadmitted.is_empty(),
            "{} of {} requests failed:\n  {}\n{} unadmitted writes:\n  {}",
            self.failed,
            self.failed + self.total(),
            lines(&self.failures),
            self.unadmitted.len(),
            lines(&self.unadmitted),
        );
        Ok(())
    }
}

/// Where clients write down what they see.
#[derive(Clone)]
pub(super) struct Score {
    started: Instant,
    outcome: Arc<Mutex<Outcome>>,
}

impl Score {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), outcome: Arc::default() }
    }

    pub(super) fn succeeded(&self, client: &'static str) {
        *self.lock().succeeded.entry(client).or_default() += 1;
    }

    pub(super) fn failed(&self, client: &'static str, text: impl Display) {
        let incident = self.incident(client, text);
        let mut outcome = self.lock();
        outcome.failed += 1;
        if outcome.failures.len() < KEPT {
            outcome.failures.push(incident);
        }
    }

    pub(super) fn unadmitted(&self, client: &'static str, text: impl Display) {
        let incident = self.incident(client, text);
        self.lock().unadmitted.push(incident);
    }

    /// Notes an outcome that is one or the other. Says whether it was as it should be.
    pub(super) fn note<E: Display>(&self, client: &'static str, what: &str, outcome: Result<(), E>) -> bool {
        match outcome {
            Ok(()) => {
                self.succeeded(client);
                true
            }
            Err(error) => {
                self.failed(client, format_args!("{what}: {error}"));
                false
            }
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.lock().clone()
    }

    fn incident(&self, client: &'static str, text: impl Display) -> Incident {
        Incident { after: self.started.elapsed(), client, text: text.to_string() }
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        // Nothing that holds it can leave it half changed.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
