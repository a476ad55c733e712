//! Says on stderr what takes time, and for how long: a line that is rewritten in a terminal, a few lines elsewhere.

use std::fmt::Display;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Often enough in a terminal to look alive.
const IN_TERMINAL: Duration = Duration::from_secs(1);
/// Seldom enough in a CI log not to fill it.
const IN_LOG: Duration = Duration::from_secs(10);

/// Says something once.
pub fn say(what: impl Display) {
    eprintln!("gatehouse: {what}");
}

/// Awaits `work`, saying what it is and, while it runs, since when.
pub async fn during<T>(what: impl Display, work: impl Future<Output = T>) -> T {
    let terminal = std::io::stderr().is_terminal();
    let started = Instant::now();
    let mut ticks = tokio::time::interval(if terminal { IN_TERMINAL } else { IN_LOG });
    let mut work = pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = ticks.tick() => {
                let seconds = started.elapsed().as_secs();
                let since = if seconds == 0 { String::new() } else { format!(" {seconds} s") };
                if terminal {
                    eprint!("\r\x1b[Kgatehouse: {what} …{since}");
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("gatehouse: {what} …{since}");
                }
            }
        }
    };
    let rewrite = if terminal { "\r\x1b[K" } else { "" };
    eprintln!("{rewrite}gatehouse: {what}: {:.1} s", started.elapsed().as_secs_f32());
    result
}
