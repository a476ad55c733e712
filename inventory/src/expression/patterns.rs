//! Regular expressions: `matches`, `find` and `findAll`.
//!
//! The functions of the libraries compile a pattern at each call, without a size limit.
//!
//! **Invariant:** A pattern is compiled once for an evaluation, within a size limit, and the cost of a search is
//! counted by the size of the pattern.

use std::sync::Arc;

use kube_cel::cel::Value;
use regex::{Regex, RegexBuilder};

use super::measure::{ALLOCATION, VALUE};
use super::{EXPRESSION_STEPS, Failure, budget::Meter, describe, failed, re2};

/// The size limits, in bytes, that compilation tries in order; the first that is enough gives the size of a pattern.
const TIERS: [usize; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// Up to this size, a pattern costs one step for each searched byte, above it more: in the worst case, each byte visits
/// the whole pattern.
const STEP_BYTES: u64 = 64 << 10;
/// The most steps of one search, during which the clock is not read.
const MOST_SEARCHING: u64 = EXPRESSION_STEPS / 4;
/// The memory that a search may use in addition to the pattern.
const SEARCH_BYTES: usize = 256 << 10;

/// The compiled patterns of one evaluation.
#[derive(Default)]
pub(super) struct Patterns(Vec<(Arc<String>, Compiled)>);

#[derive(Clone)]
struct Compiled {
    regex: Regex,
    size: u64,
}

impl Compiled {
    /// The cost of a search through this number of bytes.
    fn searching(&self, bytes: usize) -> Result<u64, Failure> {
        let steps = 1 + (bytes as u64).saturating_mul(self.size) / STEP_BYTES;
        if steps > MOST_SEARCHING {
            return Err(Failure::Exhausted("searches too much text with too large a pattern"));
        }
        Ok(steps)
    }
}

/// Whether a pattern can be compiled within the limits.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    compile(pattern).map(drop)
}

fn compile(pattern: &str) -> Result<Compiled, String> {
    let translated = re2::translated(pattern)?;
    for tier in TIERS {
        let built = RegexBuilder::new(&translated).size_limit(tier).dfa_size_limit(SEARCH_BYTES).build();
        match built {
            Ok(regex) => return Ok(Compiled { regex, size: tier as u64 }),
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => return Err(format!("{pattern:?} is not a regular expression: {error}")),
        }
    }
    Err("a regular expression takes too much memory when it is compiled".to_owned())
}

impl Patterns {
    fn compiled(&mut self, pattern: &Arc<String>, meter: &mut Meter<'_>) -> Result<Compiled, Failure> {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| known == pattern) {
            meter.steps(self.0.len() as u64)?;
            return Ok(known.clone());
        }
        // Counts the first tier and the memory of a search; the rest is counted when the size is known.
        meter.bytes((TIERS[0] + SEARCH_BYTES) as u64)?;
        meter.steps(1_000 + pattern.len() as u64)?;
        let compiled = compile(pattern).map_err(failed)?;
        meter.bytes(2 * compiled.size)?;
        meter.steps(compiled.size / 64)?;
        self.0.push((Arc::clone(pattern), compiled.clone()));
        Ok(compiled)
    }

    /// Whether a string contains a match of a pattern.
    pub(super) fn matches(&mut self, operands: &[Value], meter: &mut Meter<'_>) -> Result<Value, Failure> {
        let (text, pattern) = texts("matches", operands)?;
        let pattern = self.compiled(pattern, meter)?;
        meter.steps(pattern.searching(text.len())?)?;
        Ok(Value::Bool(pattern.regex.is_match(text)))
    }

    /// The first match, or an empty string.
    pub(super) fn find(&mut self, operands: &[Value], meter: &mut Meter<'_>) -> Result<Value, Failure> {
        let (text, pattern) = texts("find", operands)?;
        let pattern = self.compiled(pattern, meter)?;
        meter.steps(pattern.searching(text.len())?)?;
        meter.bytes(ALLOCATION + text.len() as u64)?;
        let found = pattern.regex.find(text).map(|found| found.as_str()).unwrap_or_default();
        Ok(Value::String(Arc::new(found.to_owned())))
    }

    /// All matches, or the first ones up to a limit.
    pub(super) fn find_all(&mut self, operands: &[Value], meter: &mut Meter<'_>) -> Result<Value, Failure> {
        let (text, pattern) = texts("findAll", operands)?;
        let pattern = self.compiled(pattern, meter)?;
        let limit = match operands.get(2) {
            // As in Kubernetes, a negative limit means all.
            Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let mut found = Vec::new();
        let mut matches = pattern.regex.find_iter(text);
        let mut searched = 0;
        meter.steps(pattern.searching(text.len())?)?;
        while found.len() < limit {
            // A search may read the whole rest of the text, but only a bad pattern causes that.
            meter.steps(1 + pattern.searching(text.len() - searched)? / 64)?;
            let Some(next) = matches.next() else { break };
            searched = next.end();
            meter.bytes(2 * VALUE + ALLOCATION + next.len() as u64)?;
            found.push(Value::String(Arc::new(next.as_str().to_owned())));
        }
        Ok(Value::List(Arc::new(found)))
    }
}

fn texts<'v>(function: &str, operands: &'v [Value]) -> Result<(&'v str, &'v Arc<String>), Failure> {
    match operands {
        [Value::String(text), Value::String(pattern), ..] => Ok((text, pattern)),
        [text, pattern, ..] => Err(failed(format!(
            "{function} takes a string and a pattern, got {} and {}",
            describe(text),
            describe(pattern)
        ))),
        _ => Err(failed(format!("{function} takes a string and a pattern"))),
    }
}
