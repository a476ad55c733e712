//! CPU time, memory, threads and file descriptors of the process, under the standard names of Prometheus.
//!
//! They are read from /proc on Linux at each scrape; on other systems the values stay zero. The collector of the
//! `prometheus` crate needs two more crates and unsafe code for the same.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

use super::expect_valid;

/// USER_HZ, the unit of times in /proc: 100 on every architecture Linux supports, whatever the kernel's own HZ is.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct ProcessCollector {
    cpu: Counter,
    memory: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    start: Gauge,
    /// Serializes scrapes: two at once would both add the same CPU time to the counter.
    scrape: Mutex<()>,
}

/// The values of /proc at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    threads: f64,
    open_fds: f64,
    start_seconds: f64,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        Self {
            cpu: expect_valid(Counter::new("process_cpu_seconds_total", "User and system CPU time spent.")),
            memory: expect_valid(Gauge::new("process_resident_memory_bytes", "Resident memory.")),
            threads: expect_valid(Gauge::new("process_threads", "Threads.")),
            open_fds: expect_valid(Gauge::new("process_open_fds", "Open file descriptors.")),
            start: expect_valid(Gauge::new(
                "process_start_time_seconds",
                "Start of the process, since the Unix epoch.",
            )),
            scrape: Mutex::new(()),
        }
    }

    fn parts(&self) -> [&dyn Collector; 5] {
        [&self.cpu, &self.memory, &self.threads, &self.open_fds, &self.start]
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = Usage::read() {
            self.cpu.inc_by((usage.cpu_seconds - self.cpu.get()).max(0.0));
            self.memory.set(usage.resident_bytes);
            self.threads.set(usage.threads);
            self.open_fds.set(usage.open_fds);
            self.start.set(usage.start_seconds);
        }
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

impl Usage {
    fn read() -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let mut usage =
            Self::parse(&read("/proc/self/stat")?, &read("/proc/self/status")?, &read("/proc/stat")?)?;
        let descriptors = std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
        usage.open_fds = f64::from(u32::try_from(descriptors).unwrap_or(u32::MAX));
        Some(usage)
    }

    /// Parses the files as described in proc(5): utime, stime, num_threads and starttime are fields 14, 15, 20 and 22
    /// of stat. The command, field 2, may contain blanks and parentheses, so counting starts after the last
    /// parenthesis, with field 3.
    fn parse(stat: &str, status: &str, system: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let boot = line(system, "btime ")?.trim().parse::<f64>().ok()?;
        let resident = line(status, "VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            resident_bytes: resident * 1024.0,
            threads: field(20)?,
            open_fds: 0.0,
            start_seconds: boot + field(22)? / TICKS_PER_SECOND,
        })
    }
}

fn line<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_command() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200";
        let status = "Name:\ta\nVmRSS:\t    2048 kB\nThreads:\t9\n";
        let usage = Usage::parse(stat, status, "cpu 1 2\nbtime 1700000000\n").expect("parsed");
        let expected = Usage {
            cpu_seconds: 3.0,
            resident_bytes: 2_097_152.0,
            threads: 9.0,
            open_fds: 0.0,
            start_seconds: 1_700_000_123.45,
        };
        assert_eq!(usage, expected);
        assert_eq!(Usage::parse("", "", ""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_a_start() {
        let usage = Usage::read().expect("readable");
        assert!(usage.resident_bytes > 0.0 && usage.start_seconds > 1e9 && usage.threads >= 1.0, "{usage:?}");
    }
}
