//! Compiles the expressions of policies: their variables, their functions, and comparisons of durations.

use std::sync::LazyLock;
use std::thread;

use gatehouse_apiservice::duration;
use gatehouse_inventory::expression::{Composed, Expression, Functions, Own, describe, each_part_mut};
use kube_cel::cel::{
    ExecutionError, Value as CelValue,
    common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators},
};

use super::size::{Size, each_part};

/// The longest expression, in bytes.
const LONGEST: usize = 4096;
/// The stack for compiling: parsing recurses through about twenty functions for each parenthesis.
pub(super) const STACK: usize = 64 << 20;

/// The variables; the last exists if the policy has parameters.
pub(super) const VARIABLES: [&str; 5] = ["object", "oldObject", "request", "namespaceObject", "params"];
/// The function that converts a duration to a comparable number. Names in expressions cannot contain `@`.
const NANOSECONDS: &str = "@nanoseconds";

const OWN: [Own; 1] = [Own { name: NANOSECONDS, signature: "(dyn) int", steps: 0 }];

/// The known fields of a request and of a namespace.
const FIELDS: [(&str, &[&str]); 4] = [
    ("request", &["operation", "namespace", "name", "userInfo"]),
    ("request.userInfo", &["username", "groups"]),
    ("namespaceObject", &["metadata"]),
    (
        "namespaceObject.metadata",
        &[
            "name: string",
            "labels: map(string, string)",
            "annotations: map(string, string)",
            "creationTimestamp: string",
            "deletionTimestamp: string",
        ],
    ),
];

pub(super) static FUNCTIONS: LazyLock<Functions> =
    LazyLock::new(|| Functions::new(&OWN, &FIELDS, |context| context.add_function(NANOSECONDS, nanoseconds)));

/// A compiled expression of a policy.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) expression: Expression,
    /// The size, with the variables that it uses.
    pub(super) size: Size,
    /// The fields of `object.spec` that it reads, also through variables.
    pub(super) spec_fields: Vec<String>,
}

/// Compiles the expressions of a policy.
#[derive(Debug, Default)]
pub(super) struct Compiler {
    pub(super) composed: Composed,
    /// The size and fields of the variables, in order.
    measured: Vec<(Size, Vec<String>)>,
    has_params: bool,
}

impl Compiler {
    pub(super) fn new(has_params: bool) -> Self {
        Self { has_params, ..Self::default() }
    }

    pub(super) fn compile(&self, source: &str) -> Result<Compiled, String> {
        const WITHOUT: &[&str] = VARIABLES.split_at(VARIABLES.len() - 1).0;
        if source.trim().is_empty() {
            return Err("must not be empty".into());
        }
        if source.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} bytes"));
        }
        let variables: &'static [&'static str] = if self.has_params { &VARIABLES } else { WITHOUT };
        let mut size = Size::default();
        let mut spec_fields = Vec::new();
        let expression = Expression::compile_with(source, &FUNCTIONS, variables, &self.composed, |syntax| {
            size = Size::of(syntax)?;
            collect_spec_fields(syntax, &mut spec_fields);
            rewrite(syntax);
            Ok(())
        })?;
        for at in expression.composed() {
            let (inner, fields) = &self.measured[*at];
            size.add(inner)?;
            spec_fields.extend_from_slice(fields);
        }
        Ok(Compiled { expression, size, spec_fields })
    }

    /// Adds a variable that later expressions may use.
    pub(super) fn add(&mut self, name: &str, source: &str) -> Result<(), String> {
        let Compiled { expression, size, spec_fields } = self.compile(source)?;
        // The variables that it uses itself count for its users.
        self.measured.push((size, spec_fields));
        self.composed.add(name, expression);
        Ok(())
    }
}

/// Runs on a thread with a large stack: the grammar recurses deeply, and callers' stacks are small.
pub(super) fn on_large_stack<T: Send>(compile: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("cel".into()).stack_size(STACK);
        thread.spawn_scoped(scope, compile).ok()?.join().ok()
    })
}

#[allow(clippy::needless_pass_by_value, reason = "the evaluator hands arguments over by value")]
fn nanoseconds(value: CelValue) -> Result<i64, ExecutionError> {
    let read = match &value {
        CelValue::String(text) => duration::parse(text)
            .map_err(|why| format!("{text:?} {why}"))
            .and_then(|duration| i64::try_from(duration.as_nanos()).map_err(|error| error.to_string())),
        CelValue::Duration(duration) => duration.num_nanoseconds().ok_or_else(|| "is too long".to_owned()),
        other => Err(format!("expected a duration, got {}", describe(other))),
    };
    read.map_err(|message| ExecutionError::function_error("duration", message))
}

/// Collects the name X of each `object.spec.X`.
fn collect_spec_fields(expr: &IdedExpr, fields: &mut Vec<String>) {
    if let Expr::Select(select) = &expr.expr
        && let Expr::Select(spec) = &select.operand.expr
        && spec.field == "spec"
        && matches!(&spec.operand.expr, Expr::Ident(name) if name == "object")
    {
        fields.push(select.field.clone());
    }
    each_part(expr, &mut |part, _| collect_spec_fields(part, fields));
}

/// Rewrites comparisons with durations to compare durations.
fn rewrite(expr: &mut IdedExpr) {
    each_part_mut(expr, &mut rewrite);
    if let Expr::Call(call) = &mut expr.expr
        && is_comparison(&call.func_name)
        && call.args.iter().any(is_duration)
    {
        for side in &mut call.args {
            *side = function(NANOSECONDS, vec![std::mem::take(side)]);
        }
    }
}

fn is_comparison(function: &str) -> bool {
    [operators::LESS, operators::LESS_EQUALS, operators::GREATER, operators::GREATER_EQUALS]
        .contains(&function)
}

/// Whether it is a literal such as '5m'. A bare '0' or '5' is not.
fn is_duration(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => {
            text.inner() != "0" && duration::parse(text.inner()).is_ok()
        }
        _ => false,
    }
}

fn function(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}
