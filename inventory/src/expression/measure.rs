//! How large a value is: what a copy of all of it takes.
//!
//! Values share their parts, so that a short expression can make one that is small here and, written out, larger than
//! any memory. Whoever copies or prints a value asks first; asking takes steps, and ends where they do.

use std::fmt;
use std::fmt::Write;

use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, OptionalValue};

use super::{Failure, budget::Meter};

/// What a list takes for each element, and any value by itself.
pub(super) const VALUE: u64 = 32;
/// What is allocated beside the content of a text, a list or a map.
pub(super) const ALLOCATION: u64 = 64;
/// What an entry of a map takes beside its content: a table is never full.
pub(super) const ENTRY: u64 = 4 * VALUE;
/// Values that nest deeper are neither copied nor compared: both recurse.
pub(super) const DEEPEST: usize = 256;

/// The size of a value as a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Values in it.
    pub(super) nodes: u64,
    /// Bytes of a copy.
    pub(super) bytes: u64,
    /// How deep it nests.
    pub(super) depth: usize,
}

impl Size {
    /// Steps that going through it once takes.
    pub(super) fn work(self) -> u64 {
        self.nodes + self.bytes / 64
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            nodes: self.nodes + other.nodes,
            bytes: self.bytes + other.bytes,
            depth: self.depth.max(other.depth),
        }
    }
}

/// Measures a value; a step for each part.
pub(super) fn measure(value: &Value, meter: &mut Meter<'_>) -> Result<Size, Failure> {
    within(value, meter, 0)
}

fn within(value: &Value, meter: &mut Meter<'_>, depth: usize) -> Result<Size, Failure> {
    if depth > DEEPEST {
        return Err(Failure::Exhausted("makes a value that nests too deep"));
    }
    meter.steps(1)?;
    let mut size = Size { nodes: 1, bytes: VALUE, depth };
    match value {
        Value::String(text) => size.bytes += ALLOCATION + text.len() as u64,
        Value::Bytes(bytes) => size.bytes += ALLOCATION + bytes.len() as u64,
        Value::List(list) => {
            size.bytes += ALLOCATION;
            for element in list.iter() {
                size = size.and(within(element, meter, depth + 1)?);
            }
        }
        Value::Map(map) => {
            size.bytes += ALLOCATION;
            for (key, value) in map.map.iter() {
                size.bytes += ENTRY;
                if let Key::String(text) = key {
                    size.bytes += ALLOCATION + text.len() as u64;
                }
                size = size.and(within(value, meter, depth + 1)?);
            }
        }
        Value::Opaque(opaque) => {
            size.bytes += 2 * ALLOCATION;
            if let Some(optional) = opaque.downcast_ref::<OptionalValue>() {
                if let Some(value) = optional.value() {
                    size = size.and(within(value, meter, depth + 1)?);
                }
            } else {
                // A URL, a quantity, …: what it prints is more than what it holds.
                let mut printed = Printed(0);
                let _ = write!(printed, "{:?}", opaque.as_debug());
                size.bytes += printed.0;
            }
        }
        _ => {}
    }
    Ok(size)
}

/// Counts what is printed.
struct Printed(u64);

impl Write for Printed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}
