//! Runs the pieces of a template.

use serde_json::Value;

use super::{
    Output,
    functions::{call, is_true, printed},
    parse::{Base, Operand, Piece, Pipeline},
};

/// The variables in scope. A block removes its own at its end.
pub(super) struct Scope<'a> {
    inputs: &'a Value,
    variables: Vec<(String, Value)>,
    steps: usize,
}

/// More than any ResourceSet needs.
const MOST_STEPS: usize = 1_000_000;

impl<'a> Scope<'a> {
    pub(super) fn new(inputs: &'a Value) -> Self {
        Self { inputs, variables: Vec::new(), steps: 0 }
    }

    pub(super) fn run(&mut self, pieces: &[Piece], dot: &Value, output: &mut Output) -> Result<(), String> {
        let outer = self.variables.len();
        for piece in pieces {
            self.piece(piece, dot, output)?;
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn piece(&mut self, piece: &Piece, dot: &Value, output: &mut Output) -> Result<(), String> {
        match piece {
            Piece::Text(text, line) => output.push(text, *line, true)?,
            Piece::Print(value, line) => {
                let value = self.pipeline(value, dot)?;
                output.push(&printed(&value)?, *line, false)?;
            }
            Piece::Set { name, declares, value } => {
                let value = self.pipeline(value, dot)?;
                if *declares {
                    self.variables.push((name.clone(), value));
                } else {
                    let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                    known.ok_or_else(|| format!("{name} is not declared"))?.1 = value;
                }
            }
            Piece::If { condition, then, otherwise } => {
                let is_met = is_true(&self.pipeline(condition, dot)?)?;
                self.run(if is_met { then } else { otherwise }, dot, output)?;
            }
            Piece::With { value, name, then, otherwise } => {
                let value = self.pipeline(value, dot)?;
                if !is_true(&value)? {
                    return self.run(otherwise, dot, output);
                }
                let outer = self.variables.len();
                self.variables.extend(name.clone().map(|name| (name, value.clone())));
                self.run(then, &value, output)?;
                self.variables.truncate(outer);
            }
            Piece::Range { names, over, body, otherwise } => {
                let items = items(self.pipeline(over, dot)?)?;
                if items.is_empty() {
                    return self.run(otherwise, dot, output);
                }
                for (key, item) in items {
                    let outer = self.variables.len();
                    match names.as_slice() {
                        [] => {}
                        [one] => self.variables.push((one.clone(), item.clone())),
                        [first, second] => {
                            self.variables.extend([(first.clone(), key), (second.clone(), item.clone())]);
                        }
                        _ => return Err("range declares two variables at most".to_owned()),
                    }
                    self.run(body, &item, output)?;
                    self.variables.truncate(outer);
                }
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err("it takes too many steps".to_owned());
        }
        let mut piped = None;
        for command in pipeline {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or_default())
    }

    fn command(&mut self, command: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value, String> {
        let Some((first, rest)) = command.split_first() else { return Err("an empty command".to_owned()) };
        if let Operand { base: Base::Function(name), fields } = first
            && fields.is_empty()
            && name != "inputs"
        {
            let mut arguments =
                rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
            arguments.extend(piped);
            return call(name, &arguments);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err("a value does not take arguments".to_owned());
        }
        self.operand(first, dot)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.ok_or_else(|| format!("{name} is not declared"))?.1.clone()
            }
            Base::Function(name) if name == "inputs" => self.inputs.clone(),
            Base::Function(name) => call(name, &[])?,
            Base::Literal(value) => value.clone(),
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
        };
        operand.fields.iter().try_fold(base, |value, field| {
            value.get(field).cloned().ok_or_else(|| format!("there is no {field}"))
        })
    }
}

/// What `range` goes through.
fn items(value: Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(index, item)| (index.into(), item)).collect())
        }
        Value::Object(fields) => {
            let mut items: Vec<(String, Value)> = fields.into_iter().collect();
            items.sort_by(|one, other| one.0.cmp(&other.0));
            Ok(items.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
        }
        _ => Err("range goes through lists and maps alone here".to_owned()),
    }
}
