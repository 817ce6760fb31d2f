//! Integration tests: parts of the product against each other and against real peers, without a cluster.

mod architecture;
mod config;
mod controller;
mod crd;
mod discovery;
mod discovery_api;
