//! End-to-end tests on the real control plane of `hack/testbed`: kube-apiserver, the stock HPA controller and Prometheus.
//! Only nodes and engines are simulated. `hack/test e2e` runs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests fail by panicking; nothing here is anybody's API"
)]

mod actuation;
mod bad_input;
mod clients;
mod delegation;
mod differential;
mod harness;
mod high_availability;
mod hpa_model;
mod install;
mod keda;
mod limits;
mod main_job;
mod not_a_number;
mod outage_of_prometheus;
mod reaction_time;
mod restarts;
mod security;
mod serving_certificate;
mod slow_connections;
mod startup;
mod stock_hpa;
mod ways_in;
mod without_metrics;
