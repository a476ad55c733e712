//! What every client of an API server here does alike: words for what went wrong, and waits that spread.

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};
use kube::core::Status;

use crate::UserInfo;

/// An error and its causes in one line, each once. Of what an API server refused: the server's own words.
///
/// kube's errors name the layer that they come from, repeat their sources, and put raw structures behind them.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(status) = of_type::<Status>(error) {
            texts.push(words(status));
            break;
        }
        next = error.source();
        if of_type(error).is_some_and(is_layer) {
            continue;
        }
        let text = error.to_string();
        let source = next.map(ToString::to_string).unwrap_or_default();
        // What an error says of its source, the source says itself.
        let own = text.strip_suffix(&source).map_or(text.as_str(), |own| own.trim_end_matches([':', ' ']));
        if !own.is_empty() {
            texts.push(own.to_owned());
        }
    }
    texts.join(": ")
}

/// Sources are in a box as often as not.
fn of_type<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    error.downcast_ref().or_else(|| error.downcast_ref().map(Box::<E>::as_ref))
}

/// Whether an error says nothing but where it was met.
fn is_layer(error: &kube::Error) -> bool {
    use kube::Error::{Api, HyperError, ReadEvents, Service};
    matches!(error, Api(_) | HyperError(_) | ReadEvents(_) | Service(_))
}

fn words(status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("the API server answered {}", status.code),
        ("", reason) => reason.to_owned(),
        (message, _) => message.to_owned(),
    }
}

/// The user as whom `client` authenticates, by a SelfSubjectReview. Its name is not empty.
pub async fn own_user(client: &kube::Client) -> Result<UserInfo, String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let asked = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = asked.map_err(|error| explain(&error))?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    let name = user.username.filter(|name| !name.is_empty()).ok_or("the answer names no user")?;
    let groups = user.groups.unwrap_or_default();
    Ok(UserInfo { name, groups, uid: user.uid.unwrap_or_default(), extra: user.extra.unwrap_or_default() })
}

/// A number that nobody can guess or repeat. The standard library's hashers are seeded by the operating system's random
/// numbers, and every new one hashes nothing to another number.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// `base`, and up to `more` beyond it, at random: who failed or started together must not come back together.
pub fn jittered(base: Duration, more: Duration) -> Duration {
    let share = u32::try_from(random() >> 32).unwrap_or(u32::MAX);
    base + more.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(message: &str, reason: &str) -> kube::Error {
        let (message, reason) = (message.to_owned(), reason.to_owned());
        kube::Error::Api(Status { code: 403, message, reason, ..Status::default() }.boxed())
    }

    /// One of ours, around kube's.
    #[derive(Debug, thiserror::Error)]
    #[error("Secret/a cannot be read")]
    struct Outer(#[source] Box<kube::Error>);

    /// One that names its source too.
    #[derive(Debug, thiserror::Error)]
    #[error("watch failed: {0}")]
    struct Repeating(#[source] kube::Error);

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        assert_eq!(explain(&api("secrets is forbidden", "Forbidden")), "secrets is forbidden");
        assert_eq!(explain(&api("", "Forbidden")), "Forbidden");
        assert_eq!(explain(&api("", "")), "the API server answered 403");
    }

    #[test]
    fn causes_are_told_once() {
        let text = std::fmt::Error.to_string();
        assert_eq!(explain(&kube::Error::ReadEvents(std::io::Error::other(std::fmt::Error))), text);
        assert_eq!(explain(&kube::Error::Service(Box::new(std::fmt::Error))), text);
        let outer = Outer(Box::new(kube::Error::Service(Box::new(std::fmt::Error))));
        assert_eq!(explain(&outer), format!("Secret/a cannot be read: {text}"));
        assert_eq!(explain(&Outer(Box::new(api("no", "")))), "Secret/a cannot be read: no");
        assert_eq!(explain(&Repeating(api("no", "Forbidden"))), "watch failed: no");
        let error = serde_json::from_str::<()>("{").unwrap_err();
        let expected = format!("Error deserializing response: {error}");
        assert_eq!(explain(&kube::Error::SerdeError(error)), expected);
    }

    #[test]
    fn waits_are_between_both_ends_and_differ() {
        let (base, more) = (Duration::from_secs(30), Duration::from_secs(6));
        let waits: Vec<_> = (0..100).map(|_| jittered(base, more)).collect();
        assert!(waits.iter().all(|wait| (base..=base + more).contains(wait)));
        assert!(waits.iter().any(|wait| wait != &waits[0]));
    }
}
