//! `gatehouse webhooks`: admission for tenant quotas and reconcile policies.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use gatehouse_apiservice::registration::{
    webhook_account::{NAME, UNMANAGED_LEASE},
    webhooks::{Address, FailurePolicy, Webhooks},
};
use gatehouse_serving::{
    metrics::RequestMetrics, pipeline::Credential, review, server::ServerBuilder, upstream,
};
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

/// Serve admission webhooks: quotas, policies and defaults for Flux objects and game servers
///
/// Answers AdmissionReviews on /mutate, /validate and /quota, from every client that can connect. With
/// --client-ca-file, clients need a certificate signed by that CA; kube-apiserver presents one if its
/// AdmissionConfiguration names one for this webhook.
///
/// Needs webhook configurations that point to it, the CustomResourceDefinitions that `gatehouse crds` prints, and a
/// service account that may read the governed kinds, write QuotaLedgers and Events, and create SubjectAccessReviews
/// (system:auth-delegator). All replicas answer reviews. The one that holds the Lease settles ledgers, ends suspensions
/// and suspends Flux objects during freezes.
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

/// Settings of the webhook configurations that this process creates if they are missing, with --tls-secret.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Self-managed certificates")]
struct RegistrationArgs {
    /// failurePolicy of the policy webhook, if this process creates its configuration (--tls-secret): what happens to
    /// requests while no replica answers. Quotas always fail closed.
    #[arg(long, value_enum, default_value_t = OnFailure::Fail, value_name = "POLICY")]
    policy_failure_policy: OnFailure,
    /// Namespaces that are never reviewed, in addition to the Service's own and kube-system, if this process creates
    /// the webhook configurations (--tls-secret).
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE", value_parser = object_name)]
    excluded_namespaces: Vec<String>,
    /// timeoutSeconds of the webhooks, 1s to 30s, if this process creates their configurations (--tls-secret).
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = webhook_timeout)]
    webhook_timeout: i32,
}

/// failurePolicy, by the values of Kubernetes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
enum OnFailure {
    /// Deny the requests.
    Fail,
    /// Admit the requests.
    Ignore,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Accounts")]
struct AccountArgs {
    /// Namespace of Flux's controllers. Their service accounts are recognized as Flux.
    #[arg(long, value_name = "NAMESPACE", default_value = "flux-system")]
    flux_namespace: String,
    /// Namespace of Agones' controllers. Objects that they create for a Fleet or GameServerSet are charged to it, and
    /// denied only while more would exist than the limit allows and than Fleets and sets ask for.
    #[arg(long, value_name = "NAMESPACE", default_value = "agones-system")]
    agones_namespace: String,
    /// User name of this process in the cluster, whose own writes are not reviewed. Default: from a SelfSubjectReview.
    #[arg(long, value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    own_user: Option<String>,
    /// User name of `gatehouse apiserver` in the cluster. Its actions are judged as those of the users for whom it
    /// writes; nobody else is believed about that. Default: the service account gatehouse-apiserver in the namespace of
    /// this process's own service account.
    #[arg(long, value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    apiserver_user: Option<String>,
    /// kube-apiserver's --request-timeout. Reservations that were not observed 12 s after it are released; too low a
    /// value can overshoot quotas.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    apiserver_request_timeout: Duration,
}

/// How long a connection that broke in silence may go unnoticed: policies that could not be refreshed for a minute make a
/// replica unready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let signals = EndSignals::listen();
    let metrics = Arc::new(RequestMetrics::new(&[]));
    let observers = args.observing.observers(&metrics, "gatehouse-webhooks")?;
    let config = args.upstream.config().await?;
    let client = upstream::builder(config.clone(), PATIENCE);
    let client = client.context("cannot create a client from the kubeconfig")?.build();
    let review = review::client(config).context("cannot create a client for access reviews")?;
    let end = signals.received();
    tokio::pin!(end);
    let authenticator = tokio::select! {
        authenticator = args.authentication.authenticator(client.clone(), review.clone()) => authenticator?,
        () = &mut end => return Ok(()),
    };
    let own_user = OwnUser::unknown(&args.accounts.flux_namespace, &args.accounts.agones_namespace)
        .with_apiserver(args.accounts.apiserver_user.as_deref());
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
        lease_name: args.replicas.lease(if certificates.is_some() { NAME } else { UNMANAGED_LEASE }),
        lease_namespace,
        certificates,
    };
    let ended = Running::start(parts).await?.until(end).await;
    observers.flush().await;
    Ok(ended?)
}

/// Both webhook configurations with a caBundle.
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

/// Parses whole seconds, as many as Kubernetes allows.
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
        "--client-ca-file is not set: any client that can connect may request reviews and reserve quota for 72 s"
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
