//! Metrics of connections, under the names of `k8s.io/apiserver`.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counts what becomes of connections; clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct ServingMetrics {
    handshake_errors: Counter,
}

impl ServingMetrics {
    /// Metrics shown by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "apiserver_tls_handshake_errors",
            "Connections that ended before TLS was agreed on, those that took too long included",
            metrics.handshake_errors.clone(),
        );
        metrics
    }

    pub(super) fn handshake_failed(&self) {
        self.handshake_errors.inc();
    }
}
