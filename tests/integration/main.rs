//! Integration tests: parts of the product against each other and against real peers, without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod apiserver;
mod apiserver_access;
mod apiserver_fuzz;
mod apiserver_harness;
mod apiserver_shutdown;
mod architecture;
mod audit;
mod collector_history;
mod collector_prometheus;
mod collector_support;
mod collector_tls;
mod collector_transport;
mod config;
mod controller;
mod controller_cluster;
mod crd;
mod delegation;
mod discovery;
mod discovery_api;
mod faults;
mod fleet;
mod fleet_theory;
mod keda;
mod manifests;
mod serving_limits;
mod serving_tls;
mod supply_chain;
