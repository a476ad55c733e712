//! What is shown is true: objects as controllers write them, and what has to be made of them.
//!
//! `cases` are states that dashboards get wrong; `judges` holds the catalogue beside the judges of others; `sequences` plays what
//! controllers write one after the other.

mod cases;
mod judges;
mod sequences;
mod world;
