//! `gatehouse webhooks`: admission for tenant quotas and reconcile policies.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use gatehouse_apiserver::{authz, metrics::Metrics, pipeline::Credential};
use gatehouse_webhooks::server::{Parts, Running};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};

use crate::{
    flags::{Authentication, LimitArgs, Serving, Upstream, duration},
    observing::Observing,
    server::EndSignals,
};

/// The wait between two attempts to find out who we are.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// As `NAMESPACE` of a pod, where the account's token is mounted.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

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
    serving: Serving,
    #[command(flatten)]
    authentication: Authentication,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    observing: Observing,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Replicas and accounts")]
struct Replicas {
    /// The namespace of the lease. Without it: that of the pod, else gatehouse-system.
    #[arg(long, value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// The name of the lease.
    #[arg(long, value_name = "NAME", default_value = "gatehouse-webhooks")]
    lease_name: String,
    /// What this replica is called in the lease, different for each. Without it: the host's name, which is the pod's,
    /// and a number drawn by chance.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Where Flux's controllers run: what they do under their own accounts is not taken for what people do.
    #[arg(long, value_name = "NAMESPACE", default_value = "flux-system")]
    flux_namespace: String,
    /// The user that this process is to the cluster, whose own writes are not judged. Without it: asked of the cluster.
    #[arg(long, value_name = "USER")]
    own_user: Option<String>,
    /// kube-apiserver's own --request-timeout. What was admitted and has not been seen some time after that is taken
    /// for lost, and given back to its quota: less than it really is would let through more than there is room for.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    apiserver_request_timeout: Duration,
}

/// Serves until it is asked to end.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let signals = EndSignals::listen();
    let metrics = Arc::new(Metrics::new(&[]));
    let observers = args.observing.observers(&metrics)?;
    let config = args.upstream.config().await?;
    let client = kube::Client::try_from(config.clone()).context("cannot make a client of the kubeconfig")?;
    let review = authz::review_client(config).context("cannot make a client for access reviews")?;
    let end = signals.received();
    tokio::pin!(end);
    let own_user = if let Some(user) = args.replicas.own_user.clone() {
        user
    } else {
        tokio::select! {
            user = own_user(&review) => user,
            () = &mut end => return Ok(()),
        }
    };
    let authorizer = args.authentication.authorizer(review.clone(), &metrics);
    let parts = Parts {
        authenticator: args.authentication.authenticator(client.clone(), review.clone()).await?,
        authorizer: Arc::new(authorizer.into()),
        metrics,
        client,
        review,
        watching: args.upstream.watching(),
        credential: credential(&args.authentication),
        limits: args.limits.limits(),
        observers: observers.clone(),
        shutdown: args.serving.shutdown(),
        address: args.serving.address(),
        keys: args.serving.keys("gatehouse-webhooks")?,
        own_user,
        identity: args.replicas.identity(),
        request_timeout: args.replicas.apiserver_request_timeout,
        lease_namespace: args.replicas.lease_namespace(),
        lease_name: args.replicas.lease_name,
        flux_namespace: args.replicas.flux_namespace,
    };
    let ended = Running::start(parts).await?.until(end).await;
    observers.flush().await;
    Ok(ended?)
}

fn credential(authentication: &Authentication) -> Credential {
    if authentication.names_client_ca() {
        return Credential::Certificate;
    }
    tracing::warn!(
        "no --client-ca-file: whoever can connect may ask for reviews, and reserve what quotas have left for a minute"
    );
    Credential::None
}

/// Who we are to the cluster. Asked until it answers: without knowing, our own writes would be refused in a freeze.
async fn own_user(client: &kube::Client) -> String {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    loop {
        match api.create(&PostParams::default(), &SelfSubjectReview::default()).await {
            Ok(review) => {
                let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
                let user = user.unwrap_or_default();
                tracing::info!(user, "known to the cluster");
                return user;
            }
            Err(error) => tracing::warn!(%error, "the cluster does not say who we are; asking again"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

impl Replicas {
    fn lease_namespace(&self) -> String {
        let of_pod = || std::fs::read_to_string(POD_NAMESPACE).ok().map(|text| text.trim().to_owned());
        let given = self.lease_namespace.clone().or_else(of_pod);
        given.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "gatehouse-system".to_owned())
    }

    /// A process that is started anew has another: it must not take the lease of the one before for its own.
    fn identity(&self) -> String {
        use std::hash::{BuildHasher, RandomState};
        self.identity.clone().unwrap_or_else(|| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let chance = RandomState::new().hash_one(std::process::id());
            format!("{host}-{:08x}", chance >> 32)
        })
    }
}
