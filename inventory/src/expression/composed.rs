//! Named expressions that others use as `variables.NAME`.
//!
//! They work as in ValidatingAdmissionPolicies: an expression may use those before it, its type is that of its
//! expression, and its error is an error at every use. Its cost counts towards the budget of its first user.
//!
//! **Invariant:** Each expression is evaluated at its first use, and once, unless the budget of that use was exhausted.

use std::sync::OnceLock;

use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{Expr, IdedExpr};

use super::types::Type;
use super::{Expression, Failure, each_part_mut};

/// The variable that has them as fields.
const VARIABLES: &str = "variables";

/// Expressions with names, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Composed(Vec<Named>);

#[derive(Debug)]
struct Named {
    /// `variables.NAME`, which cannot be written as one identifier.
    identifier: String,
    expression: Expression,
}

/// Their results on one object.
#[derive(Debug)]
pub struct Memo(Vec<OnceLock<Result<Value, Failure>>>);

impl Composed {
    /// Adds an expression that was compiled against the expressions added before it.
    pub fn add(&mut self, name: &str, expression: Expression) {
        self.0.push(Named { identifier: format!("{VARIABLES}.{name}"), expression });
    }

    /// An empty store for their results on one object.
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

    /// Why an identifier names none of them; `None` if it is unrelated to them.
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

    /// Stores a result, unless a budget was exhausted: the budget of the next user may be enough.
    pub(super) fn keep(&self, at: usize, value: &Result<Value, Failure>) {
        if !matches!(value, Err(Failure::Exhausted(_))) {
            // Only one thread evaluates at a time.
            let _ = self.0[at].set(value.clone());
        }
    }
}

/// Replaces each `variables.NAME` by one identifier.
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
