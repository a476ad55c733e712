//! Reads an object by its shape.

use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, DefaultHasher, Hasher, RandomState},
    sync::LazyLock,
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use crate::shape::{Node, Shape};

/// The deepest nesting of the result, so that recursive functions are safe on it.
const DEEPEST: usize = 125;

/// The memory of an element of a list, in bytes, with the spare capacity of a growing vector.
const ELEMENT: usize = 2 * size_of::<Value>();
/// The memory of an entry of a map, in bytes, without the text of its name.
const ENTRY: usize = 2 * (size_of::<Value>() + size_of::<String>() + 3 * size_of::<usize>());
/// The overhead of the allocator for a text, in bytes.
const TEXT: usize = 32;

/// The most memory that a byte of JSON may need, in bytes. Lists of digits need the most.
pub const MOST_PER_BYTE: usize = ELEMENT / "0,".len();

/// How many characters of a name an error shows.
const SHOWN: usize = 64;

/// The random keys of the digests, so that nobody can construct two texts with the same digest.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The result of reading an object.
#[derive(Debug, Clone)]
pub struct Read {
    /// The covered fields, and the maps and lists that contain them.
    pub value: Value,
    /// A digest of the skipped parts of `spec`, by place and text; `None` if nothing was skipped. Only valid within
    /// this process.
    pub rest: Option<u64>,
    /// An upper bound of the memory of `value`, in bytes.
    pub cost: usize,
}

/// Why an object was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path of the field.
    pub field: String,
    /// What is wrong with the field.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is not valid JSON.
    Syntax(String),
    /// Its map contains the name twice.
    Duplicate,
    /// It is nested too deeply.
    TooDeep,
    /// The budget does not suffice for it.
    TooMuch,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(why) => f.write_str(why),
            Self::Duplicate => f.write_str("is given twice"),
            Self::TooDeep => write!(f, "is nested deeper than {DEEPEST} levels"),
            Self::TooMuch => f.write_str("holds too many values to be judged"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Fault {}

/// Reads the fields of an object that `shape` covers, with at most `budget` bytes of memory.
pub fn read(json: &str, shape: &Shape, budget: usize) -> Result<Read, Fault> {
    let mut reading = Reading {
        left: budget,
        depth: 0,
        in_spec: false,
        rest: KEYS.build_hasher(),
        is_partial: false,
        problem: None,
        field: String::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    // `Reading` checks the depth, of the result only. serde_json skips the other parts without recursion.
    let place = Place { node: &shape.0, reading: &mut reading, position: 0 };
    let value = place.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(value) => Ok(Read {
            value,
            rest: reading.is_partial.then(|| reading.rest.finish()),
            cost: budget - reading.left,
        }),
        Err(error) => Err(Fault {
            field: if reading.field.is_empty() { "object".to_owned() } else { reading.field },
            problem: reading.problem.unwrap_or_else(|| Problem::Syntax(error.to_string())),
        }),
    }
}

/// The state of a call of [`read`].
struct Reading {
    /// The rest of the budget.
    left: usize,
    depth: usize,
    in_spec: bool,
    rest: DefaultHasher,
    is_partial: bool,
    problem: Option<Problem>,
    /// The path of the faulty field, assembled on the way back to the root.
    field: String,
}

impl Reading {
    fn take<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.fail(Problem::TooMuch)),
        }
    }

    fn fail<E: Error>(&mut self, problem: Problem) -> E {
        let error = E::custom(&problem);
        self.problem = Some(problem);
        error
    }

    /// Adds a step to the path of the faulty field.
    fn is_in(&mut self, step: &Step<'_>) {
        let step = match step {
            Step::Index(index) => format!("[{index}]"),
            Step::Name(name) => match name.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}…", &name[..end]),
                None => (*name).to_owned(),
            },
        };
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field.insert_str(0, dot);
        self.field.insert_str(0, &step);
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(self.fail(Problem::TooDeep)) } else { Ok(()) }
    }

    /// Adds a skipped part to the digest.
    fn pass(&mut self, position: u64, raw: &RawValue) {
        self.is_partial = true;
        self.rest.write_u64(position);
        self.rest.write_usize(raw.get().len());
        self.rest.write(raw.get().as_bytes());
    }
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl Step<'_> {
    /// The position of the part that this step leads to from `position`.
    fn from(&self, position: u64) -> u64 {
        let mut hasher = KEYS.build_hasher();
        hasher.write_u64(position);
        match self {
            Self::Name(name) => hasher.write(name.as_bytes()),
            Self::Index(index) => hasher.write_usize(*index),
        }
        hasher.finish()
    }
}

/// A place in the object, and its node in the shape.
struct Place<'r> {
    node: &'r Node,
    reading: &'r mut Reading,
    /// The hash of the path, for the digest. Only used within `spec`, where parts may be skipped.
    position: u64,
}

impl Place<'_> {
    /// The position of a part of this place.
    fn position_of(&self, step: &Step<'_>) -> u64 {
        let matters = self.reading.in_spec && !matches!(self.node, Node::All);
        if matters { step.from(self.position) } else { 0 }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.reading.take(value.len() + TEXT)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let each = match self.node {
            Node::All => self.node,
            Node::Within(within) => within.each.as_ref().unwrap_or(&Node::Skip),
            Node::Skip | Node::Scalar => &Node::Skip,
        };
        let mut list = Vec::new();
        self.reading.enter()?;
        for index in 0.. {
            let step = Step::Index(index);
            let position = self.position_of(&step);
            let more = if matches!(each, Node::Skip) {
                pass_element(&mut elements, self.reading, position).map(|passed| passed.is_some())
            } else {
                let place = Place { node: each, reading: &mut *self.reading, position };
                elements.next_element_seed(place).and_then(|element| {
                    let Some(element) = element else { return Ok(false) };
                    self.reading.take(ELEMENT)?;
                    list.push(element);
                    Ok(true)
                })
            };
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.reading.is_in(&step);
                    return Err(error);
                }
            }
        }
        self.reading.depth -= 1;
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let within = match self.node {
            Node::Within(within) if within.has_names() => Some(within),
            _ => None,
        };
        let is_root = self.reading.depth == 0;
        let mut map = Map::new();
        self.reading.enter()?;
        while let Some(Name(name)) = entries.next_key()? {
            if is_root {
                self.reading.in_spec = name == "spec";
            }
            let step = Step::Name(&name);
            let position = self.position_of(&step);
            let node = match (self.node, within) {
                (Node::All, _) => self.node,
                (_, Some(within)) => within.of(&name),
                _ => &Node::Skip,
            };
            if matches!(node, Node::Skip) {
                if self.reading.in_spec {
                    let raw = entries.next_value::<&RawValue>()?;
                    self.reading.pass(position, raw);
                } else {
                    entries.next_value::<IgnoredAny>()?;
                }
                continue;
            }
            let place = Place { node, reading: &mut *self.reading, position };
            let read = entries.next_value_seed(place).and_then(|value| {
                self.reading.take(ENTRY + TEXT + name.len())?;
                match map.insert(name.as_ref().to_owned(), value) {
                    None => Ok(()),
                    Some(_) => Err(self.reading.fail(Problem::Duplicate)),
                }
            });
            if let Err(error) = read {
                self.reading.is_in(&step);
                return Err(error);
            }
        }
        self.reading.depth -= 1;
        Ok(Value::Object(map))
    }
}

/// Skips an element of a list.
fn pass_element<'de, A: SeqAccess<'de>>(
    elements: &mut A,
    reading: &mut Reading,
    position: u64,
) -> Result<Option<()>, A::Error> {
    if !reading.in_spec {
        return Ok(elements.next_element::<IgnoredAny>()?.map(|_| ()));
    }
    let Some(raw) = elements.next_element::<&RawValue>()? else { return Ok(None) };
    reading.pass(position, raw);
    Ok(Some(()))
}

/// The name of a field, borrowed if it contains no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}
