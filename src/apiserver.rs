//! `gatehouse apiserver`: the aggregated API server of the cluster it runs in.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use gatehouse_apiserver::{authz, clock::REPLICAS, engine, metrics::Metrics};
use gatehouse_inventory::{catalogue::Catalogue, source::Watch};

use crate::{
    flags::{Authentication, LimitArgs, Serving, Upstream},
    observing::Observing,
    server::{EndSignals, Parts, Running},
};

/// Serve the views of the cluster as an aggregated API server.
///
/// Needs an APIService that points to it, and an account that may read what it summarises, review tokens and
/// access (system:auth-delegator) and read the ConfigMap extension-apiserver-authentication.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the views call the observed cluster.
    #[arg(long, value_name = "NAME", default_value = "local")]
    cluster_name: String,
    /// A file of kinds to observe beyond the built-in ones, or instead of some. May be repeated.
    #[arg(long, value_name = "FILE")]
    catalogue_file: Vec<PathBuf>,
    /// The number of this replica, from 0 to 15, different for each: no two replicas then make the same
    /// resourceVersion. Without it, one is drawn by chance.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..i64::from(REPLICAS)))]
    replica: Option<u8>,

    #[command(flatten)]
    upstream: Upstream,
    #[command(flatten)]
    serving: Serving,
    #[command(flatten)]
    authentication: Authentication,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    observing: Observing,
}

/// Serves until it is asked to end.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let catalogue = catalogue(&args.catalogue_file)?;
    let metrics = Arc::new(Metrics::new(&engine::served_resources()));
    let observers = args.observing.observers(&metrics)?;
    let config = args.upstream.config().await?;
    let client = kube::Client::try_from(config.clone()).context("cannot make a client of the kubeconfig")?;
    let review = authz::review_client(config).context("cannot make a client for access reviews")?;

    let authorizer = args.authentication.authorizer(review.clone(), &metrics);
    let parts = Parts {
        cluster: args.cluster_name.into(),
        catalogue,
        authenticator: args.authentication.authenticator(client.clone(), review).await?,
        source: Watch::with_settings(client, args.upstream.watching()),
        replica: args.replica.unwrap_or_else(replica),
        authorizer: Arc::new(authorizer.into()),
        metrics,
        limits: args.limits.limits(),
        observers: observers.clone(),
        shutdown: args.serving.shutdown(),
        address: args.serving.address(),
        keys: args.serving.keys("gatehouse-apiserver")?,
    };
    let signals = EndSignals::listen();
    let ended = Running::start(parts).await?.until(signals.received()).await;
    observers.flush().await;
    ended
}

fn catalogue(files: &[PathBuf]) -> anyhow::Result<Catalogue> {
    let mut catalogue = Catalogue::builtin();
    for file in files {
        catalogue = catalogue.with_file(file).context("--catalogue-file")?;
    }
    Ok(catalogue)
}

/// Numbers the replica where nobody has.
fn replica() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's hashers are seeded by the operating system's random numbers.
    let chance = RandomState::new().hash_one(());
    u8::try_from(chance % u64::from(REPLICAS)).unwrap_or_default()
}
