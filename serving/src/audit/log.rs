//! The way of a line to its file: a bounded queue, and one thread that writes.
//!
//! Invariants: nobody who has something to log ever waits; what there is no room for is dropped and counted. Lines are
//! written in the order they came, in batches of what has gathered.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, oneshot};

use super::rotate::{RotatingFile, Rotation};

/// As kube-apiserver's `--audit-log-batch-buffer-size`.
const MAX_LINES: usize = 10_000;
/// Ten thousand lines are some 8 MiB; only clients that send monstrous URLs make more of it.
const MAX_BYTES: usize = 16 << 20;
/// Written at once: enough to be cheap.
const BATCH: usize = 64 << 10;
/// A disk that takes longer than this to take the last lines is not waited for: the process has to end.
const FLUSH: Duration = Duration::from_secs(5);

/// Where lines go.
#[derive(Debug, Clone)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, put aside when it is full.
    File(PathBuf, Rotation),
}

/// Takes lines.
pub(super) struct Log {
    queue: mpsc::Sender<Entry>,
    /// Bytes in the queue.
    waiting: Arc<AtomicUsize>,
    lost: IntCounter,
    events: IntCounter,
}

enum Entry {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

enum Sink {
    Stdout(io::Stdout),
    File(RotatingFile),
}

impl Log {
    /// Opens the destination, and starts to write. The thread ends when this is dropped.
    pub(super) fn start(destination: Destination, registry: &Registry) -> io::Result<Self> {
        let sink = match destination {
            Destination::Stdout => Sink::Stdout(io::stdout()),
            Destination::File(path, rotation) => Sink::File(RotatingFile::open(path, rotation)?),
        };
        let (queue, entries) = mpsc::channel(MAX_LINES);
        let log = Self::new(queue, registry);
        let (waiting, lost) = (Arc::clone(&log.waiting), log.lost.clone());
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || Writer { sink, entries, waiting, lost, is_failing: false }.run())?;
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
        Self { queue, waiting: Arc::default(), lost, events }
    }

    /// Hands a line to the writer, if there is room.
    pub(super) fn push(&self, line: Vec<u8>) {
        self.events.inc();
        let bytes = line.len();
        let fits = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_BYTES;
        if !fits || self.queue.try_send(Entry::Line(line)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.inc();
        }
    }

    /// Returns when everything before has been written, or cannot be.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Entry::Flush(done)).await.is_ok() {
                // The writer answers whenever it lives.
                let _ = written.await;
            }
        };
        if tokio::time::timeout(FLUSH, flushed).await.is_err() {
            tracing::warn!("the audit log did not take its last lines in time");
        }
    }
}

/// The one who writes.
struct Writer {
    sink: Sink,
    entries: mpsc::Receiver<Entry>,
    waiting: Arc<AtomicUsize>,
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
                self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
                batch.clear();
            }
            if let Some(done) = flushed {
                // Who asked may have stopped to wait.
                let _ = done.send(());
            }
        }
    }

    /// Failures are counted one by one, and told when they begin and end.
    fn write(&mut self, batch: &[u8], lines: u64) {
        let written = match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write_all(batch).and_then(|()| stdout.flush()),
            Sink::File(file) => file.append(batch),
        };
        match written {
            Ok(()) if self.is_failing => tracing::info!("the audit log is written again"),
            Ok(()) => {}
            Err(error) => {
                self.lost.inc_by(lines);
                if !self.is_failing {
                    tracing::error!(%error, "the audit log cannot be written, events are lost");
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
    use super::*;

    const ROTATION: Rotation = Rotation { max_bytes: 1 << 20, max_backups: 0, max_age: Duration::ZERO };

    #[tokio::test]
    async fn what_was_pushed_before_a_flush_is_written_by_its_end() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit.log");
        let log = Log::start(Destination::File(path.clone(), ROTATION), &Registry::new()).expect("starts");
        let mut expected = String::new();
        for number in 0..5000 {
            let line = format!("{{\"number\":{number}}}\n");
            expected.push_str(&line);
            log.push(line.into_bytes());
        }
        log.flush().await;
        assert_eq!(std::fs::read_to_string(&path).expect("read"), expected);
        assert_eq!((log.lost.get(), log.waiting.load(Ordering::Relaxed)), (0, 0));
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
    async fn a_file_that_cannot_be_written_loses_lines_and_not_the_writer() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log/audit.log");
        let rotation = Rotation { max_bytes: 1, ..ROTATION };
        let log = Log::start(Destination::File(path.clone(), rotation), &Registry::new()).expect("starts");
        log.push(b"one\n".to_vec());
        log.flush().await;
        std::fs::remove_dir_all(folder.path().join("log")).expect("removed");
        log.push(b"two\n".to_vec());
        log.flush().await;
        assert_eq!(log.lost.get(), 1);
        log.push(b"three\n".to_vec());
        log.flush().await;
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "three\n");
    }

    #[test]
    fn a_path_that_is_a_folder_is_refused_at_the_start() {
        let folder = tempfile::tempdir().expect("folder");
        let destination = Destination::File(folder.path().to_owned(), ROTATION);
        assert!(Log::start(destination, &Registry::new()).is_err());
    }
}
