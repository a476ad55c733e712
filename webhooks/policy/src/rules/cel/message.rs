//! Creates the message for a condition that does not hold: a text, or the result of an expression on the object.
//!
//! As in a ValidatingAdmissionPolicy, the text is used if the expression fails, or returns an empty or multi-line
//! string. **Invariant:** the expression uses the same budget as the conditions.

use gatehouse_apiservice::policy::CelRule;
use gatehouse_inventory::expression::Composed;
use kube_cel::cel::Value;

use super::compile::{Compiled, Compiler, FUNCTIONS};

/// The longest result in bytes, as in Kubernetes.
const LONGEST: usize = 5 << 10;

#[derive(Debug)]
pub(super) struct Message {
    plain: String,
    expression: Option<Compiled>,
}

impl Message {
    pub(super) fn compile(rule: &CelRule, shown: &str, compiler: &Compiler) -> Result<Self, String> {
        let expression = rule.message_expression.as_deref().map(|source| {
            let made = compiler.compile(source)?;
            if made.expression.is_text() {
                return Ok(made);
            }
            Err(format!("must give a string, gives {}: use string(…)", made.expression.result()))
        });
        let plain = rule.message.clone().filter(|message| !message.is_empty());
        Ok(Self {
            plain: plain.unwrap_or_else(|| format!("does not hold: {shown}")),
            expression: expression.transpose()?,
        })
    }

    /// The text.
    pub(super) fn plain(&self) -> &str {
        &self.plain
    }

    pub(super) fn expression(&self) -> Option<&Compiled> {
        self.expression.as_ref()
    }

    pub(super) fn may_take_long(&self) -> bool {
        self.expression.as_ref().is_some_and(|compiled| compiled.size.may_take_long())
    }

    pub(super) fn estimate(&self, composed: &Composed) -> Result<(), String> {
        self.expression.as_ref().map_or(Ok(()), |compiled| compiled.expression.estimate(&FUNCTIONS, composed))
    }
}

/// The message in a value, if it is valid.
pub(super) fn text(value: &Value) -> Option<String> {
    let Value::String(text) = value else { return None };
    let trimmed = text.trim();
    let is_one = !trimmed.is_empty() && text.len() <= LONGEST && !trimmed.contains(['\n', '\r']);
    is_one.then(|| trimmed.to_owned())
}
