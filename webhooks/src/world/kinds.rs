//! Which kinds are observed, and how much of their objects is kept.

use std::{collections::HashMap, sync::LazyLock};

use gatehouse_inventory::source::{Content, Wanted};
use gatehouse_policy::{GOVERNED, Kind};
use gatehouse_quota::{CHARGED, GroupResource};

/// What an object of a kind is to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its labels say whose it is.
    Namespace,
    /// A TenantQuota.
    Quota,
    /// A ReconcilePolicy.
    Policy,
    /// A QuotaLedger.
    Ledger,
    /// It is governed: what policies see of it is kept.
    Governed(Kind),
    /// It is charged, and what it takes up depends on templates: its text is kept to find that out again.
    Templated,
    /// A template that others are charged by.
    Template,
    /// It is counted, and that is all; its metadata suffices.
    Counted,
}

impl Role {
    /// How much of the objects is asked for.
    pub(super) fn content(self) -> Content {
        match self {
            Self::Namespace | Self::Counted => Content::Metadata,
            _ => Content::Whole,
        }
    }

    /// Whether it is a kind of Agones whose objects take up something.
    pub(super) fn is_of_agones(self) -> bool {
        matches!(self, Self::Governed(Kind::Fleet | Kind::GameServerSet | Kind::GameServer))
    }

    /// Whether an object's metadata and spec are kept.
    pub(super) fn keeps_text(self) -> bool {
        matches!(self, Self::Governed(_) | Self::Templated | Self::Template)
    }
}

/// Every kind that is observed whatever quotas say, and without which nothing may be decided.
pub(super) fn fixed() -> Vec<(GroupResource, Role)> {
    let policy = gatehouse_apiservice::policy::GROUP;
    let mut kinds = vec![
        (GroupResource::new("", "namespaces"), Role::Namespace),
        (GroupResource::new(policy, "tenantquotas"), Role::Quota),
        (POLICIES.clone(), Role::Policy),
        (GroupResource::new(policy, "quotaledgers"), Role::Ledger),
        (TEMPLATES.clone(), Role::Template),
    ];
    kinds.extend(GOVERNED.iter().map(|kind| (resource_of(*kind).clone(), Role::Governed(*kind))));
    for (group, resource) in CHARGED {
        let resource = GroupResource::new(group, resource);
        if kinds.iter().all(|(known, _)| *known != resource) {
            kinds.push((resource, Role::Templated));
        }
    }
    kinds
}

/// ReconcilePolicies.
pub(super) static POLICIES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(gatehouse_apiservice::policy::GROUP, "reconcilepolicies"));

/// GameTemplates.
pub(super) static TEMPLATES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("pteronimbus.io", "gametemplates"));

static GOVERNED_RESOURCES: LazyLock<HashMap<Kind, GroupResource>> = LazyLock::new(|| {
    GOVERNED.iter().map(|kind| (*kind, GroupResource::new(kind.group(), kind.resource()))).collect()
});

/// The resource of a governed kind.
pub fn resource_of(kind: Kind) -> &'static GroupResource {
    GOVERNED_RESOURCES.get(&kind).expect("every kind is among those that are governed")
}

pub(super) fn wanted(resource: &GroupResource) -> Wanted {
    Wanted { group: resource.group.to_string(), plural: resource.resource.to_string(), kind: None }
}
