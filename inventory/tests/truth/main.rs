//! The catalogue's verdicts for objects as their controllers write them.
//!
//! `cases` are states that other dashboards show wrongly. `judges` compares the catalogue with other health checks.
//! `orders` applies the same objects in any order.
//! `sequences` replays what controllers write over time.

mod cases;
mod judges;
mod orders;
mod recorded;
mod retried;
mod sequences;
mod world;
