//! Records the results of the traffic.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most failures that are kept; further ones are only counted.
const KEPT: usize = 50;

/// A wrong response.
#[derive(Debug, Clone)]
pub struct Incident {
    /// The time since the traffic started.
    pub after: Duration,
    /// The client that got it.
    pub client: &'static str,
    /// The text of the response or error.
    pub text: String,
}

impl Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s, {}: {}", self.after.as_secs_f32(), self.client, self.text)
    }
}

/// The results of all clients.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The number of requests with the right result, by client.
    pub succeeded: BTreeMap<&'static str, u64>,
    /// The number of other requests.
    pub failed: u64,
    /// The first of the failures.
    pub failures: Vec<Incident>,
    /// Forbidden writes that were admitted: the worst failures.
    pub unadmitted: Vec<Incident>,
}

impl Outcome {
    /// The number of all requests with the right result.
    pub fn total(&self) -> u64 {
        self.succeeded.values().sum()
    }

    /// The number of a client's requests with the right result.
    pub fn of(&self, client: &str) -> u64 {
        self.succeeded.get(client).copied().unwrap_or_default()
    }

    /// An error unless each client made enough requests for the result to mean something.
    pub fn took_place(&self, at_least: &[(&str, u64)]) -> anyhow::Result<()> {
        for &(client, at_least) in at_least {
            anyhow::ensure!(self.of(client) >= at_least, "{client}: {:?}", self.succeeded);
        }
        Ok(())
    }

    /// An error that lists the failures, if there are any.
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

/// Collects the results of clients.
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

    /// Records a result and returns whether it was a success.
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
        // No holder of the lock can leave the state inconsistent.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
