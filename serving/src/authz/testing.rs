//! An authorizer and a cluster that allows or denies everything.

use std::sync::Arc;

use gatehouse_fake_api::Reviews;
use http::Method;

use super::{Authorizer, DelegatedAuthorizer, RbacChanges};
use crate::authn::UserInfo;
use crate::metrics::RequestMetrics;
use crate::request_info::RequestInfo;

/// A cluster that allows everything at first, and an authorizer that asks it.
pub(crate) fn cluster() -> (Arc<Reviews>, Arc<Authorizer>) {
    cluster_with(None)
}

/// The same, where RBAC is observed.
pub(crate) fn cluster_with(changes: Option<RbacChanges>) -> (Arc<Reviews>, Arc<Authorizer>) {
    let (cluster, client) = Reviews::new();
    let metrics = Arc::new(RequestMetrics::new(&[]));
    let mut authorizer = DelegatedAuthorizer::new(client, DelegatedAuthorizer::DEADLINE, metrics);
    authorizer.rbac_changes = changes;
    (cluster, Arc::new(authorizer.into()))
}

pub(crate) fn user() -> UserInfo {
    UserInfo { name: "jane".to_owned(), ..UserInfo::default() }
}

pub(crate) fn request() -> RequestInfo {
    let uri = "/apis/g/v1/namespaces/n/things?watch=true".parse().expect("URI");
    RequestInfo::parse(&Method::GET, &uri).expect("readable")
}
