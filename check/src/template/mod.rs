//! Renders templates of the Flux operator: Go's text/template between `<<` and `>>`, with the functions that are common in
//! ResourceSets.
//!
//! **Invariant:** What is not supported, or depends on a value that is not known yet, is an error, never a guess.

mod evaluate;
mod functions;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::evaluate::Scope;
use self::parse::Parser;

/// A rendered text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// For each line of the text, the line of the template that it begins on, from 0.
    pub(crate) lines: Vec<u32>,
}

/// Renders a template with one set of inputs; the error says what is not known.
pub(crate) fn render(template: &str, inputs: &Value) -> Result<Rendered, String> {
    let pieces = Parser::parse(template)?;
    let mut output = Output::default();
    let inputs = with_floats(inputs);
    Scope::new(&inputs).run(&pieces, &Value::Null, &mut output)?;
    output.lines.resize(output.text.matches('\n').count() + 1, output.line);
    Ok(Rendered { text: output.text, lines: output.lines })
}

/// A text that grows, up to a limit.
#[derive(Debug, Default)]
struct Output {
    text: String,
    lines: Vec<u32>,
    line: u32,
}

/// As much as an object may have in etcd, many times.
const MOST_BYTES: usize = 16 << 20;

impl Output {
    /// Adds text from a line of the template. `is_source`: it is part of the template, whose lines count on.
    fn push(&mut self, text: &str, line: u32, is_source: bool) -> Result<(), String> {
        self.line = line;
        for part in text.split_inclusive('\n') {
            if self.text.is_empty() || self.text.ends_with('\n') {
                self.lines.push(self.line);
            }
            self.text.push_str(part);
            if is_source && part.ends_with('\n') {
                self.line += 1;
            }
        }
        if self.text.len() > MOST_BYTES { Err("it makes too much".to_owned()) } else { Ok(()) }
    }
}

/// Inputs come from JSON, whose numbers are floats in Go.
fn with_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => Value::Array(items.iter().map(with_floats).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), with_floats(value))).collect())
        }
        other => other.clone(),
    }
}
