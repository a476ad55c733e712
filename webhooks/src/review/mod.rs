//! Reads an AdmissionReview, decides it, and writes the response.
//!
//! **Invariant:** nothing is admitted by accident. The validating webhooks deny a request that cannot be read, decided
//! or finished in time, with a message that says so. The mutating webhook never denies: it only patches. A response of
//! a validating webhook never carries a patch. A dry run gets the same answer as the real request, and has no side
//! effects.

mod answer;
mod blocking;
mod body;
mod body_memory;
mod freeze;
mod judge;
mod memory;
mod messages;
mod object;
mod own_kinds;
mod quotas;
mod request;
mod templates;
#[cfg(test)]
mod tests;
mod verdicts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_apiservice::registration::webhooks::{MUTATE_PATH, QUOTA_PATH, VALIDATE_PATH};
use gatehouse_serving::fair::FairShare;
use gatehouse_serving::pipeline::{Authorized, Handler, Holder};
use gatehouse_serving::{ApiError, Body};
use http::Response;

use crate::metrics::DryRun;

pub use answer::{Annotation, Answer};
use blocking::Lane;
use body::BodyReader;
pub use body::MAX_BODY;
pub use judge::Judge;
pub use memory::ReviewMemory;
pub use request::{Request, Unreadable};
pub use verdicts::Verdicts;

/// The paths that serve reviews.
pub const PATHS: &[&str] = &[MUTATE_PATH, VALIDATE_PATH, QUOTA_PATH];

/// The client should retry an undecided request after this time, in which a busy ledger is written about forty times.
const LATER: Duration = Duration::from_secs(1);

/// The most bytes of all unsent patches that restore an old object. Such a patch can have several megabytes. The
/// clients share the room fairly.
const RESTORING: usize = 32 << 20;

/// Answers reviews.
pub struct Reviews {
    reader: BodyReader,
    judge: Judge,
    lane: Lane,
    restoring: Arc<FairShare<Holder>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Webhook {
    Mutate,
    Validate,
    Quota,
}

impl Webhook {
    fn at(path: &str) -> Option<Self> {
        match path {
            MUTATE_PATH => Some(Self::Mutate),
            VALIDATE_PATH => Some(Self::Validate),
            QUOTA_PATH => Some(Self::Quota),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
            Self::Quota => "quota",
        }
    }
}

impl Reviews {
    /// Decides reviews by `judge`.
    pub fn new(judge: Judge) -> Self {
        Self { reader: BodyReader::new(), judge, lane: Lane::new(), restoring: FairShare::new(RESTORING) }
    }

    /// Answers a request as that of the user for whom it is sent.
    async fn attribute(
        &self,
        webhook: Webhook,
        request: &mut Request<'_>,
        holder: Holder,
        until: tokio::time::Instant,
    ) -> Answer {
        match self.judge.attribute(request) {
            Ok(()) => self.answer(webhook, request, holder, until).await,
            // The validating webhooks get the same request, and deny it.
            Err(_) if webhook == Webhook::Mutate => Answer::allowed(),
            Err(why) => Answer::refused(why),
        }
    }

    async fn answer(
        &self,
        webhook: Webhook,
        request: &Request<'_>,
        holder: Holder,
        until: tokio::time::Instant,
    ) -> Answer {
        let decided = async {
            match webhook {
                Webhook::Mutate => Ok(self.judge.mutate(request, self.restoring.nothing(holder)).await),
                Webhook::Validate if own_kinds::is_own(request) => {
                    let compiled = own_kinds::compile(request, &self.judge.live, &self.judge.namespace).await;
                    compiled.map(|()| Answer::allowed())
                }
                Webhook::Validate => self.judge.validate(request, until).await,
                Webhook::Quota => self.judge.charge(request, until).await,
            }
        };
        match tokio::time::timeout_at(until, decided).await {
            Ok(answer) => answer.unwrap_or_else(Answer::refused),
            Err(_) if webhook == Webhook::Mutate => Answer::allowed(),
            Err(_) => Answer::refused(ApiError::try_again(
                "the request could not be decided in time: try again",
                LATER,
            )),
        }
    }
}

impl Handler for Reviews {
    async fn serve(&self, request: Authorized) -> Result<Response<Body>, ApiError> {
        let started = Instant::now();
        let webhook = Webhook::at(request.parts.uri.path()).ok_or_else(ApiError::no_such_path)?;
        let count = |operation: &str, dry_run: bool, outcome: &str| {
            let (metrics, webhook) = (&self.judge.metrics, webhook.as_str());
            metrics.count_review(webhook, operation, DryRun(dry_run), outcome, started.elapsed());
        };
        let holder = request.holder.clone();
        let read = async {
            let until = body::deadline(request.parts.uri.query().unwrap_or_default())?;
            let body = self.reader.read(&request.parts, request.holder, request.body, until).await?;
            Ok::<_, ApiError>((body, until))
        };
        // The body holds its room until this function returns.
        let (body, until) = read.await.inspect_err(|_| count("", false, "unreadable"))?;
        let (uid, answer, (operation, dry_run)) =
            match self.lane.work(body.bytes.len(), || Request::parse(&body.bytes)).await {
                Err(Unreadable::NotAReview(error)) => {
                    count("", false, "unreadable");
                    return Err(error);
                }
                // The validating webhooks get the same request, and deny it.
                Err(Unreadable::Refused { uid, .. }) if webhook == Webhook::Mutate => {
                    (uid, Answer::allowed(), ("", false))
                }
                Err(Unreadable::Refused { uid, why }) => (uid, Answer::refused(why), ("", false)),
                Ok(mut review) => {
                    let answer = self.attribute(webhook, &mut review, holder, until).await;
                    (review.uid.clone().into_owned(), answer, (review.operation.as_str(), review.dry_run))
                }
            };
        count(operation, dry_run, answer.outcome());
        Ok(answer.into_response(&uid))
    }
}
