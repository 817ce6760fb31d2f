//! Where a pod exposes its metrics.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::pod_template::Container;

/// `"false"` says that the pod exposes none, `"true"` that it wants to be scraped, whoever it belongs to.
const SCRAPE: &str = "prometheus.io/scrape";
/// A port; several, separated by commas, where each rank of a data-parallel engine listens on its own.
const PORT: &str = "prometheus.io/port";
const PATH: &str = "prometheus.io/path";
/// Names of container ports that serve metrics, the first that is there.
const PORT_NAMES: [&str; 2] = ["metrics", "http"];

/// Where a pod exposes its metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// Address of the pod.
    pub address: IpAddr,
    /// Ports it names; empty where it names none.
    pub ports: Box<[u16]>,
    /// Path it names.
    pub path: Option<Arc<str>>,
    /// Whether it asks to be scraped.
    pub asks: bool,
}

impl Exposed {
    /// What a pod with this address, these annotations and these containers exposes; `None` without an address, and where
    /// it declines.
    pub(crate) fn new(
        address: Option<&str>,
        annotations: Option<&BTreeMap<String, String>>,
        containers: &[Container],
    ) -> Option<Self> {
        let address = address?.parse().ok()?;
        let annotation = |name| annotations.and_then(|annotations| annotations.get(name)).map(String::as_str);
        if annotation(SCRAPE) == Some("false") {
            return None;
        }
        let annotated: Box<[u16]> = annotation(PORT).into_iter().flat_map(ports).collect();
        let ports = if annotated.is_empty() { named_port(containers).into_iter().collect() } else { annotated };
        let path = annotation(PATH).filter(|path| !path.is_empty()).map(Arc::from);
        Some(Self { address, ports, path, asks: annotation(SCRAPE) == Some("true") })
    }
}

fn ports(text: &str) -> impl Iterator<Item = u16> {
    text.split(',').filter_map(|port| port.trim().parse().ok()).filter(|port| *port != 0)
}

fn named_port(containers: &[Container]) -> Option<u16> {
    let named = |name: &&str| containers.iter().flat_map(|container| &container.ports).find(|port| port.name == **name);
    PORT_NAMES.iter().find_map(named).map(|port| port.container_port)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_come_before_names_of_ports_and_a_pod_may_decline() {
        let containers: Vec<Container> = serde_json::from_value(json!([
            {"name": "router", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 5557}]},
            {"name": "engine", "ports": [{"containerPort": 8200, "name": "metrics"}]},
        ]))
        .unwrap();
        let found = |annotations: &[(&str, &str)], containers: &[Container]| {
            let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let exposed = Exposed::new(Some("10.0.0.1"), Some(&annotations), containers)?;
            Some((exposed.ports.to_vec(), exposed.path.map(|path| path.to_string())))
        };
        let http_only = &containers[..1];
        for (annotations, containers, expected) in [
            (&[][..], &[][..], Some((vec![], None))),
            (&[], &containers, Some((vec![8200], None))),
            (&[], http_only, Some((vec![80], None))),
            (&[(PORT, "9000")], &containers, Some((vec![9000], None))),
            (&[(PORT, "9000, 9001"), (PATH, "/m")], &containers, Some((vec![9000, 9001], Some("/m".to_owned())))),
            (&[(PORT, "metrics")], &containers, Some((vec![8200], None))),
            (&[(PORT, "0")], &[], Some((vec![], None))),
            (&[(SCRAPE, "true")], &[], Some((vec![], None))),
            (&[(SCRAPE, "false")], &containers, None),
        ] {
            assert_eq!(found(annotations, containers), expected, "{annotations:?}");
        }
    }

    #[test]
    fn a_pod_asks_to_be_scraped_by_an_annotation_only() {
        let asks = |value: &str| {
            let annotations = [(SCRAPE.to_owned(), value.to_owned()), (PORT.to_owned(), "9000".to_owned())].into();
            Exposed::new(Some("10.0.0.1"), Some(&annotations), &[]).map(|exposed| exposed.asks)
        };
        assert_eq!([asks("true"), asks("yes"), asks("false")], [Some(true), Some(false), None]);
    }

    #[test]
    fn a_pod_without_an_address_exposes_nothing_yet() {
        for address in [None, Some(""), Some("pending")] {
            assert_eq!(Exposed::new(address, None, &[]), None);
        }
        assert!(Exposed::new(Some("fd00::1"), None, &[]).is_some_and(|exposed| exposed.address.is_ipv6()));
    }
}
