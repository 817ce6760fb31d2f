//! Integration tests: parts of the product against each other and against real peers, without a cluster.

mod architecture;
mod collector_prometheus;
mod collector_support;
mod collector_tls;
mod collector_transport;
mod config;
mod controller;
mod crd;
mod discovery;
mod discovery_api;
