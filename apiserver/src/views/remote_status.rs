//! What the status of every view has in common, so that rows which another Gatehouse rendered can be shown here under
//! other names.

use std::any::Any;

use gatehouse_apiservice::{
    Condition, View,
    view::{
        AppliedTenantQuotaStatus, ArgoApplicationStatus, ArgoSummaryStatus, ClusterHealthStatus,
        FluxDependencyStatus, FluxHistoryStatus, FluxResourceStatus, FluxSummaryStatus, GameFleetStatus,
        GameInstanceStatus, GameServerSummaryStatus, MyNamespaceStatus, ProblemStatus, TenantUsageStatus,
    },
};
use serde::de::DeserializeOwned;

/// How the rows of a view are named after their cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `CLUSTER`.
    Cluster,
    /// `CLUSTER.REST`, of every cluster.
    Object,
    /// `NAMESPACE` of the local cluster, and `NAMESPACE.CLUSTER` of others.
    Namespace,
    /// `QUOTA` of the local cluster, and `CLUSTER.QUOTA` of others.
    Quota,
}

impl Naming {
    /// The name here of a row that a Gatehouse which calls its own cluster `own` has of that; `None` if it can have no
    /// such row.
    pub(crate) fn rename(self, name: &str, own: &str, cluster: &str) -> Option<String> {
        match self {
            Self::Cluster => (name == own).then(|| cluster.to_owned()),
            Self::Object => {
                let object = name.strip_prefix(own)?.strip_prefix('.')?;
                Some(format!("{cluster}.{object}"))
            }
            Self::Namespace => (!name.contains('.')).then(|| format!("{name}.{cluster}")),
            Self::Quota => Some(format!("{cluster}.{name}")),
        }
    }
}

/// The status of a view whose rows may be another Gatehouse's.
pub(crate) trait RemoteStatus: View + Clone + PartialEq + DeserializeOwned + Any + Send {
    /// How its rows are named.
    const NAMING: Naming;

    /// The name of the observed cluster.
    fn cluster_mut(&mut self) -> &mut String;

    /// Its conditions, if it has any.
    fn conditions_mut(&mut self) -> &mut [Condition];
}

macro_rules! remote_status {
    ($($naming:ident: $($status:ty),+;)+) => {
        $($(impl RemoteStatus for $status {
            const NAMING: Naming = Naming::$naming;

            fn cluster_mut(&mut self) -> &mut String {
                &mut self.cluster
            }

            fn conditions_mut(&mut self) -> &mut [Condition] {
                &mut self.conditions
            }
        })+)+
    };
}

remote_status! {
    Cluster: ArgoSummaryStatus, ClusterHealthStatus, FluxSummaryStatus, GameServerSummaryStatus;
    Object: ArgoApplicationStatus, FluxDependencyStatus, FluxResourceStatus, GameFleetStatus, GameInstanceStatus,
        ProblemStatus;
    Namespace: MyNamespaceStatus;
    Quota: AppliedTenantQuotaStatus, TenantUsageStatus;
}

impl RemoteStatus for FluxHistoryStatus {
    const NAMING: Naming = Naming::Object;

    fn cluster_mut(&mut self) -> &mut String {
        &mut self.cluster
    }

    fn conditions_mut(&mut self) -> &mut [Condition] {
        &mut []
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_names_that_direct_mode_gives_them() {
        for (naming, name, expected) in [
            (Naming::Cluster, "itself", Some("eu")),
            (Naming::Cluster, "other", None),
            (Naming::Object, "itself.kustomization.web", Some("eu.kustomization.web")),
            (Naming::Object, "itselfkustomization.web", None),
            (Naming::Object, "other.kustomization.web", None),
            (Naming::Namespace, "shop", Some("shop.eu")),
            (Naming::Namespace, "shop.other", None),
            (Naming::Quota, "team.a", Some("eu.team.a")),
        ] {
            assert_eq!(naming.rename(name, "itself", "eu").as_deref(), expected, "{name}");
        }
    }
}
