//! Names of Flux objects as people type them: `ks/shop`, `helmrelease/shop`, `GitRepository/flux-system/fleet`, or a row
//! as `kubectl get fluxresources -o name` prints it.

use std::str::FromStr;

use gatehouse_apiservice::{dns, view::GROUP};

use crate::{connection::Connection, rows::LOCAL_CLUSTER};

const EXTENSIONS: &str = "source.extensions.fluxcd.io";
const HELM: &str = "helm.toolkit.fluxcd.io";
const IMAGE: &str = "image.toolkit.fluxcd.io";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const NOTIFICATION: &str = "notification.toolkit.fluxcd.io";
const OPERATOR: &str = "fluxcd.controlplane.io";
const SOURCE: &str = "source.toolkit.fluxcd.io";

/// Kinds of Flux with their groups, their plurals and the short names of their CRDs.
const KINDS: [(&str, &str, &[&str]); 18] = [
    ("Alert", NOTIFICATION, &["alerts"]),
    ("ArtifactGenerator", EXTENSIONS, &["artifactgenerators", "ag"]),
    ("Bucket", SOURCE, &["buckets"]),
    ("ExternalArtifact", SOURCE, &["externalartifacts", "ea"]),
    ("FluxInstance", OPERATOR, &["fluxinstances"]),
    ("GitRepository", SOURCE, &["gitrepositories", "gitrepo"]),
    ("HelmChart", SOURCE, &["helmcharts", "hc"]),
    ("HelmRelease", HELM, &["helmreleases", "hr"]),
    ("HelmRepository", SOURCE, &["helmrepositories", "helmrepo"]),
    ("ImagePolicy", IMAGE, &["imagepolicies", "imgpol", "imagepol"]),
    ("ImageRepository", IMAGE, &["imagerepositories", "imgrepo", "imagerepo"]),
    ("ImageUpdateAutomation", IMAGE, &["imageupdateautomations", "iua", "imgupd", "imgauto"]),
    ("Kustomization", KUSTOMIZE, &["kustomizations", "ks"]),
    ("OCIRepository", SOURCE, &["ocirepositories", "ocirepo"]),
    ("Provider", NOTIFICATION, &["providers"]),
    ("Receiver", NOTIFICATION, &["receivers"]),
    ("ResourceSet", OPERATOR, &["resourcesets", "rset"]),
    ("ResourceSetInputProvider", OPERATOR, &["resourcesetinputproviders", "rsip"]),
];
/// Whether a kind in lower case is one of Flux.
pub(crate) fn is_flux(kind: &str) -> bool {
    KINDS.iter().any(|(known, ..)| known.eq_ignore_ascii_case(kind))
}

/// Whether a kind in lower case is one that the plugin knows.
pub(crate) fn is_known(kind: &str) -> bool {
    is_flux(kind) || OTHERS.iter().any(|(known, _)| known.eq_ignore_ascii_case(kind))
}

/// Each kind with the shortest name that kubectl knows it by.
pub(crate) fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().filter_map(|(kind, _, others)| Some((*kind, *others.iter().min_by_key(|name| name.len())?)))
}

/// Short names of other kinds, which `why` explains where they have a problem.
const OTHERS: [(&str, &[&str]); 13] = [
    ("Certificate", &["certificates", "cert"]),
    ("CronJob", &["cronjobs", "cj"]),
    ("DaemonSet", &["daemonsets", "ds"]),
    ("Deployment", &["deployments", "deploy"]),
    ("ExternalSecret", &["externalsecrets", "es"]),
    ("Fleet", &["fleets", "flt"]),
    ("HorizontalPodAutoscaler", &["horizontalpodautoscalers", "hpa"]),
    ("Job", &["jobs"]),
    ("Node", &["nodes", "no"]),
    ("PersistentVolume", &["persistentvolumes", "pv"]),
    ("PersistentVolumeClaim", &["persistentvolumeclaims", "pvc"]),
    ("Pod", &["pods", "po"]),
    ("StatefulSet", &["statefulsets", "sts"]),
];
/// The names of the resource `fluxresources`.
const ROWS: [&str; 3] = ["fluxresources", "fluxresource", "fxr"];

/// What a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A Flux object, by kind and name; without a namespace, in that of the command.
    Object {
        /// The kind in lower case, as in the names of rows.
        kind: String,
        /// The namespace, if one was given.
        namespace: Option<String>,
        /// The object's name.
        name: String,
    },
    /// A row of fluxresources, by its own name.
    Row(String),
}

impl Target {
    /// The namespace and the name of its row, if it is in this cluster.
    pub(crate) fn row(&self, namespace: &str, cluster: &str) -> (String, String) {
        match self {
            Self::Row(row) => (namespace.to_owned(), row.clone()),
            Self::Object { kind, namespace: own, name } => {
                let namespace = own.as_deref().unwrap_or(namespace).to_owned();
                (namespace, format!("{cluster}.{kind}.{name}"))
            }
        }
    }

    /// The name of its row, unless the observed cluster has another name.
    pub(crate) fn row_of(&self, connection: &Connection) -> String {
        self.row(&connection.namespace, LOCAL_CLUSTER).1
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match *parts {
            [kind, name] => (kind, None, name),
            [kind, namespace, name] => (kind, Some(namespace), name),
            _ => return Err("must be KIND/NAME, for example ks/shop".to_owned()),
        };
        for named in [namespace, Some(name)].into_iter().flatten() {
            if !dns::is_subdomain(named) {
                return Err(format!("{named:?} is not the name of an object"));
            }
        }
        // `kustomizations.kustomize.toolkit.fluxcd.io/shop`, as `kubectl get -o name` prints it.
        let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
        let kind = kind.to_lowercase();
        if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("{:?} is not a kind", parts[0]));
        }
        let is_row = ROWS.contains(&&*kind);
        let kind = canonical(&kind);
        let expected = if is_row { Some(GROUP) } else { group_of(&kind) };
        if let (Some(given), Some(expected)) = (group, expected)
            && !is_in(given, expected)
        {
            return Err(format!("{kind} is a kind of the group {expected}, not {given}"));
        }
        if is_row {
            return Ok(Self::Row(name.to_owned()));
        }
        Ok(Self::Object { kind, namespace: namespace.map(ToOwned::to_owned), name: name.to_owned() })
    }
}

/// The group of a kind of Flux, in lower case.
fn group_of(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(kind)).map(|(_, group, _)| *group)
}

/// Whether `given` is the group, alone or after a version: kubectl reads `kustomizations.v1.kustomize.toolkit.fluxcd.io`.
fn is_in(given: &str, group: &str) -> bool {
    let version = given.strip_suffix(group);
    version.is_some_and(|version| version.is_empty() || version.ends_with('.') && version.starts_with('v'))
}

/// The kind in lower case that a plural or a short name stands for. Kinds of `--catalogue-file` are taken as they are.
fn canonical(name: &str) -> String {
    let flux = KINDS.iter().map(|(kind, _, others)| (kind, others));
    let mut known = flux.chain(OTHERS.iter().map(|(kind, others)| (kind, others)));
    let found = known.find(|(_, others)| others.contains(&name));
    found.map_or_else(|| name.to_owned(), |(kind, _)| kind.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_kind_leads_to_it() {
        for text in [
            "ks",
            "Kustomization",
            "kustomizations",
            "kustomization.kustomize.toolkit.fluxcd.io",
            "kustomizations.v1.kustomize.toolkit.fluxcd.io",
        ] {
            let target: Target = format!("{text}/shop").parse().expect(text);
            let (kind, name) = ("kustomization".to_owned(), "shop".to_owned());
            assert_eq!(target, Target::Object { kind, namespace: None, name }, "{text}");
        }
    }

    #[test]
    fn what_the_plugin_and_kubectl_print_can_be_typed() {
        let printed: Target = "GitRepository/flux-system/storage".parse().expect("as why prints it");
        let namespace = Some("flux-system".to_owned());
        let (kind, name) = ("gitrepository".to_owned(), "storage".to_owned());
        assert_eq!(printed, Target::Object { kind, namespace, name });
        let row: Target = "fluxresource.view.gatehouse.dev/local.kustomization.shop".parse().expect("a row");
        assert_eq!(row, Target::Row("local.kustomization.shop".to_owned()));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["ks.helm.toolkit.fluxcd.io/x", "kustomization.kustomize.config.k8s.io/x", "fxr.v1/x"] {
            assert!(text.parse::<Target>().expect_err(text).contains("a kind of the group"), "{text}");
        }
        for text in ["shop", "ks/", "/shop", "ks/a/b/c", "ks/Shop", "ks/../x", "k s/x", "ks/x?y"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
