//! Resolves the names in an expression.
//!
//! **Invariant:** Every variable and function is known before anything is evaluated.

use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};

use super::{composed::Composed, conversion, evaluate, functions::Functions, macros};

/// Why an expression that can be parsed is rejected.
pub(super) struct Refused {
    message: String,
    /// The name that caused the error.
    name: String,
}

impl Refused {
    /// Adds the position. The parts of a parsed expression have none, so the name is searched in the source.
    pub(super) fn at_its_place(self, source: &str) -> String {
        match place_of(source, &self.name) {
            Some((line, column)) => format!("line {line} column {column}: {}", self.message),
            None => self.message,
        }
    }
}

/// The line and column, from 1, of the first `name` outside strings and comments.
fn place_of(source: &str, name: &str) -> Option<(usize, usize)> {
    let name = name.rsplit('.').next().filter(|name| !name.is_empty())?;
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

/// Features that exist elsewhere in Kubernetes but not here.
fn elsewhere(name: &str) -> Option<&'static str> {
    match name {
        "params" => Some("params needs the ConfigMap that spec.paramRef of a policy names"),
        "authorizer" => Some("authorizer is not supported: rules.verbs asks for rights"),
        _ => None,
    }
}

/// A call that looks like a library function but is none.
fn of_no_library(call: &CallExpr) -> Option<(String, String)> {
    let Expr::Ident(library) = &call.target.as_deref()?.expr else { return None };
    let name = format!("{library}.{}", call.func_name);
    match name.as_str() {
        "cel.bind" => {
            Some(("cel.bind is not a macro of Kubernetes: use variables".to_owned(), "bind".to_owned()))
        }
        _ if matches!(library.as_str(), "math" | "base64" | "jsonpatch" | "proto" | "regex" | "cel") => {
            Some((format!("{name} is not a function of Kubernetes' policies"), library.clone()))
        }
        _ => None,
    }
}

/// Rejects expressions that nest too deep to be traversed.
pub(super) fn refuse_depth(expr: &IdedExpr) -> Result<(), String> {
    fn depth(expr: &IdedExpr, left: usize) -> bool {
        if left == 0 {
            return false;
        }
        let mut is_fine = true;
        each_part(expr, &mut |part| is_fine = is_fine && depth(part, left - 1));
        is_fine
    }
    if depth(expr, evaluate::DEEPEST + 1) {
        return Ok(());
    }
    Err(format!("nests deeper than {} levels", evaluate::DEEPEST))
}

/// Visits the parts of an expression.
fn each_part<'e>(expr: &'e IdedExpr, visit: &mut dyn FnMut(&'e IdedExpr)) {
    match &expr.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => visit(&select.operand),
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                visit(&entry.key);
                visit(&entry.value);
            }
            EntryExpr::StructField(field) => visit(&field.value),
        }),
        Expr::Struct(made) => made.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => visit(&entry.value),
            EntryExpr::StructField(field) => visit(&field.value),
        }),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).for_each(visit),
        Expr::Comprehension(of) => {
            let parts = [&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result];
            parts.into_iter().for_each(visit);
        }
    }
}

/// Rejects `!!` and `--`, because the parser reads them as one sign.
pub(super) fn refuse_repeated_signs(source: &str) -> Result<(), String> {
    let mut rest = source.char_indices().peekable();
    // The previous sign, how often it was repeated, and whether an operand came before it.
    let (mut sign, mut signs, mut after_operand) = (' ', 0, false);
    while let Some((at, c)) = rest.next() {
        match c {
            '"' | '\'' => {
                let is_raw = source[..at].ends_with(['r', 'R']);
                while let Some((_, within)) = rest.next() {
                    if within == '\\' && !is_raw {
                        rest.next();
                    } else if within == c {
                        break;
                    }
                }
            }
            '/' if source[at..].starts_with("//") => {
                while rest.next_if(|(_, within)| *within != '\n').is_some() {}
                continue;
            }
            c if c.is_whitespace() => continue,
            _ => {}
        }
        let is_sign = c == '-' || c == '!' && !source[at..].starts_with("!=");
        signs = if is_sign && (c == sign || signs == 0) { signs + 1 } else { usize::from(is_sign) };
        // Between operands, the first of two signs is a subtraction.
        let most = if c == '-' && after_operand { 2 } else { 1 };
        if is_sign && signs > most {
            let line = source[..at].matches('\n').count() + 1;
            let column = source[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
            return Err(format!(
                "line {line} column {column}: {c}{c} is not supported: use parentheses, as in {c}({c}x)"
            ));
        }
        if !is_sign {
            after_operand = c.is_alphanumeric() || "_)]}'\"`.".contains(c);
        }
        sign = c;
    }
    Ok(())
}

/// The names that an expression uses, directly and through others.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) variables: Vec<&'static str>,
    /// Indexes of composed expressions.
    pub(super) composed: Vec<usize>,
}

/// The names that an expression uses, if all are known and it does not nest too deep.
pub(super) fn used(
    expr: &IdedExpr,
    functions: &Functions,
    variables: &'static [&'static str],
    composed: &Composed,
) -> Result<Used, Refused> {
    let uses = Used::default();
    let mut names = Names { functions, variables, composed, bound: Vec::new(), uses, depth: 0 };
    names.check(expr)?;
    Ok(names.uses)
}

impl Used {
    fn variable(&mut self, name: &'static str) {
        if !self.variables.contains(&name) {
            self.variables.push(name);
        }
    }

    fn composed(&mut self, at: usize) {
        if !self.composed.contains(&at) {
            self.composed.push(at);
        }
    }
}

/// Walks an expression, with the variables that its comprehensions bind.
struct Names<'a> {
    functions: &'a Functions,
    variables: &'static [&'static str],
    composed: &'a Composed,
    bound: Vec<&'a str>,
    uses: Used,
    depth: usize,
}

impl<'a> Names<'a> {
    fn check(&mut self, expr: &'a IdedExpr) -> Result<(), Refused> {
        if self.depth > evaluate::DEEPEST {
            return Err(refused(format!("nests deeper than {} levels", evaluate::DEEPEST), ""));
        }
        self.depth += 1;
        let checked = self.check_parts(expr);
        self.depth -= 1;
        checked
    }

    fn check_parts(&mut self, expr: &'a IdedExpr) -> Result<(), Refused> {
        match &expr.expr {
            Expr::Unspecified => Err(refused("the expression is empty".into(), "")),
            Expr::Struct(made) => {
                let message = format!("{} {{…}}: messages cannot be constructed", made.type_name);
                Err(refused(message, &made.type_name))
            }
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) if select.field.starts_with('`') => {
                Err(refused("names in backticks are not supported: use ['name']".to_owned(), &select.field))
            }
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
                if comprehension.iter_var != macros::UNUSED {
                    self.bound.push(&comprehension.iter_var);
                }
                self.bound.push(&comprehension.accu_var);
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
        if let Some(at) = self.composed.position(name) {
            let expression = self.composed.expression(at);
            expression.uses().iter().for_each(|name| self.uses.variable(name));
            expression.composed().iter().for_each(|at| self.uses.composed(*at));
            self.uses.composed(at);
            return Ok(());
        }
        let Some(known) = self.variables.iter().copied().find(|known| *known == name) else {
            if let Some(why) = self.composed.explain(name) {
                return Err(refused(why, name));
            }
            if conversion::is_type_name(name) {
                return Ok(());
            }
            if let Some(why) = elsewhere(name) {
                return Err(refused(why.to_owned(), name));
            }
            let message = format!("unknown variable {name:?} (known are {})", self.variables.join(", "));
            return Err(refused(message, name));
        };
        self.uses.variable(known);
        Ok(())
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<(), Refused> {
        if evaluate::of_library(call, self.functions).is_none() {
            if let Some((why, name)) = of_no_library(call) {
                return Err(refused(why, &name));
            }
            if let Some(target) = &call.target {
                self.check(target)?;
            }
            if !self.functions.knows(&call.func_name) {
                return Err(refused(format!("unknown function {:?}", call.func_name), &call.func_name));
            }
        }
        call.args.iter().try_for_each(|arg| self.check(arg))
    }
}

pub(super) fn refused(message: String, name: &str) -> Refused {
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
