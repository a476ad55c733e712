//! Reading an object by a shape.

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

/// The deepest that what is built may nest; whoever goes through it may recurse.
const DEEPEST: usize = 125;

/// What an element of a list takes, with the room that a list grows into.
const ELEMENT: usize = 2 * size_of::<Value>();
/// The same for an entry of a map, beside the text of its name.
const ENTRY: usize = 2 * (size_of::<Value>() + size_of::<String>() + 3 * size_of::<usize>());
/// What the allocator adds to a text.
const TEXT: usize = 32;

/// The most memory that may be built from a byte of JSON: lists of digits are the densest.
pub const MOST_PER_BYTE: usize = ELEMENT / "0,".len();

/// So much of a name is shown in an error.
const SHOWN: usize = 64;

/// Nobody can find two texts of one digest without these.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What was read of an object.
#[derive(Debug, Clone)]
pub struct Read {
    /// What is looked at. A map or list on the way to it is there, too.
    pub value: Value,
    /// A digest of what was passed over in `spec`, by place and text; none, if there was nothing. It means something in
    /// this process alone.
    pub rest: Option<u64>,
    /// What `value` takes of memory at the most, in bytes.
    pub cost: usize,
}

/// Why an object cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the object.
    pub field: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is no JSON.
    Syntax(String),
    /// It is there twice.
    Duplicate,
    /// It is nested too deep.
    TooDeep,
    /// With it there is more to look at than may be built.
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

/// Reads of an object what `shape` covers, building at most `budget` bytes of memory.
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
    // Depth is counted here, and only of what is built.
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

/// What there is of one reading.
struct Reading {
    /// Of the budget.
    left: usize,
    depth: usize,
    in_spec: bool,
    rest: DefaultHasher,
    is_partial: bool,
    problem: Option<Problem>,
    /// The path of what is wrong, put together on the way back.
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

    /// Notes that what is wrong is in this field.
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

    /// Takes note of something that nobody looks at.
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
    /// The position of what is at this step from `position`.
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

/// A place in the object, and what is looked at there.
struct Place<'r> {
    node: &'r Node,
    reading: &'r mut Reading,
    /// Which place it is; of meaning within `spec` where not everything is read.
    position: u64,
}

impl Place<'_> {
    /// The position of a part of it.
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

/// Passes over an element of a list.
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

/// The name of a field, without a copy where the text has none to make.
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
