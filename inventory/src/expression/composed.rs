//! Expressions with names that others use, as `variables.NAME`: each is evaluated at its first use, and once.
//!
//! As ValidatingAdmissionPolicies have them: one may use those before it, its type is that of its expression, and an
//! error is an error wherever it is used. What it takes is taken of the budget of whoever uses it first.

use std::sync::OnceLock;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{Expr, IdedExpr};

use super::types::Type;
use super::{Expression, Failure, each_part_mut};

/// The variable whose fields they are.
const VARIABLES: &str = "variables";

/// Expressions with names, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Composed(Vec<Named>);

#[derive(Debug)]
struct Named {
    /// `variables.NAME`, which nobody can write as one identifier.
    identifier: String,
    expression: Expression,
}

/// What they came to on one object.
#[derive(Debug)]
pub struct Memo(Vec<OnceLock<Result<Value, Failure>>>);

impl Composed {
    /// Adds an expression that was compiled with those that are there already.
    pub fn add(&mut self, name: &str, expression: Expression) {
        self.0.push(Named { identifier: format!("{VARIABLES}.{name}"), expression });
    }

    /// Room for what they come to on one object.
    pub fn memo(&self) -> Memo {
        Memo(self.0.iter().map(|_| OnceLock::new()).collect())
    }

    pub(super) fn position(&self, identifier: &str) -> Option<usize> {
        self.0.iter().position(|named| named.identifier == identifier)
    }

    /// The type of a variable, by its identifier.
    pub(super) fn type_of(&self, identifier: &str) -> Option<&Type> {
        self.position(identifier).map(|at| &self.0[at].expression.result)
    }

    pub(super) fn expression(&self, at: usize) -> &Expression {
        &self.0[at].expression
    }

    /// Why an identifier means none of them; none, if it has nothing to do with them.
    pub(super) fn explain(&self, identifier: &str) -> Option<String> {
        if identifier == VARIABLES {
            return Some("variables are used as variables.NAME only".to_owned());
        }
        let name = identifier.strip_prefix(VARIABLES)?.strip_prefix('.')?;
        let known: Vec<&str> = self.0.iter().map(|named| &named.identifier[VARIABLES.len() + 1..]).collect();
        Some(match known.as_slice() {
            [] => format!("unknown variable {name:?}: spec.variables has none before this"),
            known => format!("unknown variable {name:?} (before this there are {})", known.join(", ")),
        })
    }
}

impl Memo {
    pub(super) fn get(&self, at: usize) -> Option<&Result<Value, Failure>> {
        self.0[at].get()
    }

    /// Keeps what one came to. Not that a budget was used up: that of the next who asks may be enough.
    pub(super) fn keep(&self, at: usize, value: &Result<Value, Failure>) {
        if !matches!(value, Err(Failure::Exhausted(_))) {
            // Evaluated by one thread at a time.
            let _ = self.0[at].set(value.clone());
        }
    }
}

/// Makes one identifier of each `variables.NAME`.
pub(super) fn resolve(expr: &mut IdedExpr) -> Result<(), String> {
    if let Expr::Comprehension(made) = &expr.expr
        && [Some(&made.iter_var), made.iter_var2.as_ref(), Some(&made.accu_var)]
            .into_iter()
            .flatten()
            .any(|name| name == VARIABLES)
    {
        return Err(format!("the variable of a macro must not be called {VARIABLES}"));
    }
    if let Expr::Select(select) = &expr.expr
        && !select.test
        && matches!(&select.operand.expr, Expr::Ident(name) if name == VARIABLES)
    {
        expr.expr = Expr::Ident(format!("{VARIABLES}.{}", select.field));
        return Ok(());
    }
    let mut result = Ok(());
    each_part_mut(expr, &mut |part| {
        if result.is_ok() {
            result = resolve(part);
        }
    });
    result
}
