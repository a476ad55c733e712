//! What an installation keeps right by itself, through the Kubernetes API: who leads, whose number is whose, what
//! certificates are served, and how kube-apiserver finds them.

pub mod lease;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
