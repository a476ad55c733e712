//! The limit on open connections, and which connection is closed for a new one when the limit is reached.
//!
//! Every client that reaches the port can open connections and keep them, without a credential. So when all slots are
//! taken and one more client connects, a connection is closed for it. The server looks at the address (or IPv6 /64)
//! with the most connections that may be closed: a flood thus closes its own connections, and not those of
//! kube-apiserver, which has few. Among these it chooses one of the lowest trust, an idle one rather than a busy one,
//! and of those the one that has been so for longest.
//!
//! **Invariants:** there are never more connections than slots. A connection with a verified client certificate is
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
const EVICTION_RETRY: Duration = Duration::from_secs(1);

/// At most one in this many slots is freed at a time, so that few connections are closed in vain.
const EVICTION_DIVISOR: usize = 64;

/// All slots of a server.
pub(super) struct ConnectionSlots {
    number: usize,
    free: Arc<Semaphore>,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    /// Connections that were asked to end, and have not ended yet.
    closing: usize,
    connections: HashMap<u64, Arc<TrackedConnection>>,
}

/// The slot of a connection; dropping it frees the slot.
pub(super) struct ConnectionSlot {
    number: u64,
    connection: Arc<TrackedConnection>,
    slots: Arc<ConnectionSlots>,
    _permit: OwnedSemaphorePermit,
}

/// A connection that has a slot.
struct TrackedConnection {
    source: Holder,
    activity: Arc<Activity>,
    /// Set after the handshake.
    peer: OnceLock<Arc<Peer>>,
    evict: CancellationToken,
}

/// The order in which connections are closed: the smallest rank first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EvictionRank {
    /// `None` before the handshake.
    trust: Option<Trust>,
    is_busy: bool,
    since: Instant,
}

impl ConnectionSlots {
    pub(super) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, free: Arc::new(Semaphore::new(number)), open: Mutex::default() })
    }

    /// Waits for a slot for a connection from `address`, and closes another connection if all are taken. Cancel safe.
    pub(super) async fn acquire(self: &Arc<Self>, address: IpAddr) -> ConnectionSlot {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.evict();
            let freed = timeout(EVICTION_RETRY, Arc::clone(&self.free).acquire_owned()).await;
            if let Ok(Ok(permit)) = freed {
                break permit;
            }
        };
        let connection = Arc::new(TrackedConnection {
            source: Holder::address(address),
            activity: Activity::new(),
            peer: OnceLock::new(),
            evict: CancellationToken::new(),
        });
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, Arc::clone(&connection));
        drop(open);
        ConnectionSlot { number, connection, slots: Arc::clone(self), _permit: permit }
    }

    /// Closes connections, unless some are ending already. A call reads all connections, so it closes several of a
    /// flood at once: new ones come as fast as they are closed.
    fn evict(&self) {
        let mut open = self.open();
        if open.closing > 0 {
            return;
        }
        let mut sources: HashMap<&Holder, Vec<(EvictionRank, &TrackedConnection)>> = HashMap::new();
        for connection in open.connections.values() {
            if let Some(rank) = connection.rank() {
                sources.entry(&connection.source).or_default().push((rank, connection));
            }
        }
        let first = |candidates: &[(EvictionRank, &TrackedConnection)]| {
            candidates.iter().map(|(rank, _)| *rank).min()
        };
        let most = |candidates: &Vec<(EvictionRank, &TrackedConnection)>| {
            (candidates.len(), std::cmp::Reverse(first(candidates)))
        };
        let Some(mut candidates) = sources.into_values().max_by_key(most) else { return };
        let number = (self.number / EVICTION_DIVISOR).min(candidates.len() / 2).max(1);
        candidates.sort_unstable_by_key(|(rank, _)| *rank);
        for (rank, connection) in &candidates[..number] {
            tracing::debug!(?rank, source = ?connection.source, "connection closed for a new one: --max-connections is reached");
            connection.evict.cancel();
        }
        open.closing = number;
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrackedConnection {
    /// `None` if the connection must not be closed.
    fn rank(&self) -> Option<EvictionRank> {
        let trust = self.peer.get().map(|peer| peer.trust());
        let (is_busy, since) = self.activity.state();
        match trust {
            Some(Trust::Verified) => None,
            Some(Trust::Authenticated) if is_busy => None,
            _ => Some(EvictionRank { trust, is_busy, since }),
        }
    }
}

impl ConnectionSlot {
    /// The requests and heads of the connection.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.connection.activity
    }

    /// Records the client after the handshake.
    pub(super) fn set_peer(&self, peer: &Arc<Peer>) {
        // A connection has one handshake, so this is set once.
        let _ = self.connection.peer.set(Arc::clone(peer));
    }

    /// Resolves when the connection must end because a new one needs its slot.
    pub(super) async fn evicted(&self) {
        self.connection.evict.cancelled().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.slots.open();
        open.connections.remove(&self.number);
        if self.connection.evict.is_cancelled() {
            open.closing -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const FLOOD: [u8; 4] = [10, 0, 0, 1];
    const APISERVER: [u8; 4] = [10, 0, 0, 2];

    /// Takes a slot for a client with this trust; `None` means that the handshake is not over.
    async fn slot(slots: &Arc<ConnectionSlots>, address: [u8; 4], trust: Option<Trust>) -> ConnectionSlot {
        let slot = slots.acquire(address.into()).await;
        if let Some(trust) = trust {
            let peer = Arc::new(Peer::new((address, 1).into(), Vec::new()));
            peer.raise_trust(trust);
            slot.set_peer(&peer);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        slot
    }

    fn is_evicted(slot: &ConnectionSlot) -> bool {
        slot.evicted().now_or_never().is_some()
    }

    /// The index of the connection that is closed for a newcomer.
    fn ended_for(
        slots: &Arc<ConnectionSlots>,
        newcomer: [u8; 4],
        there: &mut Vec<ConnectionSlot>,
    ) -> Option<usize> {
        let mut taking = Box::pin(slots.acquire(newcomer.into()));
        assert!(taking.as_mut().now_or_never().is_none(), "all are taken");
        let ended: Vec<_> = (0..there.len()).filter(|index| is_evicted(&there[*index])).collect();
        assert!(ended.len() <= 1, "one slot is enough: {ended:?}");
        let ended = *ended.first()?;
        drop(taking);
        assert!(slots.acquire(newcomer.into()).now_or_never().is_none(), "one is ending already");
        assert_eq!(there.iter().filter(|slot| is_evicted(slot)).count(), 1);
        there.remove(ended);
        Some(ended)
    }

    #[tokio::test(start_paused = true)]
    async fn one_look_ends_several_of_a_flood_and_none_of_others() {
        let number = 10 * EVICTION_DIVISOR;
        let slots = ConnectionSlots::new(number);
        let mut there = vec![
            slot(&slots, APISERVER, Some(Trust::Verified)).await,
            slot(&slots, APISERVER, Some(Trust::Unknown)).await,
        ];
        while there.len() < number {
            there.push(slot(&slots, FLOOD, Some(Trust::Unknown)).await);
        }
        assert!(slots.acquire(APISERVER.into()).now_or_never().is_none(), "all are taken");
        let ended: Vec<_> = (0..number).filter(|index| is_evicted(&there[*index])).collect();
        assert_eq!(ended, (2..12).collect::<Vec<_>>(), "the first of the flood");
        assert!(slots.acquire(APISERVER.into()).now_or_never().is_none(), "ten are ending already");
        assert_eq!(there.iter().filter(|slot| is_evicted(slot)).count(), 10);
        for gone in [3, 7] {
            there.drain(2..2 + gone);
            for _ in 0..gone {
                there.push(slot(&slots, APISERVER, None).await);
            }
            if gone == 3 {
                assert!(slots.acquire(APISERVER.into()).now_or_never().is_none(), "all are taken");
                assert_eq!(
                    there.iter().filter(|slot| is_evicted(slot)).count(),
                    7,
                    "nobody else while seven end"
                );
            }
        }
        assert!(slots.acquire(APISERVER.into()).now_or_never().is_none());
        assert_eq!(there.iter().filter(|slot| is_evicted(slot)).count(), 10, "once more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_shown_least_for_longest_gives_up_a_place() {
        let slots = ConnectionSlots::new(8);
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
            there.push(slot(&slots, FLOOD, trust).await);
            // A request is open on one of the authenticated connections, and on one of the strangers.
            if [3, 5].contains(&there.len()) {
                open.push(Activity::begin_request(there[there.len() - 1].activity()));
            }
        }
        let mut newcomers = Vec::new();
        // Indices decrease as connections before them are removed.
        for expected in [6, 6, 5, 4, 3, 1] {
            assert_eq!(ended_for(&slots, APISERVER, &mut there), Some(expected));
            newcomers.push(slot(&slots, APISERVER, Some(Trust::Verified)).await);
        }
        assert_eq!(there.len(), 2, "the verified one, and the busy one that was authenticated");
        assert_eq!(ended_for(&slots, APISERVER, &mut there), None);
        drop(newcomers.pop());
        slots.acquire(FLOOD.into()).now_or_never().expect("one is free");
        assert_eq!(slots.open().connections.len(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_its_own_connections() {
        let slots = ConnectionSlots::new(10);
        let mut there = vec![
            // One opened in advance, as Go's client does, which has been idle for longest, and a new one.
            slot(&slots, APISERVER, Some(Trust::Unknown)).await,
            slot(&slots, APISERVER, None).await,
        ];
        for _ in 0..8 {
            there.push(slot(&slots, FLOOD, Some(Trust::WebhookCaller)).await);
        }
        for newcomer in [APISERVER, FLOOD, FLOOD] {
            assert_eq!(ended_for(&slots, newcomer, &mut there), Some(2));
            there.push(slot(&slots, newcomer, Some(Trust::WebhookCaller)).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_where_nobody_can_be_ended_gets_a_place_once_somebody_can() {
        let slots = ConnectionSlots::new(1);
        let there = slot(&slots, FLOOD, Some(Trust::Authenticated)).await;
        let request = Activity::begin_request(there.activity());
        let taking = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.acquire(APISERVER.into()).await }
        });
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(!is_evicted(&there));
        drop(request);
        there.evicted().await;
        drop(there);
        taking.await.expect("a slot");
    }
}
