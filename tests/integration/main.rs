//! Integration tests: parts of the product against each other and against real peers, without a cluster.

mod collector_prometheus;
mod collector_support;
mod collector_tls;
mod collector_transport;
