//! The state rule of Pods.
//!
//! A pod that is on its way is Progressing, for a time. A container that waits for a reason of its own, or crashes, is
//! Failing: kubelet retries.
//!
//! **Invariant:** messages are stable while nothing changes but a counter or a back-off, so that a crash loop is one
//! event and not one per crash.

use std::borrow::Cow;

use super::object::{Condition, Container, ContainerState, Pod, Terminated};
use crate::{Deadline, End, Interner, Seconds, State, catalogue::Draft, flux::Text};

/// How long the scheduler may look for a node, with which an autoscaler may be busy.
const SCHEDULING: Seconds = 300;
/// How long a scheduled pod may take until it is ready: as long as the rollout of a Deployment does by default.
const STARTING: Seconds = 600;
/// As for other kinds: longer than any drain.
const DELETING: Seconds = 3600;
/// kubelet takes back the back-off of a container that has run for so long.
const RECOVERED: Seconds = 600;
/// From how many restarts on a container that runs again is not believed at once.
const CRASHES: i64 = 3;
/// The reason for a container that crashes again and again, in whichever part of the loop it is.
pub(crate) const CRASH_LOOP: &str = "CrashLoopBackOff";
/// kubelet's longest back-off by default, as its message has it, and a time of which only that one is longer.
const LONGEST_BACK_OFF: (&str, Seconds) = ("back-off 5m0s ", 240);
/// The sum of the back-offs before the longest: 10 s, and each twice the one before.
const BACK_OFFS: Seconds = 310;

/// Judges a pod.
pub(super) fn judge<'a>(pod: &'a Pod<'_>, interner: &Interner) -> Draft<'a> {
    let created = pod.metadata.creation_timestamp.map(|at| at.0);
    if let Some(deleted) = pod.metadata.deletion_timestamp {
        let draft = Draft {
            since: Some(deleted.0),
            message: "being deleted".into(),
            ..Draft::new(State::Terminating)
        };
        return until(draft, deleted.0, DELETING, End::State(State::Failed), "DeletionStuck", interner);
    }
    let Some(status) = &pod.status else { return Draft { since: created, ..Draft::new(State::Pending) } };
    let phase = text(status.phase.as_ref());
    match phase {
        "Succeeded" => return Draft::new(State::Ready),
        "Failed" => return failed(pod),
        _ => {}
    }
    let since = condition(pod, "Ready").and_then(|ready| ready.last_transition_time).map(|at| at.0);
    if let Some((draft, recovers)) = containers(pod).find_map(|container| trouble(container, since)) {
        return match recovers {
            Some(started) => until(draft, started, RECOVERED, End::State(State::Ready), "Running", interner),
            None => draft,
        };
    }
    if let Some(scheduled) =
        condition(pod, "PodScheduled").filter(|scheduled| scheduled.status.as_str() == "False")
    {
        let draft = said(scheduled, State::Progressing);
        // The controller that added a scheduling gate removes it; there is no time limit.
        let is_gated = &*draft.reason == "SchedulingGated";
        let since = draft.since.or(created).filter(|_| !is_gated);
        return match since {
            Some(since) => {
                let reason = draft.reason.to_string();
                until(draft, since, SCHEDULING, End::State(State::Failed), &reason, interner)
            }
            None => draft,
        };
    }
    let ready = condition(pod, "Ready");
    match ready {
        Some(ready) if ready.status.as_str() == "True" => Draft::new(State::Ready),
        Some(ready) => {
            let draft = said(ready, State::Progressing);
            let since = draft.since.or(created).unwrap_or_default();
            let reason = draft.reason.to_string();
            until(draft, since, STARTING, End::State(State::Failed), &reason, interner)
        }
        None => {
            let draft = Draft { since: created, ..Draft::new(State::Pending) };
            let since = status.start_time.map(|at| at.0).or(created).unwrap_or_default();
            until(draft, since, STARTING, End::State(State::Failed), "NotStarted", interner)
        }
    }
}

/// Init containers come first: the others wait for them.
fn containers<'a>(pod: &'a Pod<'_>) -> impl Iterator<Item = &'a Container<'a>> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default())
}

fn condition<'a>(pod: &'a Pod<'_>, type_: &str) -> Option<&'a Condition<'a>> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_.as_str() == type_)
}

/// What is wrong with a container; and since when it runs again, if it does and is not yet believed to stay.
fn trouble<'a>(container: &'a Container<'_>, since: Option<Seconds>) -> Option<(Draft<'a>, Option<Seconds>)> {
    let state = container.state.as_ref()?;
    let crashed = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let crashed = crashed.filter(|crash| crash.exit_code != 0);
    let name = container.name.as_str();
    let looped = crashed.and_then(|crash| looped_since(state, crash));
    let since = [since, looped].into_iter().flatten().min();
    let failing = |reason: Cow<'a, str>, message: String| Draft {
        reason,
        message: message.into(),
        since,
        ..Draft::new(State::Failing)
    };
    if let Some(waiting) = &state.waiting {
        let reason = text(waiting.reason.as_ref());
        let message = text(waiting.message.as_ref());
        return match reason {
            "" | "ContainerCreating" | "PodInitializing" => None,
            // Its own message counts the seconds of the back-off.
            CRASH_LOOP => Some((crash_loop(name, crashed, failing), None)),
            // kubelet alternates between the two: it tries, and it waits.
            "ErrImagePull" | "ImagePullBackOff" => {
                let reason = "ImagePullBackOff";
                Some((failing(reason.into(), container_message(name, reason, pull_error(message))), None))
            }
            _ => Some((failing(reason.into(), container_message(name, reason, message)), None)),
        };
    }
    if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
        return Some((crash_loop(name, Some(ended), failing), None));
    }
    let restarts = container.restart_count.unwrap_or_default();
    let crash = crashed.filter(|_| restarts > 0)?;
    let started = state.running.as_ref()?.started_at.map(|at| at.0)?;
    let is_ready = container.ready == Some(true);
    (!is_ready || restarts >= CRASHES)
        .then(|| (crash_loop(name, Some(crash), failing), is_ready.then_some(started)))
}

/// By when a container crashed for the first time, if it is at the longest back-off. The condition Ready tells only of
/// the last time that the pod was ready, for seconds.
fn looped_since(state: &ContainerState<'_>, crash: &Terminated<'_>) -> Option<Seconds> {
    let ended = crash.finished_at?.0;
    let (words, time) = LONGEST_BACK_OFF;
    let waits = state.waiting.as_ref().is_some_and(|waiting| text(waiting.message.as_ref()).contains(words));
    let started = state.running.as_ref().and_then(|running| running.started_at);
    let has_waited = started.is_some_and(|started| started.0 - ended >= time);
    (waits || has_waited).then_some(ended - BACK_OFFS)
}

/// The message is the same whether the container waits, runs again or has just ended.
fn crash_loop<'a>(
    name: &str,
    crash: Option<&Terminated<'_>>,
    failing: impl Fn(Cow<'a, str>, String) -> Draft<'a>,
) -> Draft<'a> {
    failing(CRASH_LOOP.into(), container_message(name, CRASH_LOOP, &crash.map(ended).unwrap_or_default()))
}

/// The error itself. While kubelet waits it repeats the last one:
/// `Back-off pulling image "shop:4": ErrImagePull: not found`.
fn pull_error(message: &str) -> &str {
    let waits = message.strip_prefix("Back-off pulling image ");
    waits.and_then(|rest| rest.split_once(": ErrImagePull: ")).map_or(message, |(_, error)| error)
}

fn container_message(container: &str, reason: &str, message: &str) -> String {
    let colon = if message.is_empty() { "" } else { ": " };
    format!("container {container}: {reason}{colon}{message}")
}

/// How a container ended: `exit code 137 (OOMKilled): …`.
fn ended(terminated: &Terminated<'_>) -> String {
    let mut words = format!("exit code {}", terminated.exit_code);
    let reason = text(terminated.reason.as_ref());
    if !reason.is_empty() {
        words = format!("{words} ({reason})");
    }
    let message = text(terminated.message.as_ref()).trim();
    if message.is_empty() { words } else { format!("{words}: {message}") }
}

/// A pod that has ended without success: a run of a Job, or one that was evicted.
fn failed<'a>(pod: &'a Pod<'_>) -> Draft<'a> {
    let ended_badly = |container: &&'a Container<'_>| {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code != 0)
    };
    let container = containers(pod).find(ended_badly);
    let crash =
        container.and_then(|container| Some((container, container.state.as_ref()?.terminated.as_ref()?)));
    let status = pod.status.as_ref();
    let reason = status.map_or("", |status| text(status.reason.as_ref()));
    let message = status.map_or("", |status| text(status.message.as_ref()));
    let since = condition(pod, "Ready").and_then(|ready| ready.last_transition_time).map(|at| at.0);
    let draft = Draft { since, ..Draft::new(State::Failed) };
    match crash {
        Some((container, crash)) if reason.is_empty() => Draft {
            reason: non_empty(text(crash.reason.as_ref()), "Error").into(),
            message: container_message(
                container.name.as_str(),
                non_empty(text(crash.reason.as_ref()), "Error"),
                &ended(crash),
            )
            .into(),
            since: crash.finished_at.map(|at| at.0).or(since),
            ..draft
        },
        _ => Draft { reason: non_empty(reason, "Failed").into(), message: message.into(), ..draft },
    }
}

fn said<'a>(condition: &'a Condition<'_>, state: State) -> Draft<'a> {
    Draft {
        reason: non_empty(text(condition.reason.as_ref()), condition.type_.as_str()).into(),
        message: text(condition.message.as_ref()).into(),
        since: condition.last_transition_time.map(|at| at.0),
        ..Draft::new(state)
    }
}

/// `draft` until `after` seconds have passed since `since`.
fn until<'a>(
    draft: Draft<'a>,
    since: Seconds,
    after: Seconds,
    end: End,
    reason: &str,
    interner: &Interner,
) -> Draft<'a> {
    let message = crate::catalogue::clip(&draft.message, crate::Verdict::MESSAGE_BYTES);
    let at = since.saturating_add(after);
    let deadline = Deadline {
        at,
        // The condition's message says all that there is to say.
        since: at,
        observed: false,
        end,
        reason: interner.intern(reason),
        message: interner.intern(message),
        passed: false,
        next: None,
    };
    Draft { deadline: Some(Box::new(deadline)), ..draft }
}

fn text<'a>(text: Option<&'a Text<'_>>) -> &'a str {
    text.map_or("", Text::as_str)
}

fn non_empty<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
