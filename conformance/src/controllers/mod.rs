//! The controllers of a real cluster, built once from Go modules.
//!
//! That takes long, so it happens only where GATEHOUSE_CONTROLLERS=require says so, and before any trial begins.
//! Elsewhere what has been built before is used.

mod run;

use std::path::PathBuf;

pub use self::run::UNTOUCHED;
use crate::assets;
use crate::cache::{GoProgram, Unavailable};

const FLUX: [(&str, &str); 2] =
    [("go.mod", include_str!("../../flux/go.mod")), ("go.sum", include_str!("../../flux/go.sum"))];
/// A module of its own: its libraries are older than those of the two above.
const NOTIFICATION: [(&str, &str); 2] = [
    ("go.mod", include_str!("../../notification/go.mod")),
    ("go.sum", include_str!("../../notification/go.sum")),
];
const KWOK: [(&str, &str); 2] =
    [("go.mod", include_str!("../../kwok/go.mod")), ("go.sum", include_str!("../../kwok/go.sum"))];

/// What runs beside a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[expect(missing_docs, reason = "these are the programs' names")]
pub enum Controller {
    SourceController,
    KustomizeController,
    NotificationController,
    KubeControllerManager,
    KubeScheduler,
    Kwok,
}

/// It has not been built, and nobody asks for that.
#[derive(Debug, thiserror::Error)]
#[error("{0} has not been built; GATEHOUSE_CONTROLLERS=require builds it")]
pub struct NotBuilt(&'static str);

impl Controller {
    /// All there are, in the order in which they are built.
    pub const ALL: [Self; 6] = [
        Self::SourceController,
        Self::KustomizeController,
        Self::NotificationController,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kwok,
    ];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SourceController => "source-controller",
            Self::KustomizeController => "kustomize-controller",
            Self::NotificationController => "notification-controller",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }

    /// The executable, which must have been built.
    ///
    /// # Errors
    /// [`NotBuilt`], or [`Unavailable`] if there is no cache folder.
    pub fn built(self) -> anyhow::Result<PathBuf> {
        Ok(self.program().kept()?.ok_or(NotBuilt(self.name()))?)
    }

    /// The executable; built if need be, which takes up to half an hour.
    pub async fn find(self) -> Result<PathBuf, Unavailable> {
        self.program().find().await
    }

    fn program(self) -> GoProgram {
        let (files, ldflags): (&[_], _) = match self {
            Self::KubeControllerManager | Self::KubeScheduler => (&assets::MODULE, assets::ldflags().into()),
            Self::SourceController | Self::KustomizeController => (&FLUX, GoProgram::LDFLAGS),
            Self::NotificationController => (&NOTIFICATION, GoProgram::LDFLAGS),
            Self::Kwok => (&KWOK, GoProgram::LDFLAGS),
        };
        let package = match self {
            Self::SourceController => "github.com/fluxcd/source-controller",
            Self::KustomizeController => "github.com/fluxcd/kustomize-controller",
            Self::NotificationController => "github.com/fluxcd/notification-controller",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
        };
        GoProgram { name: self.name(), files, package, ldflags }
    }
}

/// Whether those that have not been built are to be, and what cannot be had is a failure.
pub fn are_required() -> bool {
    std::env::var("GATEHOUSE_CONTROLLERS").is_ok_and(|value| value == "require")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_tool_of_its_module() {
        for controller in Controller::ALL {
            let GoProgram { name, files, package, .. } = controller.program();
            let (_, go_mod) = files[0];
            let is_tool = |line: &str| line.trim().trim_start_matches("tool ") == package;
            assert!(go_mod.lines().any(is_tool), "{name}: {package} is no tool of its go.mod");
            assert!(package.ends_with(name), "{name} is built from {package}");
        }
    }
}
