//! An authoriser before a cluster that allows or denies everything.

use std::sync::Arc;

use gatehouse_fake_api::Reviews;
use http::Method;

use super::{Authorizer, DelegatedAuthorizer};
use crate::authn::UserInfo;
use crate::metrics::RequestMetrics;
use crate::request_info::RequestInfo;

/// One that allows everything, and an authoriser that asks it.
pub(crate) fn cluster() -> (Arc<Reviews>, Arc<Authorizer>) {
    let (cluster, client) = Reviews::new();
    let metrics = Arc::new(RequestMetrics::new(&[]));
    (cluster, Arc::new(DelegatedAuthorizer::new(client, DelegatedAuthorizer::DEADLINE, metrics).into()))
}

/// Who asks.
pub(crate) fn user() -> UserInfo {
    UserInfo { name: "jane".to_owned(), ..UserInfo::default() }
}

/// For what.
pub(crate) fn request() -> RequestInfo {
    let uri = "/apis/g/v1/namespaces/n/things?watch=true".parse().expect("URI");
    RequestInfo::parse(&Method::GET, &uri).expect("readable")
}
