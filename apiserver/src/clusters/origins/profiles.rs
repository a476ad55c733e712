//! ClusterProfiles (multicluster.x-k8s.io) with one of the two stock credential providers, which are programs that read
//! a Secret: here that Secret is read in process, and nothing is run.
//!
//! Where the kind is not installed there are none.
//!
//! **Invariant:** only Secrets of one namespace are read, whatever a ClusterProfile names.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use gatehouse_inventory::Refusal;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    api::{Api, ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::{
    super::kubeconfig::{CLUSTER_FIELDS, Credential, known_fields, of_user, refused},
    Entry, Known, READS, Unread, Version, Wanted, allows_actions, ask, created, digest, name, origin,
    secrets, version,
};

/// What a refused one is called in a condition.
const REASON: &str = "InvalidClusterProfile";
/// The fields of status that list providers. The second one is deprecated.
const LISTS: [&str; 2] = ["accessProviders", "credentialProviders"];
/// The extension of a cluster that has the provider's configuration.
const EXTENSION: &str = "client.authentication.k8s.io/exec";
/// The key of a token.
const TOKEN: &str = "token";

/// See the module.
pub(super) struct Profiles {
    namespace: String,
    secrets: String,
}

/// A provider of a ClusterProfile.
struct Provider<'a> {
    /// The field that has it.
    at: String,
    is_kubeconfig: bool,
    cluster: &'a Value,
}

/// The Secret that a provider names.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    name: String,
    key: String,
    context: Option<String>,
}

impl Profiles {
    pub(super) fn new(namespace: &str, secrets: &str) -> Self {
        Self { namespace: namespace.to_owned(), secrets: secrets.to_owned() }
    }

    pub(super) fn describe(&self) -> String {
        format!("ClusterProfiles in namespace {} with Secrets in {}", self.namespace, self.secrets)
    }

    /// What there is now.
    pub(super) async fn read(
        &self,
        client: &kube::Client,
        known: &Known,
    ) -> Result<BTreeMap<String, Entry>, Unread> {
        let kind = GroupVersionKind::gvk("multicluster.x-k8s.io", "v1alpha1", "ClusterProfile");
        let kind = ApiResource::from_gvk(&kind);
        let profiles: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.namespace, &kind);
        let listed = match ask(profiles.list(&ListParams::default())).await {
            Ok(listed) => listed.items,
            Err(unread) if unread.is_unknown => Vec::new(),
            Err(unread) => return Err(unread),
        };
        if listed.is_empty() {
            return Ok(BTreeMap::new());
        }
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.secrets);
        // Their versions tell which have to be read again.
        let versions = ask(secrets.list_metadata(&ListParams::default())).await?.items.into_iter();
        let versions: BTreeMap<_, _> = versions
            .filter_map(|object| Some((object.metadata.name.clone()?, version(&object.metadata))))
            .collect();
        let reads = listed.into_iter().map(|profile| {
            let named = provider(&profile.data).and_then(|provider| provider.named(&self.secrets)).ok();
            let of_secret = named.and_then(|named| versions.get_key_value(&named.name));
            let of_secret = of_secret.map(|(name, version)| (name.clone(), version.clone()));
            let same = known.same(
                profile.metadata.name.as_deref().unwrap_or_default(),
                &[version(&profile.metadata), of_secret.clone().map_or(Version::default(), |(_, of)| of)],
            );
            self.one(&secrets, profile, of_secret, same)
        });
        let reads: Vec<_> = reads.collect();
        stream::iter(reads).buffer_unordered(READS).try_collect().await
    }

    async fn one(
        &self,
        secrets: &Api<Secret>,
        profile: DynamicObject,
        of_secret: Option<(String, Version)>,
        same: Option<Entry>,
    ) -> Result<(String, Entry), Unread> {
        let name = profile.metadata.name.clone().unwrap_or_default();
        if let Some(same) = same {
            return Ok((name, same));
        }
        let secret = match &of_secret {
            Some((secret, _)) => ask(secrets.get_opt(secret)).await?,
            None => None,
        };
        let of_secret = secret.as_ref().map(|secret| version(&secret.metadata)).unwrap_or_default();
        let wanted = wanted(&profile, secret.as_ref(), &self.secrets);
        Ok((
            name,
            Entry { versions: [version(&profile.metadata), of_secret], wanted: Some(Arc::new(wanted)) },
        ))
    }
}

/// What a ClusterProfile asks for, with the Secret that it names.
pub(super) fn wanted(profile: &DynamicObject, secret: Option<&Secret>, namespace: &str) -> Wanted {
    let own = profile.metadata.name.as_deref().unwrap_or_default();
    let (name, name_field) = name(&profile.metadata, (own, "metadata.name"));
    let status = profile.data["status"].to_string();
    let data = secret.and_then(|secret| secret.data.as_ref()).into_iter().flatten();
    let data = data.flat_map(|(key, value)| [key.as_bytes(), value.0.as_slice()]);
    Wanted {
        origin: origin("ClusterProfile", &profile.metadata),
        created: created(&profile.metadata),
        name,
        name_field,
        allows_actions: allows_actions(&profile.metadata),
        digest: digest([status.as_bytes()].into_iter().chain(data)),
        credential: provider(&profile.data).and_then(|provider| provider.credential(secret, namespace)),
    }
}

fn invalid(field: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal { reason: REASON.into(), ..refused(field, why) }
}

/// The first provider that is known, of those that are not deprecated if there is one.
fn provider(profile: &Value) -> Result<Provider<'_>, Refusal> {
    for list in LISTS {
        let providers = profile["status"][list].as_array().into_iter().flatten().enumerate();
        for (at, provider) in providers {
            let is_kubeconfig = match provider["name"].as_str() {
                Some("secretreader") => false,
                Some("kubeconfig-secretreader") => true,
                _ => continue,
            };
            let at = format!("status.{list}[{at}].cluster");
            return Ok(Provider { at, is_kubeconfig, cluster: &provider["cluster"] });
        }
    }
    Err(invalid("status.accessProviders", "has neither secretreader nor kubeconfig-secretreader"))
}

impl Provider<'_> {
    /// The Secret that it names. Only those of one namespace may be named.
    fn named(&self, namespace: &str) -> Result<Named, Refusal> {
        let extensions = self.cluster["extensions"].as_array().into_iter().flatten().enumerate();
        let found = extensions.into_iter().find(|(_, extension)| extension["name"] == EXTENSION);
        let Some((at, extension)) = found else {
            return Err(invalid(&format!("{}.extensions", self.at), format!("lacks {EXTENSION}")));
        };
        let at = format!("{}.extensions[{at}].extension", self.at);
        let text = |field: &str| extension["extension"][field].as_str().filter(|text| !text.is_empty());
        let needed = |field: &str| {
            text(field).map(str::to_owned).ok_or_else(|| invalid(&format!("{at}.{field}"), "is missing"))
        };
        if !self.is_kubeconfig {
            return Ok(Named { name: needed("clusterName")?, key: TOKEN.to_owned(), context: None });
        }
        if text("namespace").is_some_and(|other| other != namespace) {
            let why = format!("only Secrets of namespace {namespace} are read");
            return Err(invalid(&format!("{at}.namespace"), why));
        }
        Ok(Named { name: needed("name")?, key: needed("key")?, context: text("context").map(str::to_owned) })
    }

    fn credential(&self, secret: Option<&Secret>, namespace: &str) -> Result<Credential, Refusal> {
        let named = self.named(namespace)?;
        known_fields(&self.at, self.cluster, &CLUSTER_FIELDS).map_err(of_profile)?;
        // What a Secret is called is not secret, but may be any text.
        let shown: String = named.name.chars().filter(char::is_ascii_graphic).take(253).collect();
        let place = format!("Secret {namespace}/{shown}");
        let secret = secret.ok_or_else(|| invalid(&place, "does not exist"))?;
        let text = secrets::text(secret, &named.key)
            .and_then(|text| text.ok_or_else(|| refused("data", "lacks the key that is named")))
            .map_err(|refusal| within(&place, &refusal))?;
        let (user_at, user) = if self.is_kubeconfig {
            of_user(text, named.context.as_deref()).map_err(|refusal| within(&place, &refusal))?
        } else {
            (format!("data[{TOKEN}]"), serde_json::json!({"token": text}))
        };
        Credential::of(self.cluster, &user, |field| match field {
            "server" | "certificate-authority-data" | "tls-server-name" => format!("{}.{field}", self.at),
            _ if !self.is_kubeconfig => format!("{place}: {user_at}"),
            "" => format!("{place}: {user_at}"),
            field => format!("{place}: {user_at}.{field}"),
        })
        .map_err(of_profile)
    }
}

/// The fault is that of the ClusterProfile, or of what it names.
fn of_profile(refusal: Refusal) -> Refusal {
    Refusal { reason: REASON.into(), ..refusal }
}

fn within(place: &str, refusal: &Refusal) -> Refusal {
    Refusal { reason: REASON.into(), message: format!("{place}: {}", refusal.message).into() }
}
