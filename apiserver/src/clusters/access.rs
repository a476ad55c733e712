//! Which clusters' rows a user may see: those of the local one, and of each remote one that the user may `get` in
//! `clusterhealths`. It is an implicit selector, fixed when a list or a watch is opened.
//!
//! **Invariant:** it fails closed. A cluster that is not known to be allowed is not shown; a review without an answer
//! fails the request; and an open watch ends with 410 once a right that it stands on is lost, or another is given.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    future::{self, BoxFuture},
    stream,
};
use gatehouse_apiservice::view::{GROUP, VERSION};
use gatehouse_inventory::Str;
use gatehouse_serving::{
    ApiError,
    authn::UserInfo,
    authz::{Attributes, Authorizer, WatchAuthorization},
    request_info::{RequestInfo, ResourceRequest, Verb},
};
use http::StatusCode;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Registry, relay};
use crate::watchcache::{Row, RowKey};

/// The resource on whose objects the right is.
const RESOURCE: &str = "clusterhealths";
/// Reviews that one request has under way.
const REVIEWS: usize = 16;
/// How often an open watch looks whether its user may see more clusters.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The clusters whose rows a request shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) enum Clusters {
    /// There is only the local one.
    #[default]
    All,
    /// Those with these names.
    Only(Arc<BTreeSet<Str>>),
}

impl Clusters {
    /// Whether a row may be shown.
    pub(crate) fn show(&self, row: &Row) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => row.cluster().is_some_and(|cluster| names.contains(cluster)),
        }
    }

    /// Whether rows need not be looked at.
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// What a user may see.
#[derive(Debug)]
pub(crate) struct Visible {
    pub(crate) clusters: Clusters,
    /// Whether the user sees, or has lately seen, rows of remote clusters. What two replicas know of these may differ
    /// by more than a window, so that the user's watches go on at the same replica only.
    pub(crate) sees_remote: bool,
    basis: Basis,
}

/// What the sight of remote clusters stands on.
#[derive(Debug)]
enum Basis {
    /// There are none.
    Local,
    /// The right to get every clusterhealth.
    Every,
    /// The rights to get these.
    Named(Vec<Str>),
}

/// Decides who sees which clusters.
#[derive(Clone)]
pub(crate) struct ClusterAccess(Arc<Registry>);

impl ClusterAccess {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self(registry)
    }

    /// The tree of a row that its user may see, if another Gatehouse has it.
    pub(crate) async fn tree(&self, row: &RowKey) -> Option<Result<Value, ApiError>> {
        relay::tree(&self.0, row).await
    }

    /// Whether a remote cluster is registered, and `user` may see it now.
    pub(crate) async fn may_see(
        &self,
        authorizer: &Authorizer,
        user: &UserInfo,
        name: &str,
    ) -> Result<bool, ApiError> {
        Ok(self.0.names().contains(name) && is_allowed(authorizer, user, name).await?)
    }

    /// What `user` may see now. An error if a review fails: fewer rows would look as if the others were deleted.
    pub(crate) async fn visible(
        &self,
        authorizer: &Authorizer,
        user: &UserInfo,
    ) -> Result<Visible, ApiError> {
        let local = self.0.local.clone();
        let only = |names: BTreeSet<Str>| Clusters::Only(Arc::new(names));
        let (registered, removed) = (self.0.names(), self.0.recently_removed());
        if registered.is_empty() && removed.is_empty() {
            return Ok(Visible { clusters: only([local].into()), sees_remote: false, basis: Basis::Local });
        }
        if is_allowed(authorizer, user, "").await? {
            let names = registered.into_iter().chain([local]).collect();
            return Ok(Visible { clusters: only(names), sees_remote: true, basis: Basis::Every });
        }
        // Boxed, since the compiler cannot see otherwise that a future over a closure's futures may be sent.
        let mut asked: Vec<BoxFuture<'_, Result<Option<Str>, ApiError>>> = Vec::new();
        for name in registered.iter().chain(&removed) {
            asked.push(Box::pin(async move {
                let is_allowed = is_allowed(authorizer, user, name).await?;
                Ok(is_allowed.then(|| name.clone()))
            }));
        }
        let answers: Vec<_> = stream::iter(asked).buffered(REVIEWS).collect().await;
        let allowed = answers.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        let sees_remote = !allowed.is_empty();
        let allowed: Vec<_> = allowed.into_iter().filter(|name| registered.contains(name)).collect();
        let names = allowed.iter().cloned().chain([local]).collect();
        Ok(Visible { clusters: only(names), sees_remote, basis: Basis::Named(allowed) })
    }
}

/// Whether a user may get a clusterhealth, or all of them if the name is empty.
async fn is_allowed(authorizer: &Authorizer, user: &UserInfo, name: &str) -> Result<bool, ApiError> {
    match authorizer.authorize(Attributes { user, request: &get(name) }).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == StatusCode::FORBIDDEN => Ok(false),
        Err(error) => Err(error),
    }
}

async fn renew(right: &mut WatchAuthorization) -> Result<(), ApiError> {
    if right.is_renewal_due() || right.is_stale() { right.renew().await } else { Ok(()) }
}

/// The loss of the first of these rights that is lost.
fn first_lost(held: &mut [WatchAuthorization]) -> BoxFuture<'_, ApiError> {
    let mut all = Vec::with_capacity(held.len());
    for right in held {
        all.push(Box::pin(right.revoked()));
    }
    if all.is_empty() {
        return Box::pin(future::pending());
    }
    Box::pin(async move { future::select_all(all).await.0 })
}

fn get(name: &str) -> RequestInfo {
    RequestInfo::Resource(ResourceRequest {
        verb: Verb::Get,
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        resource: RESOURCE.to_owned(),
        subresource: None,
        namespace: None,
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        field_selector: None,
        label_selector: None,
        has_extra_segments: false,
    })
}

/// The rights that an open watch stands on: that to the request, and those to the clusters that it shows.
pub(crate) struct WatchRights {
    request: WatchAuthorization,
    clusters: Option<Box<ClusterRights>>,
}

/// The rights to the clusters that a watch shows, and what would show it more.
struct ClusterRights {
    held: Vec<WatchAuthorization>,
    access: ClusterAccess,
    registered: watch::Receiver<BTreeSet<Str>>,
    authorizer: Arc<Authorizer>,
    user: UserInfo,
    shown: Clusters,
    sees_every: bool,
    next_look: Instant,
}

impl WatchRights {
    /// For a `request` that has just been allowed to `user`, and what the user may see if there is such a limit.
    pub(crate) fn new(
        authorizer: &Arc<Authorizer>,
        user: &UserInfo,
        request: RequestInfo,
        limit: Option<(&ClusterAccess, &Visible)>,
    ) -> Self {
        let renewed = |request| WatchAuthorization::new(Arc::clone(authorizer), user.clone(), request);
        let clusters = limit.map(|(access, visible)| {
            let held = match &visible.basis {
                Basis::Local => Vec::new(),
                Basis::Every => vec![renewed(get(""))],
                Basis::Named(names) => names.iter().map(|name| renewed(get(name))).collect(),
            };
            Box::new(ClusterRights {
                held,
                access: access.clone(),
                registered: access.0.follow(),
                authorizer: Arc::clone(authorizer),
                user: user.clone(),
                shown: visible.clusters.clone(),
                sees_every: matches!(visible.basis, Basis::Every),
                // A cluster may have been registered since the rights were looked at.
                next_look: Instant::now(),
            })
        });
        Self { request: renewed(request), clusters }
    }

    /// Whether events must wait until [`WatchRights::renew`] succeeds.
    pub(crate) fn is_stale(&self) -> bool {
        let is_stale = |clusters: &ClusterRights| clusters.held.iter().any(WatchAuthorization::is_stale);
        self.request.is_stale() || self.clusters.as_deref().is_some_and(is_stale)
    }

    /// Whether it is time for [`WatchRights::renew`], events or not.
    pub(crate) fn is_renewal_due(&self) -> bool {
        self.request.is_renewal_due() || self.clusters.as_ref().is_some_and(|clusters| clusters.is_due())
    }

    /// Renews what is due or stale. The error is the watch's end.
    pub(crate) async fn renew(&mut self) -> Result<(), ApiError> {
        renew(&mut self.request).await?;
        match &mut self.clusters {
            Some(clusters) => clusters.renew().await,
            None => Ok(()),
        }
    }

    /// Renews the rights whenever they are due, until the watch has to end. Cancel safe.
    pub(crate) async fn revoked(&mut self) -> ApiError {
        let clusters = async {
            match &mut self.clusters {
                Some(clusters) => clusters.changed().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            lost = self.request.revoked() => lost,
            changed = clusters => changed,
        }
    }
}

impl ClusterRights {
    fn is_due(&self) -> bool {
        Instant::now() >= self.next_look || self.held.iter().any(WatchAuthorization::is_renewal_due)
    }

    async fn renew(&mut self) -> Result<(), ApiError> {
        for right in &mut self.held {
            renew(right).await?;
        }
        if Instant::now() >= self.next_look { self.look().await } else { Ok(()) }
    }

    async fn changed(&mut self) -> ApiError {
        loop {
            tokio::select! {
                lost = first_lost(&mut self.held) => return lost,
                () = sleep_until(self.next_look) => {}
                changed = self.registered.changed() => if changed.is_err() {
                    // The registrar has ended, as has the server.
                    future::pending::<()>().await;
                }
            }
            if let Err(more) = self.look().await {
                return more;
            }
        }
    }

    /// Looks whether the user may see a cluster that the watch does not show.
    async fn look(&mut self) -> Result<(), ApiError> {
        self.next_look = Instant::now() + LOOK_INTERVAL;
        let Clusters::Only(shown) = &self.shown else { return Ok(()) };
        let more: Vec<_> = self.access.0.names().into_iter().filter(|name| !shown.contains(name)).collect();
        let mut is_allowed_more = self.sees_every && !more.is_empty();
        if !is_allowed_more && !more.is_empty() {
            // Without an answer nothing more is shown.
            let visible = self.access.visible(&self.authorizer, &self.user).await;
            is_allowed_more = visible.is_ok_and(|visible| match &visible.clusters {
                Clusters::Only(names) => more.iter().any(|name| names.contains(name)),
                Clusters::All => false,
            });
        }
        if is_allowed_more {
            return Err(ApiError::expired("more clusters may be seen than this watch shows: list again"));
        }
        Ok(())
    }
}
