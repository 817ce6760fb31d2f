//! What to scrape: the running pods of variants, or configured gateways.

use std::{net::IpAddr, sync::Arc};

use super::ScrapeTarget;
use crate::{
    config::GatewayAddress,
    interfaces::{PodDirectory, PodEndpoint},
};

/// Knows what to scrape now.
pub trait ScrapeTargets: Send + Sync {
    /// The pods that should answer: running, and of a variant; or the gateways.
    fn scrape_targets(&self) -> Vec<ScrapeTarget>;

    /// Changes whenever [`Self::scrape_targets`] may have; `None` where that is not known.
    fn revision(&self) -> Option<u64> {
        None
    }
}

/// The pods of all variants.
pub(in crate::collector) struct PodTargets {
    pub(in crate::collector) pods: Arc<dyn PodDirectory>,
    /// For pods that name no port.
    pub(in crate::collector) default_port: u16,
}

impl ScrapeTargets for PodTargets {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        self.pods.endpoints().iter().flat_map(|endpoint| of_pod(endpoint, self.default_port)).collect()
    }

    fn revision(&self) -> Option<u64> {
        self.pods.revision()
    }
}

/// One target per port: data-parallel engines listen on several.
fn of_pod(endpoint: &PodEndpoint, default_port: u16) -> Vec<ScrapeTarget> {
    let ports = if endpoint.ports.is_empty() { &[default_port][..] } else { &endpoint.ports };
    let path = endpoint.path.as_deref().unwrap_or("/metrics");
    let address = match endpoint.address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let of_port = |port| ScrapeTarget {
        namespace: endpoint.namespace.clone(),
        pod: endpoint.pod.clone(),
        url: format!("http://{address}:{port}/{}", path.trim_start_matches('/')).into(),
        model_id: endpoint.model_id.clone(),
        kv_cache_tokens: endpoint.kv_cache_tokens,
    };
    ports.iter().map(of_port).collect()
}

/// Gateways at configured addresses.
pub(in crate::collector) struct GatewayTargets(pub(in crate::collector) Vec<GatewayAddress>);

impl ScrapeTargets for GatewayTargets {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        let of = |gateway: &GatewayAddress| {
            let host = gateway.url.host_str().unwrap_or_default();
            ScrapeTarget::new(gateway.namespace.clone(), host, gateway.url.as_str())
        };
        self.0.iter().map(of).collect()
    }

    /// Configured for as long as the process runs.
    fn revision(&self) -> Option<u64> {
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_scraped_on_each_port_it_names_and_else_on_the_default() {
        let endpoint = |address: &str, ports: &[u16], path: Option<&str>| PodEndpoint {
            namespace: "prod".into(),
            pod: "p".into(),
            model_id: Some("m".into()),
            address: address.parse().unwrap(),
            ports: ports.into(),
            path: path.map(Into::into),
            kv_cache_tokens: None,
        };
        for (endpoint, expected) in [
            (endpoint("10.0.0.1", &[], None), vec!["http://10.0.0.1:8000/metrics"]),
            (endpoint("10.0.0.1", &[1, 2], Some("x")), vec!["http://10.0.0.1:1/x", "http://10.0.0.1:2/x"]),
            (endpoint("fd00::1", &[9], Some("/y")), vec!["http://[fd00::1]:9/y"]),
        ] {
            let urls: Vec<_> = of_pod(&endpoint, 8000).iter().map(|target| target.url.to_string()).collect();
            assert_eq!(urls, expected);
        }
    }
}
