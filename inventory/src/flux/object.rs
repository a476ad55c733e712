//! The fields of Flux's objects that are kept, in their wire format.
//!
//! One struct serves every kind: a field that a kind does not have is absent. Every field may also be null, because Go
//! encodes empty values so.
//!
//! **Invariant:** Text is borrowed from the input, and fields that are not declared here (`managedFields`,
//! Helm values) are skipped without being built.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    suspension::{GENERATOR_ANNOTATION, OPERATOR_ANNOTATION},
    wire::{Few, Instant, Text},
};
use crate::{Applied, above::Labels};
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
    #[serde(borrow)]
    pub(crate) labels: Option<Labels<'a>>,
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
    #[serde(borrow, rename = "reconcile.fluxcd.io/requestedAt")]
    pub(crate) requested_at: Option<Text<'a>>,
    #[serde(borrow, rename = "gatehouse.dev/suspended-until")]
    pub(crate) suspended_until: Option<Text<'a>>,
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
    /// GitRepository: other repositories whose content it includes.
    #[serde(borrow)]
    pub(crate) include: Option<Vec<Include<'a>>>,
    /// ArtifactGenerator: the artifacts that it produces.
    #[serde(borrow)]
    pub(crate) artifacts: Option<Vec<Output<'a>>>,
    /// ResourceSet: the providers of its inputs.
    #[serde(borrow)]
    pub(crate) inputs_from: Option<Vec<Input<'a>>>,
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
    /// Kustomization and HelmRelease: the cluster that they apply to, if it is not their own.
    #[serde(borrow)]
    pub(crate) kube_config: Option<KubeConfig<'a>>,
}

/// `spec.kubeConfig`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KubeConfig<'a> {
    #[serde(borrow)]
    pub(crate) secret_ref: Option<Target<'a>>,
    #[serde(borrow)]
    pub(crate) config_map_ref: Option<Target<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Text<'a>>,
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
    pub(crate) last_handled_reconcile_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) artifact: Option<Artifact<'a>>,
    #[serde(borrow)]
    pub(crate) history: Option<Few<Snapshot<'a>>>,
    #[serde(borrow)]
    pub(crate) inventory: Option<Inventory<'a>>,
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

/// `status.inventory`: the objects that were applied. That of an ArtifactGenerator is a list of the artifacts that it made.
#[derive(Debug, Default)]
pub(crate) struct Inventory<'a> {
    /// The `id`s of the first entries.
    pub(crate) ids: Vec<Text<'a>>,
    /// How many more there are.
    pub(crate) omitted: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Inventory<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Map<'a> {
            #[serde(borrow)]
            entries: Option<Ids<'a>>,
        }
        #[derive(Deserialize)]
        struct Entry<'a> {
            #[serde(borrow)]
            id: Text<'a>,
        }
        struct Ids<'a>(Inventory<'a>);
        impl<'de: 'a, 'a> Deserialize<'de> for Ids<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct IdsVisitor;
                impl<'de> Visitor<'de> for IdsVisitor {
                    type Value = Ids<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a list of entries")
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ids<'de>, A::Error> {
                        let mut all = Inventory::default();
                        while all.ids.len() < Applied::MOST
                            && let Some(Entry { id }) = seq.next_element()?
                        {
                            all.ids.push(id);
                        }
                        while seq.next_element::<IgnoredAny>()?.is_some() {
                            all.omitted += 1;
                        }
                        Ok(Ids(all))
                    }
                }
                deserializer.deserialize_seq(IdsVisitor)
            }
        }
        struct InventoryVisitor;
        impl<'de> Visitor<'de> for InventoryVisitor {
            type Value = Inventory<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an inventory")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inventory<'de>, A::Error> {
                let map = Map::deserialize(MapAccessDeserializer::new(map))?;
                Ok(map.entries.map_or_else(Inventory::default, |ids| ids.0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inventory<'de>, A::Error> {
                let mut all = Inventory::default();
                while all.ids.len() < Applied::MOST
                    && let Some(Name { name, namespace }) = seq.next_element()?
                {
                    let namespace = namespace.as_ref().map_or("", Text::as_str);
                    let id =
                        format!("{namespace}_{}_source.toolkit.fluxcd.io_ExternalArtifact", name.as_str());
                    all.ids.push(Text(Cow::Owned(id)));
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    all.omitted += 1;
                }
                Ok(all)
            }
        }
        deserializer.deserialize_any(InventoryVisitor)
    }
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
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact<'a> {
    #[serde(borrow)]
    pub(crate) revision: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) digest: Option<Text<'a>>,
    pub(crate) last_update_time: Option<Instant>,
}

/// An entry of `status.history`, the newest first. In a Kustomization it describes how the last reconciliation ended, in a
/// HelmRelease what Helm released. The two formats share only the name of the field.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot<'a> {
    #[serde(borrow)]
    pub(crate) last_reconciled_status: Option<Text<'a>>,
    pub(crate) first_reconciled: Option<Instant>,
    pub(crate) last_reconciled: Option<Instant>,
    #[serde(borrow)]
    pub(crate) metadata: Option<SnapshotMetadata<'a>>,
    #[serde(borrow)]
    pub(crate) digest: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) last_reconciled_duration: Option<Text<'a>>,
    pub(crate) total_reconciliations: Option<i64>,
    /// The number of the release.
    pub(crate) version: Option<i64>,
    #[serde(borrow)]
    pub(crate) action: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) chart_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) chart_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) app_version: Option<Text<'a>>,
    pub(crate) first_deployed: Option<Instant>,
    pub(crate) last_deployed: Option<Instant>,
    #[serde(borrow)]
    pub(crate) status: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SnapshotMetadata<'a> {
    #[serde(borrow)]
    pub(crate) revision: Option<Text<'a>>,
}

/// An entry of `spec.include` of a GitRepository.
#[derive(Debug, Deserialize)]
pub(crate) struct Include<'a> {
    #[serde(borrow)]
    pub(crate) repository: Option<Ref<'a>>,
}

/// An entry of `spec.inputsFrom` of a ResourceSet, which has a name or a selector.
#[derive(Debug, Deserialize)]
pub(crate) struct Input<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Text<'a>>,
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
