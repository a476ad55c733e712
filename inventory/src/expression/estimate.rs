//! Estimates, at compile time, the cost of an expression on an ordinary object.
//!
//! The budget limits every evaluation; the estimate warns the author early. As in Kubernetes, an estimate may be ten
//! times the limit, because sizes are guessed. A cost that multiplies with each macro of a chain goes far beyond that.

use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators as op};

use super::composed::Composed;
use super::functions::{Bound, Functions, Native};
use super::{EXPRESSION_BYTES, EXPRESSION_STEPS, evaluate, macros, patterns};

/// The assumed number of elements of a list or map.
const ITEMS: u64 = 64;
/// The assumed length of a string, in bytes.
const TEXT: u64 = 256;
/// The factor by which an estimate may exceed the limit.
const MARGIN: u64 = 10;

/// The estimated size of a value.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Number of elements, if it is a list or a map.
    items: u64,
    /// Bytes of its whole content.
    bytes: u64,
}

impl Shape {
    const SCALAR: Self = Self { items: 1, bytes: 8 };
    /// Any value in an object: a string, or a list of strings.
    const UNKNOWN: Self = Self { items: ITEMS, bytes: ITEMS * TEXT };

    /// The size of one of its elements.
    fn element(self) -> Self {
        // For nested lists, the size of the inner elements is not known separately.
        Self { items: ITEMS.min(self.bytes / 8).max(1), bytes: (self.bytes / self.items.max(1)).max(8) }
    }

    fn and(self, other: Self) -> Self {
        Self { items: self.items.saturating_add(other.items), bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn or(self, other: Self) -> Self {
        Self { items: self.items.max(other.items), bytes: self.bytes.max(other.bytes) }
    }
}

/// Rejects expressions that cost far too much, and invalid patterns.
pub(super) fn check(expr: &IdedExpr, functions: &Functions, composed: &Composed) -> Result<(), String> {
    let mut estimate =
        Estimate { functions, composed, known: Vec::new(), bound: Vec::new(), steps: 0, bytes: 0 };
    estimate.shape(expr, 1)?;
    if estimate.steps > MARGIN * EXPRESSION_STEPS {
        return Err(format!(
            "would take too much work on an ordinary object: an estimated {} steps, where {EXPRESSION_STEPS} are granted",
            estimate.steps
        ));
    }
    if estimate.bytes > MARGIN * EXPRESSION_BYTES {
        return Err(format!(
            "would take too much memory on an ordinary object: an estimated {} bytes, where {EXPRESSION_BYTES} are granted",
            estimate.bytes
        ));
    }
    Ok(())
}

struct Estimate<'e> {
    functions: &'e Functions,
    composed: &'e Composed,
    /// The sizes of composed expressions that are already estimated: each is evaluated once.
    known: Vec<(usize, Shape)>,
    bound: Vec<(&'e str, Shape)>,
    steps: u64,
    bytes: u64,
}

impl<'e> Estimate<'e> {
    fn take(&mut self, times: u64, steps: u64, bytes: u64) {
        self.steps = self.steps.saturating_add(times.saturating_mul(steps));
        self.bytes = self.bytes.saturating_add(times.saturating_mul(bytes));
    }

    /// The size of a part that is evaluated `times` times.
    fn shape(&mut self, expr: &'e IdedExpr, times: u64) -> Result<Shape, String> {
        self.take(times, 1, 0);
        Ok(match &expr.expr {
            Expr::Literal(LiteralValue::String(text)) => self.made(times, 1, text.inner().len() as u64),
            Expr::Literal(LiteralValue::Bytes(bytes)) => self.made(times, 1, bytes.inner().len() as u64),
            Expr::Literal(_) | Expr::Unspecified | Expr::Struct(_) => Shape::SCALAR,
            Expr::Ident(name) => {
                let bound = self.bound.iter().rev().find(|(bound, _)| bound == name);
                match (bound, self.composed.position(name)) {
                    (Some((_, shape)), _) => *shape,
                    (None, Some(at)) => self.of_composed(at)?,
                    (None, None) => Shape::UNKNOWN,
                }
            }
            Expr::Select(select) => {
                let operand = self.shape(&select.operand, times)?;
                if select.test { Shape::SCALAR } else { Shape { items: operand.items.max(ITEMS), ..operand } }
            }
            Expr::List(list) => {
                let mut all = Shape { items: 0, bytes: 0 };
                for element in &list.elements {
                    all = all.and(Shape { items: 1, ..self.shape(element, times)? });
                }
                // Elements are shared, not copied.
                self.take(times, 0, 32 * all.items);
                all
            }
            Expr::Map(map) => {
                let mut all = Shape { items: 0, bytes: 0 };
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        let key = self.shape(&entry.key, times)?;
                        let value = self.shape(&entry.value, times)?;
                        let bytes = key.bytes.saturating_add(value.bytes);
                        all = all.and(Shape { items: 1, bytes });
                    }
                }
                self.take(times, 0, 128 * all.items);
                all
            }
            Expr::Call(call) => self.call(call, times)?,
            Expr::Comprehension(comprehension) => {
                if comprehension.iter_var == macros::UNUSED {
                    let shape = self.shape(&comprehension.accu_init, times)?;
                    self.bound.push((&comprehension.accu_var, shape));
                    let shape = self.shape(&comprehension.result, times);
                    self.bound.pop();
                    return shape;
                }
                let range = self.shape(&comprehension.iter_range, times)?;
                self.shape(&comprehension.accu_init, times)?;
                let rounds = times.saturating_mul(range.items);
                let outer = self.bound.len();
                self.bound.push((&comprehension.accu_var, Shape { items: 0, bytes: 0 }));
                self.bound.push((&comprehension.iter_var, range.element()));
                self.bound.extend(comprehension.iter_var2.as_deref().map(|name| (name, range.element())));
                self.shape(&comprehension.loop_cond, rounds)?;
                // What one iteration adds to an empty result, every iteration adds.
                let added = self.shape(&comprehension.loop_step, rounds)?;
                self.bound.truncate(outer);
                let made = Shape { items: range.items, bytes: range.items.saturating_mul(added.bytes) };
                let is_list = matches!(&comprehension.accu_init.expr, Expr::List(_) | Expr::Map(_));
                if is_list { made } else { Shape::SCALAR }
            }
        })
    }

    fn of_composed(&mut self, at: usize) -> Result<Shape, String> {
        if let Some((_, shape)) = self.known.iter().find(|(known, _)| *known == at) {
            return Ok(*shape);
        }
        let bound = std::mem::take(&mut self.bound);
        let shape = self.shape(&self.composed.expression(at).expr, 1);
        self.bound = bound;
        self.known.push((at, shape.clone()?));
        shape
    }

    /// A new value with this number of elements and bytes.
    fn made(&mut self, times: u64, items: u64, bytes: u64) -> Shape {
        self.take(times, bytes / 64, bytes.saturating_add(64));
        Shape { items, bytes }
    }

    fn call(&mut self, call: &'e CallExpr, times: u64) -> Result<Shape, String> {
        let of_library = evaluate::of_library(call, self.functions);
        let mut operands = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = &call.target
            && of_library.is_none()
        {
            operands.push(self.shape(target, times)?);
        }
        for arg in &call.args {
            operands.push(self.shape(arg, times)?);
        }
        let operand = |at: usize| operands.get(at).copied().unwrap_or(Shape::SCALAR);
        let all = operands.iter().copied().fold(Shape { items: 0, bytes: 0 }, Shape::and);
        let bound = of_library.map(|(_, bound)| bound).or_else(|| self.functions.bound(&call.func_name));
        let Some(bound) = bound else {
            return Ok(match call.func_name.as_str() {
                op::CONDITIONAL => operand(1).or(operand(2)),
                op::ADD => {
                    self.take(times, all.items.min(all.bytes / 8), all.bytes);
                    all
                }
                op::EQUALS | op::NOT_EQUALS | op::IN => {
                    self.take(times, operand(0).bytes.min(operand(1).bytes) / 64, 0);
                    Shape::SCALAR
                }
                op::INDEX | op::OPT_INDEX | op::OPT_SELECT => {
                    Shape { items: operand(0).items.max(ITEMS), ..operand(0) }
                }
                _ => Shape::SCALAR,
            });
        };
        Ok(match bound {
            Bound::Native(Native::Matches | Native::Find | Native::FindAll) => {
                if let Some(Expr::Literal(LiteralValue::String(pattern))) =
                    call.args.last().filter(|_| call.args.len() < 3).map(|arg| &arg.expr)
                {
                    patterns::check(pattern.inner())?;
                }
                self.take(times, TEXT.min(operand(0).bytes), 0);
                operand(0)
            }
            Bound::Native(_) => {
                self.take(times, 1, 0);
                all
            }
            Bound::Pairs => {
                let pairs = operand(0).items.saturating_mul(operand(operands.len().min(2) - 1).items);
                self.take(times, pairs, all.bytes);
                all
            }
            Bound::Replace => {
                let places = operand(0).bytes / 8;
                let bytes = operand(0).bytes.saturating_add(places.saturating_mul(operand(2).bytes));
                self.made(times, 1, bytes)
            }
            Bound::Join => {
                let separators = operand(0).items.saturating_mul(operand(1).bytes);
                self.made(times, 1, operand(0).bytes.saturating_add(separators))
            }
            Bound::Range => {
                let items = match call.args.first().map(|arg| &arg.expr) {
                    Some(Expr::Literal(LiteralValue::Int(length))) => {
                        u64::try_from(*length.inner()).unwrap_or(0)
                    }
                    _ => ITEMS,
                };
                self.take(times, items, 0);
                self.made(times, items, items.saturating_mul(32))
            }
            Bound::Split => Shape { items: operand(0).items.max(ITEMS), ..self.made(times, 1, all.bytes) },
            _ => Shape { items: all.items, ..self.made(times, 1, all.bytes) },
        })
    }
}
