//! Expands the macros that the parser leaves as calls: macros with two variables, optional values, and sorting by a
//! key.
//!
//! They become comprehensions, as in cel-go. Dotted type names become one identifier each.

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators as op,
};

use super::conversion;

/// The iteration variable of a comprehension that iterates over nothing and only binds a name to a value.
pub(super) const UNUSED: &str = "#unused";
/// The accumulator of a comprehension.
const RESULT: &str = "@result";
/// The list to sort.
const SORTED: &str = "@sorted";

/// The optional value whose content is mapped.
const MAPPED: &str = "@mapped";

/// Expands the macros of an expression, inner ones first.
pub(super) fn expand(expr: &mut IdedExpr) -> Result<(), String> {
    if let Some(name) = type_name(expr) {
        expr.expr = Expr::Ident(name);
        return Ok(());
    }
    let mut result = Ok(());
    each_part_mut(expr, &mut |part| {
        if result.is_ok() {
            result = expand(part);
        }
    });
    result?;
    if let Expr::Comprehension(made) = &expr.expr
        && (made.iter_var == made.accu_var || made.iter_var == "__result__")
    {
        return Err("a variable of a macro must not be called __result__".to_owned());
    }
    let Expr::Call(call) = &mut expr.expr else { return Ok(()) };
    if call.target.is_none() {
        return Ok(());
    }
    let name = call.func_name.clone();
    let expanded = match (name.as_str(), call.args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne", 3)
        | ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => two_variables(&name, call)?,
        ("optMap" | "optFlatMap", 2) => optional(&name, call)?,
        ("sortBy", 2) => sorted(call)?,
        _ => return Ok(()),
    };
    *expr = expanded;
    Ok(())
}

/// The name of a type, with or without dots.
fn type_name(expr: &IdedExpr) -> Option<String> {
    fn path(expr: &IdedExpr) -> Option<String> {
        match &expr.expr {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select(select) if !select.test => {
                Some(format!("{}.{}", path(&select.operand)?, select.field))
            }
            _ => None,
        }
    }
    matches!(&expr.expr, Expr::Select(_)).then(|| path(expr))?.filter(|name| conversion::is_type_name(name))
}

fn two_variables(name: &str, call: &mut CallExpr) -> Result<IdedExpr, String> {
    let Some(range) = call.target.take() else { return Err(no_name()) };
    let mut args = std::mem::take(&mut call.args);
    let made = args.pop().unwrap_or_default();
    let filter = if args.len() == 3 { args.pop() } else { None };
    let (second, first) = (name_of(args.pop())?, name_of(args.pop())?);
    if first == second {
        return Err(format!("{name} takes two variables of different names"));
    }
    let result = || ident(RESULT);
    let is_true = |expr| operator(op::NOT_STRICTLY_FALSE, vec![expr]);
    let filtered = |step: IdedExpr| match filter {
        Some(filter) => operator(op::CONDITIONAL, vec![filter, step, result()]),
        None => step,
    };
    let (init, condition, step, after) = match name {
        "all" => (truth(true), is_true(result()), operator(op::LOGICAL_AND, vec![result(), made]), result()),
        "exists" => {
            let not = operator(op::LOGICAL_NOT, vec![result()]);
            (truth(false), is_true(not), operator(op::LOGICAL_OR, vec![result(), made]), result())
        }
        "exists_one" | "existsOne" => {
            let one_more = operator(op::ADD, vec![result(), number(1)]);
            let step = operator(op::CONDITIONAL, vec![made, one_more, result()]);
            (number(0), truth(true), step, operator(op::EQUALS, vec![result(), number(1)]))
        }
        "transformList" => {
            let step = operator(op::ADD, vec![result(), list(vec![made])]);
            (list(Vec::new()), truth(true), filtered(step), result())
        }
        "transformMap" => {
            let step = function("cel.@mapInsert", vec![result(), ident(&first), made]);
            (empty_map(), truth(true), filtered(step), result())
        }
        _ => {
            let step = function("cel.@mapInsert", vec![result(), made]);
            (empty_map(), truth(true), filtered(step), result())
        }
    };
    Ok(comprehension(ComprehensionExpr {
        iter_range: *range,
        iter_var: first,
        iter_var2: Some(second),
        accu_var: RESULT.to_owned(),
        accu_init: init,
        loop_cond: condition,
        loop_step: step,
        result: after,
    }))
}

/// `optMap` and `optFlatMap`.
fn optional(name: &str, call: &mut CallExpr) -> Result<IdedExpr, String> {
    let Some(target) = call.target.take() else { return Err(no_name()) };
    let mut args = std::mem::take(&mut call.args);
    let made = args.pop().unwrap_or_default();
    let variable = name_of(args.pop())?;
    // The value is bound once: otherwise, each call of a chain would double the expression before it.
    let bound = bind(&variable, method("value", ident(MAPPED), Vec::new()), made);
    let bound = if name == "optMap" { library("optional", "of", vec![bound]) } else { bound };
    let is_there = method("hasValue", ident(MAPPED), Vec::new());
    let none = library("optional", "none", Vec::new());
    Ok(bind(MAPPED, *target, operator(op::CONDITIONAL, vec![is_there, bound, none])))
}

fn sorted(call: &mut CallExpr) -> Result<IdedExpr, String> {
    let Some(target) = call.target.take() else { return Err(no_name()) };
    let mut args = std::mem::take(&mut call.args);
    let key = args.pop().unwrap_or_default();
    let variable = name_of(args.pop())?;
    let keys = comprehension(ComprehensionExpr {
        iter_range: ident(SORTED),
        iter_var: variable,
        iter_var2: None,
        accu_var: RESULT.to_owned(),
        accu_init: list(Vec::new()),
        loop_cond: truth(true),
        loop_step: operator(op::ADD, vec![ident(RESULT), list(vec![key])]),
        result: ident(RESULT),
    });
    Ok(bind(SORTED, *target, method("@sortByAssociatedKeys", ident(SORTED), vec![keys])))
}

/// Evaluates `within` with a name bound to a value.
fn bind(name: &str, value: IdedExpr, within: IdedExpr) -> IdedExpr {
    comprehension(ComprehensionExpr {
        iter_range: list(Vec::new()),
        iter_var: UNUSED.to_owned(),
        iter_var2: None,
        accu_var: name.to_owned(),
        accu_init: value,
        loop_cond: truth(false),
        loop_step: ident(name),
        result: within,
    })
}

fn name_of(expr: Option<IdedExpr>) -> Result<String, String> {
    match expr.map(|expr| expr.expr) {
        Some(Expr::Ident(name)) if !conversion::is_type_name(&name) && name != "__result__" => Ok(name),
        _ => Err(no_name()),
    }
}

fn no_name() -> String {
    "the variable of a macro must be a simple name".to_owned()
}

fn made(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}

fn comprehension(of: ComprehensionExpr) -> IdedExpr {
    made(Expr::Comprehension(Box::new(of)))
}

fn ident(name: &str) -> IdedExpr {
    made(Expr::Ident(name.to_owned()))
}

fn truth(value: bool) -> IdedExpr {
    made(Expr::Literal(LiteralValue::Boolean(value.into())))
}

fn number(value: i64) -> IdedExpr {
    made(Expr::Literal(LiteralValue::Int(value.into())))
}

fn list(elements: Vec<IdedExpr>) -> IdedExpr {
    made(Expr::List(ListExpr::new(elements)))
}

fn empty_map() -> IdedExpr {
    made(Expr::Map(MapExpr { entries: Vec::new() }))
}

fn operator(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    function(name, args)
}

fn function(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    made(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

fn method(name: &str, target: IdedExpr, args: Vec<IdedExpr>) -> IdedExpr {
    made(Expr::Call(CallExpr { func_name: name.to_owned(), target: Some(Box::new(target)), args }))
}

fn library(library: &str, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    method(name, ident(library), args)
}

/// Visits the parts of an expression mutably.
pub fn each_part_mut(expr: &mut IdedExpr, visit: &mut dyn FnMut(&mut IdedExpr)) {
    match &mut expr.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) => {}
        Expr::Select(select) => visit(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(visit),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| match &mut entry.expr {
            EntryExpr::MapEntry(entry) => {
                visit(&mut entry.key);
                visit(&mut entry.value);
            }
            EntryExpr::StructField(field) => visit(&mut field.value),
        }),
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(visit),
        Expr::Comprehension(comprehension) => {
            visit(&mut comprehension.iter_range);
            visit(&mut comprehension.accu_init);
            visit(&mut comprehension.loop_cond);
            visit(&mut comprehension.loop_step);
            visit(&mut comprehension.result);
        }
    }
}
