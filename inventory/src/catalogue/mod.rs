//! The kinds that are observed, as data: what each is called, which layer it counts towards, how it is
//! judged.
//!
//! The built-in rows are in `builtin/`; a file of the same form adds to them or replaces some. Everything
//! in a row is compiled when it is read, so that judging an object can only fail by what the object holds,
//! and then says so as [`State::Unknown`](crate::State::Unknown).

mod cron;
mod draft;
mod error;
mod expression;
mod file;
mod form;
mod game;
mod link;
mod matching;
mod observe;
mod path;
mod quota;
mod rule;
pub(crate) mod tree;

use std::{fmt, path::Path};

pub(crate) use draft::{Draft, clip};
pub use error::{CatalogueError, Undecodable};
pub(crate) use observe::namespace_of;

use crate::{GameKind, Layer, expression::Functions};

macro_rules! builtin {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("builtin/", $name)))),*] };
}

/// In the order in which kinds are told.
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
    /// Functions for the rules' expressions: making the table costs more than judging an object.
    functions: Functions,
    flux_texts: bool,
}

/// A kind that is observed.
#[derive(Debug)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// `kind`.
    pub kind: String,
    /// The resource's plural name.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The part of the cluster that its objects' health counts towards, if any.
    pub layer: Option<Layer>,
    /// Whose game servers its objects are, if they are.
    pub game: Option<GameKind>,
    judge: Judge,
}

/// How a kind's objects are judged.
#[derive(Debug)]
enum Judge {
    /// By the state rule of Flux's kinds.
    Flux,
    /// By the catalogue's rules.
    Rules(Box<rule::Rules>),
}

impl Catalogue {
    /// The kinds that come with Gatehouse.
    pub fn builtin() -> Self {
        let mut catalogue = Self { kinds: Vec::new(), functions: expression::functions(), flux_texts: false };
        for (file, text) in BUILTIN {
            catalogue.add(file, text).expect("the built-in catalogue is part of the build and tested");
        }
        catalogue
    }

    /// Adds the kinds of a file. One that is known already is replaced.
    pub fn with_file(mut self, path: &Path) -> Result<Self, CatalogueError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.add(&file, &text).map(|()| self),
            Err(source) => Err(CatalogueError::Read { file, source }),
        }
    }

    /// Keeps of Flux's objects what only metrics tell, too.
    #[must_use]
    pub fn with_flux_texts(self) -> Self {
        Self { flux_texts: true, ..self }
    }

    pub(crate) fn keeps_flux_texts(&self) -> bool {
        self.flux_texts
    }

    /// The kind with this id, which this catalogue handed out.
    pub fn kind(&self, id: KindId) -> &Kind {
        &self.kinds[usize::from(id.0)]
    }

    /// Every kind.
    pub fn kinds(&self) -> impl Iterator<Item = (KindId, &Kind)> {
        // Its length was checked against u16 when it grew.
        (0u16..).map(KindId).zip(&self.kinds)
    }

    /// The kind of this group (empty for the core group) and name.
    pub fn find(&self, group: &str, kind: &str) -> Option<KindId> {
        self.kinds().find(|(_, row)| row.kind == kind && row.group == group).map(|(id, _)| id)
    }

    /// How many kinds there are.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none, which no catalogue made from the built-in one is.
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
    /// Whether the Flux views show it: the toolkit's kinds and those of the Flux operator that reconcile.
    pub fn is_flux(&self) -> bool {
        matches!(self.judge, Judge::Flux)
    }

    /// Whether it is the core group's Namespace.
    pub fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.kind == "Namespace"
    }

    /// Whether it is Gatehouse's own TenantQuota.
    pub fn is_tenant_quota(&self) -> bool {
        self.group == gatehouse_apiservice::policy::GROUP && self.kind == "TenantQuota"
    }

    /// Whether objects of this kind may count towards a layer.
    pub fn counts_towards(&self, layer: Layer) -> bool {
        let elsewhere = match &self.judge {
            Judge::Flux => false,
            Judge::Rules(rules) => rules.layers.iter().any(|(other, _)| *other == layer),
        };
        self.layer == Some(layer) || elsewhere
    }

    /// `plural.group`, as CustomResourceDefinitions are named; the plural alone in the core group.
    pub fn resource_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod example_tests;
