//! The conformance suite: one control plane, many trials.
//!
//! Where no control plane can be had the trials are reported as ignored, with the reason, unless
//! GATEHOUSE_CONFORMANCE=require. A trial is an `async fn` of a module beside this file, named in its `trials`.

mod control_plane;
mod supervision;
mod world;

use std::process::ExitCode;

use gatehouse_conformance::supervise;
use libtest_mimic::{Arguments, Trial};

use crate::world::World;

fn main() -> ExitCode {
    supervise::intercept();
    let arguments = Arguments::from_args();
    let world = World::new(&arguments);
    let conclusion = libtest_mimic::run(&arguments, trials(&world));
    world.end();
    conclusion.exit_code()
}

fn trials(world: &World) -> Vec<Trial> {
    let modules = [control_plane::trials, supervision::trials];
    modules.into_iter().flat_map(|trials| trials(world)).collect()
}
