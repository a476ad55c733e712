//! What a served resource is: its names, its scope, its columns, its selectable fields, its schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::Time;

/// A resource of the group `view.gatehouse.dev`.
#[derive(Debug)]
pub struct Resource {
    /// Lower case, as in paths.
    pub plural: &'static str,
    /// Lower case.
    pub singular: &'static str,
    /// CamelCase; lists are `<kind>List`.
    pub kind: &'static str,
    /// What `kubectl get` also accepts.
    pub short_names: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What `kubectl explain` says of the kind.
    pub description: &'static str,
    /// The columns of its tables; the first is the name.
    pub columns: &'static [Column],
    /// What `--field-selector` may name, besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: &'static [&'static str],
    /// The schema of `status`.
    pub status_schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A column of a table (`metav1.TableColumnDefinition`).
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The heading; kubectl prints it in upper case.
    pub name: &'static str,
    /// The type of its cells.
    pub kind: ColumnType,
    /// What `kubectl describe` of the format would say.
    pub description: &'static str,
    /// Shown only with `-o wide` (priority 1).
    pub wide: bool,
}

/// The type of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// The object's name.
    Name,
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A time, shown as the age it has when the table is made.
    Age,
}

impl Column {
    /// The first column of every table.
    pub const NAME: Self = Self {
        name: "Name",
        kind: ColumnType::Name,
        description: "Name of the object, unique within its namespace.",
        wide: false,
    };

    /// A column of text.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: ColumnType::Text, description, wide: false }
    }

    /// A column of whole numbers.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: ColumnType::Integer, description, wide: false }
    }

    /// A column of ages.
    pub const fn age(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: ColumnType::Age, description, wide: false }
    }

    /// The same column, shown only with `-o wide`.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

/// A cell of a table, in a column of the matching [`ColumnType`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Text; empty where there is nothing to say.
    Text(Cow<'a, str>),
    /// A whole number.
    Integer(i64),
    /// The time whose age is shown; `None` where there is none.
    Age(Option<Time>),
    /// Null, in a column of numbers: there is none, which is not zero.
    Nothing,
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Cell<'a> {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// The `status` of a resource's objects: everything that is not metadata.
pub trait View: Serialize + JsonSchema {
    /// Names, columns, fields.
    const RESOURCE: Resource;

    /// The cells of this object's row, one for each column after the name.
    fn cells(&self) -> Vec<Cell<'_>>;

    /// The values of [`Resource::selectable_fields`], in their order.
    fn fields(&self) -> Vec<Cow<'_, str>>;
}
