//! The evaluator: walks the tree of an expression within a budget.
//!
//! The parser and the values are those of the cel crate. Its interpreter has no limits and no hooks for them, and it
//! copies whole values at each field access; this evaluator does not, because values share their parts.
//!
//! **Invariant:** Errors are values, as in the CEL specification: `||`, `&&`, `all` and `exists` ignore an error if
//! another operand decides. An exhausted budget is never ignored.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SelectExpr,
    operators as op,
};
use kube_cel::cel::objects::{Key, Map};

use super::functions::{Bound, Functions, Native};
use super::measure::{ALLOCATION, ENTRY, VALUE};
use super::operators::{self, as_optional, optional_select};
use super::{
    Failure, Known, budget::Meter, calls, conversion, describe, failed, lists, macros, patterns::Patterns,
};

type Evaluated = Result<Value, Failure>;

/// The maximum nesting depth of an expression, because evaluation is recursive.
pub(super) const DEEPEST: usize = 96;

pub(super) struct Evaluator<'e, 'b> {
    functions: &'e Functions,
    known: Known<'e>,
    /// The variables bound by comprehensions, innermost last. An accumulated result may be an error.
    bound: Vec<(&'e str, Evaluated)>,
    patterns: Patterns,
    depth: usize,
    pub(super) meter: Meter<'b>,
}

impl<'e, 'b> Evaluator<'e, 'b> {
    pub(super) fn new(functions: &'e Functions, known: Known<'e>, meter: Meter<'b>) -> Self {
        Self { functions, known, bound: Vec::new(), patterns: Patterns::default(), depth: 0, meter }
    }

    pub(super) fn evaluate(&mut self, expr: &'e IdedExpr) -> Evaluated {
        self.meter.steps(1)?;
        if self.depth > DEEPEST {
            return Err(Failure::Exhausted("nests too deep"));
        }
        self.depth += 1;
        let value = match &expr.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(list),
            Expr::Map(map) => self.map(map),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            // The compiler rejects these.
            Expr::Struct(_) | Expr::Unspecified => Err(failed("messages cannot be constructed")),
        };
        self.depth -= 1;
        value
    }

    fn truth(&mut self, expr: &'e IdedExpr) -> Result<bool, Failure> {
        match self.evaluate(expr)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(failed(format!("expected a boolean, got {}", describe(&other)))),
        }
    }

    fn literal(&mut self, literal: &LiteralValue) -> Evaluated {
        Ok(match literal {
            LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
            LiteralValue::Int(value) => Value::Int(*value.inner()),
            LiteralValue::UInt(value) => Value::UInt(*value.inner()),
            LiteralValue::Double(value) => Value::Float(*value.inner()),
            LiteralValue::Null => Value::Null,
            LiteralValue::String(value) => calls::literal(value.inner(), &mut self.meter)?,
            LiteralValue::Bytes(value) => {
                self.meter.bytes(ALLOCATION + value.inner().len() as u64)?;
                Value::Bytes(Arc::new(value.inner().to_vec()))
            }
        })
    }

    fn variable(&mut self, name: &str) -> Evaluated {
        if let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| *bound == name) {
            return value.clone();
        }
        if let Some((_, value)) = self.known.variables.iter().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.composed(name) {
            return value;
        }
        if conversion::is_type_name(name) {
            return Ok(conversion::named_type(name));
        }
        Err(failed(format!("unknown variable {name:?}")))
    }

    /// The value of a composed expression, evaluated at its first use; `None` if there is no such expression.
    fn composed(&mut self, identifier: &str) -> Option<Evaluated> {
        let (composed, memo) = self.known.composed?;
        let at = composed.position(identifier)?;
        if let Some(known) = memo.get(at) {
            return Some(known.clone());
        }
        // A composed expression does not see the variables of the macros around its use.
        let bound = std::mem::take(&mut self.bound);
        let value = self.evaluate(&composed.expression(at).expr);
        self.bound = bound;
        memo.keep(at, &value);
        Some(value)
    }

    fn select(&mut self, select: &'e SelectExpr) -> Evaluated {
        let operand = self.evaluate(&select.operand)?;
        if select.test {
            return operators::has(&operand, &select.field).map(Value::Bool);
        }
        operators::select(&operand, &select.field)
    }

    fn list(&mut self, list: &'e ListExpr) -> Evaluated {
        self.meter.bytes(ALLOCATION + VALUE * list.elements.len() as u64)?;
        let mut elements = Vec::with_capacity(list.elements.len());
        for (at, element) in list.elements.iter().enumerate() {
            let value = self.evaluate(element)?;
            elements.extend(present(value, list.optional_indices.contains(&at))?);
        }
        Ok(Value::List(Arc::new(elements)))
    }

    fn map(&mut self, map: &'e MapExpr) -> Evaluated {
        self.meter.bytes(ALLOCATION + ENTRY * map.entries.len() as u64)?;
        let mut entries = HashMap::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err(failed("messages cannot be constructed"));
            };
            let key = self.evaluate(&entry.key)?;
            let value = self.evaluate(&entry.value)?;
            let key = key_of(key)?;
            if let Some(value) = present(value, entry.optional)?
                && entries.insert(key, value).is_some()
            {
                return Err(failed("a key comes twice in a map"));
            }
        }
        Ok(Value::Map(Map { map: Arc::new(entries) }))
    }

    fn call(&mut self, call: &'e CallExpr) -> Evaluated {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::CONDITIONAL, [condition, then, other]) => {
                if self.truth(condition)? {
                    self.evaluate(then)
                } else {
                    self.evaluate(other)
                }
            }
            (op::LOGICAL_OR, [left, right]) => self.logical(left, right, true),
            (op::LOGICAL_AND, [left, right]) => self.logical(left, right, false),
            (op::NOT_STRICTLY_FALSE, [value]) => match self.truth(value) {
                Err(exhausted @ Failure::Exhausted(_)) => Err(exhausted),
                truth => Ok(Value::Bool(truth.unwrap_or(true))),
            },
            (op::LOGICAL_NOT, [value]) => Ok(Value::Bool(!self.truth(value)?)),
            (op::NEGATE, [value]) => {
                let value = self.evaluate(value)?;
                negated(&value)
            }
            (name, [left, right]) if is_operator(name) => {
                let left = self.evaluate(left)?;
                let right = self.evaluate(right)?;
                self.operator(name, left, right)
            }
            _ => self.function(call),
        }
    }

    /// `||` and `&&`: an error counts only if the other operand does not decide.
    fn logical(&mut self, left: &'e IdedExpr, right: &'e IdedExpr, decisive: bool) -> Evaluated {
        let left = self.truth(left);
        match left {
            Ok(truth) if truth == decisive => return Ok(Value::Bool(decisive)),
            Err(Failure::Exhausted(_)) => return left.map(Value::Bool),
            _ => {}
        }
        match self.truth(right) {
            Ok(truth) if truth == decisive => Ok(Value::Bool(decisive)),
            right => left.and(right).map(Value::Bool),
        }
    }

    fn operator(&mut self, name: &str, left: Value, right: Value) -> Evaluated {
        let meter = &mut self.meter;
        Ok(Value::Bool(match name {
            op::EQUALS => operators::equal(&left, &right, meter)?,
            op::NOT_EQUALS => !operators::equal(&left, &right, meter)?,
            op::IN => operators::contains(&right, &left, meter)?,
            op::LESS => ordered(&left, &right, meter)? == Ordering::Less,
            op::GREATER => ordered(&left, &right, meter)? == Ordering::Greater,
            op::LESS_EQUALS => ordered(&left, &right, meter)? != Ordering::Greater,
            op::GREATER_EQUALS => ordered(&left, &right, meter)? != Ordering::Less,
            op::INDEX => return operators::index(&left, &right, false),
            op::OPT_INDEX => return operators::index(&left, &right, true),
            op::OPT_SELECT => {
                let Value::String(field) = &right else { return Err(failed("a field must be a string")) };
                return optional_select(&left, field);
            }
            _ => return operators::arithmetic(name, left, right, meter),
        }))
    }

    fn function(&mut self, call: &'e CallExpr) -> Evaluated {
        let mut args = Vec::with_capacity(call.args.len() + 1);
        // `math.least(…)` is a function of a library, not a method of a variable named math.
        let of_library = of_library(call, self.functions);
        let (name, bound) = match &of_library {
            Some((name, bound)) => (name.as_str(), Some(*bound)),
            None => (call.func_name.as_str(), self.functions.bound(&call.func_name)),
        };
        let Some(bound) = bound else { return Err(failed(format!("unknown function {name:?}"))) };
        let this = match &call.target {
            Some(target) if of_library.is_none() => Some(self.evaluate(target)?),
            _ => None,
        };
        if let Bound::Native(native) = bound {
            let is_method = this.is_some();
            args.extend(this);
            // If there is a value, the alternative is not evaluated.
            if matches!(native, Native::Or | Native::OrValue)
                && let [held] = args.as_slice()
                && let Some(value) = as_optional(held).and_then(|held| held.value())
            {
                return Ok(if native == Native::Or { held.clone() } else { value.clone() });
            }
            for arg in &call.args {
                args.push(self.evaluate(arg)?);
            }
            calls::admitted(self.functions, name, is_method, &args.iter().collect::<Vec<_>>())?;
            return calls::native(native, &args, &mut self.patterns, &mut self.meter);
        }
        for arg in &call.args {
            args.push(self.evaluate(arg)?);
        }
        calls::library(self.functions, name, bound, this, args, &mut self.meter)
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr) -> Evaluated {
        if comprehension.iter_var == macros::UNUSED {
            let value = self.evaluate(&comprehension.accu_init)?;
            self.bound.push((&comprehension.accu_var, Ok(value)));
            let value = self.evaluate(&comprehension.result);
            self.bound.pop();
            return value;
        }
        let range = self.evaluate(&comprehension.iter_range)?;
        let result = self.evaluate(&comprehension.accu_init)?;
        let base = self.bound.len();
        self.bound.push((&comprehension.accu_var, Ok(result)));
        self.bound.push((&comprehension.iter_var, Ok(Value::Null)));
        let has_two = comprehension.iter_var2.is_some();
        self.bound.extend(comprehension.iter_var2.as_deref().map(|name| (name, Ok(Value::Null))));
        let value = match &range {
            Value::List(list) if has_two => {
                let numbered = list.iter().zip(0..).map(|(item, at)| (Value::Int(at), Some(item.clone())));
                self.rounds(comprehension, base, numbered)
            }
            Value::List(list) => {
                self.rounds(comprehension, base, list.iter().map(|item| (item.clone(), None)))
            }
            Value::Map(map) => {
                // In a fixed order, so that an object has the same message each time it is judged.
                let mut entries: Vec<_> = map.map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| (Value::from(key), has_two.then(|| value.clone())));
                self.rounds(comprehension, base, entries)
            }
            other => Err(failed(format!("{} has no elements", describe(other)))),
        };
        self.bound.truncate(base);
        value
    }

    fn rounds(
        &mut self,
        comprehension: &'e ComprehensionExpr,
        base: usize,
        items: impl Iterator<Item = (Value, Option<Value>)>,
    ) -> Evaluated {
        // Only these two operators continue after an error, and may still discard it.
        let step = &comprehension.loop_step;
        let passes_errors = matches!(
            &step.expr,
            Expr::Call(call) if matches!(call.func_name.as_str(), op::LOGICAL_OR | op::LOGICAL_AND)
        );
        for (item, second) in items {
            if !self.truth(&comprehension.loop_cond)? {
                break;
            }
            self.bound[base + 1].1 = Ok(item);
            if let Some(second) = second {
                self.bound[base + 2].1 = Ok(second);
            }
            let before = std::mem::replace(&mut self.bound[base].1, Ok(Value::Null));
            match self.step(step, base, before) {
                Err(error) if !passes_errors || matches!(error, Failure::Exhausted(_)) => return Err(error),
                after => self.bound[base].1 = after,
            }
        }
        self.evaluate(&comprehension.result)
    }

    /// The result after an iteration. `map` and `filter` append in each iteration; this is done in place, because
    /// copying the list each time would cost quadratic time.
    fn step(&mut self, step: &'e IdedExpr, base: usize, before: Evaluated) -> Evaluated {
        let result_name = self.bound[base].0;
        let is_result = |expr: &IdedExpr| matches!(&expr.expr, Expr::Ident(name) if name == result_name);
        match &step.expr {
            Expr::Ident(_) if is_result(step) => before,
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (op::CONDITIONAL, [condition, then, other]) => {
                    self.meter.steps(1)?;
                    if self.truth(condition)? {
                        self.step(then, base, before)
                    } else {
                        self.step(other, base, before)
                    }
                }
                ("cel.@mapInsert", [result, added @ ..]) if is_result(result) => {
                    self.meter.steps(1)?;
                    let added = self.entries(added)?;
                    lists::insert(before?, added, &mut self.meter)
                }
                (op::ADD, [result, added]) if is_result(result) => match (&added.expr, before) {
                    (Expr::List(list), Ok(Value::List(mut before)))
                        if list.elements.len() == 1 && list.optional_indices.is_empty() =>
                    {
                        self.meter.steps(1)?;
                        let item = self.evaluate(&list.elements[0])?;
                        // A growing vector is sometimes copied to one of twice the size.
                        self.meter.bytes(3 * VALUE)?;
                        Arc::make_mut(&mut before).push(item);
                        Ok(Value::List(before))
                    }
                    (_, before) => self.plain_step(step, base, before),
                },
                _ => self.plain_step(step, base, before),
            },
            _ => self.plain_step(step, base, before),
        }
    }

    /// The entries added to a map: a key and a value, or the entries of another map.
    fn entries(&mut self, added: &'e [IdedExpr]) -> Result<Vec<(Key, Value)>, Failure> {
        match added {
            [key, value] => {
                let key = self.evaluate(key)?;
                let value = self.evaluate(value)?;
                Ok(vec![(key_of(key)?, value)])
            }
            [map] => match self.evaluate(map)? {
                Value::Map(map) => {
                    self.meter.steps(map.map.len() as u64)?;
                    Ok(map.map.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
                }
                other => Err(failed(format!("expected a map, got {}", describe(&other)))),
            },
            _ => Err(failed("expected a map")),
        }
    }

    fn plain_step(&mut self, step: &'e IdedExpr, base: usize, before: Evaluated) -> Evaluated {
        self.bound[base].1 = before;
        self.evaluate(step)
    }
}

fn key_of(value: Value) -> Result<Key, Failure> {
    match value {
        Value::String(text) => Ok(Key::String(text)),
        Value::Int(number) => Ok(Key::Int(number)),
        Value::UInt(number) => Ok(Key::Uint(number)),
        Value::Bool(value) => Ok(Key::Bool(value)),
        other => Err(failed(format!("{} cannot be a key", describe(&other)))),
    }
}

/// The function that a call with a target means, if the target is the name of a library.
pub(super) fn of_library(call: &CallExpr, functions: &Functions) -> Option<(String, Bound)> {
    let Expr::Ident(library) = &call.target.as_deref()?.expr else { return None };
    let name = format!("{library}.{}", call.func_name);
    functions.bound(&name).map(|bound| (name, bound))
}

fn is_operator(name: &str) -> bool {
    matches!(
        name,
        op::EQUALS
            | op::NOT_EQUALS
            | op::IN
            | op::LESS
            | op::GREATER
            | op::LESS_EQUALS
            | op::GREATER_EQUALS
            | op::INDEX
            | op::OPT_INDEX
            | op::OPT_SELECT
            | op::ADD
            | op::SUBSTRACT
            | op::MULTIPLY
            | op::DIVIDE
            | op::MODULO
    )
}

fn ordered(left: &Value, right: &Value, meter: &mut Meter<'_>) -> Result<Ordering, Failure> {
    operators::order(left, right, meter)?.ok_or_else(|| failed("NaN has no order"))
}

/// The value of an element or entry; `None` if it is optional and absent.
fn present(value: Value, is_optional: bool) -> Result<Option<Value>, Failure> {
    if !is_optional {
        return Ok(Some(value));
    }
    match as_optional(&value) {
        Some(held) => Ok(held.value().cloned()),
        None => Err(failed(format!("expected an optional value, got {}", describe(&value)))),
    }
}

fn negated(value: &Value) -> Evaluated {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(|| failed("integer overflow")),
        Value::Float(number) => Ok(Value::Float(-number)),
        other => Err(failed(format!("cannot negate {}", describe(other)))),
    }
}
