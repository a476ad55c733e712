//! Stands in for Flux's notification-controller: records what is posted to it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// It ends when it is dropped.
pub(crate) struct Alerts {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Value>>>,
    _task: JoinSet<()>,
}

impl Alerts {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let received = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&received)));
        Ok(Self { url, received, _task: task })
    }

    /// What was posted so far.
    pub(crate) fn received(&self) -> Vec<Value> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, received: Arc<Mutex<Vec<Value>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let received = Arc::clone(&received);
            async move {
                let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                let event = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
                received.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        connections.spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
