//! What a process has cost so far, as Linux tells it.

use std::time::Duration;

use anyhow::Context;

/// USER_HZ, the unit of times in /proc: 100 in a second on every architecture Linux supports, whatever the kernel's own HZ is.
const TICK: Duration = Duration::from_millis(10);

/// A process that is looked at from outside.
#[derive(Debug, Clone, Copy)]
pub struct Process(
    /// Its number.
    pub u32,
);

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Of that, what is not the program itself.
    pub anonymous: u64,
    /// The most that ever was.
    pub peak: u64,
}

impl Process {
    /// User and system time of all its threads, ended ones too, in seconds; in steps of 10 ms.
    pub fn cpu(self) -> anyhow::Result<f64> {
        let stat = self.read("stat")?;
        let ticks = ticks(&stat).with_context(|| format!("unexpected /proc/{}/stat", self.0))?;
        Ok(TICK.as_secs_f64() * f64::from(ticks))
    }

    /// What it takes.
    pub fn memory(self) -> anyhow::Result<Memory> {
        let status = self.read("status")?;
        memory(&status).with_context(|| format!("unexpected /proc/{}/status", self.0))
    }

    fn read(self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; Linux is needed"))
    }
}

/// `man 5 proc`: utime and stime are fields 14 and 15. The command, field 2, may hold blanks and parentheses, so
/// counting starts behind the last parenthesis, with field 3.
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
