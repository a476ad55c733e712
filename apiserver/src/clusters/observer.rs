//! Observes one remote cluster: first who it is, then its objects.
//!
//! **Invariant:** it never gives up. What fails is tried again, at the latest after two minutes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_apiservice::client::{explain, jittered};
use gatehouse_inventory::{
    Event, Liveness, Refusal, Registration, Sink, Source, Str,
    source::{Watch, WatchSettings},
};
use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::secrets;

/// The Namespace whose uid is a cluster's identity.
const IDENTITY: &str = "kube-system";
/// How long a cluster may take to say who it is.
const ANSWER: Duration = Duration::from_secs(10);
/// The first and the longest wait between two attempts, each before up to as much jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Which cluster is which: no cluster is observed under two names.
#[derive(Debug, Default)]
pub(super) struct Identities(Mutex<HashMap<String, Option<Str>>>);

impl Identities {
    /// Records the identity of the local cluster.
    pub(super) fn is_local(&self, uid: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, None);
    }

    /// Takes an identity for the cluster `name`, unless it is another's.
    fn claim(&self, uid: String, name: &Str) -> Result<(), Refusal> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&uid) {
            Some(None) => Err(secrets::the_hub("server")),
            Some(Some(other)) if other != name => Err(secrets::same_as(other, "server")),
            _ => {
                known.insert(uid, Some(name.clone()));
                Ok(())
            }
        }
    }

    fn release(&self, name: &Str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, holder| holder.as_ref() != Some(name));
    }
}

/// One remote cluster.
pub(super) struct Observer {
    pub(super) client: kube::Client,
    pub(super) settings: WatchSettings,
    pub(super) registration: Registration,
    pub(super) identities: Arc<Identities>,
    pub(super) sink: Sink,
}

impl Observer {
    /// Observes until `stop` is cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        if stop.run_until_cancelled(self.identify()).await.is_some() {
            Watch::with_settings(self.client, self.settings).run(self.sink, stop).await;
        }
        self.identities.release(&self.registration.name);
    }

    /// Returns once it is known that the cluster is observed under no other name.
    async fn identify(&self) {
        let mut wait = FIRST_WAIT;
        let mut was_refused = false;
        loop {
            let event = match timeout(ANSWER, identity(&self.client)).await {
                Ok(Ok(Some(uid))) => match self.identities.claim(uid, &self.registration.name) {
                    Ok(()) => break,
                    Err(refusal) => {
                        was_refused = true;
                        self.registered(Some(refusal))
                    }
                },
                Ok(Ok(None)) => break,
                Ok(Err(error)) => Event::Liveness(unanswered(&error)),
                Err(_) => {
                    let message = format!("timed out after {} s", ANSWER.as_secs());
                    Event::Liveness(Liveness::Silent { message: message.into() })
                }
            };
            self.sink.send(event).await;
            sleep(jittered(wait, wait)).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
        if was_refused {
            self.sink.send(self.registered(None)).await;
        }
    }

    fn registered(&self, refused: Option<Refusal>) -> Event {
        Event::Registered(Box::new(Registration { refused, ..self.registration.clone() }))
    }
}

fn unanswered(error: &kube::Error) -> Liveness {
    match error {
        kube::Error::Api(status) if status.code == StatusCode::UNAUTHORIZED.as_u16() => {
            Liveness::Unauthenticated { message: status.message.as_str().into() }
        }
        _ => Liveness::Silent { message: explain(error).into() },
    }
}

/// The uid of a cluster; `None` if it does not tell. It is listed, since that is the right that there is.
pub(super) async fn identity(client: &kube::Client) -> kube::Result<Option<String>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let only = ListParams::default().fields(&format!("metadata.name={IDENTITY}"));
    match namespaces.list_metadata(&only).await {
        Ok(found) => Ok(found.items.into_iter().next().and_then(|namespace| namespace.metadata.uid)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_name_until_it_is_released() {
        let identities = Identities::default();
        identities.is_local("hub".into());
        let refused = |uid: &str, name: &str| {
            identities.claim(uid.to_owned(), &name.into()).err().map(|refusal| refusal.reason.to_string())
        };
        assert_eq!(refused("hub", "eu").as_deref(), Some("TheHub"));
        assert_eq!(refused("a", "eu"), None);
        assert_eq!(refused("a", "eu"), None, "a new credential for the same cluster");
        assert_eq!(refused("a", "us").as_deref(), Some("SameCluster"));
        identities.release(&"eu".into());
        assert_eq!(refused("a", "us"), None);
        identities.release(&"hub".into());
        assert_eq!(refused("hub", "eu").as_deref(), Some("TheHub"), "for ever");
    }
}
