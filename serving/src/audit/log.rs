//! Writes lines to a sink, such as standard output: a bounded queue and one thread.
//!
//! **Invariants:** callers never wait; lines that do not fit in the queue are dropped and counted. Lines are written in
//! the order of the calls, in batches.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, oneshot};

/// The number of lines in the queue, as the default of kube-apiserver's `--audit-log-batch-buffer-size`.
const MAX_LINES: usize = 10_000;
/// The number of bytes in the queue. Ten thousand lines take about 8 MiB; only clients with huge URLs need more.
const MAX_BYTES: usize = 16 << 20;
/// The bytes after which a batch is written.
const BATCH: usize = 64 << 10;
/// How long a flush waits for a slow reader of the sink, on shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The queue of lines, and its metrics.
pub(super) struct Log {
    queue: mpsc::Sender<Entry>,
    /// Bytes in the queue.
    queued_bytes: Arc<AtomicUsize>,
    lost: IntCounter,
    events: IntCounter,
}

enum Entry {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

impl Log {
    /// Starts a thread that writes to `sink`. It ends when this is dropped.
    pub(super) fn start(sink: Box<dyn Write + Send>, registry: &Registry) -> io::Result<Self> {
        let (queue, entries) = mpsc::channel(MAX_LINES);
        let log = Self::new(queue, registry);
        let (queued_bytes, lost) = (Arc::clone(&log.queued_bytes), log.lost.clone());
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || Writer { sink, entries, queued_bytes, lost, is_failing: false }.run())?;
        Ok(log)
    }

    fn new(queue: mpsc::Sender<Entry>, registry: &Registry) -> Self {
        let events = IntCounter::new("apiserver_audit_event_total", "Audit events made.");
        let errors =
            IntCounterVec::new(Opts::new("apiserver_audit_error_total", "Audit events lost."), &["plugin"]);
        let named = "names and labels are constants, valid and distinct";
        let (events, errors) = (events.expect(named), errors.expect(named));
        registry.register(Box::new(events.clone())).expect(named);
        registry.register(Box::new(errors.clone())).expect(named);
        let lost = errors.with_label_values(&["log"]);
        Self { queue, queued_bytes: Arc::default(), lost, events }
    }

    /// Queues a line, or drops and counts it if the queue is full.
    pub(super) fn push(&self, line: Vec<u8>) {
        self.events.inc();
        let bytes = line.len();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_BYTES;
        if !fits || self.queue.try_send(Entry::Line(line)).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.inc();
        }
    }

    /// Returns when all earlier lines are written or have failed, or after [`FLUSH_TIMEOUT`].
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Entry::Flush(done)).await.is_ok() {
                // An error means that the writer's thread has ended.
                let _ = written.await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("audit log was not flushed in time");
        }
    }
}

/// The thread that writes.
struct Writer {
    sink: Box<dyn Write + Send>,
    entries: mpsc::Receiver<Entry>,
    queued_bytes: Arc<AtomicUsize>,
    lost: IntCounter,
    is_failing: bool,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = self.entries.blocking_recv() {
            let mut next = Some(first);
            let (mut lines, mut flushed) = (0, None);
            while let Some(entry) = next.take() {
                match entry {
                    Entry::Line(line) => {
                        batch.extend_from_slice(&line);
                        lines += 1;
                    }
                    Entry::Flush(done) => {
                        flushed = Some(done);
                        break;
                    }
                }
                if batch.len() < BATCH {
                    next = self.entries.try_recv().ok();
                }
            }
            if lines > 0 {
                self.write(&batch, lines);
                self.queued_bytes.fetch_sub(batch.len(), Ordering::Relaxed);
                batch.clear();
            }
            if let Some(done) = flushed {
                // The caller may have timed out.
                let _ = done.send(());
            }
        }
    }

    /// Writes a batch. Lost lines are counted; failures are logged when they begin and when they end.
    fn write(&mut self, batch: &[u8], lines: u64) {
        match self.sink.write_all(batch).and_then(|()| self.sink.flush()) {
            Ok(()) if self.is_failing => tracing::info!("audit log is writable again"),
            Ok(()) => {}
            Err(error) => {
                self.lost.inc_by(lines);
                if !self.is_failing {
                    tracing::error!(%error, "cannot write the audit log, events are lost");
                }
                self.is_failing = true;
                return;
            }
        }
        self.is_failing = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A sink that keeps what is written, or fails on demand.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<(Vec<u8>, bool)>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("lock").0.clone()).expect("text")
        }

        fn fail(&self, fails: bool) {
            self.0.lock().expect("lock").1 = fails;
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (written, fails) = &mut *self.0.lock().expect("lock");
            if *fails {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_was_pushed_before_a_flush_is_written_by_its_end() {
        let written = Written::default();
        let log = Log::start(Box::new(written.clone()), &Registry::new()).expect("starts");
        let mut expected = String::new();
        for number in 0..5000 {
            let line = format!("{{\"number\":{number}}}\n");
            expected.push_str(&line);
            log.push(line.into_bytes());
        }
        log.flush().await;
        assert_eq!(written.text(), expected);
        assert_eq!((log.lost.get(), log.queued_bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_dropped_and_counted() {
        let (queue, mut entries) = mpsc::channel(2);
        let log = Log::new(queue, &Registry::new());
        for _ in 0..3 {
            log.push(b"line\n".to_vec());
        }
        assert_eq!((log.events.get(), log.lost.get()), (3, 1), "as many lines as there is room for");
        entries.recv().await.expect("a line");
        log.push(vec![b'x'; MAX_BYTES]);
        assert_eq!(log.lost.get(), 2, "as many bytes as there is room for");
        log.push(b"line\n".to_vec());
        assert_eq!(log.lost.get(), 2, "what did not fit takes no room");
    }

    #[tokio::test]
    async fn output_that_cannot_be_written_loses_lines_and_not_the_writer() {
        let written = Written::default();
        let log = Log::start(Box::new(written.clone()), &Registry::new()).expect("starts");
        log.push(b"one\n".to_vec());
        log.flush().await;
        written.fail(true);
        log.push(b"two\n".to_vec());
        log.flush().await;
        assert_eq!(log.lost.get(), 1);
        written.fail(false);
        log.push(b"three\n".to_vec());
        log.flush().await;
        assert_eq!(written.text(), "one\nthree\n");
    }
}
