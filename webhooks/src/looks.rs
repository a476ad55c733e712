//! What is read of objects: of reviews, of what exists, of what is looked up.

use std::sync::LazyLock;

use gatehouse_object::Shape;

/// Their metadata.
pub(crate) static METADATA: LazyLock<Shape> = LazyLock::new(|| Shape::new(gatehouse_object::METADATA));

/// What rules, defaults and quotas look at.
pub(crate) static FIELDS: LazyLock<Shape> =
    LazyLock::new(|| gatehouse_quota::looks(gatehouse_policy::looks(METADATA.clone())));

/// All that policies may see, as conditions in CEL do.
pub(crate) static WHOLE: LazyLock<Shape> = LazyLock::new(|| Shape::new(gatehouse_object::WHOLE));

#[cfg(test)]
mod tests;
