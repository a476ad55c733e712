//! Expressions of policies, on any object.

use std::sync::LazyLock;
use std::thread;

use gatehouse_inventory::expression::{
    Budget, Composed, EXPRESSION_STEPS, Expression, Failure, Functions, TOTAL_STEPS, value_of,
};
use serde_json::Value;

/// As policies have it: the longest expression, and the stack that parsing and evaluating get.
const LONGEST: usize = 4096;
const STACK: usize = 64 << 20;
/// A message is 512 characters, and a few words of what was being done.
const LONGEST_MESSAGE: usize = 4 * 512 + 256;

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| Functions::new(&[], &[], |_| {}));

/// The last line is the object, as JSON; what is before it is the expression.
///
/// Whatever is written either does not compile or has a value or an error within its budget. No function of a library panics,
/// which includes arithmetic that overflows.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (source, object) = text.rsplit_once('\n').unwrap_or((text, "null"));
    let Ok(object) = serde_json::from_str(object) else { return };
    if source.len() > LONGEST {
        return;
    }
    thread::scope(|scope| {
        let evaluation =
            thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || evaluated(source, &object));
        evaluation.expect("a thread").join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn evaluated(source: &str, object: &Value) {
    let compiled = match Expression::compile(source, &FUNCTIONS, &["object"]) {
        Ok(compiled) => compiled,
        Err(why) => return assert!(!why.is_empty(), "{source:?}"),
    };
    if let Err(why) = compiled.estimate(&FUNCTIONS, &Composed::default()) {
        assert!(!why.is_empty(), "{source:?}");
    }
    let budget = Budget::new(None);
    let value = compiled.evaluate(&FUNCTIONS, &[("object", value_of(object))], &budget);
    assert!(
        budget.steps_left() >= TOTAL_STEPS - EXPRESSION_STEPS,
        "{source:?} takes more than it is granted"
    );
    let Err(failure) = value else { return };
    let why = failure.to_string();
    assert!(why.len() <= LONGEST_MESSAGE, "{source:?}: {} bytes of a message", why.len());
    let is_of_evaluator = matches!(&failure, Failure::Other(why) if why == "the evaluator failed");
    assert!(!is_of_evaluator, "{source:?} makes a library panic");
}
