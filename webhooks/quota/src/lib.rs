//! Tenant quotas: what objects take up, and the ledger that promises it. No I/O.
