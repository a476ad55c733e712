//! Shares the verdict of the policies between the two webhooks that need it.
//!
//! kube-apiserver calls the policy webhook and the quota webhook at the same time, and both need the verdict. If a
//! policy has CEL that may run long, the second webhook takes the result of the first, or waits for it. Each webhook
//! gets its own uid for the same request, so requests are compared by content.
//!
//! **Invariant:** a verdict is shared once, with the other webhook, within [`SHARED_FOR`], and only under the same
//! compiled policies. If the two calls reach different replicas, each replica judges by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use gatehouse_policy::{Policy, Verb, Violation};
use gatehouse_serving::ApiError;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Webhook;
use super::request::Request;

/// How long a verdict is kept for the other webhook.
const SHARED_FOR: Duration = Duration::from_secs(2);
/// The most verdicts that are kept. A dropped one is computed again.
const MOST: usize = 256;

/// A policy, its violations without rights, and the verbs that it requires.
pub(super) struct Judged {
    pub(super) policy: Arc<Policy>,
    pub(super) violations: Vec<Violation>,
    pub(super) verbs: Vec<Verb>,
}

/// The verdict of all policies, whether objects held by a freeze are kept, and the name of the object.
pub(super) struct Verdict {
    pub(super) name: String,
    pub(super) kept: Result<(), ApiError>,
    pub(super) judged: Vec<Judged>,
}

/// The verdicts that the other webhook may take, and permits for long work.
pub struct Verdicts {
    waiting: Mutex<VecDeque<Waiting>>,
    turns: Arc<Semaphore>,
}

struct Waiting {
    asker: Webhook,
    content: Content,
    policies: Vec<Arc<Policy>>,
    since: Instant,
    verdict: Arc<OnceCell<Arc<Verdict>>>,
}

/// A digest of everything in a request that a verdict depends on.
type Content = [u8; 32];

impl Default for Verdicts {
    fn default() -> Self {
        let turns = thread::available_parallelism().map_or(2, usize::from);
        Self { waiting: Mutex::default(), turns: Arc::new(Semaphore::new(turns)) }
    }
}

impl Verdicts {
    /// Runs `judge`, or takes the verdict of the other webhook on the same request.
    pub(super) async fn once(
        &self,
        asker: Webhook,
        request: &Request<'_>,
        policies: &[Arc<Policy>],
        judge: impl AsyncFnOnce() -> Result<Verdict, ApiError>,
    ) -> Result<Arc<Verdict>, ApiError> {
        // Rules without long CEL take microseconds, which is not worth a digest.
        if !policies.iter().any(|policy| policy.may_take_long()) {
            return judge().await.map(Arc::new);
        }
        let verdict = self.shared(asker, content(request), policies);
        // An error is not shared: the other webhook judges by itself. It also does so if the first call is cancelled.
        verdict.get_or_try_init(async || judge().await.map(Arc::new)).await.cloned()
    }

    /// Waits for a permit for long work. There are as many as processors, which also bounds the memory of such work.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    fn shared(
        &self,
        asker: Webhook,
        content: Content,
        policies: &[Arc<Policy>],
    ) -> Arc<OnceCell<Arc<Verdict>>> {
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| now.duration_since(waiting.since) < SHARED_FOR);
        let is_same = |waiting: &Waiting| {
            waiting.asker != asker
                && waiting.content == content
                && waiting.policies.len() == policies.len()
                && waiting.policies.iter().zip(policies).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        if let Some(found) = waiting.iter().position(is_same).and_then(|at| waiting.remove(at)) {
            return found.verdict;
        }
        if waiting.len() == MOST {
            waiting.pop_front();
        }
        let verdict = Arc::default();
        let policies = policies.to_vec();
        waiting.push_back(Waiting { asker, content, policies, since: now, verdict: Arc::clone(&verdict) });
        verdict
    }
}

fn content(request: &Request<'_>) -> Content {
    let mut digest = Sha256::new();
    // Each field is preceded by its length, so that different requests have different input.
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    let resource = &request.resource;
    let texts = [
        request.operation.as_str(),
        &resource.group,
        &resource.version,
        &resource.resource,
        &request.kind.kind,
        &request.sub_resource,
        &request.namespace,
        &request.name,
        &request.options.field_manager,
        &request.user_info.name,
        if request.dry_run { "dry run" } else { "" },
        if request.by_gatehouse { "by Gatehouse" } else { "" },
    ];
    for text in texts {
        add(text.as_bytes());
    }
    let groups = &request.user_info.groups;
    add(&(groups.len() as u64).to_le_bytes());
    for group in groups {
        add(group.as_bytes());
    }
    for object in [request.object, request.old_object] {
        add(object.map_or("", |raw| raw.get()).as_bytes());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gatehouse_apiservice::policy::ReconcilePolicy;
    use serde_json::json;

    use super::super::request::testing::create;
    use super::*;

    fn policy() -> Arc<Policy> {
        let rule = json!({"expression": "object.spec.list.all(x, x > 0)"});
        let policy = json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "ReconcilePolicy",
            "metadata": {"name": "p"}, "spec": {"rules": {"cel": [rule]}},
        });
        let policy: ReconcilePolicy = serde_json::from_value(policy).expect("a policy");
        Arc::new(Policy::compile(&policy).expect("compiles"))
    }

    /// Counts how often the request is judged if these webhooks ask in this order.
    async fn judged(verdicts: &Verdicts, askers: &[(Webhook, &str, &[Arc<Policy>])]) -> usize {
        let times = AtomicUsize::new(0);
        for (asker, name, policies) in askers {
            let body = create("g", "things", &json!({"metadata": {"name": name}}));
            let request = Request::parse(&body).expect("a review");
            let judge = async || {
                times.fetch_add(1, Ordering::Relaxed);
                Ok(Verdict { name: (*name).to_owned(), kept: Ok(()), judged: Vec::new() })
            };
            let verdict = verdicts.once(*asker, &request, policies, judge).await.expect("a verdict");
            assert_eq!(verdict.name, *name);
        }
        times.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_is_shared_once_with_the_other_webhook() {
        use Webhook::{Quota, Validate};
        let (one, other) = ([policy()], [policy()]);
        let verdicts = Verdicts::default();
        assert_eq!(judged(&verdicts, &[(Validate, "a", &one), (Quota, "a", &one)]).await, 1);
        assert_eq!(judged(&verdicts, &[(Quota, "a", &one), (Validate, "a", &one)]).await, 1);
        assert_eq!(
            judged(&verdicts, &[(Validate, "b", &one), (Quota, "a", &one)]).await,
            2,
            "another object"
        );
        assert_eq!(
            judged(&verdicts, &[(Validate, "c", &one), (Quota, "c", &other)]).await,
            2,
            "other policies"
        );
        assert_eq!(
            judged(&verdicts, &[(Validate, "d", &one), (Validate, "d", &one)]).await,
            2,
            "asked again"
        );
        assert_eq!(judged(&verdicts, &[(Validate, "e", &one)]).await, 1);
        tokio::time::advance(SHARED_FOR).await;
        assert_eq!(judged(&verdicts, &[(Quota, "e", &one)]).await, 1, "too late");
        let many: Vec<_> = (0..2 * MOST).map(|_| (Validate, "f", &one[..])).collect();
        judged(&verdicts, &many).await;
        assert_eq!(verdicts.waiting.lock().expect("lock").len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_meanwhile_waits_and_goes_on_if_the_first_is_given_up() {
        let verdicts = Arc::new(Verdicts::default());
        let policies = [policy()];
        let body = create("g", "things", &json!({"metadata": {"name": "a"}}));
        let request = Request::parse(&body).expect("a review");
        let slow = verdicts.once(Webhook::Validate, &request, &policies, async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Verdict { name: "first".to_owned(), kept: Ok(()), judged: Vec::new() })
        });
        let second = |name: &'static str| {
            let judge = async move || Ok(Verdict { name: name.to_owned(), kept: Ok(()), judged: Vec::new() });
            verdicts.once(Webhook::Quota, &request, &policies, judge)
        };
        let (first, other) = tokio::join!(slow, second("second"));
        let names = [first, other].map(|verdict| verdict.map(|verdict| verdict.name.clone()).ok());
        assert_eq!(names, [Some("first".to_owned()), Some("first".to_owned())]);
        let never =
            verdicts.once(Webhook::Validate, &request, &policies, async || std::future::pending().await);
        let given_up = tokio::time::timeout(Duration::from_millis(10), never);
        let (given_up, other) = tokio::join!(given_up, second("second"));
        assert!(given_up.is_err());
        assert_eq!(other.map(|verdict| verdict.name.clone()).ok(), Some("second".to_owned()));
    }
}
