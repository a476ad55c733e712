//! Reconcile policies: compiled when they are written, judged on objects. No I/O.
