//! Builds manifests as they will be applied, as kustomize does from kustomization files and Flux from its
//! Kustomizations.
//!
//! It supports the features that most repositories use: resources, components, patches, namespace, names, labels,
//! annotations, images, replacements.
//!
//! **Invariant:** Every part of a built object keeps the position in the file that it came from, so a finding names the
//! patch and not the base.

mod envsubst;
mod filled;
mod kustomization;
mod layer;
mod object;
mod patch;
mod replacement;
mod substitute;
#[cfg(test)]
mod tests;
mod transform;

use std::path::{Path, PathBuf};

pub(crate) use self::{
    filled::refilled,
    kustomization::{FILE_NAMES, Kustomization, PatchSource, Reference},
    layer::Layers,
    object::{Built, Id},
    substitute::{Variables, substitute},
};
use gatehouse_inventory::yaml::{At, Node};

/// Why a build fails: kustomize would fail as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) at: At,
    pub(crate) message: String,
}

/// The files to build from.
pub(crate) trait Repository {
    /// The position of a folder, for messages that cannot name a position in its files.
    fn place(&mut self, folder: &Path) -> At;
    /// The kustomization file of a folder, if it has one.
    fn kustomization(&mut self, folder: &Path) -> Result<Option<Node>, Failure>;
    /// The objects of a file. `named`: the position of the kustomization's reference; the file must exist then.
    fn objects(&mut self, path: &Path, named: Option<At>) -> Result<Vec<Built>, Failure>;
    /// The documents of a file, of any kind; or why its text is unknown here.
    fn documents(&mut self, path: &Path, named: At) -> Result<Result<Vec<Node>, String>, Failure>;
    /// The documents of an inline text.
    fn inline(&mut self, text: &Node) -> Result<Vec<Node>, Failure>;
    /// The manifests below a folder. A folder that has a kustomization file is returned in place of its content.
    fn manifests(&mut self, folder: &Path) -> Vec<PathBuf>;
    /// The text of a file; `None` if it is binary.
    fn text(&mut self, path: &Path) -> std::io::Result<Option<String>>;
}

/// Removes `.` and `..`. Symbolic links are kept, as in kustomize.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}
