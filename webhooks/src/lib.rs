//! Admission: reviews answered, the quota ledger at work, and the controllers behind the policies.

pub mod check;
pub mod intercepted;
pub mod lease;
#[cfg(test)]
mod testing;
pub mod world;
