//! Discovery: which resources a cluster serves, and at which version.

use gatehouse_apiservice::client::explain;
use kube::{
    Client,
    core::{
        ApiResource, GroupVersionKind,
        discovery::v2::{
            APIGroupDiscovery, APIGroupDiscoveryList, APIResourceDiscovery, APIVersionDiscovery,
        },
    },
};

use crate::catalogue::Kind;

/// A resource to follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural name of the resource.
    pub plural: String,
    /// The `kind`. If given, a resource of this kind is chosen, and `plural` only decides between several.
    pub kind: Option<String>,
}

/// The result of a search in discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// The resource is served.
    Served(ApiResource),
    /// The resource is not served, or does not support list and watch.
    Absent,
    /// kube-apiserver could not reach the group's extension API server. The previous result is kept.
    Unknown,
}

/// The resources that a cluster serves.
#[derive(Debug)]
pub(super) struct Served {
    core: APIGroupDiscoveryList,
    groups: APIGroupDiscoveryList,
    /// Whether the server's version has streaming lists enabled by default.
    pub(super) streams: bool,
}

/// Runs discovery: three requests, whatever the number of groups. The error is a message.
pub(super) async fn discover(client: &Client) -> Result<Served, String> {
    let asked = futures::future::try_join3(
        client.list_core_api_versions_aggregated(),
        client.list_api_groups_aggregated(),
        client.apiserver_version(),
    );
    let (core, groups, version) = asked.await.map_err(|error| explain(&error))?;
    if core.items.is_empty() {
        // An answer of a server older than 1.26 parses as an empty list, as if nothing were served.
        return Err("the API server has no aggregated discovery (Kubernetes 1.26 or later)".to_owned());
    }
    Ok(Served { core, groups, streams: streams(&version.major, &version.minor) })
}

impl From<&Kind> for Wanted {
    fn from(kind: &Kind) -> Self {
        Self { group: kind.group.clone(), plural: kind.plural.clone(), kind: Some(kind.kind.clone()) }
    }
}

impl Served {
    /// Looks for `wanted` in the result of discovery.
    pub(super) fn find(&self, wanted: &Wanted) -> Finding {
        let group = if wanted.group.is_empty() {
            self.core.items.first()
        } else {
            self.groups.items.iter().find(|group| name(group) == wanted.group)
        };
        group.map_or(Finding::Absent, |group| find_in(group, wanted))
    }
}

/// Streaming lists are enabled by default since Kubernetes 1.34.
fn streams(major: &str, minor: &str) -> bool {
    // Distributions append a plus sign and other text.
    let number = |text: &str| -> u32 {
        text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    (number(major), number(minor)) >= (1, 34)
}

fn name(group: &APIGroupDiscovery) -> &str {
    group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref()).unwrap_or_default()
}

fn find_in(group: &APIGroupDiscovery, wanted: &Wanted) -> Finding {
    // The versions are in order of preference.
    for version in &group.versions {
        if let (Some(name), Some((plural, kind))) = (&version.version, watchable(version, wanted)) {
            let gvk = GroupVersionKind::gvk(&wanted.group, name, kind);
            return Finding::Served(ApiResource::from_gvk_with_plural(&gvk, plural));
        }
    }
    let stale = |version: &APIVersionDiscovery| version.freshness.as_deref() == Some("Stale");
    if group.versions.iter().any(stale) { Finding::Unknown } else { Finding::Absent }
}

/// The plural name and the kind of `wanted` in `version`, if it supports list and watch.
fn watchable<'a>(version: &'a APIVersionDiscovery, wanted: &Wanted) -> Option<(&'a str, &'a str)> {
    let named = |resource: &'a APIResourceDiscovery| {
        let can = |verb| resource.verbs.iter().any(|known| known == verb);
        let kind = resource.response_kind.as_ref().and_then(|served| served.kind.as_deref())?;
        let plural = resource.resource.as_deref()?;
        (can("list") && can("watch")).then_some((plural, kind))
    };
    let is_meant = |(plural, kind): &(&str, &str)| match &wanted.kind {
        Some(wanted) => kind == wanted,
        None => *plural == wanted.plural,
    };
    let mut candidates = version.resources.iter().filter_map(named).filter(is_meant);
    // Two resources may have the same kind; then the plural name decides.
    let first = candidates.next()?;
    Some(if first.0 == wanted.plural {
        first
    } else {
        candidates.find(|(plural, _)| *plural == wanted.plural).unwrap_or(first)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue::Catalogue;

    fn resource(plural: &str, kind: &str) -> Value {
        json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind},
               "scope": "Namespaced", "singularResource": "", "verbs": ["get", "list", "watch"]})
    }

    fn group(name: &str, versions: &Value) -> APIGroupDiscoveryList {
        serde_json::from_value(json!({"items": [{"metadata": {"name": name}, "versions": versions}]}))
            .unwrap()
    }

    fn found(core: &APIGroupDiscoveryList, groups: &APIGroupDiscoveryList, of: (&str, &str)) -> Finding {
        let catalogue = Catalogue::builtin();
        let wanted = catalogue.kind(catalogue.find(of.0, of.1).unwrap()).into();
        Served { core: core.clone(), groups: groups.clone(), streams: false }.find(&wanted)
    }

    const KUSTOMIZATION: (&str, &str) = ("kustomize.toolkit.fluxcd.io", "Kustomization");

    #[test]
    fn the_first_version_that_serves_the_kind_counts() {
        let core = group("", &json!([{"version": "v1", "resources": [resource("nodes", "Node")]}]));
        let groups = group(
            KUSTOMIZATION.0,
            &json!([
                {"version": "v2", "resources": [resource("others", "Other")]},
                {"version": "v1", "resources": [resource("kustomizations", "Kustomization")]},
                {"version": "v1beta2", "resources": [resource("kustomizations", "Kustomization")]},
            ]),
        );
        let Finding::Served(served) = found(&core, &groups, KUSTOMIZATION) else { panic!("absent") };
        assert_eq!(
            (served.api_version.as_str(), served.plural.as_str()),
            ("kustomize.toolkit.fluxcd.io/v1", "kustomizations")
        );
        let Finding::Served(node) = found(&core, &groups, ("", "Node")) else { panic!("absent") };
        assert_eq!((node.api_version.as_str(), node.plural.as_str()), ("v1", "nodes"));
        assert_eq!(found(&core, &groups, ("", "Namespace")), Finding::Absent);
        assert_eq!(found(&core, &groups, ("apps", "Deployment")), Finding::Absent);
    }

    #[test]
    fn a_kind_that_cannot_be_watched_is_absent() {
        let mut resource = resource("kustomizations", "Kustomization");
        resource["verbs"] = json!(["create"]);
        let groups = group(KUSTOMIZATION.0, &json!([{"version": "v1", "resources": [resource]}]));
        assert_eq!(found(&APIGroupDiscoveryList::default(), &groups, KUSTOMIZATION), Finding::Absent);
    }

    #[test]
    fn a_stale_group_says_nothing_about_its_kinds() {
        let groups = group(KUSTOMIZATION.0, &json!([{"version": "v1", "freshness": "Stale"}]));
        assert_eq!(found(&APIGroupDiscoveryList::default(), &groups, KUSTOMIZATION), Finding::Unknown);
    }

    #[test]
    fn of_two_resources_with_one_kind_the_catalogues_counts() {
        let groups = group(
            KUSTOMIZATION.0,
            &json!([{"version": "v1", "resources": [
                resource("kustomizationviews", "Kustomization"), resource("kustomizations", "Kustomization")]}]),
        );
        let Finding::Served(served) = found(&APIGroupDiscoveryList::default(), &groups, KUSTOMIZATION) else {
            panic!("absent")
        };
        assert_eq!(served.plural, "kustomizations");
    }

    #[test]
    fn any_resource_is_found_by_its_plural_name() {
        let core = group("", &json!([{"version": "v1", "resources": [resource("secrets", "Secret")]}]));
        let groups = APIGroupDiscoveryList::default();
        let served = Served { core, groups, streams: false };
        let wanted = |plural: &str| Wanted { group: String::new(), plural: plural.to_owned(), kind: None };
        let Finding::Served(secrets) = served.find(&wanted("secrets")) else { panic!("absent") };
        assert_eq!((secrets.api_version.as_str(), secrets.kind.as_str()), ("v1", "Secret"));
        assert_eq!(served.find(&wanted("pods")), Finding::Absent);
    }

    #[test]
    fn servers_stream_from_1_34_on() {
        for (major, minor, expected) in
            [("1", "34", true), ("1", "36+", true), ("2", "0", true), ("1", "33", false), ("", "", false)]
        {
            assert_eq!(streams(major, minor), expected, "{major}.{minor}");
        }
    }
}
