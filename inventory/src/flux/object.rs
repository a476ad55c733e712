//! The fields of Flux's objects that are kept, in their wire format.
//!
//! One struct serves every kind: a field that a kind does not have is absent. Every field may also be null, because Go
//! encodes empty values so.
//!
//! **Invariant:** Text is borrowed from the input, and fields that are not declared here (`managedFields`,
//! `status.inventory`, Helm values) are skipped without being built.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::suspension::{GENERATOR_ANNOTATION, OPERATOR_ANNOTATION};

/// A string, borrowed from the JSON unless it contains escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(v)))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// An RFC 3339 timestamp, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) i64);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        match text.as_str().parse::<jiff::Timestamp>() {
            Ok(instant) => Ok(Instant(instant.as_second())),
            Err(_) => Err(D::Error::invalid_value(
                serde::de::Unexpected::Str(text.as_str()),
                &"an RFC 3339 timestamp",
            )),
        }
    }
}

/// The first element of a list; the other elements are skipped.
#[derive(Debug)]
pub(crate) struct First<T>(pub(crate) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstVisitor<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First<T>, A::Error> {
                let first = seq.next_element()?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(FirstVisitor(PhantomData))
    }
}

/// An object of any of Flux's kinds.
#[derive(Debug, Deserialize)]
pub(crate) struct Object<'a> {
    #[serde(borrow)]
    pub(crate) metadata: Metadata<'a>,
    #[serde(borrow)]
    pub(crate) spec: Option<Spec<'a>>,
    #[serde(borrow)]
    pub(crate) status: Option<Status<'a>>,
}

/// The fields to read if the rest of the object cannot be decoded.
#[derive(Debug, Deserialize)]
pub(crate) struct Named<'a> {
    #[serde(borrow)]
    pub(crate) metadata: Name<'a>,
}

/// The name of an object, without other fields that could have the wrong type.
#[derive(Debug, Deserialize)]
pub(crate) struct Name<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) namespace: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) namespace: Option<Text<'a>>,
    pub(crate) generation: Option<i64>,
    pub(crate) creation_timestamp: Option<Instant>,
    pub(crate) deletion_timestamp: Option<Instant>,
    #[serde(borrow)]
    pub(crate) annotations: Option<Annotations<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Annotations<'a> {
    /// [`OPERATOR_ANNOTATION`].
    #[serde(borrow, rename = "fluxcd.controlplane.io/reconcile")]
    operator: Option<Text<'a>>,
    /// [`GENERATOR_ANNOTATION`].
    #[serde(borrow, rename = "source.extensions.fluxcd.io/reconcile")]
    generator: Option<Text<'a>>,
    #[serde(borrow, rename = "fluxcd.controlplane.io/suspendedBy")]
    pub(crate) suspended_by: Option<Text<'a>>,
}

impl Annotations<'_> {
    /// The value of one of the two annotations that suspend an object.
    pub(crate) fn reconcile(&self, name: &str) -> Option<&str> {
        let text = match name {
            OPERATOR_ANNOTATION => &self.operator,
            GENERATOR_ANNOTATION => &self.generator,
            _ => return None,
        };
        text.as_ref().map(Text::as_str)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec<'a> {
    pub(crate) suspend: Option<bool>,
    /// HelmRepository: repositories of type `oci` have no status.
    #[serde(borrow, rename = "type")]
    pub(crate) type_: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) source_ref: Option<Ref<'a>>,
    #[serde(borrow)]
    pub(crate) chart: Option<Chart<'a>>,
    #[serde(borrow)]
    pub(crate) chart_ref: Option<Ref<'a>>,
    /// ImagePolicy.
    #[serde(borrow)]
    pub(crate) image_repository_ref: Option<Ref<'a>>,
    /// ArtifactGenerator, which may combine several sources.
    #[serde(borrow)]
    pub(crate) sources: Option<Vec<Ref<'a>>>,
    #[serde(borrow)]
    pub(crate) depends_on: Option<Vec<Ref<'a>>>,
    #[serde(borrow)]
    pub(crate) timeout: Option<Text<'a>>,
    /// HelmRelease.
    pub(crate) test: Option<Test>,
    /// ArtifactGenerator: the artifacts that it produces.
    #[serde(borrow)]
    pub(crate) artifacts: Option<Vec<Output<'a>>>,
    /// GitRepository, HelmRepository and OCIRepository.
    #[serde(borrow)]
    pub(crate) url: Option<Text<'a>>,
    /// Bucket.
    #[serde(borrow)]
    pub(crate) endpoint: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) bucket_name: Option<Text<'a>>,
    /// HelmChart.
    #[serde(borrow)]
    pub(crate) version: Option<Text<'a>>,
    /// ImageRepository.
    #[serde(borrow)]
    pub(crate) image: Option<Text<'a>>,
}

/// `spec.test` of a HelmRelease.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Test {
    pub(crate) ignore_failures: Option<bool>,
}

/// A reference to another object; the defaults of omitted fields depend on the field that holds the reference.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ref<'a> {
    #[serde(borrow)]
    pub(crate) api_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) namespace: Option<Text<'a>>,
}

/// `spec.chart`: a template with a source in a HelmRelease, only a name in a HelmChart.
#[derive(Debug)]
pub(crate) enum Chart<'a> {
    Template(Option<Ref<'a>>),
    Name(Text<'a>),
}

impl<'a> Chart<'a> {
    pub(crate) fn source(&self) -> Option<&Ref<'a>> {
        match self {
            Self::Template(source) => source.as_ref(),
            Self::Name(_) => None,
        }
    }

    pub(crate) fn name(&self) -> Option<&Text<'a>> {
        match self {
            Self::Template(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Chart<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Template<'a> {
            #[serde(borrow)]
            spec: Option<TemplateSpec<'a>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct TemplateSpec<'a> {
            #[serde(borrow)]
            source_ref: Option<Ref<'a>>,
        }
        struct ChartVisitor;
        impl<'de> Visitor<'de> for ChartVisitor {
            type Value = Chart<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a chart template or a chart's name")
            }

            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Chart<'de>, E> {
                Ok(Chart::Name(Text(Cow::Borrowed(v))))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Chart<'de>, E> {
                Ok(Chart::Name(Text(Cow::Owned(v.to_owned()))))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Chart<'de>, A::Error> {
                let template = Template::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Chart::Template(template.spec.and_then(|spec| spec.source_ref)))
            }
        }
        deserializer.deserialize_any(ChartVisitor)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status<'a> {
    pub(crate) observed_generation: Option<i64>,
    #[serde(borrow)]
    pub(crate) conditions: Option<Vec<Condition<'a>>>,
    #[serde(borrow)]
    pub(crate) last_applied_revision: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) last_attempted_revision: Option<Text<'a>>,
    /// HelmRelease: `namespace/name` of the HelmChart that is created from its template.
    #[serde(borrow)]
    pub(crate) helm_chart: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) artifact: Option<Artifact<'a>>,
    #[serde(borrow)]
    pub(crate) history: Option<First<Snapshot<'a>>>,
    /// ImagePolicy.
    #[serde(borrow)]
    pub(crate) latest_ref: Option<ImageRef<'a>>,
    /// ImagePolicy before v1.
    #[serde(borrow)]
    pub(crate) latest_image: Option<Text<'a>>,
    /// ImageRepository.
    #[serde(borrow)]
    pub(crate) last_scan_result: Option<ScanResult<'a>>,
    /// ImageUpdateAutomation.
    #[serde(borrow)]
    pub(crate) last_push_commit: Option<Text<'a>>,
    /// Receiver.
    #[serde(borrow)]
    pub(crate) webhook_path: Option<Text<'a>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) type_: Text<'a>,
    #[serde(borrow)]
    pub(crate) status: Text<'a>,
    #[serde(borrow)]
    pub(crate) reason: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) message: Option<Text<'a>>,
    pub(crate) last_transition_time: Option<Instant>,
    pub(crate) observed_generation: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Artifact<'a> {
    #[serde(borrow)]
    pub(crate) revision: Option<Text<'a>>,
}

/// The newest entry of `status.history`. In a Kustomization it describes how the last reconciliation ended, in a
/// HelmRelease what Helm released. The two formats share only the name of the field.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot<'a> {
    #[serde(borrow)]
    pub(crate) last_reconciled_status: Option<Text<'a>>,
    pub(crate) last_reconciled: Option<Instant>,
    #[serde(borrow)]
    pub(crate) metadata: Option<SnapshotMetadata<'a>>,
    #[serde(borrow)]
    pub(crate) chart_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) chart_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) app_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) status: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SnapshotMetadata<'a> {
    #[serde(borrow)]
    pub(crate) revision: Option<Text<'a>>,
}

/// An entry of `spec.artifacts` of an ArtifactGenerator.
#[derive(Debug, Deserialize)]
pub(crate) struct Output<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ImageRef<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) tag: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ScanResult<'a> {
    #[serde(borrow)]
    pub(crate) revision: Option<Text<'a>>,
}
