//! Manifests as they will be applied: what kustomize makes of kustomization files, and Flux of its Kustomizations.
//!
//! Built here is what most repositories use: resources, components, patches, namespace, names, labels, annotations,
//! images, replacements. Every part of a built object keeps the place in the file that brought it, so that a finding names the patch
//! and not the base.

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
    kustomization::{FILE_NAMES, Kustomization, Reference, patch as patch_source},
    layer::Layers,
    object::{Built, Id},
    substitute::{Variables, substitute},
};
use gatehouse_inventory::yaml::{At, Node};

/// Why nothing can be built: kustomize would refuse it as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) at: At,
    pub(crate) message: String,
}

/// The files that are built from.
pub(crate) trait Repository {
    /// Where a folder is spoken of, if nothing in it can be.
    fn place(&mut self, folder: &Path) -> At;
    /// The kustomization file of a folder, if it has one.
    fn kustomization(&mut self, folder: &Path) -> Result<Option<Node>, Failure>;
    /// The objects of a file; `named`: by a kustomization, which has to exist then.
    fn objects(&mut self, path: &Path, named: Option<At>) -> Result<Vec<Built>, Failure>;
    /// The documents of a file, whatever they are; else why its text is not known here.
    fn documents(&mut self, path: &Path, named: At) -> Result<Result<Vec<Node>, String>, Failure>;
    /// The documents of a text within a document.
    fn inline(&mut self, text: &Node) -> Result<Vec<Node>, Failure>;
    /// The manifests below a folder, and the folders that have a kustomization file, which stand for what is in them.
    fn manifests(&mut self, folder: &Path) -> Vec<PathBuf>;
    /// The text of a file.
    fn text(&mut self, path: &Path) -> Option<String>;
}

/// Without `.` and `..`. Links stay, as they do for kustomize.
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
