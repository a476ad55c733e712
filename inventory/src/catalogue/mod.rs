//! The kinds that are observed, as data: the name of each, the layer that it counts towards, and how it is judged.
//!
//! The built-in rows are in `builtin/`. A file of the same format adds rows or replaces some.
//!
//! **Invariant:** Every row is compiled when it is read. Judging an object can therefore fail only because of the
//! content of the object, and such a failure is reported as [`State::Unknown`](crate::State::Unknown).

mod argo;
mod cron;
mod draft;
mod error;
mod expression;
mod file;
mod form;
mod game;
mod link;
mod matching;
mod object;
mod observe;
mod path;
mod quota;
mod resources;
mod rule;
pub(crate) mod tree;

use std::{fmt, path::Path};

pub(crate) use draft::{Draft, clip};
pub use error::{CatalogueError, Undecodable};
pub(crate) use observe::namespace_of;

use crate::{GameKind, Layer, Record, State, expression::Functions};

macro_rules! builtin {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("builtin/", $name)))),*] };
}

/// The order of the files is the order in which kinds are reported.
const BUILTIN: [(&str, &str); 12] = builtin![
    "flux.yaml",
    "cluster.yaml",
    "workloads.yaml",
    "storage.yaml",
    "certificates.yaml",
    "secrets.yaml",
    "data.yaml",
    "network.yaml",
    "backup.yaml",
    "argocd.yaml",
    "games.yaml",
    "gatehouse.yaml"
];

/// A kind, as its position in the [`Catalogue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindId(pub(crate) u16);

/// The kinds that are observed.
pub struct Catalogue {
    kinds: Vec<Kind>,
    /// The functions for the rules' expressions, kept because building this table costs more than judging an object.
    functions: Functions,
    flux_texts: bool,
    /// How many entries of the history of each of Flux's objects are kept.
    history_entries: u8,
}

/// How many entries of the history of each of Flux's objects are kept by default.
pub const HISTORY_ENTRIES: u8 = 3;

/// A kind that is observed.
#[derive(Debug)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// `kind`.
    pub kind: String,
    /// The resource's plural name.
    pub plural: String,
    /// Whether its objects are namespaced.
    pub namespaced: bool,
    /// The layer of the cluster that the health of its objects counts towards, if any.
    pub layer: Option<Layer>,
    /// The game engine and the role of its objects, if they run game servers.
    pub game: Option<GameKind>,
    judge: Judge,
}

/// How the objects of a kind are judged.
#[derive(Debug)]
enum Judge {
    /// By the state rule of Flux's kinds.
    Flux,
    /// By the state rule of Pods.
    Pod,
    /// By the catalogue's rules.
    Rules(Box<rule::Rules>),
}

impl Catalogue {
    /// The kinds that are built into Gatehouse.
    pub fn builtin() -> Self {
        let mut catalogue = Self {
            kinds: Vec::new(),
            functions: expression::functions(),
            flux_texts: false,
            history_entries: HISTORY_ENTRIES,
        };
        for (file, text) in BUILTIN {
            catalogue.add(file, text).expect("the built-in catalogue is part of the build and tested");
        }
        catalogue
    }

    /// Adds the kinds of a file. A kind that is already known is replaced.
    pub fn with_file(mut self, path: &Path) -> Result<Self, CatalogueError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.add(&file, &text).map(|()| self),
            Err(source) => Err(CatalogueError::Read { file, source }),
        }
    }

    /// Leaves Pods out: they are not watched, and no problem is explained by one.
    #[must_use]
    pub fn without_pods(mut self) -> Self {
        self.kinds.retain(|kind| !kind.is_pod());
        self
    }

    /// Also keeps the fields of Flux's objects that only metrics expose.
    #[must_use]
    pub fn with_flux_texts(self) -> Self {
        Self { flux_texts: true, ..self }
    }

    /// Keeps so many entries of the history of each of Flux's objects, instead of [`HISTORY_ENTRIES`].
    #[must_use]
    pub fn with_history_entries(self, history_entries: u8) -> Self {
        Self { history_entries, ..self }
    }

    pub(crate) fn history_entries(&self) -> usize {
        self.history_entries.into()
    }

    pub(crate) fn keeps_flux_texts(&self) -> bool {
        self.flux_texts
    }

    /// The kind with this ID, which must come from this catalogue.
    pub fn kind(&self, id: KindId) -> &Kind {
        &self.kinds[usize::from(id.0)]
    }

    /// Every kind.
    pub fn kinds(&self) -> impl Iterator<Item = (KindId, &Kind)> {
        // The length is checked against u16 whenever the catalogue grows.
        (0u16..).map(KindId).zip(&self.kinds)
    }

    /// The kind of this group (empty for the core group) and name.
    pub fn find(&self, group: &str, kind: &str) -> Option<KindId> {
        self.kinds().find(|(_, row)| row.kind == kind && row.group == group).map(|(id, _)| id)
    }

    /// The number of kinds.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are no kinds, which is never true of a catalogue that starts from the built-in one.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), CatalogueError> {
        for kind in file::parse(file, text, &self.functions)? {
            match self.find(&kind.group, &kind.kind) {
                Some(known) => self.kinds[usize::from(known.0)] = kind,
                None if self.kinds.len() == usize::from(u16::MAX) => {
                    return Err(CatalogueError::File { file: file.into(), message: "too many kinds".into() });
                }
                None => self.kinds.push(kind),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds.iter().map(Kind::resource_name)).finish()
    }
}

impl Kind {
    /// Whether the Flux views show it: the kinds of the toolkit, and those of the Flux operator that are reconciled.
    pub fn is_flux(&self) -> bool {
        matches!(self.judge, Judge::Flux)
    }

    /// Whether it is the Pod kind of the core group.
    pub fn is_pod(&self) -> bool {
        matches!(self.judge, Judge::Pod)
    }

    /// Whether a record of this kind is kept: there are more Pods than all other objects, and only those that are not
    /// well are shown.
    pub(crate) fn keeps(&self, record: &Record) -> bool {
        !self.is_pod() || record.verdict.state != State::Ready
    }

    /// Whether objects of this kind count towards some layer.
    pub fn has_layers(&self) -> bool {
        self.layer.is_some() || matches!(&self.judge, Judge::Rules(rules) if !rules.layers.is_empty())
    }

    /// Whether it is the Namespace kind of the core group.
    pub fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.kind == "Namespace"
    }

    /// Whether it is the Application kind of Argo CD.
    pub fn is_application(&self) -> bool {
        self.group == "argoproj.io" && self.kind == "Application"
    }

    /// Whether it is the AppProject kind of Argo CD.
    pub fn is_argo_project(&self) -> bool {
        self.group == "argoproj.io" && self.kind == "AppProject"
    }

    /// Whether it is the TenantQuota kind of Gatehouse.
    pub fn is_tenant_quota(&self) -> bool {
        self.group == gatehouse_apiservice::policy::GROUP && self.kind == "TenantQuota"
    }

    /// Whether objects of this kind may count towards a layer.
    pub fn counts_towards(&self, layer: Layer) -> bool {
        let elsewhere = match &self.judge {
            Judge::Flux | Judge::Pod => false,
            Judge::Rules(rules) => rules.layers.iter().any(|(other, _)| *other == layer),
        };
        self.layer == Some(layer) || elsewhere
    }

    /// `plural.group`, the name of its CustomResourceDefinition; only the plural in the core group.
    pub fn resource_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod example_tests;
