//! Builds the objects of a repository that would be applied, for callers that display them instead of judging them.

use std::path::{Path, PathBuf};

use gatehouse_inventory::manifest;
use serde_json::Value;

use crate::{Files, Problem, Role, build::FILE_NAMES, plan};

/// The objects of a repository that would be applied.
#[derive(Debug)]
pub struct Applied {
    /// Complete objects, in the order of their files.
    pub objects: Vec<Value>,
    /// Errors in reading or building.
    pub problems: Vec<Problem>,
}

/// Builds the objects of a folder that would be applied.
pub fn applied(folder: &Path) -> Applied {
    let mut files = Files::whole();
    files.read(folder, Role::Judged);
    let plan = plan::plan(&mut files, false);
    let objects = plan.objects.iter().filter_map(|object| Some(object.node.as_deref()?.to_value()));
    Applied { objects: objects.collect(), problems: [files.problems, plan.problems].concat() }
}

/// Whether a folder contains kustomizations that have to be built.
pub fn has_kustomizations(folder: &Path) -> bool {
    let mut folders: Vec<PathBuf> =
        files(folder).iter().filter_map(|file| Some(file.parent()?.to_path_buf())).collect();
    folders.dedup();
    folders.iter().any(|folder| FILE_NAMES.iter().any(|name| folder.join(name).is_file()))
}

/// The manifests below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    manifest::files(folder).map(|found| found.files).unwrap_or_default()
}
