//! Loopback ports for servers that must know their port before they start, and need the same one after a
//! restart.
//!
//! The ports are below the range that systems use for outgoing connections (from 32768 on Linux, 49152
//! elsewhere). A port of that range could be taken between its choice and its use, or while its server is
//! down.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;

const PORTS: Range<u16> = 20_000..30_000;

/// How many ports have been handed out, with a random start for each process.
static NEXT: LazyLock<AtomicUsize> = LazyLock::new(|| {
    let anywhere = RandomState::new().hash_one(std::process::id()) % PORTS.len() as u64;
    AtomicUsize::new(usize::try_from(anywhere).unwrap_or_default())
});

/// A port that no process listens on and that this process has not handed out before; ports repeat after ten
/// thousand.
pub fn free() -> anyhow::Result<u16> {
    let listens = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err();
    let next = || PORTS.clone().nth(NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len());
    let mut candidates = PORTS.clone().filter_map(|_| next());
    candidates
        .find(|port| !listens(port))
        .with_context(|| format!("no free port on 127.0.0.1 from {} to {}", PORTS.start, PORTS.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_nobody_elses() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free().expect("a port"))).expect("free");
        let taken = taken.local_addr().expect("bound").port();
        // As many as there are, so that every free port is handed out once.
        let mut handed_out: Vec<_> = PORTS.filter_map(|_| free().ok()).collect();
        assert!(!handed_out.contains(&taken));
        handed_out.truncate(PORTS.len() / 2);
        let number = handed_out.len();
        handed_out.sort_unstable();
        handed_out.dedup();
        assert_eq!(handed_out.len(), number);
    }
}
