//! End-to-end tests on the real control plane of `hack/testbed`: kube-apiserver, the stock HPA controller and Prometheus.
//! Only nodes and engines are simulated. `hack/test e2e` runs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests fail by panicking; nothing here is anybody's API"
)]

mod harness;
mod main_job;
