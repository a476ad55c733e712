//! Flags for certificates that Gatehouse issues for itself.

use std::time::Duration;

use anyhow::Context;
use gatehouse_certs::rotation::Policy;
use gatehouse_installation::certificates::Settings;

/// Flags for certificates that Gatehouse issues, stores and rotates by itself.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Self-managed certificates")]
pub(crate) struct SelfManaged {
    /// Issue the serving certificate and its CA, store both in this Secret, rotate them, and keep the APIService or
    /// webhook registration and its caBundle up to date. Without it, none of these is written to the cluster.
    #[arg(long, value_name = "NAME", value_parser = super::object_name, conflicts_with = "tls_cert_file")]
    tls_secret: Option<String>,
    /// Service of this process, for which certificates are issued. Default: gatehouse-apiserver or gatehouse-webhooks.
    #[arg(long, value_name = "NAME", value_parser = super::object_name, requires = "tls_secret")]
    service_name: Option<String>,
    /// Port of the Service.
    #[arg(long, value_name = "PORT", default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    service_port: u16,
    /// Additional DNS name of the serving certificate. May be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "tls_secret")]
    tls_san: Vec<String>,
    /// Validity of the CA. It is replaced when a third of it is left.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = super::duration)]
    ca_lifetime: Duration,
    /// Validity of the serving certificate, at most half of --ca-lifetime. It is replaced when a third of it is left.
    #[arg(long, value_name = "DURATION", default_value = "2160h", value_parser = super::duration)]
    certificate_lifetime: Duration,
    /// How long the old and the new CA are both trusted before and after a certificate changes, at most a sixth of
    /// --certificate-lifetime. Must exceed the time in which replicas and API servers take over a new caBundle.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = super::duration)]
    rotation_overlap: Duration,
}

/// The Service of this process.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl SelfManaged {
    /// Whether certificates are self-managed.
    pub(crate) fn is_on(&self) -> bool {
        self.tls_secret.is_some()
    }

    /// Where and how certificates are kept, and for which Service, by default `usual`. `None` if they are not
    /// self-managed.
    pub(crate) fn settings(
        &self,
        namespace: &str,
        usual: &str,
    ) -> anyhow::Result<Option<(Settings, Service)>> {
        let Some(secret) = self.tls_secret.clone() else { return Ok(None) };
        let name = self.service_name.clone().unwrap_or_else(|| usual.to_owned());
        let service = Service { namespace: namespace.to_owned(), name, port: self.service_port };
        let policy = Policy::new(
            service.names().into_iter().chain(self.tls_san.iter().cloned()).collect(),
            self.ca_lifetime,
            self.certificate_lifetime,
            self.rotation_overlap,
        );
        let flags = "--tls-san, --ca-lifetime, --certificate-lifetime, --rotation-overlap";
        let settings = Settings { namespace: namespace.to_owned(), secret, policy: policy.context(flags)? };
        Ok(Some((settings, service)))
    }
}

impl Service {
    /// The DNS names of the Service; kube-apiserver uses the first.
    fn names(&self) -> Vec<String> {
        let Self { namespace, name, .. } = self;
        vec![
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        own: SelfManaged,
        #[arg(long)]
        tls_cert_file: Option<String>,
    }

    fn parse(flags: &[&str]) -> Result<SelfManaged, String> {
        let flags = std::iter::once("gatehouse").chain(flags.iter().copied());
        Command::try_parse_from(flags).map(|command| command.own).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_self_managed_unless_asked_for() {
        assert!(parse(&[]).unwrap().settings("ns", "usual").unwrap().is_none());
    }

    #[test]
    fn usual_lifetimes_are_those_of_the_rotation() {
        let (settings, service) =
            parse(&["--tls-secret=a"]).unwrap().settings("ns", "usual").unwrap().unwrap();
        let names = ["usual.ns.svc", "usual.ns.svc.cluster.local", "usual.ns"].map(ToOwned::to_owned);
        let usual = Policy::new(names.into(), Policy::CA_LIFETIME, Policy::LEAF_LIFETIME, Policy::OVERLAP);
        assert_eq!(settings.policy, usual.unwrap());
        assert_eq!((service.name.as_str(), service.port), ("usual", 443));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (flags, word) in [
            (&["--tls-secret=a", "--tls-cert-file=b"][..], "--tls-cert-file"),
            (&["--tls-secret=A"], "lower-case"),
            (&["--tls-secret=a/b"], "lower-case"),
            (&["--tls-secret="], "lower-case"),
            (&["--service-name=a"], "--tls-secret"),
            (&["--tls-san=a"], "--tls-secret"),
            (&["--tls-secret=a", "--service-port=0"], "--service-port"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(word), "{flags:?}: {error}");
        }
        let long = parse(&["--tls-secret=a", "--rotation-overlap=2000h"]).unwrap();
        let error = format!("{:#}", long.settings("ns", "usual").unwrap_err());
        assert!(error.contains("--rotation-overlap") && error.contains("6 times"), "{error}");
    }
}
