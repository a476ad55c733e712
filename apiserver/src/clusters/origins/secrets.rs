//! Secrets of one format in one namespace.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use gatehouse_inventory::Refusal;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};

use super::{super::kubeconfig::refused, Entry, Known, READS, Unread, Version, Wanted, ask, version};

/// What Secrets of one format look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// What they are called in the log.
    pub(super) described: &'static str,
    /// The label that they have.
    pub(super) selector: &'static str,
    /// The end of their names. Others of the same label are not read: they may hold the keys of CAs.
    pub(super) suffix: &'static str,
    /// What one asks for; none, if it does not ask for a cluster.
    pub(super) read: fn(&Secret) -> Option<Wanted>,
}

/// See the module.
pub(super) struct Secrets {
    format: Format,
    namespace: String,
}

impl Secrets {
    pub(super) fn new(format: Format, namespace: &str) -> Self {
        Self { format, namespace: namespace.to_owned() }
    }

    pub(super) fn describe(&self) -> String {
        format!("{} in namespace {}", self.format.described, self.namespace)
    }

    /// What there is now.
    pub(super) async fn read(
        &self,
        client: &kube::Client,
        known: &Known,
    ) -> Result<BTreeMap<String, Entry>, Unread> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.namespace);
        let selected = ListParams::default().labels(self.format.selector);
        if self.format.suffix.is_empty() {
            let listed = ask(secrets.list(&selected)).await?.items;
            let entries = listed.into_iter().map(|secret| {
                let versions = [version(&secret.metadata), Version::default()];
                let name = secret.metadata.name.clone().unwrap_or_default();
                let entry = known.same(&name, &versions).unwrap_or_else(|| self.entry(&secret, versions));
                (name, entry)
            });
            return Ok(entries.collect());
        }
        let listed = ask(secrets.list_metadata(&selected)).await?.items;
        let mut reads = Vec::new();
        for object in listed {
            let name = object.metadata.name.clone().unwrap_or_default();
            if !name.ends_with(self.format.suffix) {
                continue;
            }
            let same = known.same(&name, &[version(&object.metadata), Version::default()]);
            reads.push(self.one(&secrets, name, same));
        }
        let read: Vec<_> = stream::iter(reads).buffer_unordered(READS).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Reads one that is not known; none, if it is gone.
    async fn one(
        &self,
        secrets: &Api<Secret>,
        name: String,
        same: Option<Entry>,
    ) -> Result<Option<(String, Entry)>, Unread> {
        if let Some(same) = same {
            return Ok(Some((name, same)));
        }
        let Some(secret) = ask(secrets.get_opt(&name)).await? else { return Ok(None) };
        let versions = [version(&secret.metadata), Version::default()];
        Ok(Some((name, self.entry(&secret, versions))))
    }

    fn entry(&self, secret: &Secret, versions: [Version; 2]) -> Entry {
        Entry { versions, wanted: (self.format.read)(secret).map(Arc::new) }
    }
}

/// The text that a Secret has under a key; none, if it has no such key.
pub(super) fn text<'a>(secret: &'a Secret, key: &str) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = bytes(secret, key) else { return Ok(None) };
    let text = std::str::from_utf8(value);
    text.map(Some).map_err(|_| refused(&format!("data[{key}]"), "is not text"))
}

/// What a Secret has under a key.
pub(super) fn bytes<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}
