//! What an installation keeps right by itself, through the Kubernetes API: who leads, whose number is whose, what
//! certificates are served, and how kube-apiserver finds them.

mod blank;
pub mod lease;
pub mod number;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// Who owns the fields that are applied.
const FIELD_MANAGER: &str = "gatehouse";
