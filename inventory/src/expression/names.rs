//! The names in an expression: each variable and function is known before anything is evaluated.

use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};

use super::{evaluate, functions::Functions};

/// Why an expression is refused that can be parsed.
pub(super) struct Refused {
    message: String,
    /// The name at fault.
    name: String,
}

impl Refused {
    /// Parsed expressions do not say where their parts stood; names are found again in the source.
    pub(super) fn at_its_place(self, source: &str) -> String {
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

/// The variables that an expression uses, if all of its names are known and it does not nest too deep.
pub(super) fn used(
    expr: &IdedExpr,
    functions: &Functions,
    variables: &'static [&'static str],
) -> Result<Vec<&'static str>, Refused> {
    let mut names = Names { functions, variables, bound: Vec::new(), uses: Vec::new(), depth: 0 };
    names.check(expr)?;
    Ok(names.uses)
}

/// Walks an expression, with the names its comprehensions bind.
struct Names<'a> {
    functions: &'a Functions,
    variables: &'static [&'static str],
    bound: Vec<&'a str>,
    uses: Vec<&'static str>,
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
        if evaluate::of_library(call, self.functions).is_none() {
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
