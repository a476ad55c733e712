//! Measures values: the size of a full copy.
//!
//! Values share their parts, so a short expression can build a value that is small in memory but larger than any memory
//! when it is written out.
//!
//! **Invariant:** A value is measured before it is copied or printed. Measuring costs steps, and stops when they run
//! out.

use std::fmt;
use std::fmt::Write;

use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, OptionalValue};

use super::{Failure, budget::Meter};

/// The size of a list element, and of any value by itself.
pub(super) const VALUE: u64 = 32;
/// The allocation overhead of a string, a list or a map.
pub(super) const ALLOCATION: u64 = 64;
/// The overhead of a map entry: a hash table is never full.
pub(super) const ENTRY: u64 = 4 * VALUE;
/// Values that nest deeper are neither copied nor compared, because both are recursive.
pub(super) const DEEPEST: usize = 256;

/// The size of a value as a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// The number of values in it.
    pub(super) nodes: u64,
    /// The bytes of a copy.
    pub(super) bytes: u64,
    /// Its nesting depth.
    pub(super) depth: usize,
}

impl Size {
    /// The steps of one traversal.
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

/// Measures a value; each part costs a step.
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
                // For a URL, a quantity and so on, the printed form is larger than the stored one.
                let mut printed = Printed(0);
                let _ = write!(printed, "{:?}", opaque.as_debug());
                size.bytes += printed.0;
            }
        }
        _ => {}
    }
    Ok(size)
}

/// Counts printed bytes.
struct Printed(u64);

impl Write for Printed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}
