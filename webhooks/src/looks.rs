//! The fields that are read of objects: in reviews, in watches, and in single reads.

use std::sync::LazyLock;

use gatehouse_object::Shape;

/// The metadata.
pub(crate) static METADATA: LazyLock<Shape> = LazyLock::new(|| Shape::new(gatehouse_object::METADATA));

/// The fields that rules, defaults and quotas use.
pub(crate) static FIELDS: LazyLock<Shape> =
    LazyLock::new(|| gatehouse_quota::looks(gatehouse_policy::looks(METADATA.clone())));

/// All fields that policies can use, such as CEL conditions do.
pub(crate) static WHOLE: LazyLock<Shape> = LazyLock::new(|| Shape::new(gatehouse_object::WHOLE));

#[cfg(test)]
mod tests;
