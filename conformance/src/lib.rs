//! A real control plane on this machine, and what the suites and the benchmarks need around it.
//!
//! kube-apiserver and etcd run as children that cannot outlive their owner (see [`supervise`]), on loopback ports and
//! in a folder of their own, so that any number of control planes run side by side. Whoever links this crate into an
//! executable calls [`supervise::intercept`] as the first thing in `main`.

pub mod assets;
pub mod cache;
pub mod chart;
pub mod control_plane;
pub mod crds;
pub mod definitions;
pub mod foreign;
pub mod gatehouse;
pub mod helm;
pub mod image;
pub mod install;
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
pub mod spread;
pub mod supervise;
pub mod traffic;
pub mod webhooks;
