//! The format of a catalogue file, as it is deserialized. `builtin/README.md` documents it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{Layer, State};

/// A row of the catalogue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KindForm {
    #[serde(default)]
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) plural: String,
    #[serde(default)]
    pub(super) scope: Scope,
    pub(super) layer: Option<Layer>,
    #[serde(default)]
    pub(super) layers: Vec<LayerForm>,
    /// `Flux` and `Pod` select a built-in state rule instead of the fields below.
    pub(super) judge: Option<JudgeForm>,
    #[serde(default)]
    pub(super) suspended: OneOrMany<RuleForm>,
    #[serde(default)]
    pub(super) broken: OneOrMany<RuleForm>,
    #[serde(default, alias = "inProgress")]
    pub(super) progressing: OneOrMany<RuleForm>,
    #[serde(default)]
    pub(super) failed: OneOrMany<RuleForm>,
    #[serde(default)]
    pub(super) current: OneOrMany<RuleForm>,
    #[serde(default)]
    pub(super) deadlines: Vec<DeadlineForm>,
    #[serde(default)]
    pub(super) uses: Vec<UseForm>,
    pub(super) series: Option<SeriesForm>,
    /// The object that it was made for, if its owner is of a kind that is not observed.
    pub(super) made_for: Option<MadeForForm>,
    /// How long a deletion may take.
    pub(super) deleting: Option<String>,
    /// Rules whose messages explain why the deletion has not finished.
    #[serde(default)]
    pub(super) deletion_explained_by: OneOrMany<RuleForm>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Scope {
    #[default]
    Namespaced,
    Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum JudgeForm {
    Flux,
    Pod,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerForm {
    pub(super) layer: Layer,
    pub(super) when: RuleForm,
}

/// A rule: an expression, or one of `cel`, `path` and `condition` with its options.
#[derive(Debug)]
pub(super) struct RuleForm(pub(super) Box<RuleFields>);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuleFields {
    pub(super) cel: Option<String>,
    pub(super) path: Option<String>,
    pub(super) equals: Option<serde_json::Value>,
    #[serde(rename = "in")]
    pub(super) one_of: Option<Vec<serde_json::Value>>,
    pub(super) not_in: Option<Vec<serde_json::Value>>,
    pub(super) exists: Option<bool>,
    pub(super) condition: Option<OneOrMany<String>>,
    pub(super) status: Option<OneOrMany<String>>,
    pub(super) with_reason: Option<OneOrMany<String>>,
    pub(super) not_reason: Option<OneOrMany<String>>,
    pub(super) latest: Option<bool>,
    pub(super) conditions: Option<String>,
    pub(super) reason: Option<TextForm>,
    pub(super) message: Option<TextForm>,
    pub(super) since: Option<LookupForm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DeadlineForm {
    pub(super) at: Option<LookupForm>,
    /// A duration, or the path of a number of seconds in the object.
    pub(super) after: Option<TextForm>,
    #[serde(default)]
    pub(super) during: Vec<State>,
    pub(super) state: Option<State>,
    /// The state is kept but no longer counts.
    #[serde(default)]
    pub(super) forget: bool,
    pub(super) reason: Option<TextForm>,
    pub(super) message: Option<TextForm>,
}

/// The object that an object of this kind was made for, in the same namespace.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MadeForForm {
    pub(super) group: Option<TextForm>,
    pub(super) kind: TextForm,
    pub(super) name: LookupForm,
}

/// An object that an object of this kind uses.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UseForm {
    pub(super) group: Option<TextForm>,
    pub(super) kind: TextForm,
    pub(super) name: LookupForm,
    /// If absent, the namespace of the object itself.
    pub(super) namespace: Option<LookupForm>,
    /// When the other object explains a failure of this one; if absent, always.
    pub(super) explains: Option<OneOrMany<ExplainsForm>>,
    /// The reasons with which the other object does not explain a failure of this one.
    #[serde(default)]
    pub(super) not_reason: OneOrMany<String>,
    #[serde(default)]
    pub(super) when: Vec<CaseForm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum ExplainsForm {
    /// If it has failed.
    Failed,
    /// If it does not exist.
    Missing,
}

/// How the other object changes a verdict: `is` matches its reason, `in` its state, `missing` matches if it does not
/// exist.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CaseForm {
    pub(super) is: Option<String>,
    #[serde(rename = "in")]
    pub(super) one_of: Option<OneOrMany<State>>,
    #[serde(default)]
    pub(super) missing: bool,
    /// If absent, only the reason and message change.
    pub(super) state: Option<State>,
    /// How long after it began a failure counts.
    pub(super) forget: Option<String>,
    pub(super) reason: Option<TextForm>,
    pub(super) message: Option<TextForm>,
}

/// Objects that form a series in time.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SeriesForm {
    pub(super) name: LookupForm,
    /// When an object of the series started; if absent, when it was created.
    pub(super) at: Option<LookupForm>,
}

/// `{path: …}` or `{cel: …}`; a plain string is an expression.
#[derive(Debug)]
pub(super) enum LookupForm {
    Path(String),
    Cel(String),
}

/// A plain string is taken literally; other forms are as in [`LookupForm`].
#[derive(Debug)]
pub(super) enum TextForm {
    Literal(String),
    Found(LookupForm),
}

/// One `T`, or a list of them.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de> Deserialize<'de> for RuleForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = match string_or_map::<RuleFields, D>(deserializer, "an expression or a map")? {
            Either::String(cel) => RuleFields { cel: Some(cel), ..RuleFields::default() },
            Either::Map(fields) => fields,
        };
        Ok(Self(Box::new(fields)))
    }
}

/// The map form of [`LookupForm`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupFields {
    path: Option<String>,
    cel: Option<String>,
}

impl LookupFields {
    fn one<E: Error>(self) -> Result<LookupForm, E> {
        match (self.path, self.cel) {
            (Some(path), None) => Ok(LookupForm::Path(path)),
            (None, Some(cel)) => Ok(LookupForm::Cel(cel)),
            _ => Err(E::custom("expected either path or cel")),
        }
    }
}

impl<'de> Deserialize<'de> for LookupForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match string_or_map::<LookupFields, D>(deserializer, "an expression, {path: …} or {cel: …}")? {
            Either::String(cel) => Ok(LookupForm::Cel(cel)),
            Either::Map(fields) => fields.one(),
        }
    }
}

impl<'de> Deserialize<'de> for TextForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match string_or_map::<LookupFields, D>(deserializer, "a text, {path: …} or {cel: …}")? {
            Either::String(text) => Ok(TextForm::Literal(text)),
            Either::Map(fields) => fields.one().map(TextForm::Found),
        }
    }
}

enum Either<T> {
    String(String),
    Map(T),
}

/// Works like an untagged enum, but keeps the errors of the map.
fn string_or_map<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<Either<T>, D::Error> {
    struct EitherVisitor<T>(&'static str, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for EitherVisitor<T> {
        type Value = Either<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
            Ok(Either::String(v.to_owned()))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Either::Map)
        }
    }
    deserializer.deserialize_any(EitherVisitor(expected, std::marker::PhantomData))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a map or a list of them")
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                let one = T::deserialize(serde::de::value::StrDeserializer::new(v))?;
                Ok(OneOrMany(vec![one]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(OneOrMany(vec![T::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = seq.next_element()? {
                    many.push(one);
                }
                Ok(OneOrMany(many))
            }
        }
        deserializer.deserialize_any(ManyVisitor(std::marker::PhantomData))
    }
}
