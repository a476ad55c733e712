//! CEL: compiled when the catalogue is read, evaluated on an object's fields.
//!
//! The variables are `metadata`, `spec` and `status` (maps, empty where the object has none), `object` and
//! `self` (the whole object) and `now`. The functions are Kubernetes' CEL libraries, and
//! `nextRun(cron, timestamp)`: when a schedule is due next after an instant.
//!
//! Optional fields: `status[?'replicas'].orValue(0)` or `has(status.replicas)`. The evaluator's `status.?x`
//! fails where x is absent, so builtin.yaml does not use it.

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

use kube_cel::{
    KubeCelExt,
    cel::{
        Context, ExecutionError, IdedExpr, Value,
        common::ast::{CallExpr, EntryExpr, Expr},
        objects::Map,
        parser::Parser,
    },
};

use super::tree;
use crate::Seconds;

/// The variables an expression may use.
const VARIABLES: [&str; 6] = ["metadata", "spec", "status", "object", "self", "now"];

/// The functions an expression may use.
pub(super) struct Functions(Context<'static>);

impl Functions {
    pub(super) fn new() -> Self {
        let mut context = Context::default().with_all();
        context.add_function("nextRun", next_run);
        Self(context)
    }

    /// Functions are known to the context alone, which tells of one only when it is called.
    fn knows(&self, name: &str) -> bool {
        // Operators are the parser's own; no function can be named like one.
        if name.starts_with(['_', '!', '-', '@']) {
            return true;
        }
        let call = CallExpr { func_name: name.to_owned(), target: None, args: Vec::new() };
        let called = self.0.resolve(&IdedExpr { id: 0, expr: Expr::Call(call) });
        !matches!(called, Err(ExecutionError::UndeclaredReference(missing)) if *missing == name)
    }
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    expr: IdedExpr,
    /// Which variables it uses: an object's fields are only made into those that are.
    pub(super) uses: Vec<&'static str>,
}

impl Expression {
    /// Compiles, and refuses what could only fail later: unknown names, and what is not implemented.
    pub(super) fn compile(source: &str, functions: &Functions) -> Result<Self, String> {
        let parsed = Parser::new().enable_optional_syntax(true).parse(source).map_err(|errors| {
            let place = |error: &kube_cel::cel::ParseError| {
                format!("line {} column {}: {}", error.pos.0, error.pos.1, error.msg)
            };
            errors.errors.iter().map(place).collect::<Vec<_>>().join("; ")
        })?;
        let mut names = Names { functions, bound: Vec::new(), uses: Vec::new() };
        names.check(&parsed)?;
        let uses = names.uses;
        Ok(Self { expr: parsed, uses })
    }

    pub(super) fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, String> {
        // The evaluator's errors print whole values; the reader wants to know what went wrong with them.
        scope.context().resolve(&self.expr).map_err(|error| match error {
            ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
                format!("cannot {operator} {} and {}", tree::describe(&left), tree::describe(&right))
            }
            ExecutionError::ValuesNotComparable(left, right) => {
                format!("cannot compare {} with {}", tree::describe(&left), tree::describe(&right))
            }
            ExecutionError::NoSuchOverload => {
                "an operator or function does not take values of these types".into()
            }
            other => other.to_string(),
        })
    }

    /// As [`evaluate`](Self::evaluate), for a condition.
    pub(super) fn holds(&self, scope: &Scope<'_>) -> Result<bool, String> {
        match self.evaluate(scope)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("expected a boolean, got {}", tree::describe(&other))),
        }
    }
}

/// An object, and what expressions see of it: made at the first expression, used by all.
pub(super) struct Scope<'a> {
    pub(super) object: &'a Value,
    pub(super) now: Seconds,
    functions: &'a Functions,
    uses: &'a [&'static str],
    context: OnceCell<Context<'a>>,
}

impl<'a> Scope<'a> {
    /// `uses`: the variables of every expression that will be evaluated.
    pub(super) fn new(
        object: &'a Value,
        now: Seconds,
        functions: &'a Functions,
        uses: &'a [&'static str],
    ) -> Self {
        Self { object, now, functions, uses, context: OnceCell::new() }
    }

    fn context(&self) -> &Context<'a> {
        self.context.get_or_init(|| {
            let mut context = self.functions.0.new_inner_scope();
            for name in self.uses {
                context.add_variable_from_value(*name, self.variable(name));
            }
            context
        })
    }

    fn variable(&self, name: &str) -> Value {
        match name {
            "now" => timestamp(self.now),
            "object" | "self" => self.object.clone(),
            field => {
                let empty = || Value::Map(Map { map: Arc::new(HashMap::new()) });
                tree::field(self.object, field).cloned().unwrap_or_else(empty)
            }
        }
    }
}

/// `at` as a CEL timestamp; null outside the years a timestamp can have.
fn timestamp(at: Seconds) -> Value {
    let text = jiff::Timestamp::from_second(at).map(|at| at.to_string());
    text.ok().and_then(|text| text.parse().ok()).map_or(Value::Null, Value::Timestamp)
}

/// `nextRun(schedule, after)`: cron with five fields, `@daily` and the like, or `@every 6h`, in UTC.
#[allow(clippy::needless_pass_by_value, reason = "the evaluator hands arguments over by value")]
fn next_run(schedule: Arc<String>, after: Value) -> Result<Value, ExecutionError> {
    let next = match &after {
        Value::Timestamp(after) => due_after(&schedule, after.timestamp()),
        other => Err(format!("expected a timestamp, got {}", tree::describe(other))),
    };
    next.map(timestamp).map_err(|message| ExecutionError::function_error("nextRun", message))
}

fn due_after(schedule: &str, after: Seconds) -> Result<Seconds, String> {
    if let Some(every) = schedule.strip_prefix("@every ") {
        let every: jiff::SignedDuration =
            every.trim().parse().map_err(|error| format!("{every:?} is not a duration: {error}"))?;
        return Ok(after.saturating_add(every.as_secs()));
    }
    let cron: croner::Cron =
        schedule.parse().map_err(|error| format!("{schedule:?} is not a schedule: {error}"))?;
    let Value::Timestamp(utc) = timestamp(after) else { return Err("the timestamp is out of range".into()) };
    let next = cron.find_next_occurrence(&utc, false).map_err(|error| error.to_string())?;
    Ok(next.timestamp())
}

/// Walks an expression, with the names its comprehensions bind.
struct Names<'a> {
    functions: &'a Functions,
    bound: Vec<&'a str>,
    uses: Vec<&'static str>,
}

impl<'a> Names<'a> {
    fn check(&mut self, expr: &'a IdedExpr) -> Result<(), String> {
        match &expr.expr {
            Expr::Unspecified => Err("the expression is empty".into()),
            // The evaluator panics on these.
            Expr::Struct(made) => Err(format!("{} {{…}}: messages cannot be constructed", made.type_name)),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.check(&select.operand),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.check(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.check(&entry.key)?;
                    self.check(&entry.value)
                }
                EntryExpr::StructField(field) => self.check(&field.value),
            }),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => {
                self.check(&comprehension.iter_range)?;
                self.check(&comprehension.accu_init)?;
                let outer = self.bound.len();
                self.bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                self.bound.extend(comprehension.iter_var2.as_deref());
                let inner = [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result];
                let checked = inner.into_iter().try_for_each(|part| self.check(part));
                self.bound.truncate(outer);
                checked
            }
        }
    }

    fn variable(&mut self, name: &str) -> Result<(), String> {
        if self.bound.contains(&name) {
            return Ok(());
        }
        let Some(known) = VARIABLES.into_iter().find(|known| *known == name) else {
            return Err(format!("unknown variable {name:?} (known are {})", VARIABLES.join(", ")));
        };
        if !self.uses.contains(&known) {
            self.uses.push(known);
        }
        Ok(())
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<(), String> {
        // `math.least(…)` is a function of a library, not a method of a variable called math.
        let of_library = match call.target.as_deref().map(|target| &target.expr) {
            Some(Expr::Ident(library)) => self.functions.knows(&format!("{library}.{}", call.func_name)),
            _ => false,
        };
        if !of_library {
            if !self.functions.knows(&call.func_name) {
                return Err(format!("unknown function {:?}", call.func_name));
            }
            if let Some(target) = &call.target {
                self.check(target)?;
            }
        }
        call.args.iter().try_for_each(|arg| self.check(arg))
    }
}
