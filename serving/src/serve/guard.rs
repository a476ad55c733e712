//! Something that is done whatever becomes of a task.

/// Does something when it is dropped, so also when a task is aborted.
pub(super) struct Guard<F: FnMut()>(pub(super) F);

impl<F: FnMut()> Drop for Guard<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
