//! Which hubs use the account of a remote cluster. Several may, since each finds the account that another has made.
//!
//! The ServiceAccount has one annotation for each hub, named by the uid of the hub's namespace `kube-system`.

use std::collections::BTreeMap;

use anyhow::ensure;
use gatehouse_apiservice::registration::clusters::SPOKE;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::objects::refused;

/// What begins so names a hub. The value is the name that the cluster has there.
const PREFIX: &str = "hubs.gatehouse.dev/";

/// The hubs that are known to use the account.
#[derive(Debug, Default)]
pub(super) struct Hubs {
    /// Whether the account exists.
    pub(super) has_account: bool,
    /// Of the account.
    version: Option<String>,
    /// The name of the cluster, by the uid of the hub.
    named: BTreeMap<String, String>,
}

/// What may be done to the account when a hub goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It is used by no other hub, or is gone already.
    Delete,
    /// Others use it: the annotation of this one is taken away.
    Keep(Hubs),
}

impl PartialEq for Hubs {
    fn eq(&self, other: &Self) -> bool {
        self.named == other.named
    }
}

impl Eq for Hubs {}

impl Hubs {
    /// Reads them.
    pub(super) async fn of(client: &Client) -> anyhow::Result<Self> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SPOKE);
        let Some(account) = refused(accounts.get_opt(SPOKE).await)? else { return Ok(Self::default()) };
        let of = |(key, name): (&String, &String)| Some((key.strip_prefix(PREFIX)?.to_owned(), name.clone()));
        let named = account.annotations().iter().filter_map(of).collect();
        Ok(Self { has_account: true, version: account.resource_version(), named })
    }

    /// Adds a hub.
    pub(super) fn with(mut self, uid: &str, cluster: &str) -> Self {
        self.named.insert(uid.to_owned(), cluster.to_owned());
        self
    }

    /// Puts them into the account. If that `is_sent`, it must not have changed meanwhile.
    pub(super) fn write_into(&self, account: &mut Value, is_sent: bool) {
        let annotations: BTreeMap<_, _> =
            self.named.iter().map(|(uid, name)| (format!("{PREFIX}{uid}"), name)).collect();
        if !annotations.is_empty() {
            account["metadata"]["annotations"] = json!(annotations);
        }
        if let Some(version) = self.version.as_ref().filter(|_| is_sent) {
            account["metadata"]["resourceVersion"] = version.as_str().into();
        }
    }

    /// What is to be done when the hub of this uid goes. An error, if it is not known who else uses the account.
    pub(super) fn without(mut self, uid: Option<&str>) -> anyhow::Result<Leaving> {
        if !self.has_account {
            return Ok(Leaving::Delete);
        }
        let own = uid.and_then(|uid| self.named.remove(uid));
        if !self.named.is_empty() {
            ensure!(
                own.is_some() || uid.is_some(),
                "{}, and you may not list the namespaces of this hub: leave --context out, or use --force to delete the \
                 account for all",
                self.describe()
            );
            return Ok(Leaving::Keep(self));
        }
        ensure!(
            own.is_some(),
            "it is not recorded which hubs use the account {SPOKE}, which `gatehouse clusters add` does: leave --context \
             out, or use --force to delete it for all"
        );
        Ok(Leaving::Delete)
    }

    /// `hub UID uses the account as eu`, of each.
    pub(super) fn describe(&self) -> String {
        let each = self.named.iter().map(|(uid, name)| format!("hub {uid} uses the account, as {name}"));
        each.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hubs(named: &[(&str, &str)]) -> Hubs {
        let named = named.iter().map(|(uid, name)| ((*uid).to_owned(), (*name).to_owned())).collect();
        Hubs { has_account: true, version: Some("7".to_owned()), named }
    }

    #[test]
    fn the_account_goes_with_the_last_hub_that_is_known() {
        let delete = |hubs: Hubs, uid| hubs.without(uid).is_ok_and(|leaving| leaving == Leaving::Delete);
        assert!(delete(hubs(&[("a", "eu")]), Some("a")));
        assert!(delete(Hubs::default(), None), "there is none any more");
        let kept = hubs(&[("a", "eu"), ("b", "europe")]).without(Some("a")).unwrap();
        assert_eq!(kept, Leaving::Keep(hubs(&[("b", "europe")])));
        // A hub that was never recorded takes nothing away from others.
        let kept = hubs(&[("b", "europe")]).without(Some("a")).unwrap();
        assert_eq!(kept, Leaving::Keep(hubs(&[("b", "europe")])));
    }

    #[test]
    fn what_is_not_known_deletes_nothing() {
        let error = |hubs: Hubs, uid| hubs.without(uid).unwrap_err().to_string();
        assert!(error(hubs(&[]), Some("a")).contains("not recorded"));
        assert!(error(hubs(&[]), None).contains("--force"));
        let unknown = error(hubs(&[("b", "europe")]), None);
        assert!(unknown.starts_with("hub b uses the account, as europe, and you may not"), "{unknown}");
    }

    #[test]
    fn all_hubs_are_written_for_the_version_that_was_read() {
        let mut account = json!({"metadata": {"name": SPOKE}});
        hubs(&[("b", "europe")]).with("a", "eu").write_into(&mut account, true);
        let annotations = json!({"hubs.gatehouse.dev/a": "eu", "hubs.gatehouse.dev/b": "europe"});
        assert_eq!(account["metadata"]["annotations"], annotations);
        assert_eq!(account["metadata"]["resourceVersion"], "7");
        let mut account = json!({"metadata": {"name": SPOKE}});
        hubs(&[]).with("a", "eu").write_into(&mut account, false);
        assert!(account["metadata"].get("resourceVersion").is_none());
    }
}
