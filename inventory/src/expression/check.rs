//! The type checker: it rejects what Kubernetes rejects when a policy is written.
//!
//! It follows cel-go with the options that Kubernetes sets: list and map literals have one element type, and the type
//! of `dyn` values is known only during evaluation.

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators as op,
};

use super::composed::Composed;
use super::functions::Functions;
use super::names::{Refused, refused};
use super::signatures::{self, Overload};
use super::types::{Bindings, Type, most_general};
use super::{conversion, evaluate, format, macros};

/// Checks that every call has an overload and every literal one element type. Returns the type of the expression.
pub(super) fn check(expr: &IdedExpr, functions: &Functions, composed: &Composed) -> Result<Type, Refused> {
    let mut checker = Checker {
        functions,
        composed,
        bindings: Bindings::default(),
        uses: 0,
        bound: Vec::new(),
        formats: 0,
    };
    let result = checker.of(expr)?;
    Ok(checker.bindings.resolve(&result, true))
}

struct Checker<'e> {
    functions: &'e Functions,
    composed: &'e Composed,
    bindings: Bindings,
    /// The number of overload uses so far: each use has its own type parameters.
    uses: usize,
    /// The variables bound by comprehensions, innermost last.
    bound: Vec<(&'e str, Type)>,
    /// The number of enclosing calls of `format`: their lists may mix types.
    formats: usize,
}

type Checked = Result<Type, Refused>;

impl<'e> Checker<'e> {
    fn of(&mut self, expr: &'e IdedExpr) -> Checked {
        Ok(match &expr.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::UInt(_) => Type::Uint,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::Null => Type::Null,
                LiteralValue::String(_) => Type::String,
                LiteralValue::Bytes(_) => Type::Bytes,
            },
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                let operand = self.of(&select.operand)?;
                let field = self.field(&operand, &select.field)?;
                if select.test { Type::Bool } else { field }
            }
            Expr::List(list) => {
                let mut item = None;
                for (at, element) in list.elements.iter().enumerate() {
                    let found = self.of(element)?;
                    let found = self.present(found, list.optional_indices.contains(&at))?;
                    item = Some(self.joined(item, found)?);
                }
                Type::List(Box::new(item.unwrap_or_else(|| self.fresh('E'))))
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (None, None);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    let key = self.of(&entry.key)?;
                    let value = self.of(&entry.value)?;
                    let value = self.present(value, entry.optional)?;
                    keys = Some(self.joined(keys, key)?);
                    values = Some(self.joined(values, value)?);
                }
                let key = keys.unwrap_or_else(|| self.fresh('E'));
                Type::Map(Box::new(key), Box::new(values.unwrap_or_else(|| self.fresh('F'))))
            }
            Expr::Call(call) => self.call(call)?,
            Expr::Comprehension(comprehension) => self.comprehension(comprehension)?,
            Expr::Struct(_) | Expr::Unspecified => Type::Dyn,
        })
    }

    fn fresh(&mut self, letter: char) -> Type {
        self.uses += 1;
        Type::Parameter(letter, self.uses)
    }

    fn variable(&self, name: &str) -> Type {
        if let Some((_, bound)) = self.bound.iter().rev().find(|(bound, _)| *bound == name) {
            return self.bindings.resolve(bound, false);
        }
        if let Some(of_composed) = self.composed.type_of(name) {
            return of_composed.clone();
        }
        if let Some((path, _)) = self.functions.fields().iter().find(|(path, _)| *path == name) {
            return Type::Fields(path);
        }
        if conversion::is_type_name(name) { Type::Named } else { Type::Dyn }
    }

    fn field(&mut self, of: &Type, field: &str) -> Checked {
        match self.bindings.resolve(of, false) {
            Type::Dyn | Type::Parameter(..) => Ok(Type::Dyn),
            Type::Map(key, value) => {
                let mut bindings = self.bindings.clone();
                if bindings.assign(&Type::String, &key) {
                    Ok(*value)
                } else {
                    Err(refused(format!("a map with keys of type {key} has no field {field:?}"), field))
                }
            }
            Type::Optional(inner) => Ok(match self.field(&inner, field)? {
                optional @ Type::Optional(_) => optional,
                field => Type::Optional(Box::new(field)),
            }),
            Type::Fields(path) => {
                let known = self.functions.fields().iter().find(|(known, _)| *known == path);
                let known = known.map_or(&[][..], |(_, names)| names);
                // `NAME`, or `NAME: TYPE`.
                let parts = |text: &'static str| {
                    text.split_once(": ").map_or((text, None), |(name, of)| (name, Some(of)))
                };
                let Some((_, of)) = known.iter().map(|text| parts(text)).find(|(name, _)| *name == field)
                else {
                    let names: Vec<_> = known.iter().map(|text| parts(text).0).collect();
                    let message =
                        format!("{path} has no field {field:?} here (there are {})", names.join(", "));
                    return Err(refused(message, field));
                };
                let inner = format!("{path}.{field}");
                let inner = self.functions.fields().iter().find(|(path, _)| *path == inner);
                Ok(match (inner, of) {
                    (Some((path, _)), _) => Type::Fields(path),
                    (None, Some(of)) => signatures::type_of(of),
                    (None, None) => Type::Dyn,
                })
            }
            other => Err(refused(format!("type {other} has no fields"), field)),
        }
    }

    /// The type of an element or entry; an optional one must be an optional value.
    fn present(&mut self, found: Type, is_optional: bool) -> Checked {
        if !is_optional {
            return Ok(found);
        }
        match self.bindings.resolve(&found, false) {
            Type::Optional(inner) => Ok(*inner),
            other => Err(refused(format!("expected an optional value, got {other}"), "?")),
        }
    }

    /// The common type of several elements: all must have the same type, except in arguments of `format`.
    fn joined(&mut self, before: Option<Type>, found: Type) -> Checked {
        let Some(before) = before else { return Ok(found) };
        if self.formats > 0 {
            return Ok(Type::Dyn);
        }
        let (left, right) = (self.bindings.resolve(&before, false), self.bindings.resolve(&found, false));
        if self.bindings.assign(&found, &before) && (left == Type::Dyn) == (right == Type::Dyn) {
            return Ok(most_general(&left, &right));
        }
        Err(refused(format!("a list or map holds values of one type: {left} and {right}"), ""))
    }

    fn call(&mut self, call: &'e CallExpr) -> Checked {
        let name = call.func_name.as_str();
        if name == op::OPT_SELECT
            && let [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] =
                &call.args[..]
        {
            let operand = self.of(operand)?;
            return Ok(match self.field(&operand, field.inner())? {
                optional @ Type::Optional(_) => optional,
                field => Type::Optional(Box::new(field)),
            });
        }
        let of_library = evaluate::of_library(call, self.functions);
        let (name, is_method) = match &of_library {
            Some((name, _)) => (name.as_str(), false),
            None => (name, call.target.is_some()),
        };
        let is_format = name == "format" && is_method;
        self.formats += usize::from(is_format);
        let mut operands = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = call.target.as_deref().filter(|_| is_method) {
            operands.push(self.of(target)?);
        }
        for arg in &call.args {
            operands.push(self.of(arg)?);
        }
        self.formats -= usize::from(is_format);
        if let (op::CONDITIONAL, [_, Type::Null, _] | [_, _, Type::Null]) = (name, operands.as_slice())
            && self.functions.is_nullable()
        {
            operands[1] = Type::Dyn;
        }
        let result = self.resolve(name, is_method, &operands)?;
        literal_arguments(name, call).map_err(|why| refused(why, name))?;
        Ok(result)
    }

    /// The result type of the overloads that accept these operands.
    fn resolve(&mut self, name: &str, is_method: bool, operands: &[Type]) -> Checked {
        let mut result: Option<Type> = None;
        for overload in self.functions.overloads(name) {
            if overload.is_method != is_method || overload.parameters.len() != operands.len() {
                continue;
            }
            self.uses += 1;
            let usage = self.uses;
            let Overload { parameters, result: gives, .. } = overload;
            let mut bindings = self.bindings.clone();
            let fits = operands
                .iter()
                .zip(parameters)
                .all(|(operand, parameter)| bindings.assign(operand, &of_usage(parameter, usage)));
            if fits {
                self.bindings = bindings;
                let gives = self.bindings.resolve(&of_usage(gives, usage), false);
                result = Some(match result {
                    None => gives,
                    Some(other) if other == gives => other,
                    Some(_) => Type::Dyn,
                });
            }
        }
        result.ok_or_else(|| {
            let operands: Vec<_> =
                operands.iter().map(|operand| self.bindings.resolve(operand, true).to_string()).collect();
            refused(no_overload(name, is_method, &operands), name)
        })
    }

    fn comprehension(&mut self, of: &'e ComprehensionExpr) -> Checked {
        let range = self.of(&of.iter_range)?;
        let has_two = of.iter_var2.is_some();
        let (first, second) = match self.bindings.resolve(&range, false) {
            Type::List(item) if has_two => (Type::Int, *item),
            Type::List(item) => (*item, Type::Dyn),
            Type::Map(key, value) => (*key, *value),
            Type::Dyn | Type::Parameter(..) | Type::Fields(_) => (Type::Dyn, Type::Dyn),
            other => {
                return Err(refused(format!("a value of type {other} has no elements to go through"), ""));
            }
        };
        let made = self.of(&of.accu_init)?;
        let outer = self.bound.len();
        self.bound.push((&of.accu_var, made.clone()));
        // A comprehension that only binds a name iterates over nothing.
        if of.iter_var != macros::UNUSED {
            self.bound.push((&of.iter_var, first));
        }
        if let Some(name) = &of.iter_var2 {
            self.bound.push((name, second));
        }
        let condition = self.of(&of.loop_cond)?;
        self.expect(&condition, &Type::Bool)?;
        let step = self.of(&of.loop_step)?;
        self.expect(&step, &made)?;
        self.bound.truncate(outer + 1);
        let result = self.of(&of.result)?;
        self.bound.truncate(outer);
        Ok(self.bindings.resolve(&result, false))
    }

    fn expect(&mut self, found: &Type, wanted: &Type) -> Result<(), Refused> {
        if self.bindings.assign(found, wanted) {
            return Ok(());
        }
        let (found, wanted) = (self.bindings.resolve(found, true), self.bindings.resolve(wanted, true));
        Err(refused(format!("expected type {wanted}, got {found}"), ""))
    }
}

fn of_usage(of: &Type, usage: usize) -> Type {
    let inner = |of: &Type| Box::new(of_usage(of, usage));
    match of {
        Type::Parameter(letter, _) => Type::Parameter(*letter, usage),
        Type::List(item) => Type::List(inner(item)),
        Type::Map(key, value) => Type::Map(inner(key), inner(value)),
        Type::Optional(value) => Type::Optional(inner(value)),
        other => other.clone(),
    }
}

/// The message that no overload accepts these operands.
pub(super) fn no_overload(name: &str, is_method: bool, operands: &[String]) -> String {
    match operands {
        [receiver, rest @ ..] if is_method => {
            format!("{name:?} is not a function of {receiver} that takes ({})", rest.join(", "))
        }
        _ => {
            let name = name.trim_matches(['_', '@']).replace('_', " ");
            format!("{name:?} does not take ({})", operands.join(", "))
        }
    }
}

/// Validates literal arguments at compile time.
fn literal_arguments(name: &str, call: &CallExpr) -> Result<(), String> {
    let text = |expr: Option<&IdedExpr>| match expr.map(|expr| &expr.expr) {
        Some(Expr::Literal(LiteralValue::String(text))) => Some(text.inner().to_owned()),
        _ => None,
    };
    match name {
        "duration" => match (text(call.args.first()), call.args.first().map(|arg| &arg.expr)) {
            (Some(text), _) => conversion::go_duration(&text).map(drop),
            (None, Some(Expr::Literal(_))) => Err("a duration is written as '5m'".to_owned()),
            _ => Ok(()),
        },
        "timestamp" => match text(call.args.first()) {
            Some(text) => conversion::timestamp_of(&text).map(drop),
            None => Ok(()),
        },
        "format" => match (text(call.target.as_deref()), call.args.first().map(|arg| &arg.expr)) {
            (Some(text), Some(Expr::List(list))) => {
                format::check(&text, list.elements.iter().map(|element| &element.expr))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
