//! Real controllers beside Gatehouse: those of Flux that are served as modules, kube-controller-manager, kube-scheduler, and
//! kwok for the kubelets. What they write is theirs; the trials change what is to be deployed, and look.
//!
//! They share a control plane, each with namespaces of its own. Where a controller has not been built, a trial that needs
//! it is ignored.

mod applied;
mod freezes;
mod log;
mod manager;
mod notification;
mod outages;
mod scene;
mod source;
mod states;
mod steady;
mod tenants;
mod workloads;

use gatehouse_conformance::controllers::Controller;
use libtest_mimic::Trial;

pub(crate) use self::scene::Scene;
use crate::world::World;

const FLUX: &[Controller] = &[Controller::SourceController, Controller::KustomizeController];

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let modules = [
        outages::trials,
        states::trials,
        steady::trials,
        applied::trials,
        freezes::trials,
        manager::trials,
        notification::trials,
        tenants::trials,
        workloads::trials,
    ];
    modules.into_iter().flat_map(|trials| trials(world)).collect()
}
