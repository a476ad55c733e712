//! CEL: compiled when it is written, so that evaluating it can only fail by what an object holds.
//!
//! Shared by the catalogue of kinds and by policies, each with variables and functions of its own. The functions are
//! Kubernetes' CEL libraries and what is added to them.
//!
//! Optional fields: `status[?'replicas'].orValue(0)` or `has(status.replicas)`. The evaluator's `status.?x`
//! fails where x is absent.

use kube_cel::{
    KubeCelExt,
    cel::{
        Context, ExecutionError, IdedExpr, Value,
        common::ast::{CallExpr, EntryExpr, Expr},
        parser::Parser,
    },
};

use crate::catalogue::tree;

/// The functions an expression may use.
pub struct Functions(Context<'static>);

impl Functions {
    /// Kubernetes' libraries, and what `add` adds to them.
    pub fn new(add: impl FnOnce(&mut Context<'static>)) -> Self {
        let mut context = Context::default().with_all();
        add(&mut context);
        Self(context)
    }

    /// A context with these functions, for variables.
    pub fn context(&self) -> Context<'_> {
        self.0.new_inner_scope()
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
pub struct Expression {
    expr: IdedExpr,
    uses: Vec<&'static str>,
}

impl Expression {
    /// Compiles, and refuses what could only fail later: unknown names, and what is not implemented. The message
    /// says where.
    pub fn compile(
        source: &str,
        functions: &Functions,
        variables: &'static [&'static str],
    ) -> Result<Self, String> {
        let parsed = Parser::new().enable_optional_syntax(true).parse(source).map_err(|errors| {
            let place = |error: &kube_cel::cel::ParseError| {
                format!("line {} column {}: {}", error.pos.0, error.pos.1, error.msg)
            };
            errors.errors.iter().map(place).collect::<Vec<_>>().join("; ")
        })?;
        let mut names = Names { functions, variables, bound: Vec::new(), uses: Vec::new() };
        names.check(&parsed).map_err(|unknown| unknown.at_its_place(source))?;
        let uses = names.uses;
        Ok(Self { expr: parsed, uses })
    }

    /// Which variables it uses: an object's fields are only made into those that are.
    pub fn uses(&self) -> &[&'static str] {
        &self.uses
    }

    /// What was parsed, for those who measure it or put something in its place.
    pub fn syntax_mut(&mut self) -> &mut IdedExpr {
        &mut self.expr
    }

    /// Its value.
    pub fn evaluate(&self, context: &Context<'_>) -> Result<Value, String> {
        // The evaluator's errors print whole values; the reader wants to know what went wrong with them.
        context.resolve(&self.expr).map_err(|error| match error {
            ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
                format!("cannot {operator} {} and {}", describe(&left), describe(&right))
            }
            ExecutionError::ValuesNotComparable(left, right) => {
                format!("cannot compare {} with {}", describe(&left), describe(&right))
            }
            ExecutionError::NoSuchOverload => {
                "an operator or function does not take values of these types".into()
            }
            other => other.to_string(),
        })
    }

    /// As [`evaluate`](Self::evaluate), for a condition.
    pub fn holds(&self, context: &Context<'_>) -> Result<bool, String> {
        match self.evaluate(context)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("expected a boolean, got {}", describe(&other))),
        }
    }
}

/// A JSON value as expressions see it: whole numbers are `int` whatever their sign.
pub fn value_of(json: &serde_json::Value) -> Value {
    // Every JSON value is one; nothing in it is read as anything more special.
    tree::of(json).unwrap_or(Value::Null)
}

/// What a value is, in the words of an error message.
pub fn describe(value: &Value) -> &'static str {
    match value {
        Value::Map(_) => "a map",
        Value::List(_) => "a list",
        Value::String(_) => "a string",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::Timestamp(_) => "a timestamp",
        Value::Duration(_) => "a duration",
        Value::Null => "null",
        _ => "something else",
    }
}

/// Why an expression is refused that can be parsed.
struct Refused {
    message: String,
    /// The name at fault.
    name: String,
}

impl Refused {
    /// Parsed expressions do not say where their parts stood; names are found again in the source.
    fn at_its_place(self, source: &str) -> String {
        match place_of(source, &self.name) {
            Some((line, column)) => format!("line {line} column {column}: {}", self.message),
            None => self.message,
        }
    }
}

/// Line and column, from one, of the first `name` outside of strings and comments.
fn place_of(source: &str, name: &str) -> Option<(usize, usize)> {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = source.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = rest.next() {
        match c {
            '"' | '\'' => {
                while let Some((_, within)) = rest.next() {
                    if within == '\\' {
                        rest.next();
                    } else if within == c {
                        break;
                    }
                }
            }
            '/' if source[at..].starts_with("//") => {
                while rest.next_if(|(_, within)| *within != '\n').is_some() {}
            }
            _ if !is_of_name(before) && source[at..].starts_with(name) => {
                let ends = source[at + name.len()..].chars().next().is_none_or(|c| !is_of_name(c));
                if ends {
                    let line = source[..at].matches('\n').count() + 1;
                    let column = source[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
                    return Some((line, column));
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

/// Walks an expression, with the names its comprehensions bind.
struct Names<'a> {
    functions: &'a Functions,
    variables: &'static [&'static str],
    bound: Vec<&'a str>,
    uses: Vec<&'static str>,
}

impl<'a> Names<'a> {
    fn check(&mut self, expr: &'a IdedExpr) -> Result<(), Refused> {
        match &expr.expr {
            Expr::Unspecified => Err(refused("the expression is empty".into(), "")),
            // The evaluator panics on these.
            Expr::Struct(made) => {
                let message = format!("{} {{…}}: messages cannot be constructed", made.type_name);
                Err(refused(message, &made.type_name))
            }
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

    fn variable(&mut self, name: &str) -> Result<(), Refused> {
        if self.bound.contains(&name) {
            return Ok(());
        }
        let Some(known) = self.variables.iter().copied().find(|known| *known == name) else {
            let message = format!("unknown variable {name:?} (known are {})", self.variables.join(", "));
            return Err(refused(message, name));
        };
        if !self.uses.contains(&known) {
            self.uses.push(known);
        }
        Ok(())
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<(), Refused> {
        // `math.least(…)` is a function of a library, not a method of a variable called math.
        let of_library = match call.target.as_deref().map(|target| &target.expr) {
            Some(Expr::Ident(library)) => self.functions.knows(&format!("{library}.{}", call.func_name)),
            _ => false,
        };
        if !of_library {
            if !self.functions.knows(&call.func_name) {
                return Err(refused(format!("unknown function {:?}", call.func_name), &call.func_name));
            }
            if let Some(target) = &call.target {
                self.check(target)?;
            }
        }
        call.args.iter().try_for_each(|arg| self.check(arg))
    }
}

fn refused(message: String, name: &str) -> Refused {
    Refused { message, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_outside_of_strings_and_comments() {
        assert_eq!(place_of("nope", "nope"), Some((1, 1)));
        assert_eq!(place_of("'nope' + \"no\\\"nope\" +\n  // nope\n  nopes + nope", "nope"), Some((3, 11)));
        assert_eq!(place_of("snope", "nope"), None);
    }
}
