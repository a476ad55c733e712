//! A cluster that allows or denies everything, and counts how often it is asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use super::{Authorizer, DelegatedAuthorizer};
use crate::authn::UserInfo;
use crate::metrics::RequestMetrics;
use crate::request_info::RequestInfo;

/// What the cluster says at the moment.
#[derive(Debug)]
pub struct Cluster {
    allows: AtomicBool,
    answers: AtomicBool,
    asked: AtomicUsize,
}

impl Cluster {
    /// One that allows everything, and an authoriser that asks it.
    pub fn new() -> (Arc<Self>, Arc<Authorizer>) {
        let cluster = Arc::new(Self { allows: true.into(), answers: true.into(), asked: 0.into() });
        let state = Arc::clone(&cluster);
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move {
                let body = request.into_body().collect().await.expect("body").to_bytes();
                let mut review: Value = serde_json::from_slice(&body).expect("JSON");
                state.asked.fetch_add(1, Ordering::SeqCst);
                review["status"] = json!({"allowed": state.allows.load(Ordering::SeqCst)});
                tokio::time::sleep(Duration::from_millis(5)).await;
                let (code, body) = if state.answers.load(Ordering::SeqCst) {
                    (StatusCode::CREATED, review)
                } else {
                    (
                        StatusCode::SERVICE_UNAVAILABLE,
                        json!({"kind": "Status", "status": "Failure", "code": 503}),
                    )
                };
                let response =
                    Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
                Ok::<_, Infallible>(response.expect("response"))
            }
        });
        let client = kube::Client::new(service, "default");
        let deadline = DelegatedAuthorizer::DEADLINE;
        let authorizer = DelegatedAuthorizer::new(client, deadline, Arc::new(RequestMetrics::new(&[])));
        (cluster, Arc::new(authorizer.into()))
    }

    /// What it answers from now on.
    pub fn allow(&self, allows: bool) {
        self.allows.store(allows, Ordering::SeqCst);
    }

    /// Whether it answers at all.
    pub fn reach(&self, answers: bool) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Who asks.
pub fn user() -> UserInfo {
    UserInfo { name: "jane".to_owned(), ..UserInfo::default() }
}

/// For what.
pub fn request() -> RequestInfo {
    let uri = "/apis/g/v1/namespaces/n/things?watch=true".parse().expect("URI");
    RequestInfo::parse(&Method::GET, &uri).expect("readable")
}
