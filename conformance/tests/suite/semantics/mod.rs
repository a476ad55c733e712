//! Kubernetes' own tests of lists and watches, reimplemented by the behaviour that they require of an API server.
//!
//! Each request is sent three times: for the Kustomizations of a namespace, which kube-apiserver serves, and for the
//! fluxresources of these Kustomizations, through the aggregator and directly. A trial that kube-apiserver fails is
//! wrong. If the views differ deliberately, the trial says so, with the reason.

mod compare;
mod expiry;
mod forms;
mod kubectl;
mod lists;
mod options;
mod subject;
mod watches;

use libtest_mimic::Trial;

use crate::world::World;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    let modules =
        [watches::trials, expiry::trials, options::trials, lists::trials, forms::trials, kubectl::trials];
    modules.into_iter().flat_map(|trials| trials(world)).collect()
}
