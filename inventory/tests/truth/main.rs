//! The catalogue's verdicts for objects as their controllers write them.
//!
//! `cases` are states that other dashboards show wrongly. `judges` compares the catalogue with other health checks.
//! `sequences` replays what controllers write over time.

mod cases;
mod judges;
mod recorded;
mod sequences;
mod world;
