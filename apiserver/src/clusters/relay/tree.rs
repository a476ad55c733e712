//! The tree of a row of a cluster that is observed through its Gatehouse, which alone knows what its objects applied.

use std::time::Duration;

use gatehouse_apiservice::{client::explain, view::API_VERSION};
use gatehouse_serving::ApiError;
use http::Request;
use serde_json::Value;
use tokio::time::timeout;

use crate::{clusters::Registry, watchcache::RowKey};

/// How long the cluster may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks for the tree of a row of fluxresources; `None` if it is not of such a cluster. Whoever asks may see the row.
pub(crate) async fn tree(registry: &Registry, row: &RowKey) -> Option<Result<Value, ApiError>> {
    let is_local = row.name.strip_prefix(&*registry.local).is_some_and(|rest| rest.starts_with('.'));
    let (cluster, object) = row.name.split_once('.').filter(|_| !is_local)?;
    let (own, client) = (registry.relayed(cluster)?, registry.connected(cluster)?.client);
    let path = format!("/apis/{API_VERSION}/namespaces/{}/fluxresources/{own}.{object}/tree", row.namespace);
    let request = match Request::get(path).body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return Some(Err(ApiError::internal(error))),
    };
    let unavailable = |why: &str| ApiError::unavailable(format!("cluster {cluster}: {why}"));
    Some(match timeout(ANSWER, client.request::<Value>(request)).await {
        Ok(Ok(mut tree)) => {
            tree["metadata"]["name"] = (*row.name).into();
            tree["status"]["cluster"] = cluster.into();
            Ok(tree)
        }
        Ok(Err(kube::Error::Api(status))) => Err(ApiError::relayed(&status).in_cluster(cluster)),
        Ok(Err(error)) => Err(unavailable(&explain(&error))),
        Err(_) => Err(unavailable("it did not answer in time")),
    })
}
