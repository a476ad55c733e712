//! The conformance suite: one control plane, one registered Gatehouse, many trials.
//!
//! If no control plane is available, the trials are reported as ignored with the reason, unless
//! GATEHOUSE_CONFORMANCE=require. A trial is an `async fn` in a module beside this file, listed in its `trials`.

mod access;
mod actions;
mod alerts;
mod argo;
mod audit;
mod authentication;
mod availability;
mod bad_input;
mod caller;
mod chance;
mod changes;
mod chart;
mod cluster_actions;
mod cluster_commands;
mod cluster_origins;
mod clusters;
mod control_plane;
mod controllers;
mod delay;
mod do_no_harm;
mod explain;
mod flux;
mod flux_metrics;
mod games;
mod gate;
mod gate_bad_input;
mod gate_cel_oracle;
mod gate_charges;
mod gate_check;
mod gate_existing;
mod gate_expressions;
mod gate_freezes;
mod gate_going;
mod gate_held;
mod gate_held_back;
mod gate_kruise;
mod gate_ledger;
mod gate_memory;
mod gate_mutation;
mod gate_overshoot;
mod gate_owners;
mod gate_policies;
mod gate_policy_settings;
mod gate_quotas;
mod gate_registration;
mod gate_requests;
mod gate_suspension;
mod gate_tenants;
mod helm_lifecycle;
mod histories;
mod hostile;
mod idle;
mod image;
mod informers;
mod inventories;
mod kubectl;
mod my_authorizers;
mod my_namespaces;
mod my_replicas;
mod plugin;
mod problems;
mod production;
mod relay;
mod restore;
mod rights;
mod self_management;
mod semantics;
mod site;
mod storm;
mod supervision;
mod tls;
mod truth;
mod upstream;
mod watch_rights;
mod watch_wire;
mod world;

use std::process::ExitCode;

use gatehouse_conformance::supervise;
use libtest_mimic::{Arguments, Trial};

use crate::world::World;

/// Trials spend most of their time waiting for other processes. More of them at a time, each with a control plane of its
/// own, keep two cores so busy that time limits of etcd, kube-apiserver and controllers pass.
const AT_A_TIME: usize = 3;

fn main() -> ExitCode {
    supervise::intercept();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let world = World::new(&arguments);
    let conclusion = libtest_mimic::run(&arguments, trials(&world));
    world.end();
    conclusion.exit_code()
}

/// The longest trials begin first.
fn trials(world: &World) -> Vec<Trial> {
    let modules = [
        gate_overshoot::trials,
        gate_kruise::trials,
        gate_ledger::trials,
        storm::trials,
        controllers::trials,
        image::trials,
        production::trials,
        idle::trials,
        helm_lifecycle::trials,
        do_no_harm::trials,
        hostile::trials,
        self_management::trials,
        gate_quotas::trials,
        gate_charges::trials,
        gate_owners::trials,
        gate_requests::trials,
        gate_freezes::trials,
        gate_going::trials,
        gate_held::trials,
        gate_held_back::trials,
        gate_suspension::trials,
        gate_tenants::trials,
        gate_registration::trials,
        gate_memory::trials,
        gate_mutation::trials,
        gate_existing::trials,
        gate_policies::trials,
        gate_expressions::trials,
        gate_cel_oracle::trials,
        gate_policy_settings::trials,
        gate_check::trials,
        gate_bad_input::trials,
        my_replicas::trials,
        my_authorizers::trials,
        availability::trials,
        rights::trials,
        semantics::trials,
        restore::trials,
        upstream::trials,
        informers::trials,
        watch_rights::trials,
        watch_wire::trials,
        access::trials,
        actions::trials,
        audit::trials,
        authentication::trials,
        tls::trials,
        truth::trials,
        explain::trials,
        flux_metrics::trials,
        kubectl::trials,
        my_namespaces::trials,
        plugin::trials,
        problems::trials,
        games::trials,
        inventories::trials,
        histories::trials,
        argo::trials,
        bad_input::trials,
        changes::trials,
        chart::trials,
        cluster_actions::trials,
        cluster_commands::trials,
        cluster_origins::trials,
        clusters::trials,
        control_plane::trials,
        supervision::trials,
    ];
    modules.into_iter().flat_map(|trials| trials(world)).collect()
}
