//! Reports on stderr what is running and for how long: in a terminal by rewriting one line, elsewhere by a
//! few lines.

use std::fmt::Display;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

/// The interval in a terminal: often enough to show that it is running.
const IN_TERMINAL: Duration = Duration::from_secs(1);
/// The interval elsewhere: seldom enough not to fill a CI log.
const IN_LOG: Duration = Duration::from_secs(10);

/// Prints a message.
pub fn say(what: impl Display) {
    eprintln!("gatehouse: {what}");
}

/// Awaits `work` and reports what runs, since when, and at the end how long it took.
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
