//! Which kinds of the catalogue a cluster serves, and at which version.

use kube::{
    Client,
    core::{
        ApiResource, GroupVersionKind,
        discovery::v2::{
            APIGroupDiscovery, APIGroupDiscoveryList, APIResourceDiscovery, APIVersionDiscovery,
        },
    },
};

use super::trouble::explain;
use crate::catalogue::{Catalogue, Kind, KindId};

/// What discovery says of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Served like this.
    Served(ApiResource),
    /// Not served.
    Absent,
    /// The aggregator could not ask the group's own server: what was known of it stands.
    Unknown,
}

/// Asks a cluster. Three requests, whatever the number of groups; the error is in words.
pub(super) async fn discover(
    client: &Client,
    catalogue: &Catalogue,
) -> Result<(Vec<(KindId, Finding)>, Streams), String> {
    let asked = futures::future::try_join3(
        client.list_core_api_versions_aggregated(),
        client.list_api_groups_aggregated(),
        client.apiserver_version(),
    );
    let (core, groups, version) = asked.await.map_err(|error| explain(&error))?;
    if core.items.is_empty() {
        // What a server older than 1.26 answers parses as this. Taken at its word, nothing would be served.
        return Err("the API server has no aggregated discovery (Kubernetes 1.26 or later)".to_owned());
    }
    Ok((resolve(catalogue, &core, &groups), Streams::by(&version.major, &version.minor)))
}

/// Whether an API server is known to answer streaming lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streams(pub(super) bool);

impl Streams {
    /// Streaming lists are on by default from 1.34 on.
    fn by(major: &str, minor: &str) -> Self {
        // Distributions append a plus sign and more.
        let number = |text: &str| -> u32 {
            text.split(|c: char| !c.is_ascii_digit())
                .next()
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0)
        };
        Self((number(major), number(minor)) >= (1, 34))
    }
}

/// Finds every kind of the catalogue in what discovery answered.
fn resolve(
    catalogue: &Catalogue,
    core: &APIGroupDiscoveryList,
    groups: &APIGroupDiscoveryList,
) -> Vec<(KindId, Finding)> {
    let find = |kind: &Kind| {
        let group = if kind.group.is_empty() {
            core.items.first()
        } else {
            groups.items.iter().find(|group| name(group) == kind.group)
        };
        group.map_or(Finding::Absent, |group| find_in(group, kind))
    };
    catalogue.kinds().map(|(id, kind)| (id, find(kind))).collect()
}

fn name(group: &APIGroupDiscovery) -> &str {
    group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref()).unwrap_or_default()
}

fn find_in(group: &APIGroupDiscovery, kind: &Kind) -> Finding {
    // In order of preference.
    for version in &group.versions {
        if let (Some(name), Some(plural)) = (&version.version, watchable(version, kind)) {
            let gvk = GroupVersionKind::gvk(&kind.group, name, &kind.kind);
            return Finding::Served(ApiResource::from_gvk_with_plural(&gvk, plural));
        }
    }
    let stale = |version: &APIVersionDiscovery| version.freshness.as_deref() == Some("Stale");
    if group.versions.iter().any(stale) { Finding::Unknown } else { Finding::Absent }
}

/// The plural name under which `version` lists and watches `kind`.
fn watchable<'a>(version: &'a APIVersionDiscovery, kind: &Kind) -> Option<&'a str> {
    let of_kind = |resource: &&APIResourceDiscovery| {
        let served = resource.response_kind.as_ref().and_then(|served| served.kind.as_deref());
        let can = |verb| resource.verbs.iter().any(|known| known == verb);
        served == Some(kind.kind.as_str()) && can("list") && can("watch")
    };
    let plural = |resource: &'a APIResourceDiscovery| resource.resource.as_deref();
    let mut candidates = version.resources.iter().filter(of_kind).filter_map(plural);
    // Two resources may answer with one kind; the catalogue knows which is meant.
    let first = candidates.next()?;
    Some(if first == kind.plural {
        first
    } else {
        candidates.find(|name| *name == kind.plural).unwrap_or(first)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
        let wanted = catalogue.find(of.0, of.1).unwrap();
        let mut found = resolve(&catalogue, core, groups);
        found.retain(|(kind, _)| *kind == wanted);
        found.remove(0).1
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
    fn servers_stream_from_1_34_on() {
        for (major, minor, streams) in
            [("1", "34", true), ("1", "36+", true), ("2", "0", true), ("1", "33", false), ("", "", false)]
        {
            assert_eq!(Streams::by(major, minor), Streams(streams), "{major}.{minor}");
        }
    }
}
