//! The functions that an expression may call, and the bound on the cost of each.
//!
//! **Invariant:** A function that is not in the table cannot be called, so a function of a new version of the libraries
//! needs a bound first.

use kube_cel::{KubeCelExt, cel::Context};

use super::signatures::{self, Overload};

/// The bound on the time and memory of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Evaluated by this crate, which counts the cost itself.
    Native(Native),
    /// A multiple of the size of the arguments.
    Linear,
    /// An added function: its result is small, and it costs this number of steps.
    Own(u64),
    /// Each element of one list is compared with each element of another.
    Pairs,
    /// A list is sorted.
    Sort,
    /// A string is searched in another, from each character on.
    Search,
    /// Each level of nesting is copied.
    Flatten,
    /// Each replaced part grows.
    Replace,
    /// Each part of a string becomes a new string.
    Split,
    /// The separator is inserted between all elements.
    Join,
    /// Numbers are written with the requested number of digits.
    Format,
    /// A number gives the number of elements.
    Range,
}

/// The functions that this crate evaluates.
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

/// The bound of a function; `None` if there is no such function.
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

        // Conversions and times: see conversion.rs.
        "string" | "bytes" | "double" | "int" | "uint" | "bool" | "dyn" | "type" | "duration" | "timestamp"
        | "getFullYear" | "getMonth" | "getDayOfYear" | "getDayOfMonth" | "getDate" | "getDayOfWeek" | "getHours"
        | "getMinutes" | "getSeconds" | "getMilliseconds"
        // Strings.
        | "charAt" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "strings.quote" | "format.byte"
        | "format.date" | "format.datetime" | "format.dns1035Label" | "format.dns1035LabelPrefix"
        | "format.dns1123Label" | "format.dns1123LabelPrefix" | "format.dns1123Subdomain"
        | "format.dns1123SubdomainPrefix" | "format.labelValue" | "format.named" | "format.qualifiedName"
        | "format.uri" | "format.uuid" | "validate" | "url" | "isURL" | "getEscapedPath" | "getHost"
        | "getHostname" | "getPort" | "getQuery" | "getScheme" | "ip" | "isIP" | "ip.isCanonical" | "family"
        | "isGlobalUnicast" | "isLinkLocalMulticast" | "isLinkLocalUnicast" | "isLoopback" | "isUnspecified"
        | "cidr" | "isCIDR" | "containsIP" | "containsCIDR" | "prefixLength" | "masked" | "quantity"
        | "isQuantity" | "isInteger" | "asInteger" | "asApproximateFloat" | "sign" | "add" | "sub"
        | "isGreaterThan" | "isLessThan" | "compareTo" | "semver" | "isSemver" | "major" | "minor" | "patch"
        // Lists.
        | "reverse" | "min" | "max" | "sum" | "first" | "last" | "slice" | "isSorted" | "optional.unwrap"
        | "unwrapOpt" | "cel.@mapInsert" => Bound::Linear,

        "distinct" | "sets.contains" | "sets.equivalent" | "sets.intersects" => Bound::Pairs,
        "sort" | "@sortByAssociatedKeys" => Bound::Sort,
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

/// A function added to those of Kubernetes.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// Its name.
    pub name: &'static str,
    /// Its parameters and its result, such as `(string, timestamp) timestamp`.
    pub signature: &'static str,
    /// Its cost in steps; its result must be small for every argument.
    pub steps: u64,
}

/// Variables with known fields, by their path, such as `request.userInfo`, with the fields as `NAME` or `NAME: TYPE`.
pub(super) type Fields = &'static [(&'static str, &'static [&'static str])];

/// The functions an expression may use.
pub struct Functions {
    context: Context<'static>,
    own: Vec<(Own, [Overload; 1])>,
    fields: Fields,
    is_nullable: bool,
}

impl Functions {
    /// Kubernetes' libraries, and the functions that `add` adds.
    pub fn new(own: &'static [Own], fields: Fields, add: impl FnOnce(&mut Context<'static>)) -> Self {
        let mut context = Context::default().with_all();
        add(&mut context);
        let own = own.iter().map(|own| (*own, [signatures::parse(own.signature)])).collect();
        Self { context, own, fields, is_nullable: false }
    }

    /// Allows one branch of `? :` to be null for any type of the other: these callers use null for "none".
    #[must_use]
    pub fn nullable(self) -> Self {
        Self { is_nullable: true, ..self }
    }

    pub(super) fn is_nullable(&self) -> bool {
        self.is_nullable
    }

    /// The overloads of a function or operator.
    pub(super) fn overloads(&self, name: &str) -> &[Overload] {
        let own = self.own.iter().find(|(own, _)| own.name == name);
        own.map_or_else(|| signatures::of(name), |(_, overloads)| overloads)
    }

    pub(super) fn fields(&self) -> Fields {
        self.fields
    }

    pub(super) fn context(&self) -> &Context<'static> {
        &self.context
    }

    pub(super) fn bound(&self, name: &str) -> Option<Bound> {
        let own = self.own.iter().find(|(own, _)| own.name == name);
        own.map(|(own, _)| Bound::Own(own.steps)).or_else(|| bound_of(name))
    }

    /// Whether a function or operator with this name exists.
    pub(super) fn knows(&self, name: &str) -> bool {
        // The parser names operators so; no function can have such a name.
        name.starts_with(['_', '!', '-', '@']) || self.bound(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bounded_has_overloads() {
        let functions = Functions::new(&[], &[], |_| {});
        let source = include_str!("functions.rs");
        let table = source.split("fn bound_of").nth(1).unwrap().split("_ => return None").next().unwrap();
        let names: Vec<&str> = table.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 100, "{}", names.len());
        for name in names {
            assert!(functions.bound(name).is_some(), "{name}");
            assert!(!functions.overloads(name).is_empty(), "{name}");
        }
        assert_eq!(functions.bound("nope"), None);
        for line in include_str!("signatures.txt").lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(": ").next().unwrap();
            assert!(functions.bound(name).is_some() || functions.knows(name), "{name}");
        }
    }
}
