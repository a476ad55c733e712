//! Finds out whether a cluster runs Gatehouse, and what that calls its own cluster.

use std::time::Duration;

use gatehouse_apiservice::{
    client::explain,
    view::{API_VERSION, RESOURCES},
};
use gatehouse_inventory::Str;
use http::{Request, StatusCode};
use kube::core::Status;
use serde::Deserialize;
use tokio::time::timeout;

/// How long each answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The most clusters among which a Gatehouse's own is looked for. It is looked for only where it is not called `local`.
const CLUSTERS: u32 = 500;
/// What a Gatehouse calls its own cluster, if it was not told another name.
const USUAL: &str = "local";

/// A Gatehouse whose rows can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gatehouse {
    /// What it calls its own cluster.
    pub(crate) name: Str,
    /// Its views that are not known here.
    pub(crate) unknown: Vec<String>,
}

/// What a probe found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A Gatehouse that answers.
    Gatehouse(Gatehouse),
    /// There is none.
    Absent,
    /// There is one that does not answer, or not this account.
    Failing(String),
    /// The cluster did not answer.
    Unanswered,
}

/// Looks for a Gatehouse: two requests if there is one, one if there is none.
pub(crate) async fn probe(client: &kube::Client) -> Found {
    match find(client).await {
        Ok(gatehouse) => Found::Gatehouse(gatehouse),
        Err(found) => found,
    }
}

async fn find(client: &kube::Client) -> Result<Gatehouse, Found> {
    let served: Served = get(client, &format!("/apis/{API_VERSION}")).await?;
    let is_unknown = |resource: &Listed| {
        !resource.name.contains('/') && RESOURCES.iter().all(|known| known.plural != resource.name)
    };
    let unknown = served.resources.iter().filter(|resource| is_unknown(resource));
    let unknown = unknown.map(|resource| resource.name.clone()).collect();
    let healths = format!("/apis/{API_VERSION}/clusterhealths");
    let name = match get::<Health>(client, &format!("{healths}/{USUAL}")).await {
        Ok(health) if health.is_own() => USUAL.into(),
        Ok(_) | Err(Found::Absent) => {
            let all: Healths = get(client, &format!("{healths}?limit={CLUSTERS}")).await?;
            let own = all.items.into_iter().find(Health::is_own);
            own.map(|own| own.metadata.name.into())
                .ok_or_else(|| Found::Failing("it does not say which cluster is its own".to_owned()))?
        }
        Err(found) => return Err(found),
    };
    Ok(Gatehouse { name, unknown })
}

/// A 404 is [`Found::Absent`].
async fn get<T: serde::de::DeserializeOwned>(client: &kube::Client, path: &str) -> Result<T, Found> {
    let request = Request::get(path).body(Vec::new()).map_err(|error| Found::Failing(error.to_string()))?;
    match timeout(ANSWER, client.request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(refused(&status)),
        Ok(Err(error @ kube::Error::SerdeError(_))) => Err(Found::Failing(explain(&error))),
        Ok(Err(_)) | Err(_) => Err(Found::Unanswered),
    }
}

fn refused(status: &Status) -> Found {
    match StatusCode::from_u16(status.code) {
        Ok(StatusCode::NOT_FOUND) => Found::Absent,
        // The credential is what does not work, and the heartbeat says so.
        Ok(StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) => Found::Unanswered,
        _ => Found::Failing(explain(status)),
    }
}

#[derive(Deserialize)]
struct Served {
    #[serde(default)]
    resources: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
}

#[derive(Deserialize)]
struct Healths {
    items: Vec<Health>,
}

#[derive(Deserialize)]
struct Health {
    metadata: Metadata,
    #[serde(default)]
    status: HealthStatus,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize, Default)]
struct HealthStatus {
    origin: Option<String>,
    mode: Option<String>,
}

impl Health {
    /// Other clusters have an origin, and a way in which they are observed.
    fn is_own(&self) -> bool {
        self.status.origin.is_none() && self.status.mode.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gatehouse_that_is_gone_differs_from_one_that_does_not_answer() {
        let status = |code| Status { code, message: "why".into(), ..Status::default() };
        assert_eq!(refused(&status(404)), Found::Absent);
        assert_eq!(refused(&status(503)), Found::Failing("why".into()));
        assert_eq!(refused(&status(403)), Found::Failing("why".into()));
        assert_eq!(refused(&status(401)), Found::Unanswered);
    }

    #[test]
    fn the_own_cluster_is_the_one_that_nothing_registers() {
        let healths: Healths = serde_json::from_str(
            r#"{"items": [
                {"metadata": {"name": "a"}, "status": {"origin": "Secret x/a", "mode": "direct"}},
                {"metadata": {"name": "hub"}, "status": {"health": "Healthy"}}]}"#,
        )
        .unwrap();
        let own = healths.items.iter().find(|health| health.is_own());
        assert_eq!(own.map(|own| own.metadata.name.as_str()), Some("hub"));
    }
}
