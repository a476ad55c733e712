//! Admission: reviews answered, the quota ledger at work, and the controllers behind the policies.

pub mod intercepted;
