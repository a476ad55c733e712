//! `cel`: conditions of one's own.
//!
//! The variables are `object` and `oldObject` (null at a creation), as policies see objects, and `request`:
//! `operation`, `namespace`, `name` and `userInfo` (`username`, `groups`). A condition that asks for `request` is not
//! judged on what exists already. The functions are Kubernetes' CEL libraries but `lists.range`, which makes
//! something out of nothing.
//!
//! **Durations.** Flux's are strings, and strings compare by their letters: `'10m' <= '5m'`. Nobody means that, so
//! that `<`, `<=`, `>` and `>=` with a literal that is a duration, as in `object.spec.timeout <= '5m'`, compare
//! durations; what stands on the other side must be one. Written out, that is
//! `duration(object.spec.timeout) <= duration('5m')`, which is the way to compare two fields.
//!
//! **Failing closed.** A condition that cannot be evaluated is broken: a field that the object leaves out
//! (`!has(object.spec.timeout) || …`), a wrong type, more work than its [`Budget`]. Only a field of `object.spec` that the
//! object's kind does not have, as the timeout of an Alert, is none of its business: the condition is about other kinds
//! then.

use std::{cell::OnceCell, panic, sync::LazyLock, thread, time::Instant};

use gatehouse_apiservice::policy::CelRule;
use gatehouse_inventory::expression::{
    Budget, Expression, Failure, Functions, Own, describe, each_part_mut, value_of,
};
use kube_cel::cel::{
    ExecutionError, Value as CelValue,
    common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators},
};
use serde_json::{Value, json};

use super::{Errors, Report};
use crate::{Case, Subject, fields};
use gatehouse_apiservice::duration;

/// The longest expression, in bytes.
const LONGEST: usize = 4096;
/// The most parts an expression may be made of, with what macros expand to.
const MOST_NODES: usize = 1024;
/// The deepest an expression may nest: evaluating recurses, on the stack of whoever asks.
const DEEPEST: usize = 48;
/// The deepest that is evaluated on the caller's stack, of which it takes less than a MiB even unoptimised.
const SHALLOW: usize = 16;
/// The deepest that macros such as `all` and `map` may nest: each level multiplies the work.
const DEEPEST_LOOPS: usize = 2;
/// Parsing recurses through some twenty functions for each parenthesis.
const STACK: usize = 64 << 20;

/// So much of an expression is shown to whoever breaks it.
const SHOWN: usize = 256;

const VARIABLES: [&str; 3] = ["object", "oldObject", "request"];
/// A duration as a number that compares. No name that can be written has an `@`.
const NANOSECONDS: &str = "@nanoseconds";

const OWN: [Own; 1] = [Own { name: NANOSECONDS, signature: "(dyn) int", steps: 0 }];

/// What is known of a request.
const FIELDS: [(&str, &[&str]); 2] = [
    ("request", &["operation", "namespace", "name", "userInfo"]),
    ("request.userInfo", &["username", "groups"]),
];

static FUNCTIONS: LazyLock<Functions> =
    LazyLock::new(|| Functions::new(&OWN, &FIELDS, |context| context.add_function(NANOSECONDS, nanoseconds)));

/// Conditions of a policy.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    expression: Expression,
    size: Size,
    /// The fields it takes from `object.spec`.
    spec_fields: Vec<String>,
    message: String,
    /// Its beginning, for people.
    shown: String,
}

impl Conditions {
    /// Compiles on a thread with a large stack: the grammar is deep, and callers' stacks are not.
    pub(crate) fn compile(rules: &[CelRule], errors: &mut Errors) -> Self {
        /// More are no policy but a program.
        const MOST: usize = 64;
        if rules.is_empty() {
            return Self::default();
        }
        if rules.len() > MOST {
            errors.refuse("spec.rules.cel", rules.len().to_string(), format!("must be {MOST} or fewer"));
            return Self::default();
        }
        let compile_all = || rules.iter().map(compile).collect::<Vec<_>>();
        let compiled = thread::scope(|scope| {
            let thread = thread::Builder::new().name("cel".into()).stack_size(STACK);
            thread.spawn_scoped(scope, compile_all).map(thread::ScopedJoinHandle::join)
        });
        let Ok(Ok(compiled)) = compiled else {
            errors.refuse("spec.rules.cel", "", "could not be compiled");
            return Self::default();
        };
        let mut conditions = Vec::new();
        for (index, (rule, compiled)) in rules.iter().zip(compiled).enumerate() {
            match compiled {
                Ok(condition) => conditions.push(condition),
                Err(why) => {
                    errors.refuse(format!("spec.rules.cel[{index}].expression"), &rule.expression, why);
                }
            }
        }
        Self(conditions)
    }

    /// Refuses, when they are written, those that would take too much on an ordinary object.
    pub(crate) fn estimate(&self, errors: &mut Errors) {
        for (index, condition) in self.0.iter().enumerate() {
            if let Err(why) = condition.expression.estimate(&FUNCTIONS) {
                errors.refuse(format!("spec.rules.cel[{index}].expression"), &condition.shown, why);
            }
        }
    }

    /// Whether any of them calls functions or has macros, whose work grows with what they are given, or needs a thread
    /// of its own.
    pub(crate) fn may_take_long(&self) -> bool {
        let may = |Size { loops, calls, depth, .. }: &Size| *loops > 0 || *calls > 0 || *depth > SHALLOW;
        self.0.iter().any(|condition| may(&condition.size))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Judges an object with the condition at `index`.
    pub(crate) fn check(&self, index: usize, seen: &Seen<'_>, report: &mut Report<'_>) {
        let condition = &self.0[index];
        let Err(why) = condition.holds(seen) else { return };
        let message = match why {
            None => condition.message.clone(),
            Some(why) => format!("{}: cannot be evaluated: {why}", condition.message),
        };
        report.broken("", message, format!("must hold: {}", condition.shown));
    }

    /// Whether the condition at `index` does not hold, for another reason than that time is over.
    pub(crate) fn is_known_broken(&self, index: usize, seen: &Seen<'_>) -> bool {
        self.0[index].holds(seen).is_err() && !seen.is_late()
    }
}

/// What the conditions of a policy see of a request, made of its objects once for all of them, and what they may take
/// together.
pub(crate) struct Seen<'a> {
    object: &'a Subject,
    old: Option<&'a Subject>,
    case: Option<&'a Case<'a>>,
    values: [OnceCell<CelValue>; VARIABLES.len()],
    until: Option<Instant>,
    budget: Budget,
}

impl<'a> Seen<'a> {
    /// `case` is none where what exists is judged: who asked for that is not known.
    pub(crate) fn new(
        object: &'a Subject,
        old: Option<&'a Subject>,
        case: Option<&'a Case<'a>>,
        until: Option<Instant>,
    ) -> Self {
        Self { object, old, case, values: Default::default(), until, budget: Budget::new(until) }
    }

    /// What exists, with so many steps at most for it.
    pub(crate) fn existing(object: &'a Subject, granted: u64) -> Self {
        Self { budget: Budget::of(granted), ..Self::new(object, None, None, None) }
    }

    /// The steps that its conditions have left.
    pub(crate) fn steps_left(&self) -> u64 {
        self.budget.steps_left()
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// A variable; none, if it cannot be known.
    fn value(&self, name: &'static str) -> Option<CelValue> {
        let at = VARIABLES.iter().position(|variable| *variable == name)?;
        let make = || match (name, self.case) {
            ("object", _) => value_of(&self.object.object),
            ("oldObject", _) => value_of(self.old.map_or(&Value::Null, |old| &old.object)),
            (_, case) => value_of(&case.map_or(Value::Null, |case| request(case, self.object))),
        };
        let is_known = name != "request" || self.case.is_some();
        is_known.then(|| self.values[at].get_or_init(make).clone())
    }
}

impl Condition {
    /// The error says why it cannot be evaluated; none, if it simply does not hold.
    fn holds(&self, seen: &Seen<'_>) -> Result<(), Option<Failure>> {
        let unread = [Some(seen.object), seen.old].into_iter().flatten().find_map(Subject::unread);
        if let Some(why) = unread.filter(|_| self.expression.uses().iter().any(|name| *name != "request")) {
            return Err(Some(Failure::Other(why.to_owned())));
        }
        let values = self.expression.uses().iter().map(|name| Some((*name, seen.value(name)?)));
        let Some(values) = values.collect::<Option<Vec<_>>>() else { return Ok(()) };
        let budget = &seen.budget;
        match on_enough_stack(self.size.depth, || self.expression.holds(&FUNCTIONS, &values, budget)) {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(None),
            Ok(Err(Failure::Absent(field))) if self.is_about_other_kinds(&field, seen.object) => Ok(()),
            Ok(Err(why)) => Err(Some(why)),
            Err(_) => Err(Some(Failure::Other("the evaluator failed".into()))),
        }
    }

    /// Whether an absent field is one that the object's kind does not have.
    fn is_about_other_kinds(&self, field: &str, object: &Subject) -> bool {
        self.spec_fields.iter().any(|known| known == field)
            && object.spec().get(field).is_none()
            && fields::is_of_other_kinds(object.kind, field)
    }
}

/// Runs on the caller's stack what fits it, and the rest on a thread with a large one.
fn on_enough_stack<T: Send>(depth: usize, run: impl FnOnce() -> T + Send) -> thread::Result<T> {
    if depth <= SHALLOW {
        return panic::catch_unwind(panic::AssertUnwindSafe(run));
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("cel".into()).stack_size(STACK).spawn_scoped(scope, run);
        thread.map_err(|error| Box::new(error) as Box<dyn std::any::Any + Send>)?.join()
    })
}

fn request(case: &Case<'_>, object: &Subject) -> Value {
    let user = case.user.map(|user| json!({"username": user.name, "groups": user.groups}));
    json!({
        "operation": case.operation.as_str(),
        "namespace": object.namespace,
        "name": object.name,
        "userInfo": user.unwrap_or_else(|| json!({"username": "", "groups": []})),
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

fn compile(rule: &CelRule) -> Result<Condition, String> {
    let source = rule.expression.as_str();
    if source.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if source.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let mut size = Size::default();
    let mut spec_fields = Vec::new();
    let expression = Expression::compile_with(source, &FUNCTIONS, &VARIABLES, |syntax| {
        measure(syntax, 0, 0, &mut size)?;
        collect_spec_fields(syntax, &mut spec_fields);
        rewrite(syntax);
        Ok(())
    })?;
    let message = rule.message.clone().filter(|message| !message.is_empty());
    let shown = match source.char_indices().nth(SHOWN) {
        None => source.to_owned(),
        Some((end, _)) => format!("{}…", &source[..end]),
    };
    let message = message.unwrap_or_else(|| format!("does not hold: {shown}"));
    Ok(Condition { expression, size, spec_fields, message, shown })
}

/// How large an expression is.
#[derive(Debug, Default)]
struct Size {
    nodes: usize,
    depth: usize,
    loops: usize,
    /// Calls of functions, other than operators.
    calls: usize,
}

/// Refuses what is enormous, or could work for long.
fn measure(expr: &IdedExpr, depth: usize, loops: usize, size: &mut Size) -> Result<(), String> {
    size.nodes += 1;
    size.depth = size.depth.max(depth);
    if size.nodes > MOST_NODES {
        return Err(format!("has more than {MOST_NODES} parts"));
    }
    if depth > DEEPEST {
        return Err(format!("nests deeper than {DEEPEST} levels"));
    }
    let inner_loops = match &expr.expr {
        Expr::Comprehension(_) if loops == DEEPEST_LOOPS => {
            return Err(format!("nests macros such as all and map deeper than {DEEPEST_LOOPS} levels"));
        }
        Expr::Comprehension(_) => {
            size.loops += 1;
            loops + 1
        }
        Expr::Call(call) if call.func_name == "range" || call.func_name == "lists.range" => {
            return Err("lists.range is not available to policies".into());
        }
        Expr::Call(call) => {
            size.calls += usize::from(!call.func_name.starts_with(['_', '!', '-', '@']));
            loops
        }
        _ => loops,
    };
    let mut result = Ok(());
    // A loop's range is evaluated once, outside of it.
    each_part(expr, &mut |part, is_range| {
        if result.is_ok() {
            result = measure(part, depth + 1, if is_range { loops } else { inner_loops }, size);
        }
    });
    result
}

/// The names X of each `object.spec.X`.
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

/// Has durations compared as durations.
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

/// The parts of an expression, and whether each is the range of a loop.
fn each_part<'e>(expr: &'e IdedExpr, visit: &mut dyn FnMut(&'e IdedExpr, bool)) {
    match &expr.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => visit(&select.operand, false),
        Expr::List(list) => list.elements.iter().for_each(|element| visit(element, false)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                visit(&entry.key, false);
                visit(&entry.value, false);
            }
            EntryExpr::StructField(field) => visit(&field.value, false),
        }),
        Expr::Struct(made) => made.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => visit(&entry.value, false),
            EntryExpr::StructField(field) => visit(&field.value, false),
        }),
        Expr::Call(call) => {
            call.target.as_deref().into_iter().chain(&call.args).for_each(|part| visit(part, false));
        }
        Expr::Comprehension(comprehension) => {
            visit(&comprehension.iter_range, true);
            let inner = [
                &comprehension.accu_init,
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ];
            for part in inner {
                visit(part, false);
            }
        }
    }
}
