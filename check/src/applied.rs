//! What would be applied of a repository, for whoever shows it instead of judging it.

use std::path::{Path, PathBuf};

use gatehouse_inventory::manifest;
use serde_json::Value;

use crate::{Files, Problem, Role, build::FILE_NAMES, plan};

/// The objects of a repository, as they would be applied.
#[derive(Debug)]
pub struct Applied {
    /// Whole objects, in the order of their files.
    pub objects: Vec<Value>,
    /// What could not be read or built.
    pub problems: Vec<Problem>,
}

/// Builds what would be applied of a folder.
pub fn applied(folder: &Path) -> Applied {
    let mut files = Files::whole();
    files.read(folder, Role::Judged);
    let plan = plan::plan(&mut files, false);
    let objects = plan.objects.iter().filter_map(|object| Some(object.node.as_deref()?.to_value()));
    Applied { objects: objects.collect(), problems: [files.problems, plan.problems].concat() }
}

/// Whether anything in a folder has to be built.
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
