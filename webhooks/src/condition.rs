//! A condition of a status: as old as what it says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How long a message may be: errors name every bad field, and there may be many.
const MESSAGE: usize = 1024;

/// What a condition is to say.
pub(crate) struct Proposed {
    pub(crate) of: &'static str,
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Proposed {
    /// As a condition of a status that had the `known` ones: one that says the same is as old as that was.
    pub(crate) fn since<'a>(
        self,
        known: impl IntoIterator<Item = &'a Condition>,
        generation: i64,
        now: Timestamp,
    ) -> Condition {
        let mut known = known.into_iter();
        let same = known.find(|known| known.type_ == self.of && known.status == self.status);
        // Whole seconds, as the API server keeps it: what is read back must equal what was written.
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

/// The message's beginning, if it is too long.
pub(crate) fn shortened(message: &str) -> String {
    match message.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
