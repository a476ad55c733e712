//! The limit on open connections, and which connection is closed for a new one when the limit is reached.
//!
//! Every client that reaches the port can open connections and keep them, without a credential. So when all places are
//! taken and one more client connects, a connection is closed for it. The server looks at the address (or IPv6 /64)
//! with the most connections that may be closed: a flood thus closes its own connections, and not those of
//! kube-apiserver, which has few. Among these it chooses one of the lowest trust, an idle one rather than a busy one,
//! and of those the one that has been so for longest.
//!
//! **Invariants:** there are never more connections than places. A connection with a verified client certificate is
//! never closed here, nor one that is answering an authenticated request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use crate::authn::{Peer, Trust};
use crate::pipeline::Holder;

/// How long to wait before the next attempt, if no connection may be closed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// At most one in this many places is freed at a time, so that few connections are closed in vain.
const AT_A_TIME: usize = 64;

/// All places of a server.
pub(super) struct Places {
    number: usize,
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// Connections that were asked to end, and have not ended yet.
    ending: usize,
    connections: HashMap<u64, Arc<Tenure>>,
}

/// The place of a connection; dropping it frees the place.
pub(super) struct Place {
    number: u64,
    tenure: Arc<Tenure>,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

/// A connection that has a place.
struct Tenure {
    source: Holder,
    activity: Arc<Activity>,
    /// Set after the handshake.
    peer: OnceLock<Arc<Peer>>,
    ended: CancellationToken,
}

/// The order in which connections are closed: the smallest rank first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// `None` before the handshake.
    trust: Option<Trust>,
    is_busy: bool,
    since: Instant,
}

impl Places {
    pub(super) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, free: Arc::new(Semaphore::new(number)), taken: Mutex::default() })
    }

    /// Waits for a place for a connection from `address`, and closes another connection if all are taken. Cancel safe.
    pub(super) async fn take(self: &Arc<Self>, address: IpAddr) -> Place {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.free_some();
            let freed = timeout(LOOK_AGAIN, Arc::clone(&self.free).acquire_owned()).await;
            if let Ok(Ok(permit)) = freed {
                break permit;
            }
        };
        let tenure = Arc::new(Tenure {
            source: Holder::address(address),
            activity: Activity::new(),
            peer: OnceLock::new(),
            ended: CancellationToken::new(),
        });
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        taken.connections.insert(number, Arc::clone(&tenure));
        drop(taken);
        Place { number, tenure, places: Arc::clone(self), _permit: permit }
    }

    /// Closes connections, unless some are ending already. A call reads all connections, so it closes several of a
    /// flood at once: new ones come as fast as they are closed.
    fn free_some(&self) {
        let mut taken = self.taken();
        if taken.ending > 0 {
            return;
        }
        let mut sources: HashMap<&Holder, Vec<(Rank, &Tenure)>> = HashMap::new();
        for tenure in taken.connections.values() {
            if let Some(rank) = tenure.rank() {
                sources.entry(&tenure.source).or_default().push((rank, tenure));
            }
        }
        let first = |tenures: &[(Rank, &Tenure)]| tenures.iter().map(|(rank, _)| *rank).min();
        let most = |tenures: &Vec<(Rank, &Tenure)>| (tenures.len(), std::cmp::Reverse(first(tenures)));
        let Some(mut tenures) = sources.into_values().max_by_key(most) else { return };
        let number = (self.number / AT_A_TIME).min(tenures.len() / 2).max(1);
        tenures.sort_unstable_by_key(|(rank, _)| *rank);
        for (rank, tenure) in &tenures[..number] {
            tracing::debug!(?rank, source = ?tenure.source, "connection closed for a new one: --max-connections is reached");
            tenure.ended.cancel();
        }
        taken.ending = number;
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenure {
    /// `None` if the connection must not be closed.
    fn rank(&self) -> Option<Rank> {
        let trust = self.peer.get().map(|peer| peer.trust());
        let (is_busy, since) = self.activity.state();
        match trust {
            Some(Trust::Verified) => None,
            Some(Trust::Authenticated) if is_busy => None,
            _ => Some(Rank { trust, is_busy, since }),
        }
    }
}

impl Place {
    /// The requests and heads of the connection.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.tenure.activity
    }

    /// Records the client after the handshake.
    pub(super) fn know(&self, peer: &Arc<Peer>) {
        // A connection has one handshake, so this is set once.
        let _ = self.tenure.peer.set(Arc::clone(peer));
    }

    /// Resolves when the connection must end because a new one needs its place.
    pub(super) async fn is_needed(&self) {
        self.tenure.ended.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.connections.remove(&self.number);
        if self.tenure.ended.is_cancelled() {
            taken.ending -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const FLOOD: [u8; 4] = [10, 0, 0, 1];
    const APISERVER: [u8; 4] = [10, 0, 0, 2];

    /// Takes a place for a client with this trust; `None` means that the handshake is not over.
    async fn place(places: &Arc<Places>, address: [u8; 4], trust: Option<Trust>) -> Place {
        let place = places.take(address.into()).await;
        if let Some(trust) = trust {
            let peer = Arc::new(Peer::new((address, 1).into(), Vec::new()));
            peer.raise_trust(trust);
            place.know(&peer);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        place
    }

    fn is_needed(place: &Place) -> bool {
        place.is_needed().now_or_never().is_some()
    }

    /// The index of the connection that is closed for a newcomer.
    fn ended_for(places: &Arc<Places>, newcomer: [u8; 4], there: &mut Vec<Place>) -> Option<usize> {
        let mut taking = Box::pin(places.take(newcomer.into()));
        assert!(taking.as_mut().now_or_never().is_none(), "all are taken");
        let ended: Vec<_> = (0..there.len()).filter(|index| is_needed(&there[*index])).collect();
        assert!(ended.len() <= 1, "one place is enough: {ended:?}");
        let ended = *ended.first()?;
        drop(taking);
        assert!(places.take(newcomer.into()).now_or_never().is_none(), "one is ending already");
        assert_eq!(there.iter().filter(|place| is_needed(place)).count(), 1);
        there.remove(ended);
        Some(ended)
    }

    #[tokio::test(start_paused = true)]
    async fn one_look_ends_several_of_a_flood_and_none_of_others() {
        let number = 10 * AT_A_TIME;
        let places = Places::new(number);
        let mut there = vec![
            place(&places, APISERVER, Some(Trust::Verified)).await,
            place(&places, APISERVER, Some(Trust::Unknown)).await,
        ];
        while there.len() < number {
            there.push(place(&places, FLOOD, Some(Trust::Unknown)).await);
        }
        assert!(places.take(APISERVER.into()).now_or_never().is_none(), "all are taken");
        let ended: Vec<_> = (0..number).filter(|index| is_needed(&there[*index])).collect();
        assert_eq!(ended, (2..12).collect::<Vec<_>>(), "the first of the flood");
        assert!(places.take(APISERVER.into()).now_or_never().is_none(), "ten are ending already");
        assert_eq!(there.iter().filter(|place| is_needed(place)).count(), 10);
        for gone in [3, 7] {
            there.drain(2..2 + gone);
            for _ in 0..gone {
                there.push(place(&places, APISERVER, None).await);
            }
            if gone == 3 {
                assert!(places.take(APISERVER.into()).now_or_never().is_none(), "all are taken");
                assert_eq!(
                    there.iter().filter(|place| is_needed(place)).count(),
                    7,
                    "nobody else while seven end"
                );
            }
        }
        assert!(places.take(APISERVER.into()).now_or_never().is_none());
        assert_eq!(there.iter().filter(|place| is_needed(place)).count(), 10, "once more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_shown_least_for_longest_gives_up_a_place() {
        let places = Places::new(8);
        let (mut there, mut open) = (Vec::new(), Vec::new());
        for trust in [
            Some(Trust::Verified),
            Some(Trust::Authenticated),
            Some(Trust::Authenticated),
            Some(Trust::WebhookCaller),
            Some(Trust::Unknown),
            Some(Trust::Unknown),
            None,
            None,
        ] {
            there.push(place(&places, FLOOD, trust).await);
            // A request is open on one of the authenticated connections, and on one of the strangers.
            if [3, 5].contains(&there.len()) {
                open.push(Activity::begin(there[there.len() - 1].activity()));
            }
        }
        let mut newcomers = Vec::new();
        // Indices decrease as connections before them are removed.
        for expected in [6, 6, 5, 4, 3, 1] {
            assert_eq!(ended_for(&places, APISERVER, &mut there), Some(expected));
            newcomers.push(place(&places, APISERVER, Some(Trust::Verified)).await);
        }
        assert_eq!(there.len(), 2, "the verified one, and the busy one that was authenticated");
        assert_eq!(ended_for(&places, APISERVER, &mut there), None);
        drop(newcomers.pop());
        places.take(FLOOD.into()).now_or_never().expect("one is free");
        assert_eq!(places.taken().connections.len(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_its_own_connections() {
        let places = Places::new(10);
        let mut there = vec![
            // One opened in advance, as Go's client does, which has been idle for longest, and a new one.
            place(&places, APISERVER, Some(Trust::Unknown)).await,
            place(&places, APISERVER, None).await,
        ];
        for _ in 0..8 {
            there.push(place(&places, FLOOD, Some(Trust::WebhookCaller)).await);
        }
        for newcomer in [APISERVER, FLOOD, FLOOD] {
            assert_eq!(ended_for(&places, newcomer, &mut there), Some(2));
            there.push(place(&places, newcomer, Some(Trust::WebhookCaller)).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_where_nobody_can_be_ended_gets_a_place_once_somebody_can() {
        let places = Places::new(1);
        let there = place(&places, FLOOD, Some(Trust::Authenticated)).await;
        let request = Activity::begin(there.activity());
        let taking = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(APISERVER.into()).await }
        });
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(!is_needed(&there));
        drop(request);
        there.is_needed().await;
        drop(there);
        taking.await.expect("a place");
    }
}
