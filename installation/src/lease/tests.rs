//! The decision as a table, and elections between replicas in paused time.

use std::time::SystemTime;

use kube::Api;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{candidate::Candidate, *};
use gatehouse_fake_api::FakeApi;

fn held_by(holder: &str, seconds: Option<i32>) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: seconds,
        ..LeaseSpec::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_judged_by_when_it_was_seen() {
    let seen = Instant::now();
    let after = |seconds| seen + Duration::from_secs(seconds);
    for (lease, now, expected) in [
        (None, after(0), Decision::Create),
        (Some(LeaseSpec::default()), after(0), Decision::Take),
        (Some(held_by("", Some(15))), after(0), Decision::Take),
        (Some(held_by("us", Some(15))), after(0), Decision::Renew),
        // Expired long ago, but no other candidate took it.
        (Some(held_by("us", Some(15))), after(60), Decision::Renew),
        (Some(held_by("them", Some(15))), after(0), Decision::Wait(after(15))),
        (Some(held_by("them", Some(15))), after(14), Decision::Wait(after(15))),
        (Some(held_by("them", Some(15))), after(15), Decision::Take),
        // The duration in the Lease counts.
        (Some(held_by("them", Some(60))), after(15), Decision::Wait(after(60))),
        (Some(held_by("them", None)), after(23), Decision::Wait(after(24))),
        (Some(held_by("them", Some(0))), after(23), Decision::Wait(after(24))),
        (Some(held_by("them", Some(-1))), after(24), Decision::Take),
    ] {
        assert_eq!(evaluate(lease.as_ref(), "us", seen, now), expected, "{lease:?} at {:?}", now - seen);
    }
}

struct Replica {
    leadership: Leadership,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn replica(api: &FakeApi, identity: &str) -> Replica {
    let (election, leadership) = Election::new(api.client(), "gatehouse-system", "gatehouse", identity);
    let stop = CancellationToken::new();
    let task = tokio::spawn(election.run(stop.clone()));
    Replica { leadership, stop, task }
}

impl Replica {
    async fn leads(&self) {
        let mut receiver = self.leadership.receiver();
        receiver.wait_for(|leads| *leads).await.unwrap();
        assert!(self.leadership.is_leading());
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        assert!(!self.leadership.is_leading());
    }
}

fn server() -> FakeApi {
    let api = FakeApi::new();
    api.serve("coordination.k8s.io", "v1", "leases", "Lease");
    api
}

fn lease(api: &FakeApi) -> LeaseSpec {
    let lease = api.get("coordination.k8s.io", "leases", "gatehouse-system", "gatehouse").unwrap();
    serde_json::from_value(lease["spec"].clone()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_replica_leads_and_hands_over_when_it_ends() {
    let api = server();
    let first = replica(&api, "first");
    first.leads().await;
    let second = replica(&api, "second");
    sleep(Duration::from_mins(2)).await;
    assert!(first.leadership.is_leading() && !second.leadership.is_leading());
    assert_eq!(lease(&api).lease_transitions, Some(0));
    let before = Instant::now();
    first.stop().await;
    second.leads().await;
    // The Lease was released, so the second replica need not wait until it expires.
    assert!(before.elapsed() <= Duration::from_secs(3), "{:?}", before.elapsed());
    assert_eq!(lease(&api).holder_identity.as_deref(), Some("second"));
    assert_eq!(lease(&api).lease_transitions, Some(1));
    second.stop().await;
    assert_eq!(lease(&api).holder_identity.as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_without_reading_and_wakes_nobody() {
    let api = server();
    let only = replica(&api, "only");
    only.leads().await;
    let mut receiver = only.leadership.receiver();
    receiver.mark_unchanged();
    let before = api.asked().len();
    sleep(Duration::from_mins(1)).await;
    let asked = api.asked().split_off(before);
    assert!(asked.iter().all(|request| request.starts_with("PUT")), "{asked:?}");
    assert!((6..=8).contains(&asked.len()), "{asked:?}");
    assert!(only.leadership.is_leading() && !receiver.has_changed().unwrap());

    // What others wrote is read, and so is a Lease that was deleted.
    let mut edited = api.get("coordination.k8s.io", "leases", "gatehouse-system", "gatehouse").unwrap();
    edited["metadata"]["labels"]["by"] = "somebody".into();
    api.put(edited);
    sleep(Duration::from_secs(12)).await;
    assert!(only.leadership.is_leading());
    api.delete("coordination.k8s.io", "leases", "gatehouse-system", "gatehouse");
    sleep(Duration::from_secs(12)).await;
    assert!(only.leadership.is_leading() && !receiver.has_changed().unwrap());
    assert_eq!(lease(&api).holder_identity.as_deref(), Some("only"));
    only.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_nobody_waited_for_does_not_keep_a_lease_from_being_given_back() {
    let api = server();
    let only = replica(&api, "only");
    only.leads().await;
    let mut renewed = api.get("coordination.k8s.io", "leases", "gatehouse-system", "gatehouse").unwrap();
    renewed["spec"]["leaseTransitions"] = 7.into();
    api.put(renewed);
    only.stop().await;
    assert_eq!(lease(&api).holder_identity.as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_vanished_is_waited_for_and_then_replaced() {
    let api = server();
    let first = replica(&api, "first");
    first.leads().await;
    let second = replica(&api, "second");
    sleep(Duration::from_secs(5)).await;
    first.task.abort();
    let before = Instant::now();
    second.leads().await;
    let waited = before.elapsed();
    assert!((Duration::from_secs(14)..Duration::from_secs(29)).contains(&waited), "{waited:?}");
    // The handle expires without its task, which was aborted.
    assert!(!first.leadership.is_leading());
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_leads_no_longer_than_the_deadline() {
    let api = server();
    let only = replica(&api, "only");
    only.leads().await;
    api.fail(true);
    let before = Instant::now();
    only.leadership.receiver().wait_for(|leads| !leads).await.unwrap();
    assert!(before.elapsed() <= RENEW_DEADLINE, "{:?}", before.elapsed());
    assert!(before.elapsed() > RENEW_DEADLINE / 2, "one failure is no end: {:?}", before.elapsed());
    api.fail(false);
    only.leads().await;
    only.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_many_that_begin_together_one_leads() {
    let api = server();
    let replicas: Vec<_> = (0..5).map(|index| replica(&api, &format!("replica-{index}"))).collect();
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        let leading = replicas.iter().filter(|replica| replica.leadership.is_leading()).count();
        assert!(leading <= 1, "{leading} lead");
    }
    assert!(replicas.iter().any(|replica| replica.leadership.is_leading()));
}

#[tokio::test(start_paused = true)]
async fn fixed_leadership_stays() {
    assert!(Leadership::fixed(true).is_leading());
    assert!(!Leadership::fixed(false).is_leading());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_shorten_what_was_promised() {
    let api = server();
    let leases = Api::namespaced(api.client(), "gatehouse-system");
    let mut candidate = Candidate::new(leases, "gatehouse", "a", LEASE_DURATION);
    let in_an_hour = || SystemTime::now() + Duration::from_hours(1);
    candidate.time = in_an_hour;
    let promised = candidate.try_acquire_or_renew(|_| true).await.unwrap().expires;
    candidate.time = SystemTime::now;
    for _ in 0..2 {
        let before = lease(&api);
        assert!(candidate.try_acquire_or_renew(|_| true).await.unwrap().expires > promised);
        assert!(lease(&api) != before, "others see that it is renewed");
    }
}
