//! How large an expression is: what is enormous, or could work for long, is refused when it is written.

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};

/// The most parts an expression may be made of, with what macros expand to.
const MOST_NODES: usize = 1024;
/// The deepest an expression may nest: evaluating recurses, on the stack of whoever asks.
pub(super) const DEEPEST: usize = 48;
/// The deepest that is evaluated on the caller's stack, of which it takes less than a MiB even unoptimised.
pub(super) const SHALLOW: usize = 16;
/// The deepest that macros such as `all` and `map` may nest: each level multiplies the work.
const DEEPEST_LOOPS: usize = 2;

/// How large an expression is.
#[derive(Debug, Default)]
pub(super) struct Size {
    nodes: usize,
    pub(super) depth: usize,
    loops: usize,
    /// Calls of functions, other than operators.
    calls: usize,
}

impl Size {
    /// Whether its work grows with what it is given, or it needs a thread of its own.
    pub(super) fn may_take_long(&self) -> bool {
        self.loops > 0 || self.calls > 0 || self.depth > SHALLOW
    }

    /// Adds what an expression comes to use, which is evaluated within it.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), String> {
        self.loops += other.loops;
        self.calls += other.calls;
        self.depth += other.depth;
        if self.depth > DEEPEST {
            return Err(format!("nests, with its variables, deeper than {DEEPEST} levels"));
        }
        Ok(())
    }

    /// Measures an expression, and refuses what is enormous.
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
    // A loop's range is evaluated once, outside of it.
    each_part(expr, &mut |part, is_range| {
        if result.is_ok() {
            result = measure(part, depth + 1, if is_range { loops } else { inner_loops }, size);
        }
    });
    result
}

/// The parts of an expression, and whether each is the range of a loop.
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
