//! Replicas that acquire numbers from an in-process API server, in paused time. The wall clock follows it.

use std::sync::LazyLock;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use gatehouse_fake_api::FakeApi;

const LONG: Duration = Duration::from_mins(2);

/// The wall clock of all replicas; it advances with paused time.
fn paused_time() -> SystemTime {
    static START: LazyLock<(std::time::Instant, SystemTime)> =
        LazyLock::new(|| (std::time::Instant::now(), SystemTime::now()));
    START.1 + Instant::now().into_std().saturating_duration_since(START.0)
}

struct Replica {
    claim_state: watch::Receiver<ClaimState>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn server() -> FakeApi {
    let api = FakeApi::new();
    api.serve("coordination.k8s.io", "v1", "leases", "Lease");
    api
}

fn replica(api: &FakeApi, identity: &str, numbers: u8) -> Replica {
    let leases = (0..numbers).map(|number| format!("number-{number}"));
    let (mut replica, claim_state) = ReplicaNumbers::new(&api.client(), "gatehouse-system", identity, leases);
    replica.time = paused_time;
    replica.candidates.iter_mut().for_each(|candidate| candidate.time = paused_time);
    let stop = CancellationToken::new();
    Replica { claim_state, task: tokio::spawn(replica.run(stop.clone())), stop }
}

impl Replica {
    async fn claims(&mut self) -> Claim {
        let claimed = self.claim_state.wait_for(|claim_state| matches!(claim_state, ClaimState::Claimed(_)));
        match timeout(LONG, claimed).await.unwrap().unwrap().clone() {
            ClaimState::Claimed(claim) => claim,
            ClaimState::Unclaimed(_) => unreachable!("waited for"),
        }
    }

    /// The number, if its claim has not expired.
    fn number(&self) -> Option<u8> {
        match *self.claim_state.borrow() {
            ClaimState::Claimed(claim) if paused_time() < claim.until => Some(claim.number),
            _ => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_two_replicas_have_one_number() {
    let api = server();
    let mut replicas: Vec<_> = (0..16).map(|identity| replica(&api, &identity.to_string(), 16)).collect();
    let mut numbers = Vec::new();
    for replica in &mut replicas {
        numbers.push(replica.claims().await.number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..16).collect::<Vec<_>>());
    let mut late = replica(&api, "one too many", 16);
    sleep(LONG).await;
    let reported = late.claim_state.borrow().clone();
    assert!(matches!(&reported, ClaimState::Unclaimed(reason) if reason.contains("16")), "{reported:?}");
    // When a replica ends, the late one gets its number after the claim has expired.
    let first = replicas.swap_remove(0);
    let ClaimState::Claimed(had) = *first.claim_state.borrow() else { panic!("claimed before") };
    first.stop.cancel();
    first.task.await.unwrap();
    let claim = late.claims().await;
    assert_eq!(claim.number, had.number);
    assert!(claim.after >= Some(had.until) && paused_time() >= had.until, "{claim:?} after {had:?}");
}

#[tokio::test(start_paused = true)]
async fn a_number_is_renewed_before_it_ends() {
    let api = server();
    let mut replica = replica(&api, "a", 16);
    let first = replica.claims().await;
    assert_eq!(first.after, None);
    for _ in 0..200 {
        sleep(Duration::from_millis(500)).await;
        assert_eq!(replica.number(), Some(first.number));
    }
    let last = replica.claims().await;
    assert!(last.until >= first.until + Duration::from_secs(80), "{last:?}");
    assert!(last.after.is_some_and(|after| after < last.until && after > first.until));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_cut_off_keeps_its_number_or_takes_another_but_never_one_that_is_used() {
    let api = server();
    // One number for two replicas, so that the second waits until the first one's claim has expired.
    let mut cut_off = replica(&api, "cut off", 1);
    let had = cut_off.claims().await;
    api.fail(true);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(cut_off.number(), None, "it ended with what the Lease said");
    api.fail(false);
    let mut waiting = replica(&api, "waiting", 1);
    let both = [cut_off.claim_state.clone(), waiting.claim_state.clone()];
    for _ in 0..200 {
        sleep(Duration::from_millis(300)).await;
        let used = both.iter().filter(
            |claim_state| matches!(*claim_state.borrow(), ClaimState::Claimed(claim) if paused_time() < claim.until),
        );
        assert!(used.count() <= 1);
    }
    assert_eq!(cut_off.number(), Some(had.number), "it was still its own");
    cut_off.task.abort();
    let claim = waiting.claims().await;
    let ClaimState::Claimed(last) = *cut_off.claim_state.borrow() else { panic!("claimed before") };
    assert!(claim.after == Some(last.until) && paused_time() >= last.until, "{claim:?} after {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_number_that_another_took_is_replaced() {
    let api = server();
    let mut loser = replica(&api, "loser", 2);
    let had = loser.claims().await;
    let name = format!("number-{}", had.number);
    let mut lease = api.get("coordination.k8s.io", "leases", "gatehouse-system", &name).unwrap();
    lease["spec"]["holderIdentity"] = "somebody else".into();
    api.put(lease);
    let other = timeout(
        LONG,
        loser.claim_state.wait_for(
            |claim_state| matches!(claim_state, ClaimState::Claimed(claim) if claim.number != had.number),
        ),
    );
    assert!(other.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_leases_it_is_said_why_once() {
    let api = FakeApi::new();
    let replica = replica(&api, "a", 16);
    let mut claim_state = replica.claim_state.clone();
    let reported = claim_state
        .wait_for(|claim_state| claim_state.readiness().is_err_and(|reason| reason.contains("404")));
    assert!(timeout(LONG, reported).await.is_ok());
    // Each Lease fails with another message, but only the first one is reported.
    assert!(timeout(LONG, claim_state.changed()).await.is_err(), "{:?}", *claim_state.borrow());
}
