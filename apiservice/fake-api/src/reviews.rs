//! A cluster that answers access reviews, and counts how often it is asked.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// What the cluster says at the moment.
pub struct Reviews {
    allows: AtomicBool,
    answers: AtomicBool,
    asked: AtomicUsize,
    named: Mutex<Option<(String, BTreeSet<String>)>>,
    decide: Decide,
}

/// Decides about the `spec` of a review.
type Decide = Box<dyn Fn(&Value) -> bool + Send + Sync>;

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Reviews {
    /// One that allows everything, and a client that asks it.
    pub fn new() -> (Arc<Self>, Client) {
        Self::deciding(|_| true)
    }

    /// One that decides by the `spec` of a review, and a client that asks it.
    pub fn deciding(decide: impl Fn(&Value) -> bool + Send + Sync + 'static) -> (Arc<Self>, Client) {
        let cluster = Arc::new(Self {
            allows: true.into(),
            answers: true.into(),
            asked: 0.into(),
            named: Mutex::default(),
            decide: Box::new(decide),
        });
        let state = Arc::clone(&cluster);
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move {
                let body = request.into_body().collect().await.expect("body").to_bytes();
                let mut review: Value = serde_json::from_slice(&body).expect("JSON");
                state.asked.fetch_add(1, Ordering::SeqCst);
                let allowed = state.allows(&review["spec"]["resourceAttributes"]);
                review["status"] = json!({"allowed": allowed && (state.decide)(&review["spec"])});
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

    /// Of this resource, only objects of these names from now on.
    pub fn allow_named(&self, resource: &str, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        *self.named.lock().unwrap() = Some((resource.to_owned(), names));
    }

    fn allows(&self, attributes: &Value) -> bool {
        let rule = self.named.lock().unwrap();
        let is_named = match &*rule {
            Some((resource, names))
                if attributes["resource"] == **resource && attributes["verb"] == "get" =>
            {
                attributes["name"].as_str().is_some_and(|name| names.contains(name))
            }
            _ => true,
        };
        is_named && self.allows.load(Ordering::SeqCst)
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
