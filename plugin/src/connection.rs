//! The cluster that a command asks, and as whom: kubectl's flags, and requests for the resources of Gatehouse.

use std::path::{Path, PathBuf};

use futures::Stream;
use gatehouse_apiservice::view::API_VERSION;
use http::{Method, Request, header};
use kube::{Client, Config, core::WatchEvent};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{error::PluginError, table::Table};

/// What may stand in a segment of a path as it is.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const JSON: &str = "application/json";
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Flags that every command has, named as those of kubectl.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub struct ConnectionArgs {
    /// Namespace of the objects. Default: that of the context.
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Kubeconfig to use. Default: $KUBECONFIG, then ~/.kube/config, then the pod's service account.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// User to act as: a name, or system:serviceaccount:NAMESPACE:NAME.
    #[arg(long = "as", global = true, value_name = "USER")]
    as_user: Option<String>,
    /// Group to act as. May be repeated.
    #[arg(long, global = true, value_name = "GROUP")]
    as_group: Vec<String>,
    /// Uid to act as.
    #[arg(long, global = true, value_name = "UID")]
    as_uid: Option<String>,
}

impl ConnectionArgs {
    /// The kubeconfig that was named.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// The context that was named.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// Sets the flag of this name, if there is one.
    pub(crate) fn set(&mut self, id: &str, value: &str) {
        match id {
            "namespace" => self.namespace = Some(value.to_owned()),
            "context" => self.context = Some(value.to_owned()),
            "kubeconfig" => self.kubeconfig = Some(value.into()),
            "as_user" => self.as_user = Some(value.to_owned()),
            "as_group" => self.as_group.push(value.to_owned()),
            "as_uid" => self.as_uid = Some(value.to_owned()),
            _ => {}
        }
    }

    /// Connects with a configuration that was read from [`Self::kubeconfig`] and [`Self::context`].
    pub fn connect(&self, mut config: Config) -> Result<Connection, PluginError> {
        if let Some(user) = &self.as_user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_uid.clone_from(&self.as_uid);
            config.auth_info.impersonate_groups = Some(self.as_group.clone());
        } else if !self.as_group.is_empty() || self.as_uid.is_some() {
            return Err(PluginError::invalid("--as-group and --as-uid need --as"));
        }
        // As in kubectl, an empty one is none.
        let namespace = self.namespace.clone().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        Ok(Connection { client: Client::try_from(config)?, namespace })
    }
}

/// A cluster, as one user.
#[derive(Clone)]
pub struct Connection {
    pub(crate) client: Client,
    /// The namespace of objects that are named without one.
    pub(crate) namespace: String,
}

/// Where something is: a resource, an object or a subresource.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Location<'a> {
    /// None for a resource without namespaces, or over all of them.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) resource: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) subresource: Option<&'a str>,
}

impl Location<'_> {
    /// The path, with a query if there is one.
    pub(crate) fn path(&self, query: &[(&str, &str)]) -> String {
        let mut path = format!("/apis/{API_VERSION}");
        let namespace = self.namespace.map(|namespace| ["namespaces", namespace]);
        let segments = namespace.into_iter().flatten().chain([self.resource]);
        for segment in segments.chain(self.name).chain(self.subresource) {
            path.push('/');
            path.extend(utf8_percent_encode(segment, &ESCAPED));
        }
        for (at, (key, value)) in query.iter().enumerate() {
            path.push(if at == 0 { '?' } else { '&' });
            path.push_str(key);
            path.push('=');
            path.extend(utf8_percent_encode(value, &ESCAPED));
        }
        path
    }
}

impl Connection {
    /// Reads an object or a list.
    pub(crate) async fn get(
        &self,
        location: Location<'_>,
        query: &[(&str, &str)],
    ) -> Result<Value, PluginError> {
        self.send(request(Method::GET, &location.path(query), JSON, None)?).await
    }

    /// Reads a list over all namespaces as the server prints it.
    pub async fn table(&self, resource: &str) -> Result<Table, PluginError> {
        let path = Location { resource, ..Location::default() }.path(&[]);
        Table::of(&self.send(request(Method::GET, &path, TABLE, None)?).await?)
    }

    /// Reads what the server has below `/api` or `/apis`, in one document.
    pub(crate) async fn discovery(&self, root: &str) -> Result<Value, PluginError> {
        self.send(request(Method::GET, root, DISCOVERY, None)?).await
    }

    /// Creates something, and returns what the server made of it.
    pub(crate) async fn create(
        &self,
        location: Location<'_>,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, PluginError> {
        self.send(request(Method::POST, &location.path(query), JSON, Some(body))?).await
    }

    /// Follows a resource.
    pub(crate) async fn watch(
        &self,
        location: Location<'_>,
        query: &[(&str, &str)],
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Value>>> + use<>, PluginError> {
        Ok(self.client.request_events(request(Method::GET, &location.path(query), JSON, None)?).await?)
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Value, PluginError> {
        Ok(self.client.request(request).await?)
    }
}

fn request(
    method: Method,
    path: &str,
    accept: &str,
    body: Option<&Value>,
) -> Result<Request<Vec<u8>>, PluginError> {
    let request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
    let request = match body {
        Some(_) => request.header(header::CONTENT_TYPE, JSON),
        None => request,
    };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    request.body(body).map_err(PluginError::invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_what_was_named_and_nowhere_else() {
        let object = Location {
            namespace: Some("team-a"),
            resource: "fluxresources",
            name: Some("local.kustomization.shop"),
            subresource: Some("reconcile"),
        };
        let path = "/apis/view.gatehouse.dev/v1alpha1/namespaces/team-a/fluxresources/\
                    local.kustomization.shop/reconcile?dryRun=All";
        assert_eq!(object.path(&[("dryRun", "All")]), path);
        let sly = Location { namespace: Some("../x?y=z"), resource: "fluxresources", ..Location::default() };
        let path = "/apis/view.gatehouse.dev/v1alpha1/namespaces/..%2Fx%3Fy%3Dz/fluxresources";
        assert_eq!(sly.path(&[]), path);
    }
}
