//! An authorizer and a cluster that allows or denies everything.

use std::sync::Arc;

use gatehouse_fake_api::Reviews;
use http::Method;

use super::{Authorizer, DelegatedAuthorizer};
use crate::authn::UserInfo;
use crate::metrics::RequestMetrics;
use crate::request_info::RequestInfo;

/// A cluster that allows everything at first, and an authorizer that asks it.
pub(crate) fn cluster() -> (Arc<Reviews>, Arc<Authorizer>) {
    let (cluster, client) = Reviews::new();
    let metrics = Arc::new(RequestMetrics::new(&[]));
    (cluster, Arc::new(DelegatedAuthorizer::new(client, DelegatedAuthorizer::DEADLINE, metrics).into()))
}

pub(crate) fn user() -> UserInfo {
    UserInfo { name: "jane".to_owned(), ..UserInfo::default() }
}

pub(crate) fn request() -> RequestInfo {
    let uri = "/apis/g/v1/namespaces/n/things?watch=true".parse().expect("URI");
    RequestInfo::parse(&Method::GET, &uri).expect("readable")
}
