//! Builders of records as the sources make them.

use gatehouse_apiservice::policy::Enforcement;
use gatehouse_inventory::{
    Above, Applied, Deadline, Detail, End, EntryId, FluxDetail, FluxLinks, GameNumbers, GameServer, History,
    HistoryEntry, HistoryResult, Limit, Links, NamespaceShare, ObjectKey, Record, Reference, Role, Seconds,
    State, TenantQuotaDetail, Use, Verdict, catalogue::KindId,
};

use super::{CATALOGUE, NOW, kind};

/// The creation time of the tests' objects.
pub(crate) const CREATED: Seconds = NOW - 86_400;

pub(crate) fn key(kind: KindId, namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(kind, namespace, name)
}

/// A Ready object of any kind.
pub(crate) fn object(kind: KindId, namespace: &str, name: &str) -> Builder {
    let row = CATALOGUE.kind(kind);
    Builder(Record {
        key: key(kind, namespace, name),
        created: CREATED,
        layer: row.layer,
        verdict: Verdict {
            state: State::Ready,
            last_outcome: None,
            reason: "ReconciliationSucceeded".into(),
            message: "Applied revision: main@sha1:0647aea75b85755411e0".into(),
            since: Some(CREATED),
            outcome_since: None,
            denied_by: None,
            deadline: None,
        },
        detail: if row.is_flux() { Detail::Flux(Box::default()) } else { Detail::None },
        above: None,
    })
}

/// A Ready Kustomization.
pub(crate) fn kustomization(namespace: &str, name: &str) -> Builder {
    object(kind("Kustomization"), namespace, name)
}

/// An entry of a history: reconciliations of a revision, from `first` to `last` seconds ago.
pub(crate) fn entry(
    id: u64,
    revision: &str,
    result: HistoryResult,
    [first, last]: [Seconds; 2],
) -> HistoryEntry {
    let reason =
        if result == HistoryResult::Succeeded { "ReconciliationSucceeded" } else { "HealthCheckFailed" };
    HistoryEntry {
        id: EntryId::digest(id),
        result,
        reason: reason.into(),
        revision: Some(revision.into()),
        action: None,
        first: NOW - first,
        last: NOW - last,
        took: Some(2_418),
        times: Some(7),
    }
}

/// A Namespace with the label of its tenant, if any.
pub(crate) fn namespace(name: &str, tenant: Option<&str>) -> Record {
    let mut record = object(kind("Namespace"), "", name).build();
    record.created = CREATED - 100;
    record.detail = Detail::Namespace { tenant: tenant.map(Into::into) };
    record
}

/// A Node whose kubelet has this version.
pub(crate) fn node(name: &str, kubelet_version: &str) -> Builder {
    let mut builder = object(kind("Node"), "", name);
    builder.0.detail = Detail::Node { kubelet_version: kubelet_version.into() };
    builder
}

/// A Ready object of a game engine, with the numbers that it adds to its namespace.
pub(crate) fn game(name_of_kind: &str, namespace: &str, name: &str, numbers: GameNumbers) -> Builder {
    let mut builder = object(kind(name_of_kind), namespace, name);
    builder.0.detail = match CATALOGUE.kind(kind(name_of_kind)).game.expect("a kind of a game engine").role {
        Role::Group => Detail::Game(Box::new(numbers)),
        Role::Server => {
            let numbers = (numbers != GameNumbers::default()).then(|| Box::new(numbers));
            Detail::GameServer(Box::new(GameServer { numbers, ..GameServer::default() }))
        }
    };
    builder
}

/// A TenantQuota of the tenant with the same name. Limits are given as name, used, hard.
pub(crate) fn quota(name: &str, limits: &[(&str, Option<&str>, &str)]) -> Builder {
    let limits = limits.iter().map(|(name, used, hard)| Limit {
        name: (*name).into(),
        hard: (*hard).into(),
        used: used.map(Into::into),
        reserved: None,
        overcommit: None,
    });
    let mut builder = object(kind("TenantQuota"), "", name);
    builder.0.verdict.reason = "Enforced".into();
    builder.0.verdict.message = "".into();
    builder.0.detail = Detail::TenantQuota(Box::new(TenantQuotaDetail {
        tenant: Some(name.into()),
        enforcement: Enforcement::Deny,
        limits: limits.collect(),
        namespaces: Some(2),
        denied: 0,
        last_denial: None,
        by_namespace: Box::default(),
    }));
    builder
}

#[derive(Clone)]
pub(crate) struct Builder(Record);

impl Builder {
    /// In `state` for `seconds`, with a reason and a message that contain the state.
    pub(crate) fn state(mut self, state: State, seconds: Seconds) -> Self {
        let verdict = &mut self.0.verdict;
        verdict.state = state;
        verdict.reason = format!("{state}Reason").into();
        verdict.message = format!("{} is {state}", self.0.key.name).into();
        verdict.since = Some(NOW - seconds);
        self
    }

    /// The outcome of its last attempt.
    pub(crate) fn last_outcome(mut self, state: State) -> Self {
        self.0.verdict.last_outcome = Some(state);
        self
    }

    pub(crate) fn since(mut self, since: Option<Seconds>) -> Self {
        self.0.verdict.since = since;
        self
    }

    /// A deadline at which the object fails.
    pub(crate) fn fails_at(mut self, at: Seconds) -> Self {
        let deadline = Deadline {
            at,
            since: at,
            observed: false,
            end: End::State(State::Failed),
            reason: "Expired".into(),
            message: "the certificate has expired".into(),
            passed: false,
            next: None,
        };
        self.0.verdict.deadline = Some(Box::new(deadline));
        self
    }

    fn flux(mut self, change: impl FnOnce(&mut FluxDetail)) -> Self {
        let Detail::Flux(flux) = &mut self.0.detail else { panic!("not a kind of Flux's") };
        change(flux);
        self
    }

    pub(crate) fn detail(mut self, detail: Detail) -> Self {
        self.0.detail = detail;
        self
    }

    pub(crate) fn server(mut self, change: impl FnOnce(&mut GameServer)) -> Self {
        let Detail::GameServer(server) = &mut self.0.detail else { panic!("not a game server") };
        change(server);
        self
    }

    /// The kind and the name of the fleet that it belongs to.
    pub(crate) fn of_fleet(self, name_of_kind: &str, name: &str) -> Self {
        self.server(|server| server.fleet = Some((kind(name_of_kind), name.into())))
    }

    fn quota(mut self, change: impl FnOnce(&mut TenantQuotaDetail)) -> Self {
        let Detail::TenantQuota(quota) = &mut self.0.detail else { panic!("not a TenantQuota") };
        change(quota);
        self
    }

    fn limit(self, name: &str, change: impl FnOnce(&mut Limit)) -> Self {
        self.quota(|quota| {
            change(quota.limits.iter_mut().find(|limit| &*limit.name == name).expect("a limit of its"));
        })
    }

    pub(crate) fn reserved(self, name: &str, amount: &str) -> Self {
        self.limit(name, |limit| limit.reserved = Some(amount.into()))
    }

    pub(crate) fn overcommit(self, name: &str, amount: &str) -> Self {
        self.limit(name, |limit| limit.overcommit = Some(amount.into()))
    }

    /// What a namespace uses of each limit, in the order of the limits, and the time and message of what was denied there.
    pub(crate) fn share(self, namespace: &str, used: &[Option<&str>], denied: &[(Seconds, &str)]) -> Self {
        let share = NamespaceShare {
            namespace: namespace.into(),
            used: used.iter().map(|used| used.map(Into::into)).collect(),
            last_denials: denied.iter().map(|(time, message)| (*time, (*message).into())).collect(),
        };
        self.quota(|quota| {
            let mut shares = std::mem::take(&mut quota.by_namespace).into_vec();
            shares.push(share);
            shares.sort_by(|one, other| one.namespace.cmp(&other.namespace));
            quota.by_namespace = shares.into();
        })
    }

    /// How many requests the quota denied; time and message of the last.
    pub(crate) fn denied(self, denied: i64, last: Seconds, message: &str) -> Self {
        self.quota(|quota| (quota.denied, quota.last_denial) = (denied, Some((last, message.into()))))
    }

    /// The Kustomizations that it depends on, as `namespace/name`.
    pub(crate) fn depends_on(self, places: &[&str]) -> Self {
        let references = places.iter().map(|place| {
            let (namespace, name) = place.split_once('/').expect("namespace/name");
            Reference::Known(key(kind("Kustomization"), namespace, name))
        });
        let references: Vec<_> = references.collect();
        self.depends_on_any(references)
    }

    pub(crate) fn depends_on_any(self, references: Vec<Reference>) -> Self {
        self.flux(|flux| flux.depends_on = references.into())
    }

    pub(crate) fn source(self, source: ObjectKey) -> Self {
        self.flux(|flux| flux.source = Some(Reference::Known(source)))
    }

    /// The HelmChart that was created for it, the objects that it creates, and the dependencies that it
    /// reports to wait for.
    pub(crate) fn links(
        self,
        chart: Option<ObjectKey>,
        makes: Vec<ObjectKey>,
        waits_for: Option<u8>,
    ) -> Self {
        self.flux(|flux| {
            flux.links = Some(Box::new(FluxLinks { chart, makes: makes.into(), ..FluxLinks::default() }));
            flux.waits_for = waits_for;
        })
    }

    /// It applies to another cluster.
    pub(crate) fn elsewhere(self) -> Self {
        self.flux(|flux| flux.links.get_or_insert_default().target = Some(("Secret", "edge".into())))
    }

    /// The entries of its history, the newest first.
    pub(crate) fn history(self, entries: impl IntoIterator<Item = HistoryEntry>) -> Self {
        self.flux(|flux| flux.history = History::new(entries))
    }

    /// The `id`s in its inventory.
    pub(crate) fn applied(mut self, ids: &[&str]) -> Self {
        let applied = Some(Box::new(Applied::pack(ids.iter().copied(), 0)));
        match &mut self.0.detail {
            Detail::Flux(flux) => flux.applied = applied,
            Detail::Linked(links) => links.applied = applied,
            Detail::Application(application) => {
                let (own, layer) = (self.0.verdict.clone(), self.0.layer);
                let links = Links { own, layer, uses: Box::default(), series: None, applied };
                application.links = Some(Box::new(links));
            }
            other => panic!("no inventory in {other:?}"),
        }
        self
    }

    fn above(mut self, owner: Option<ObjectKey>, manager: Option<ObjectKey>) -> Self {
        let before = self.0.above.take();
        let (before_owner, before_manager) =
            before.map_or((None, None), |above| (above.owner, above.manager));
        let above = Above { owner: owner.or(before_owner), manager: manager.or(before_manager) };
        self.0.above = (above.owner.is_some() || above.manager.is_some()).then(|| Box::new(above));
        self
    }

    pub(crate) fn owned_by(self, owner: ObjectKey) -> Self {
        self.above(Some(owner), None)
    }

    pub(crate) fn managed_by(self, manager: ObjectKey) -> Self {
        self.above(None, Some(manager))
    }

    /// The objects that it uses, which explain its failures. To be called last.
    pub(crate) fn uses(mut self, targets: impl IntoIterator<Item = ObjectKey>) -> Self {
        let uses = targets.into_iter().map(|target| Use {
            target,
            explains_if_failed: true,
            explains_if_missing: true,
            not_reasons: Box::default(),
            cases: Box::default(),
        });
        let (own, layer) = (self.0.verdict.clone(), self.0.layer);
        let links = Links { own, layer, uses: uses.collect(), series: None, applied: None };
        self.0.detail = Detail::Linked(Box::new(links));
        self
    }

    /// A health check that failed because this object is not ready.
    pub(crate) fn waited_for(self, kind: &str, object: ObjectKey) -> Self {
        let message = format!(
            "timeout waiting for: [{kind}/{}/{} status: 'InProgress']",
            object.namespace, object.name
        );
        self.flux(|flux| flux.links.get_or_insert_default().awaited = [object].into())
            .words("HealthCheckFailed", &message)
    }

    pub(crate) fn words(mut self, reason: &str, message: &str) -> Self {
        (self.0.verdict.reason, self.0.verdict.message) = (reason.into(), message.into());
        self
    }

    pub(crate) fn revision(self, revision: &str) -> Self {
        self.flux(|flux| flux.revision = Some(revision.into()))
    }

    pub(crate) fn suspended_by(self, who: &str) -> Self {
        self.state(State::Suspended, 60).flux(|flux| {
            flux.suspended = true;
            flux.suspended_by = Some(who.into());
        })
    }

    pub(crate) fn build(self) -> Record {
        self.0
    }
}
