//! `cel`: custom conditions, and the variables that they share.
//!
//! Conditions see `object` and `oldObject` (null at a creation), as policies see objects, and `request`: `operation`,
//! `namespace`, `name` and `userInfo` (`username`, `groups`). A condition that uses `request` is not judged on
//! existing objects. `namespaceObject` is the metadata of the Namespace, `params` the ConfigMap of the policy. The
//! functions are Kubernetes' CEL libraries except `lists.range`, which creates a list of any size from a number.
//!
//! **Durations.** Durations of Flux are strings, which CEL compares by character: `'10m' <= '5m'`. So `<`, `<=`, `>`
//! and `>=` with a duration literal, as in `object.spec.timeout <= '5m'`, compare durations here, and the other
//! operand must be one. This is short for `duration(object.spec.timeout) <= duration('5m')`, which is how to compare
//! two fields.
//!
//! **Invariant:** conditions fail closed. A condition that cannot be evaluated is violated: the object omits a field
//! (`!has(object.spec.timeout) || …`), a type is wrong, a ConfigMap does not exist, or the work exceeds its
//! [`Budget`]. The only exception is a field of `object.spec` that the object's kind does not have, such as the
//! timeout of an Alert: then the condition is about other kinds, and holds.

mod compile;
mod message;
mod seen;
mod size;

use std::{panic, thread, time::Instant};

use gatehouse_apiservice::policy::{CelRule, ReconcilePolicySpec, Variable};
use gatehouse_inventory::expression::{Budget, Failure, Known};
use kube_cel::cel::Value as CelValue;

pub(crate) use self::seen::Seen;
use self::{
    compile::{Compiled, Compiler, FUNCTIONS, STACK, on_large_stack},
    message::Message,
    seen::Unknown,
    size::SHALLOW,
};
use super::{Errors, NATIVE, Report};
use crate::{
    Case, Subject, fields,
    parameters::{Parameters, Usable},
};

/// The most characters of an expression that a message shows.
const SHOWN: usize = 256;
/// The most conditions of a policy, and the most variables.
const MOST: usize = 64;

/// The conditions of a policy.
#[derive(Debug)]
pub(crate) struct Conditions {
    all: Vec<Condition>,
    compiler: Compiler,
    params: Usable<CelValue>,
}

#[derive(Debug)]
struct Condition {
    /// The name of the rule.
    name: String,
    compiled: Compiled,
    message: Message,
    /// The field that it is about; empty if it is about the whole object.
    field: String,
    /// The start of its expression, for messages.
    shown: String,
}

impl Conditions {
    pub(crate) fn compile(
        spec: &ReconcilePolicySpec,
        parameters: &Parameters<'_>,
        errors: &mut Errors,
    ) -> Self {
        let params = if parameters.is_named() { parameters.value() } else { Ok(CelValue::Null) };
        let mut compiler = Compiler::new(parameters.is_named());
        let rules = &spec.rules.cel;
        for (field, count) in [("spec.variables", spec.variables.len()), ("spec.rules.cel", rules.len())] {
            if count > MOST {
                errors.refuse(field, count.to_string(), format!("must be {MOST} or fewer"));
                return Self { all: Vec::new(), compiler, params };
            }
        }
        let mut conditions = Vec::new();
        if spec.variables.is_empty() && rules.is_empty() {
            return Self { all: conditions, compiler, params };
        }
        let compile_all = || {
            for (index, variable) in spec.variables.iter().enumerate() {
                add_variable(index, variable, &spec.variables[..index], &mut compiler, errors);
            }
            for (index, rule) in rules.iter().enumerate() {
                conditions.extend(condition(index, rule, &rules[..index], &compiler, errors));
            }
        };
        if on_large_stack(compile_all).is_none() {
            errors.refuse("spec.rules.cel", "", "could not be compiled");
        }
        Self { all: conditions, compiler, params }
    }

    /// Rejects conditions of a new policy that do not return a boolean, as Kubernetes does, or whose estimated cost on
    /// an ordinary object is too high.
    pub(crate) fn estimate(&self, errors: &mut Errors) {
        for (index, condition) in self.all.iter().enumerate() {
            let composed = &self.compiler.composed;
            let expression = &condition.compiled.expression;
            if !expression.is_truth() {
                let why = format!(
                    "must evaluate to bool, gives {}: compare it, as in … == true",
                    expression.result()
                );
                errors.refuse(format!("spec.rules.cel[{index}].expression"), &condition.shown, why);
            }
            if let Err(why) = condition.compiled.expression.estimate(&FUNCTIONS, composed) {
                errors.refuse(format!("spec.rules.cel[{index}].expression"), &condition.shown, why);
            }
            if let Err(why) = condition.message.estimate(composed) {
                errors.refuse(format!("spec.rules.cel[{index}].messageExpression"), &condition.shown, why);
            }
        }
    }

    /// Whether any condition calls functions or uses macros, whose work grows with their input, or needs a thread of
    /// its own.
    pub(crate) fn may_take_long(&self) -> bool {
        self.all
            .iter()
            .any(|condition| condition.compiled.size.may_take_long() || condition.message.may_take_long())
    }

    /// Whether there are no conditions.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The names of the rules, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|condition| condition.name.as_str())
    }

    /// Whether any condition uses a variable.
    pub(crate) fn any_uses(&self, variable: &str) -> bool {
        self.names().any(|name| self.uses(name, variable))
    }

    /// Whether a rule uses a variable.
    pub(crate) fn uses(&self, rule: &str, variable: &str) -> bool {
        let uses = |condition: &Condition| condition.compiled.expression.uses().contains(&variable);
        self.all.iter().any(|condition| condition.name == rule && uses(condition))
    }

    /// Why the parameters that conditions use are missing, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        let missing = self.params.as_ref().err()?;
        self.any_uses("params").then_some(missing.as_str())
    }

    /// The variables of a request.
    pub(crate) fn seen<'a>(
        &'a self,
        object: &'a Subject,
        old: Option<&'a Subject>,
        case: &'a Case<'a>,
        until: Option<Instant>,
    ) -> Seen<'a> {
        let memo = self.compiler.composed.memo();
        Seen::new(object, old, Some(case), &self.params, memo, Budget::new(until)).until(until)
    }

    /// The variables of an existing object, with at most `granted` steps.
    pub(crate) fn existing<'a>(&'a self, object: &'a Subject, granted: u64) -> Seen<'a> {
        let memo = self.compiler.composed.memo();
        Seen::new(object, None, None, &self.params, memo, Budget::of(granted))
    }

    /// Judges an object with the condition at `index`.
    pub(crate) fn check(&self, index: usize, seen: &Seen<'_>, report: &mut Report<'_>) {
        let condition = &self.all[index];
        let Err(why) = self.holds(condition, seen) else { return };
        let message = match why {
            None => self.message(condition, seen),
            Some(why) => format!("{}: cannot be evaluated: {why}", condition.message.plain()),
        };
        report.broken(condition.field.clone(), message, format!("must hold: {}", condition.shown));
    }

    /// Whether the condition at `index` does not hold, for another reason than a passed deadline.
    pub(crate) fn is_known_broken(&self, index: usize, seen: &Seen<'_>) -> bool {
        self.holds(&self.all[index], seen).is_err() && !seen.is_late()
    }

    /// Evaluates a condition. The error is why it cannot be evaluated; `None` if it does not hold.
    fn holds(&self, condition: &Condition, seen: &Seen<'_>) -> Result<(), Option<Failure>> {
        let holds = self.on_values(&condition.compiled, seen, |known, budget| {
            condition.compiled.expression.holds_on(&FUNCTIONS, known, budget)
        });
        match holds {
            Ok(None | Some(true)) => Ok(()),
            Ok(Some(false)) => Err(None),
            Err(Failure::Absent(field)) if is_about_other_kinds(&condition.compiled, &field, seen.object) => {
                Ok(())
            }
            Err(why) => Err(Some(why)),
        }
    }

    /// The message for a condition that does not hold: the result of its message expression, or its text.
    fn message(&self, condition: &Condition, seen: &Seen<'_>) -> String {
        let made = condition.message.expression().and_then(|compiled| {
            let made = self.on_values(compiled, seen, |known, budget| {
                compiled.expression.evaluate_on(&FUNCTIONS, known, budget)
            });
            made.ok().flatten().as_ref().and_then(message::text)
        });
        made.unwrap_or_else(|| condition.message.plain().to_owned())
    }

    /// Evaluates with the variables that an expression uses; `None` if one of them is unknown for existing objects.
    fn on_values<T: Send>(
        &self,
        compiled: &Compiled,
        seen: &Seen<'_>,
        evaluate: impl FnOnce(Known<'_>, &Budget) -> Result<T, Failure> + Send,
    ) -> Result<Option<T>, Failure> {
        let uses = compiled.expression.uses();
        let unread = [Some(seen.object), seen.old].into_iter().flatten().find_map(Subject::unread);
        if let Some(why) = unread.filter(|_| uses.iter().any(|name| matches!(*name, "object" | "oldObject")))
        {
            return Err(Failure::Other(why.to_owned()));
        }
        let mut values = Vec::with_capacity(uses.len());
        for name in uses {
            match seen.value(name) {
                Ok(value) => values.push((*name, value)),
                Err(Unknown::OfExisting) => return Ok(None),
                Err(Unknown::Missing(why)) => return Err(Failure::Other(why)),
            }
        }
        let known = Known { variables: &values, composed: Some((&self.compiler.composed, &seen.memo)) };
        let budget = &seen.budget;
        match on_enough_stack(compiled.size.depth, || evaluate(known, budget)) {
            Ok(result) => result.map(Some),
            Err(_) => Err(Failure::Other("the evaluator failed".into())),
        }
    }
}

/// Whether an absent field is one that the object's kind does not have.
fn is_about_other_kinds(compiled: &Compiled, field: &str, object: &Subject) -> bool {
    compiled.spec_fields.iter().any(|known| known == field)
        && object.spec().get(field).is_none()
        && fields::is_of_other_kinds(object.kind, field)
}

/// Runs shallow expressions on the caller's stack, and others on a thread with a large stack.
fn on_enough_stack<T: Send>(depth: usize, run: impl FnOnce() -> T + Send) -> thread::Result<T> {
    if depth <= SHALLOW {
        return panic::catch_unwind(panic::AssertUnwindSafe(run));
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("cel".into()).stack_size(STACK).spawn_scoped(scope, run);
        thread.map_err(|error| Box::new(error) as Box<dyn std::any::Any + Send>)?.join()
    })
}

fn add_variable(
    index: usize,
    variable: &Variable,
    before: &[Variable],
    compiler: &mut Compiler,
    errors: &mut Errors,
) {
    let Variable { name, expression } = variable;
    let field = format!("spec.variables[{index}]");
    if !is_identifier(name) {
        errors.refuse(format!("{field}.name"), name, "must be a CEL identifier, such as sourceName");
    } else if before.iter().any(|other| other.name == *name) {
        errors.refuse(format!("{field}.name"), name, "names another variable of this policy too");
    } else if let Err(why) = compiler.add(name, expression) {
        errors.refuse(format!("{field}.expression"), expression, why);
    }
}

fn condition(
    index: usize,
    rule: &CelRule,
    before: &[CelRule],
    compiler: &Compiler,
    errors: &mut Errors,
) -> Option<Condition> {
    let field = format!("spec.rules.cel[{index}]");
    let mut refuse =
        |name: &str, value: &str, why: String| errors.refuse(format!("{field}.{name}"), value, why);
    if let Some(name) = &rule.name {
        if !is_name(name) || name == "cel" || name == "exempt" || NATIVE.contains(&name.as_str()) {
            let why = "must be a name of letters, digits, dashes and dots, of at most 63 characters, and not that of \
                       another rule";
            refuse("name", name, why.to_owned());
        } else if before.iter().any(|other| other.name.as_ref() == Some(name)) {
            refuse("name", name, "names another condition of this policy too".to_owned());
        }
    }
    let path = rule.field_path.as_deref().map(|path| path.strip_prefix('.').unwrap_or(path));
    if let Some(path) = path.filter(|path| !is_path(path)) {
        let why = "must be a field of the object, such as spec.timeout or metadata.labels[team]";
        refuse("fieldPath", path, why.to_owned());
    }
    let source = rule.expression.as_str();
    let shown = match source.char_indices().nth(SHOWN) {
        None => source.to_owned(),
        Some((end, _)) => format!("{}…", &source[..end]),
    };
    let message = Message::compile(rule, &shown, compiler);
    let message = message.map_err(|why| {
        refuse("messageExpression", rule.message_expression.as_deref().unwrap_or_default(), why);
    });
    let made = compiler.compile(source).map_err(|why| refuse("expression", source, why));
    Some(Condition {
        name: rule.name.clone().unwrap_or_else(|| format!("cel[{index}]")),
        compiled: made.ok()?,
        message: message.ok()?,
        field: path.unwrap_or_default().to_owned(),
        shown,
    })
}

/// Whether it is a valid name of a rule: the syntax is that of a label value.
fn is_name(name: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Whether it is a valid identifier of an expression.
fn is_identifier(name: &str) -> bool {
    /// Reserved words of CEL.
    const RESERVED: [&str; 21] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    name.len() <= 63
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !RESERVED.contains(&name)
}

/// Whether it is a path of fields and indices: `spec.chart.spec.version`, `metadata.labels[team]`.
fn is_path(path: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    path.split('.').next().is_some_and(|first| {
        let first = first.split('[').next().unwrap_or_default();
        matches!(first, "apiVersion" | "kind" | "metadata" | "spec")
    }) && {
        // A key in brackets may have dots and slashes.
        let (mut plain, mut depth) = (String::new(), 0);
        for c in path.chars() {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                c if depth == 0 => plain.push(c),
                c if c.is_control() => return false,
                _ => {}
            }
            if !(0..=1).contains(&depth) {
                return false;
            }
        }
        depth == 0
            && !path.contains("[]")
            && plain.split('.').all(|name| !name.is_empty() && name.chars().all(is_of_name))
    }
}
