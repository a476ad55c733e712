//! The signals that ask the process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks the process to end. From being made on, the signals no longer end it by themselves.
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Begins to listen. Made before anything that others take as a sign that the process is up.
    pub(crate) fn listen() -> Self {
        Self { terminate: listen(SignalKind::terminate()), interrupt: listen(SignalKind::interrupt()) }
    }

    /// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
    pub(crate) async fn received(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("received a second signal, exiting immediately");
            std::process::exit(130);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Receives a signal instead of being ended by it.
pub(crate) fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("the runtime drives signals, and these can be caught")
}
