//! The types of CEL for the type checker: assignability and the bindings of type parameters.

use std::fmt;

use super::signatures::is_admitted;

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Any value; its type is known only during evaluation.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    /// A type as a value.
    Named,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Optional(Box<Type>),
    /// A type of a library, by name.
    Opaque(&'static str),
    /// A value with known fields, by its path, such as `request`.
    Fields(&'static str),
    /// A type parameter of an overload: its letter, and the use of the overload.
    Parameter(char, usize),
}

/// The types that type parameters are bound to.
#[derive(Debug, Clone, Default)]
pub(super) struct Bindings {
    bound: Vec<((char, usize), Type)>,
}

impl Bindings {
    fn of(&self, letter: char, usage: usize) -> Option<&Type> {
        self.bound.iter().find(|(key, _)| *key == (letter, usage)).map(|(_, bound)| bound)
    }

    fn bind(&mut self, letter: char, usage: usize, to: Type) {
        match self.bound.iter_mut().find(|(key, _)| *key == (letter, usage)) {
            Some((_, bound)) => *bound = to,
            None => self.bound.push(((letter, usage), to)),
        }
    }

    /// Replaces type parameters by their bindings; unbound ones become `dyn` if `is_final`.
    pub(super) fn resolve(&self, of: &Type, is_final: bool) -> Type {
        let inner = |of: &Type| Box::new(self.resolve(of, is_final));
        match of {
            Type::Parameter(letter, usage) => match self.of(*letter, *usage) {
                Some(bound) => self.resolve(bound, is_final),
                None if is_final => Type::Dyn,
                None => of.clone(),
            },
            Type::List(item) => Type::List(inner(item)),
            Type::Map(key, value) => Type::Map(inner(key), inner(value)),
            Type::Optional(value) => Type::Optional(inner(value)),
            other => other.clone(),
        }
    }

    /// Whether a value of type `from` is accepted where `to` is expected. Binds type parameters.
    pub(super) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Parameter(letter, usage) = to {
            if from == to {
                return true;
            }
            if let Some(bound) = self.of(*letter, *usage).cloned() {
                let is_fine = self.assign(from, &bound);
                if is_fine {
                    let general = most_general(&self.resolve(from, false), &self.resolve(&bound, false));
                    self.bind(*letter, *usage, general);
                }
                return is_fine;
            }
            let from = self.resolve(from, false);
            let is_fine = is_admitted(*letter, &from) && (from == *to || !self.mentions(&from, to));
            if is_fine && from != *to {
                self.bind(*letter, *usage, from);
            }
            return is_fine;
        }
        match (from, to) {
            (Type::Parameter(letter, usage), _) => {
                if let Some(bound) = self.of(*letter, *usage).cloned() {
                    return self.assign(&bound, to);
                }
                let to = self.resolve(to, false);
                let is_fine = is_admitted(*letter, &to) && !self.mentions(&to, from);
                if is_fine {
                    self.bind(*letter, *usage, to);
                }
                is_fine
            }
            (Type::Dyn, _)
            | (_, Type::Dyn)
            | (Type::Fields(_), Type::Map(..))
            | (Type::Null, Type::Duration | Type::Timestamp | Type::Opaque(_) | Type::Optional(_))
            | (Type::Duration | Type::Timestamp | Type::Opaque(_) | Type::Optional(_), Type::Null) => true,
            (Type::List(from), Type::List(to)) | (Type::Optional(from), Type::Optional(to)) => {
                self.assign(from, to)
            }
            (Type::Map(key, value), Type::Map(to_key, to_value)) => {
                self.assign(key, to_key) && self.assign(value, to_value)
            }
            (from, to) => from == to,
        }
    }

    fn mentions(&self, within: &Type, parameter: &Type) -> bool {
        match within {
            Type::Parameter(letter, usage) => {
                within == parameter
                    || self.of(*letter, *usage).is_some_and(|bound| self.mentions(bound, parameter))
            }
            Type::List(inner) | Type::Optional(inner) => self.mentions(inner, parameter),
            Type::Map(key, value) => self.mentions(key, parameter) || self.mentions(value, parameter),
            _ => false,
        }
    }
}

/// The more general of two types, one of which is assignable to the other.
pub(super) fn most_general(left: &Type, right: &Type) -> Type {
    if is_as_general(left, right) { left.clone() } else { right.clone() }
}

fn is_as_general(left: &Type, right: &Type) -> bool {
    match (left, right) {
        (Type::Dyn | Type::Parameter(..), _) => true,
        (_, Type::Dyn | Type::Parameter(..)) => false,
        (Type::List(left), Type::List(right)) | (Type::Optional(left), Type::Optional(right)) => {
            is_as_general(left, right)
        }
        (Type::Map(key, value), Type::Map(right_key, right_value)) => {
            is_as_general(key, right_key) && is_as_general(value, right_value)
        }
        (left, Type::Null) => *left != Type::Null,
        (left, right) => left == right,
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn | Self::Parameter(..) => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Named => f.write_str("type"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Optional(value) => write!(f, "optional({value})"),
            Self::Opaque(name) => f.write_str(name),
            Self::Fields(_) => f.write_str("object"),
        }
    }
}
