//! Conditions of a status, whose `lastTransitionTime` changes only with their `status`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The maximum length of a message, in characters: errors name all invalid fields, which may be many.
const MESSAGE: usize = 1024;

/// The content of a condition.
pub(crate) struct Proposed {
    pub(crate) of: &'static str,
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Proposed {
    /// Converts to a condition. It keeps the transition time of the condition in `known` with the same type and status.
    pub(crate) fn since<'a>(
        self,
        known: impl IntoIterator<Item = &'a Condition>,
        generation: i64,
        now: Timestamp,
    ) -> Condition {
        let mut known = known.into_iter();
        let same = known.find(|known| known.type_ == self.of && known.status == self.status);
        // Whole seconds, as the API server stores them: a status that is read back must equal the one that was written.
        let now = || Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        Condition {
            type_: self.of.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message,
            observed_generation: Some(generation),
            last_transition_time: same.map_or_else(now, |same| same.last_transition_time.clone()),
        }
    }
}

/// Cuts a message that is too long.
pub(crate) fn shortened(message: &str) -> String {
    match message.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
