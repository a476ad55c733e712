//! Builders for tests.

use std::sync::{Arc, LazyLock};

use crate::{
    Detail, FluxDetail, ObjectKey, Record, Reference, Seconds, State, Verdict,
    catalogue::{Catalogue, KindId},
};

/// The built-in catalogue, compiled once.
pub(crate) static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::builtin()));

/// The Kustomization kind of the built-in catalogue.
pub(crate) fn kustomization() -> KindId {
    CATALOGUE.find("kustomize.toolkit.fluxcd.io", "Kustomization").expect("a built-in kind")
}

/// The key of a Kustomization in the namespace `apps`.
pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new(kustomization(), "apps", name)
}

/// A Kustomization in the namespace `apps`, Ready and without dependencies.
pub(crate) fn record(name: &str) -> Builder {
    Builder(Record {
        key: key(name),
        created: 1,
        layer: Some(crate::Layer::Flux),
        verdict: Verdict {
            state: State::Ready,
            last_outcome: None,
            reason: "Test".into(),
            message: name.into(),
            since: None,
            outcome_since: None,
            denied_by: None,
            deadline: None,
        },
        detail: Detail::Flux(Box::default()),
        above: None,
    })
}

pub(crate) struct Builder(Record);

impl Builder {
    pub(crate) fn state(mut self, state: State) -> Self {
        self.0.verdict.state = state;
        self
    }

    pub(crate) fn since(mut self, since: Seconds) -> Self {
        self.0.verdict.since = Some(since);
        self
    }

    pub(crate) fn depends_on(mut self, names: &[&str]) -> Self {
        let depends_on = names.iter().map(|name| Reference::Known(key(name))).collect();
        self.0.detail = Detail::Flux(Box::new(FluxDetail { depends_on, ..FluxDetail::default() }));
        self
    }

    pub(crate) fn build(self) -> Record {
        self.0
    }
}
