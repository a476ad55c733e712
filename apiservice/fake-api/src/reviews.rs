//! A cluster that allows or denies every access review, and counts how often it is asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// What the cluster says at the moment.
#[derive(Debug)]
pub struct Reviews {
    allows: AtomicBool,
    answers: AtomicBool,
    asked: AtomicUsize,
}

impl Reviews {
    /// One that allows everything, and a client that asks it.
    pub fn new() -> (Arc<Self>, Client) {
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
        (cluster, Client::new(service, "default"))
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
