//! Restores etcd from a backup: the control plane stops and starts with earlier data.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{ControlPlane, START_TIMEOUT, wait_for_port, wait_until_ready};
use crate::progress;

/// A copy of etcd's data.
#[derive(Debug)]
pub struct Backup(PathBuf);

impl ControlPlane {
    /// Copies etcd's data. The control plane is stopped for this and started again.
    pub async fn back_up(&mut self) -> anyhow::Result<Backup> {
        let backup = self.folder().join("backup");
        let data = self.data();
        self.between_lives(|| copy(&data, &backup)).await?;
        Ok(Backup(backup))
    }

    /// Restores the data of a backup. The resourceVersions go back as well, because the revision is not
    /// bumped.
    pub async fn restore(&mut self, Backup(backup): &Backup) -> anyhow::Result<()> {
        let data = self.data();
        self.between_lives(|| {
            fs::remove_dir_all(&data)?;
            copy(backup, &data)
        })
        .await
    }

    fn data(&self) -> PathBuf {
        self.folder().join("etcd")
    }

    /// Stops both programs, runs `work`, and starts both on the same ports.
    async fn between_lives(
        &mut self,
        work: impl FnOnce() -> std::io::Result<()> + Send,
    ) -> anyhow::Result<()> {
        for running in [&mut self.api_server, &mut self.etcd] {
            running.end().await?;
        }
        work().context("etcd's data")?;
        self.etcd = self.scratch.spawn("etcd", &self.programs.etcd)?;
        wait_for_port(&mut self.etcd, self.programs.etcd_port).await?;
        self.api_server = self.scratch.spawn("kube-apiserver", &self.programs.api_server)?;
        let client = self.client().await?;
        let ready = wait_until_ready(&mut self.api_server, &client, "/readyz", START_TIMEOUT);
        progress::during("starting etcd and kube-apiserver again", ready).await
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
