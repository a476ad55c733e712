//! The functions an expression may call, and what bounds each.
//!
//! A function that is not in the table does not exist: one that a new version of the libraries brings has to be given
//! its bound first.

use kube_cel::{KubeCelExt, cel::Context};

/// What bounds the work and the memory of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Evaluated here, which counts by itself.
    Native(Native),
    /// Some multiple of the arguments' size.
    Linear,
    /// One that was added: its result is small, and its work so many steps.
    Own(u64),
    /// Each element of one list is compared with all of another.
    Pairs,
    /// A list is sorted.
    Sort,
    /// Elements are added to each other.
    Sum,
    /// A text is looked for in another, from each character on.
    Search,
    /// Each level of nesting is copied.
    Flatten,
    /// Each place that is replaced grows.
    Replace,
    /// Each part of a text becomes a text of its own.
    Split,
    /// The separator comes between all elements.
    Join,
    /// Numbers come with as many digits as they are asked for.
    Format,
    /// As many elements as a number says.
    Range,
}

/// The functions that are evaluated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Native {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    Find,
    FindAll,
    OptionalOf,
    OptionalOfNonZero,
    OptionalNone,
    HasValue,
    Value,
    Or,
    OrValue,
}

/// What bounds a function; none, if there is no such function.
#[rustfmt::skip]
fn bound_of(name: &str) -> Option<Bound> {
    Some(match name {
        "size" => Bound::Native(Native::Size),
        "contains" => Bound::Native(Native::Contains),
        "startsWith" => Bound::Native(Native::StartsWith),
        "endsWith" => Bound::Native(Native::EndsWith),
        "matches" => Bound::Native(Native::Matches),
        "find" => Bound::Native(Native::Find),
        "findAll" => Bound::Native(Native::FindAll),
        "optional.of" => Bound::Native(Native::OptionalOf),
        "optional.ofNonZeroValue" => Bound::Native(Native::OptionalOfNonZero),
        "optional.none" => Bound::Native(Native::OptionalNone),
        "hasValue" => Bound::Native(Native::HasValue),
        "value" => Bound::Native(Native::Value),
        "or" => Bound::Native(Native::Or),
        "orValue" => Bound::Native(Native::OrValue),

        // Conversions, times and numbers.
        "string" | "bytes" | "double" | "int" | "uint" | "duration" | "timestamp" | "getFullYear" | "getMonth"
        | "getDayOfYear" | "getDayOfMonth" | "getDate" | "getDayOfWeek" | "getHours" | "getMinutes"
        | "getSeconds" | "getMilliseconds" | "math.abs" | "math.bitAnd" | "math.bitNot" | "math.bitOr"
        | "math.bitShiftLeft" | "math.bitShiftRight" | "math.bitXor" | "math.ceil" | "math.floor"
        | "math.greatest" | "math.isFinite" | "math.isInf" | "math.isNaN" | "math.least" | "math.round"
        | "math.sign" | "math.sqrt" | "math.trunc"
        // Texts.
        | "charAt" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "reverse" | "strings.quote"
        | "base64.decode" | "base64.encode" | "jsonpatch.escapeKey" | "format.byte" | "format.date"
        | "format.datetime" | "format.dns1035Label" | "format.dns1035LabelPrefix" | "format.dns1123Label"
        | "format.dns1123LabelPrefix" | "format.dns1123Subdomain" | "format.dns1123SubdomainPrefix"
        | "format.labelValue" | "format.named" | "format.qualifiedName" | "format.uri" | "format.uuid"
        | "validate" | "url" | "isURL" | "getEscapedPath" | "getHost" | "getHostname" | "getPort" | "getQuery"
        | "getScheme" | "ip" | "isIP" | "isIPv4" | "isIPv6" | "ip.isCanonical" | "family" | "isGlobalUnicast"
        | "isLinkLocalMulticast" | "isLinkLocalUnicast" | "isLoopback" | "isUnspecified" | "cidr" | "isCIDR"
        | "isCIDRv4" | "isCIDRv6" | "containsIP" | "containsCIDR" | "prefixLength" | "masked" | "quantity"
        | "isQuantity" | "isInteger" | "asInteger" | "asApproximateFloat" | "sign" | "add" | "sub"
        | "isGreaterThan" | "isLessThan" | "compareTo" | "semver" | "isSemver" | "major" | "minor" | "patch"
        // Lists.
        | "min" | "max" | "first" | "last" | "slice" | "isSorted" => Bound::Linear,

        "distinct" | "sets.contains" | "sets.equivalent" | "sets.intersects" => Bound::Pairs,
        "sort" => Bound::Sort,
        "sum" => Bound::Sum,
        "indexOf" | "lastIndexOf" => Bound::Search,
        "flatten" => Bound::Flatten,
        "replace" => Bound::Replace,
        "split" => Bound::Split,
        "join" => Bound::Join,
        "format" => Bound::Format,
        "lists.range" => Bound::Range,
        _ => return None,
    })
}

/// The functions an expression may use.
pub struct Functions {
    context: Context<'static>,
    own: &'static [(&'static str, u64)],
}

impl Functions {
    /// Kubernetes' libraries, and what `add` adds to them. `own` has the names of these functions, and the most steps that
    /// each is worth; what they return is small, whatever they are given.
    pub fn new(own: &'static [(&'static str, u64)], add: impl FnOnce(&mut Context<'static>)) -> Self {
        let mut context = Context::default().with_all();
        add(&mut context);
        Self { context, own }
    }

    pub(super) fn context(&self) -> &Context<'static> {
        &self.context
    }

    pub(super) fn bound(&self, name: &str) -> Option<Bound> {
        let own = self.own.iter().find(|(own, _)| *own == name);
        own.map(|(_, steps)| Bound::Own(*steps)).or_else(|| bound_of(name))
    }

    /// Whether there is such a function, or operator.
    pub(super) fn knows(&self, name: &str) -> bool {
        // Operators are the parser's own; no function can be named like one.
        name.starts_with(['_', '!', '-', '@']) || self.bound(name).is_some()
    }
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions").field("own", &self.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use kube_cel::cel::{
        ExecutionError,
        common::ast::{CallExpr, Expr, IdedExpr},
    };

    use super::*;

    /// What the libraries have by these names, asked for as expressions would.
    #[test]
    fn what_is_bounded_exists() {
        let functions = Functions::new(&[], |_| {});
        let source = include_str!("functions.rs");
        let table = source.split("fn bound_of").nth(1).unwrap().split("_ => return None").next().unwrap();
        let names: Vec<&str> = table.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 120, "{}", names.len());
        for name in names {
            assert!(functions.bound(name).is_some(), "{name}");
            let call = CallExpr { func_name: name.to_owned(), target: None, args: Vec::new() };
            let called = functions.context().resolve(&IdedExpr { id: 0, expr: Expr::Call(call) });
            let is_missing =
                matches!(called, Err(ExecutionError::UndeclaredReference(missing)) if *missing == name);
            assert!(!is_missing, "{name} is in no library");
        }
        assert_eq!(functions.bound("nope"), None);
    }
}
