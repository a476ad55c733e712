//! Kubernetes' own tests of lists and watches, told anew by what they hold an API server to.
//!
//! Every question is put three times: to the Kustomizations of a namespace, which are kube-apiserver's own, and to the
//! fluxresources of those Kustomizations, through the aggregator and past it. A trial that the real thing fails is
//! wrong; where the views differ on purpose, the trial says so and says why.

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
