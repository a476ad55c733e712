//! The executable of each image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;

use crate::gatehouse;

/// The executables of images, by their tags. An image of another tag has the executable that is tested.
#[derive(Debug, Clone)]
pub struct Executables {
    tested: PathBuf,
    others: BTreeMap<String, PathBuf>,
}

impl Executables {
    /// Only the executable that is tested; it is found or built.
    pub async fn tested() -> anyhow::Result<Self> {
        Ok(Self { tested: gatehouse::executable().await?, others: BTreeMap::new() })
    }

    /// Images of this tag have another executable.
    #[must_use]
    pub fn with(mut self, tag: &str, executable: PathBuf) -> Self {
        self.others.insert(tag.to_owned(), executable);
        self
    }

    pub(super) fn of(&self, image: &str) -> anyhow::Result<PathBuf> {
        let (_, tag) = image.rsplit_once(':').with_context(|| format!("{image} has no tag"))?;
        Ok(self.others.get(tag).unwrap_or(&self.tested).clone())
    }
}
