//! Ends suspensions at their `until`.
//!
//! Every replica does, since the write is for one version of the object: the first one ends the suspension, the others
//! find that it has ended. Admission judges the end as a change by Gatehouse, so a freeze delays it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use gatehouse_apiservice::{annotation::SUSPENDED_UNTIL, client::jittered};
use gatehouse_inventory::ObjectKey;
use gatehouse_serving::ApiError;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Actions, Ask,
    body::Preconditions,
    report::{Action, Deed},
    suspension::resumed,
};

/// The longest sleep, so that a correction of the wall clock takes effect.
const LOOK: Duration = Duration::from_secs(30);
/// How long an object that was looked at is left alone: until its change is observed, or, after a failure, until the
/// next attempt.
const AGAIN: Duration = Duration::from_secs(15);

/// Runs until `stop` is cancelled.
pub(super) async fn run(actions: Arc<Actions>, stop: CancellationToken) {
    let ending = async {
        let mut looked_at: HashMap<ObjectKey, Instant> = HashMap::new();
        loop {
            let (due, next) = actions.observed.ends(Timestamp::now().as_second());
            looked_at.retain(|key, _| due.contains(key));
            for key in due {
                let is_left_alone = looked_at.get(&key).is_some_and(|at| at.elapsed() < AGAIN);
                if !is_left_alone {
                    if let Err(error) = actions.end(&key).await {
                        tracing::info!(%error, "a suspension is over and cannot be ended yet");
                    }
                    looked_at.insert(key, Instant::now());
                }
            }
            let wait = next.map_or(LOOK, until).min(if looked_at.is_empty() { LOOK } else { AGAIN });
            tokio::select! {
                () = sleep(jittered(wait, Duration::from_millis(200))) => {}
                () = actions.observed.changed.notified() => {}
            }
        }
    };
    stop.run_until_cancelled(ending).await;
}

fn until(second: i64) -> Duration {
    let Ok(at) = Timestamp::from_second(second) else { return LOOK };
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
}

impl Actions {
    /// Ends the suspension of an object, or removes what an earlier one has left.
    async fn end(&self, key: &ObjectKey) -> Result<(), ApiError> {
        let target = self.target_of(&self.local, key.kind, &key.namespace, &key.name)?;
        let ask = Ask::own(&self.access, &key.namespace);
        let live = match target.get(&ask.call).await {
            Err(error) if error.code() == StatusCode::NOT_FOUND => return Ok(()),
            live => live?,
        };
        let Some(until) = live.annotation(SUSPENDED_UNTIL).map(str::to_owned) else { return Ok(()) };
        if live.ensure_acted_on(&target, &Preconditions::default()).is_err() {
            return Ok(());
        }
        // Another suspension may have followed before this one was seen to have ended.
        let suspension = target.suspension();
        if !live.is_suspended(suspension) || live.is_left(suspension, SUSPENDED_UNTIL) {
            let patch = json!({"metadata": {"annotations": {SUSPENDED_UNTIL: Value::Null}}});
            return target.patch(&live, patch, &ask.call).await.map(drop);
        }
        if until.parse::<Timestamp>().is_ok_and(|at| at > Timestamp::now()) {
            return Ok(());
        }
        if let Some(freeze) = live.frozen_by(target.suspension()) {
            return Err(ApiError::conflict(target.subject(), format!("the freeze {freeze} holds it")));
        }
        let written = target.patch(&live, resumed(&target), &ask.call).await?;
        let detail = format!(": its suspension was until {until}");
        self.reports.report(
            &ask,
            &target,
            &written,
            &Deed { action: Action::Resume, reason: None, detail: &detail },
        );
        Ok(())
    }
}
