//! `gatehouse webhooks`: admission for tenant quotas and reconcile policies.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use gatehouse_apiservice::registration::{
    webhook_account::NAME,
    webhooks::{Address, FailurePolicy, Webhooks},
};
use gatehouse_serving::{metrics::RequestMetrics, pipeline::Credential, review, server::ServerBuilder};
use gatehouse_webhooks::{
    intercepted,
    own_user::OwnUser,
    server::{Parts, Running, SelfManagedParts},
};
use serde_json::Value;

use crate::{
    flags::{Authentication, LimitArgs, Replicas, Service, Serving, Upstream, duration, object_name},
    observing::Observing,
    signals::EndSignals,
};

/// Serve admission: tenants' quotas, policies and defaults for Flux objects and game servers.
///
/// Answers AdmissionReviews on /mutate, /validate and /quota. Whoever can connect may ask there, unless
/// --client-ca-file is given: then callers need a certificate that it signed, which kube-apiserver presents if an
/// AdmissionConfiguration names one for it.
///
/// Needs webhook configurations that point to it, the definitions that `gatehouse crds` prints, and an account that
/// may read what it judges, write quotas' ledgers and Events, and ask for access (system:auth-delegator). Of several
/// replicas, all answer; one, which holds a lease, settles ledgers, ends suspensions and holds Flux back in freezes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    upstream: Upstream,
    #[command(flatten)]
    replicas: Replicas,
    #[command(flatten)]
    accounts: AccountArgs,
    #[command(flatten)]
    serving: Serving,
    #[command(flatten)]
    authentication: Authentication,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    registration: RegistrationArgs,
    #[command(flatten)]
    observing: Observing,
}

/// What the webhook configurations say where they have to be made anew, with --tls-secret.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Self-managed certificates")]
struct RegistrationArgs {
    /// What becomes of what policies judge while nobody can be asked: what the webhook of policies says if it has to be
    /// made anew, with --tls-secret. Quotas are held in any case.
    #[arg(long, value_enum, default_value_t = OnFailure::Fail, value_name = "POLICY")]
    policy_failure_policy: OnFailure,
    /// Namespaces that are never reviewed, beside the Service's own and kube-system: what every webhook says if it has
    /// to be made anew, with --tls-secret.
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE", value_parser = object_name)]
    excluded_namespaces: Vec<String>,
    /// How long kube-apiserver waits for a review, 1s to 30s: what every webhook says if it has to be made anew, with
    /// --tls-secret.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = webhook_timeout)]
    webhook_timeout: i32,
}

/// As Kubernetes words it.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
enum OnFailure {
    /// It is refused.
    Fail,
    /// It is admitted.
    Ignore,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Accounts")]
struct AccountArgs {
    /// Where Flux's controllers run: what they do under their own accounts is not taken for what people do.
    #[arg(long, value_name = "NAMESPACE", default_value = "flux-system")]
    flux_namespace: String,
    /// Where Agones' controllers run: what they make for a Fleet or a set is charged and judged there, and never refused.
    #[arg(long, value_name = "NAMESPACE", default_value = "agones-system")]
    agones_namespace: String,
    /// The user that this process is to the cluster, whose own writes are not judged. Without it: asked of the cluster.
    #[arg(long, value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    own_user: Option<String>,
    /// kube-apiserver's own --request-timeout. What was admitted and has not been seen some time after that is taken
    /// for lost, and given back to its quota: less than it really is would let through more than there is room for.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    apiserver_request_timeout: Duration,
}

/// Serves until it is asked to end.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let signals = EndSignals::listen();
    let metrics = Arc::new(RequestMetrics::new(&[]));
    let observers = args.observing.observers(&metrics, "gatehouse-webhooks")?;
    let config = args.upstream.config().await?;
    let client = kube::Client::try_from(config.clone()).context("cannot make a client of the kubeconfig")?;
    let review = review::client(config).context("cannot make a client for access reviews")?;
    let end = signals.received();
    tokio::pin!(end);
    let authenticator = tokio::select! {
        authenticator = args.authentication.authenticator(client.clone(), review.clone()) => authenticator?,
        () = &mut end => return Ok(()),
    };
    let own_user = OwnUser::unknown(&args.accounts.flux_namespace, &args.accounts.agones_namespace);
    if let Some(name) = args.accounts.own_user {
        own_user.learn(name);
    }
    let authorizer = args.authentication.authorizer(review.clone(), &metrics);
    let lease_namespace = args.replicas.namespace();
    let certificates = args.serving.own.settings(&lease_namespace, NAME)?.map(|(settings, service)| {
        let wanted = configurations(service, args.registration);
        SelfManagedParts { settings, configurations: Box::new(wanted) }
    });
    let parts = Parts {
        client,
        review,
        watching: args.upstream.watching(),
        credential: credential(&args.authentication),
        server: ServerBuilder {
            address: args.serving.address(),
            keys: args.serving.keys(&lease_namespace, NAME)?,
            authenticator,
            authorizer: Arc::new(authorizer.into()),
            metrics,
            limits: args.limits.limits(),
            max_connections: args.limits.max_connections,
            observers: observers.clone(),
            shutdown: args.serving.shutdown(),
        },
        own_user,
        identity: args.replicas.identity(),
        request_timeout: args.accounts.apiserver_request_timeout,
        lease_name: args.replicas.lease(NAME),
        lease_namespace,
        certificates,
    };
    let ended = Running::start(parts).await?.until(end).await;
    observers.flush().await;
    Ok(ended?)
}

/// Both configurations, for a bundle.
fn configurations(service: Service, registration: RegistrationArgs) -> impl Fn(&str) -> Vec<Value> {
    let Service { namespace, name, port } = service;
    let webhooks = Webhooks {
        address: Address::Service { namespace, name, port },
        ca_bundle: String::new(),
        governed: intercepted::governed(),
        charged: intercepted::charged(),
        counted: intercepted::counted(),
        policies: match registration.policy_failure_policy {
            OnFailure::Fail => FailurePolicy::Fail,
            OnFailure::Ignore => FailurePolicy::Ignore,
        },
        excluded: registration.excluded_namespaces,
        timeout_seconds: registration.webhook_timeout,
    };
    move |bundle| Webhooks { ca_bundle: bundle.to_owned(), ..webhooks.clone() }.configurations().into()
}

/// Whole seconds, as many as Kubernetes allows.
fn webhook_timeout(text: &str) -> Result<i32, String> {
    let timeout = duration(text)?;
    let seconds = i32::try_from(timeout.as_secs()).ok().filter(|seconds| (1..=30).contains(seconds));
    let seconds = seconds.filter(|_| timeout.subsec_nanos() == 0);
    seconds.ok_or_else(|| "must be from 1s to 30s, in whole seconds".to_owned())
}

fn credential(authentication: &Authentication) -> Credential {
    if authentication.names_client_ca() {
        return Credential::Certificate;
    }
    tracing::warn!(
        "no --client-ca-file: whoever can connect may ask for reviews, and hold what quotas have left for 72 s"
    );
    Credential::None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_one_that_kubernetes_takes() {
        for (text, seconds) in [("1s", 1), ("30s", 30), ("0m7s", 7)] {
            assert_eq!(webhook_timeout(text), Ok(seconds));
        }
        for text in ["0s", "31s", "1500ms", "1h", "5", "-5s"] {
            assert!(webhook_timeout(text).is_err(), "{text}");
        }
    }
}
