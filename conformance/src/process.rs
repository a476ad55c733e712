//! The CPU time and memory of a process, read from /proc (Linux).

use std::time::Duration;

use anyhow::Context;

/// The unit of times in /proc, USER_HZ: 100 per second on every architecture that Linux supports, regardless
/// of the kernel's own HZ.
const TICK: Duration = Duration::from_millis(10);

/// Another process, by its id.
#[derive(Debug, Clone, Copy)]
pub struct Process(
    /// The process id.
    pub u32,
);

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (VmRSS).
    pub resident: u64,
    /// The part of it that is not backed by files, such as the program (RssAnon).
    pub anonymous: u64,
    /// The maximum of the resident memory so far (VmHWM).
    pub peak: u64,
}

impl Process {
    /// User and system time of all its threads, ended ones included, in seconds, with a resolution of 10 ms.
    pub fn cpu(self) -> anyhow::Result<f64> {
        let stat = self.read("stat")?;
        let ticks = ticks(&stat).with_context(|| format!("unexpected /proc/{}/stat", self.0))?;
        Ok(TICK.as_secs_f64() * f64::from(ticks))
    }

    /// Its memory now, and at most so far.
    pub fn memory(self) -> anyhow::Result<Memory> {
        let status = self.read("status")?;
        memory(&status).with_context(|| format!("unexpected /proc/{}/status", self.0))
    }

    fn read(self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; Linux is needed"))
    }
}

/// The sum of utime and stime, which are fields 14 and 15 (`man 5 proc`). Field 2, the command, may contain
/// blanks and parentheses, so fields are counted after the last parenthesis, where field 3 begins.
fn ticks(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn memory(status: &str) -> Option<Memory> {
    let kibibytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let bytes = |name| Some(kibibytes(name)? * 1024);
    Some(Memory { resident: bytes("VmRSS")?, anonymous: bytes("RssAnon")?, peak: bytes("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_command() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\ta\nVmHWM:\t    3 kB\nVmRSS:\t    2 kB\nRssAnon:\t    1 kB\n";
        assert_eq!(memory(status), Some(Memory { resident: 2048, anonymous: 1024, peak: 3072 }));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        let memory = Process(std::process::id()).memory().expect("readable");
        assert!(memory.peak >= memory.resident && memory.resident > 0);
    }
}
