//! Runs a real control plane on this machine, with what the test suites and the benchmarks need around it.
//!
//! kube-apiserver and etcd are child processes that cannot outlive their owner (see [`supervise`]). They use
//! loopback ports and a folder of their own, so that any number of control planes run side by side. An
//! executable that links this crate must call [`supervise::intercept`] first in `main`.

pub mod assets;
pub mod cache;
pub mod chart;
pub mod contents;
pub mod control_plane;
pub mod controllers;
pub mod crds;
pub mod definitions;
pub mod foreign;
pub mod front;
pub mod gatehouse;
pub mod helm;
pub mod image;
pub mod install;
pub mod krew;
pub mod kubeconfig;
pub mod kubectl;
pub mod load;
pub mod pace;
pub mod ports;
pub mod process;
pub mod progress;
pub mod prometheus;
pub mod registration;
pub mod registry;
pub mod sample_apiserver;
pub mod spokes;
pub mod spread;
pub mod supervise;
pub mod traffic;
pub mod webhooks;
