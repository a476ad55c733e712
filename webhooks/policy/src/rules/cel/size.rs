//! Measures expressions. **Invariant:** an expression that is too large, or nests too deep, does not compile.

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};

/// The most parts of an expression, with the expansion of macros.
const MOST_NODES: usize = 1024;
/// The deepest nesting of an expression: evaluation recurses on the caller's stack.
pub(super) const DEEPEST: usize = 48;
/// The deepest nesting that is evaluated on the caller's stack, of which it uses less than a MiB even without
/// optimization.
pub(super) const SHALLOW: usize = 16;
/// The deepest nesting of macros such as `all` and `map`: each level multiplies the work.
const DEEPEST_LOOPS: usize = 2;

/// The size of an expression.
#[derive(Debug, Default)]
pub(super) struct Size {
    nodes: usize,
    pub(super) depth: usize,
    loops: usize,
    /// Calls of functions, not of operators.
    calls: usize,
}

impl Size {
    /// Whether its work grows with its input, or it needs a thread of its own.
    pub(super) fn may_take_long(&self) -> bool {
        self.loops > 0 || self.calls > 0 || self.depth > SHALLOW
    }

    /// Adds the size of a variable that an expression uses, which is evaluated within it.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), String> {
        self.loops += other.loops;
        self.calls += other.calls;
        self.depth += other.depth;
        if self.depth > DEEPEST {
            return Err(format!("nests, with its variables, deeper than {DEEPEST} levels"));
        }
        Ok(())
    }

    /// Measures an expression, and rejects one that is too large.
    pub(super) fn of(expr: &IdedExpr) -> Result<Self, String> {
        let mut size = Self::default();
        measure(expr, 0, 0, &mut size)?;
        Ok(size)
    }
}

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
    // The range of a loop is evaluated once, outside the loop.
    each_part(expr, &mut |part, is_range| {
        if result.is_ok() {
            result = measure(part, depth + 1, if is_range { loops } else { inner_loops }, size);
        }
    });
    result
}

/// Visits the parts of an expression; the flag says whether a part is the range of a loop.
pub(super) fn each_part<'e>(expr: &'e IdedExpr, visit: &mut dyn FnMut(&'e IdedExpr, bool)) {
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
