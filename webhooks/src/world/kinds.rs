//! The kinds that are observed, and which part of their objects is kept.

use std::{collections::HashMap, sync::LazyLock};

use gatehouse_apiservice::kruise;
use gatehouse_inventory::source::{Content, Wanted};
use gatehouse_policy::{GOVERNED, Kind};
use gatehouse_quota::{CHARGED, GroupResource};

/// The role of a kind in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Namespaces, whose labels select quotas and policies.
    Namespace,
    /// TenantQuotas.
    Quota,
    /// ReconcilePolicies.
    Policy,
    /// QuotaLedgers.
    Ledger,
    /// ConfigMaps of Gatehouse's own namespace, from which policies take parameters.
    Parameters,
    /// A governed kind. The part of its objects that policies use is kept.
    Governed(Kind),
    /// A kind whose usage depends on templates. Its fields are kept, to compute the usage again when a template
    /// changes.
    Templated,
    /// Templates that determine the usage of other objects.
    Template,
    /// RuntimeClasses, whose overhead is part of the usage of other objects. The roles of earlier versions do not include
    /// the right to watch them; the overhead is not counted then, and all else is decided as ever.
    RuntimeClass,
    /// A kind whose objects use more than their count, and that is observed as long as a quota limits what they use.
    /// Nothing but their usage is kept.
    Measured,
    /// A kind that is only counted, so its metadata suffices.
    Counted,
}

impl Role {
    /// Which part of the objects is requested.
    pub(super) fn content(self) -> Content {
        match self {
            Self::Namespace | Self::Counted => Content::Metadata,
            _ => Content::Whole,
        }
    }

    /// The role of a kind that a quota limits and that is not among the [fixed] ones.
    pub(super) fn of_limited(resource: &GroupResource) -> Self {
        if resource.is_claims() || *resource == *PODS { Self::Measured } else { Self::Counted }
    }

    /// Whether it is observed only as long as a quota limits it.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::Measured | Self::Counted)
    }

    /// Whether no decision is made without it.
    pub(super) fn is_required(self) -> bool {
        !self.is_optional() && self != Self::RuntimeClass
    }

    /// Whether it is an Agones kind with usage of its own.
    pub(super) fn is_of_agones(self) -> bool {
        matches!(self, Self::Governed(Kind::Fleet | Kind::GameServerSet | Kind::GameServer))
    }

    /// Whether metadata and spec of its objects are kept.
    pub(super) fn keeps_text(self) -> bool {
        matches!(self, Self::Governed(_) | Self::Templated | Self::Template | Self::RuntimeClass)
    }
}

/// The kinds that are observed whatever the quotas count.
pub(super) fn fixed() -> Vec<(GroupResource, Role)> {
    let policy = gatehouse_apiservice::policy::GROUP;
    let mut kinds = vec![
        (GroupResource::new("", "namespaces"), Role::Namespace),
        (GroupResource::new(policy, "tenantquotas"), Role::Quota),
        (POLICIES.clone(), Role::Policy),
        (GroupResource::new(policy, "quotaledgers"), Role::Ledger),
        (TEMPLATES.clone(), Role::Template),
        (RUNTIME_CLASSES.clone(), Role::RuntimeClass),
    ];
    kinds.extend(GOVERNED.iter().map(|kind| (resource_of(*kind).clone(), Role::Governed(*kind))));
    for (group, resource) in CHARGED {
        let resource = GroupResource::new(group, resource);
        if resource != *PODS && kinds.iter().all(|(known, _)| *known != resource) {
            kinds.push((resource, Role::Templated));
        }
    }
    kinds
}

/// The resource of ReconcilePolicies.
pub(super) static POLICIES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(gatehouse_apiservice::policy::GROUP, "reconcilepolicies"));

/// The resource of GameTemplates.
pub(super) static TEMPLATES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("pteronimbus.io", "gametemplates"));

/// The resource of RuntimeClasses.
pub(super) static RUNTIME_CLASSES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("node.k8s.io", "runtimeclasses"));

static GOVERNED_RESOURCES: LazyLock<HashMap<Kind, GroupResource>> = LazyLock::new(|| {
    GOVERNED.iter().map(|kind| (*kind, GroupResource::new(kind.group(), kind.resource()))).collect()
});

/// The resource of a governed kind.
pub fn resource_of(kind: Kind) -> &'static GroupResource {
    GOVERNED_RESOURCES.get(&kind).expect("every kind is among those that are governed")
}

/// Pods. Only those of OpenKruiseGame's sets are observed, unless a quota counts pods.
pub(super) static PODS: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("", gatehouse_quota::PODS));

/// The label selector of these pods: that the label exists.
pub(super) const PODS_OF_SETS: &str = kruise::SET_LABEL;

/// ConfigMaps.
pub(super) static CONFIG_MAPS: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("", "configmaps"));

pub(super) fn wanted(resource: &GroupResource) -> Wanted {
    Wanted { group: resource.group.to_string(), plural: resource.resource.to_string(), kind: None }
}
