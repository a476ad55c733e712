//! The long-running tasks of a server, by name. If one of them exits unexpectedly, the process exits, and kubelet
//! starts a new one.

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Why a server stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// This task returned before it was asked to.
    #[error("task {0} exited unexpectedly")]
    Ended(&'static str),
    /// A task panicked.
    #[error("a server task panicked")]
    Panicked(#[from] JoinError),
}

/// A group of tasks that end together. Dropping it aborts them.
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// A token that is cancelled when the tasks should end.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Spawns a task; `name` appears in errors.
    pub fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            part.await;
            name
        });
    }

    /// Returns when a task has exited or panicked; never if there is no task.
    pub async fn failed(&mut self) -> EndError {
        match self.tasks.join_next().await {
            Some(Ok(name)) => EndError::Ended(name),
            Some(Err(error)) => error.into(),
            None => std::future::pending().await,
        }
    }

    /// Asks all tasks to end, and waits for them. Returns early with an error if one of them panicked.
    pub async fn end(&mut self) -> Result<(), EndError> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_or_panics_by_itself_is_told_and_no_parts_are_no_failure() {
        let mut tasks = Tasks::default();
        assert!(tasks.failed().now_or_never().is_none());
        tasks.spawn("waiting", std::future::pending());
        tasks.spawn("clock", async {});
        assert_eq!(tasks.failed().await.to_string(), "task clock exited unexpectedly");
        tasks.spawn("engine", async { panic!("on purpose") });
        assert!(matches!(tasks.failed().await, EndError::Panicked(_)));
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_waits_for_all() {
        let mut tasks = Tasks::default();
        tasks.spawn("one", tokio::task::yield_now());
        tasks.spawn("another", async {});
        tasks.end().await.expect("in order");
        tasks.spawn("a third", async { panic!("on purpose") });
        tasks.end().await.expect_err("a panic is told");
    }
}
