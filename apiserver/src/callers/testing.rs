//! Builders for tests.

use std::sync::Arc;

use super::{
    Callers,
    rbac::{Binding, Kind, Subject},
    visible::Visible,
};
use crate::{
    clock::Clock,
    watchcache::{Draft, Row, Update, WatchCache, testing},
};
use gatehouse_apiservice::{View, view::MyNamespaceStatus};

/// A cache of `mynamespaces` with these rows, synced.
pub(crate) fn cache(rows: &[&str]) -> Arc<WatchCache> {
    let clock = Clock::new(0);
    clock.vouch(true);
    cache_by(clock, rows)
}

/// The same with the given clock.
pub(crate) fn cache_by(clock: Clock, rows: &[&str]) -> Arc<WatchCache> {
    static RESOURCE: gatehouse_apiservice::Resource = <MyNamespaceStatus as View>::RESOURCE;
    let cache = WatchCache::new(&RESOURCE, Arc::new(clock));
    cache.publish(rows.iter().map(|row| Update::Apply(draft(row, "Ready"))));
    cache.mark_synced();
    Arc::new(cache)
}

/// A row of this name and state.
pub(crate) fn draft(name: &str, state: &str) -> Draft {
    testing::draft("", name, state)
}

/// The names of rows.
pub(crate) fn names<'a>(rows: impl Iterator<Item = &'a Arc<Row>>) -> Vec<String> {
    rows.map(|row| row.key().name.to_string()).collect()
}

/// These namespaces.
pub(crate) fn only(namespaces: &[&str]) -> Visible {
    Visible::Only(Arc::new(namespaces.iter().map(|&namespace| namespace.into()).collect()))
}

/// The role that grants the right, in the whole cluster or, by a RoleBinding, in a namespace.
const ROLE: &str = "view";

/// Lists bindings and roles: those that there are now.
pub(crate) fn list(callers: &Callers, bound: &[(&str, &str)]) {
    let observed = callers.observed.as_ref().expect("there is RBAC");
    for kind in Kind::ALL {
        observed.write(kind, |rbac, _| rbac.restart(kind));
    }
    observed.write(Kind::ClusterRoles, |rbac, now| rbac.role(&("".into(), ROLE.into()), Some(true), now));
    for (namespace, user) in bound {
        bind(callers, namespace, user, true);
    }
    for kind in Kind::ALL {
        observed.write(kind, |rbac, now| rbac.synced(kind, now));
    }
}

/// Observes a binding of a user in a namespace, or without one in the cluster, or that it is gone.
pub(crate) fn bind(callers: &Callers, namespace: &str, user: &str, exists: bool) {
    bind_as(callers, namespace, user, exists.then_some(ROLE));
}

/// Observes a binding that asks about a user in a namespace, of a role that there is not.
pub(crate) fn ask_about(callers: &Callers, namespace: &str, user: &str) {
    bind_as(callers, namespace, user, Some("missing"));
}

fn bind_as(callers: &Callers, namespace: &str, user: &str, role: Option<&str>) {
    let binding = role.map(|role| Binding {
        role: ("".into(), role.into()),
        subjects: [Subject::User(user.into())].into(),
        is_asked: role != ROLE,
    });
    let kind = if namespace.is_empty() { Kind::ClusterRoleBindings } else { Kind::RoleBindings };
    let observed = callers.observed.as_ref().expect("there is RBAC");
    observed.write(kind, |rbac, now| rbac.binding(&(namespace.into(), user.into()), binding, now));
}

/// The watches of RBAC are heard from.
pub(crate) fn hear(callers: &Callers) {
    let observed = callers.observed.as_ref().expect("there is RBAC");
    for kind in Kind::ALL {
        observed.write(kind, |_, _| {});
    }
}
