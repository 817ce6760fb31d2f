//! Metrics of requests, under the names of `k8s.io/apiserver`, so that dashboards and alerts for it work.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use http::StatusCode;
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{Sample, Series};
use crate::{
    auth::{Attributes, ResourceAttributes},
    constants::MetricsGroup,
};

/// Seconds; a read is answered out of memory, a review takes milliseconds.
const DURATIONS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];
/// Seconds, as in the adapter library.
const FRESHNESS: [f64; 12] = [0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 90.0, 120.0, 300.0, 600.0];
/// Bytes.
const SIZES: [f64; 6] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8];
/// Label of what is not known: names that callers choose must not become series.
const OTHER: &str = "other";

type DurationFamily = Family<Request, Histogram, fn() -> Histogram>;
type FreshnessFamily = Family<Group, Histogram, fn() -> Histogram>;

/// Counts requests; clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct RequestMetrics {
    known: &'static [&'static str],
    families: Arc<Families>,
}

#[derive(Debug)]
struct Families {
    total: Family<Response, Counter>,
    duration: DurationFamily,
    size: DurationFamily,
    in_flight: Family<InFlight, Gauge>,
    authentication: Family<Attempt, Counter>,
    authorization: Family<Attempt, Counter>,
    freshness: FreshnessFamily,
    /// Series of [`Self::freshness`], in the order of [`MetricsGroup::ALL`].
    fresh: [Histogram; MetricsGroup::ALL.len()],
    /// Of each answer that was given before: found with one look instead of three.
    cells: RwLock<HashMap<Response, Cells, ahash::RandomState>>,
    /// The one series of [`Self::in_flight`].
    reading: Gauge,
    /// Series of [`Self::authentication`] and [`Self::authorization`], good and bad.
    authenticated: [Counter; 2],
    authorized: [Counter; 2],
}

/// Where an answer is counted.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    total: Counter,
    duration: Histogram,
    size: Histogram,
}

impl Cells {
    fn count(&self, duration: Duration, size: Option<u64>) {
        self.total.inc();
        self.duration.observe(duration.as_secs_f64());
        if let Some(size) = size {
            self.size.observe(size as f64);
        }
    }
}

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

/// What a request was about, and how it was answered. `dry_run` is always empty: nothing is written here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    verb: &'static str,
    dry_run: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlight {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Group {
    group: &'static str,
}

/// How a credential or a question of rights was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Valid; allowed.
    Good = 0,
    /// Not valid; denied.
    Bad = 1,
}

impl Default for Families {
    fn default() -> Self {
        let (in_flight, authentication, authorization) =
            (Family::<InFlight, Gauge>::default(), Family::default(), Family::default());
        let reading = in_flight.get_or_create(&InFlight { request_kind: "readOnly" }).clone();
        let both = |family: &Family<Attempt, Counter>, good, bad| {
            [good, bad].map(|result| family.get_or_create(&Attempt { result }).clone())
        };
        let freshness: FreshnessFamily = Family::new_with_constructor(|| Histogram::new(FRESHNESS));
        let fresh = MetricsGroup::ALL.map(|group| freshness.get_or_create(&Group { group: group.name() }).clone());
        Self {
            total: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            size: Family::new_with_constructor(|| Histogram::new(SIZES)),
            freshness,
            fresh,
            cells: RwLock::default(),
            reading,
            authenticated: both(&authentication, "success", "failure"),
            authorized: both(&authorization, "allowed", "denied"),
            in_flight,
            authentication,
            authorization,
        }
    }
}

impl RequestMetrics {
    /// Metrics shown by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let families = &metrics.families;
        registry.register(
            "apiserver_request",
            "Requests, by what they asked and were answered",
            families.total.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to answer, in seconds, reviews of identity and access included",
            families.duration.clone(),
        );
        registry.register("apiserver_response_sizes", "Sizes of bodies, in bytes", families.size.clone());
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests that are being answered",
            families.in_flight.clone(),
        );
        registry.register(
            "authentication_attempts",
            "Requests by whether their credentials were valid",
            families.authentication.clone(),
        );
        registry.register(
            "authorization_attempts",
            "Requests by whether their authors may do it",
            families.authorization.clone(),
        );
        registry.register(
            "metrics_apiserver_metric_freshness_seconds",
            "Age of values when they were served, in seconds",
            families.freshness.clone(),
        );
        metrics
    }

    /// The same, with the names of metrics that may become labels.
    #[must_use]
    pub(super) fn with_resources(self, known: &'static [&'static str]) -> Self {
        Self { known, ..self }
    }

    /// A request begins.
    pub(super) fn begin(&self) -> InFlightRequest {
        let gauge = self.families.reading.clone();
        gauge.inc();
        InFlightRequest { gauge, since: Instant::now() }
    }

    /// A request was answered.
    pub(super) fn end(&self, request: &InFlightRequest, of: Option<&Attributes>, code: StatusCode, size: Option<u64>) {
        let duration = request.since.elapsed();
        self.with_cells(of, code, |cells| cells.count(duration, size));
    }

    /// Where answers to requests `of` a kind with this `code` are counted.
    pub(super) fn cells(&self, of: &Attributes, code: StatusCode) -> Cells {
        self.with_cells(Some(of), code, Cells::clone)
    }

    fn with_cells<T>(&self, of: Option<&Attributes>, code: StatusCode, then: impl FnOnce(&Cells) -> T) -> T {
        let request = self.labels(of);
        let Request { verb, group, version, resource, subresource, scope, component } = request;
        let code = code.as_u16();
        let response = Response { verb, dry_run: "", group, version, resource, subresource, scope, component, code };
        let families = &self.families;
        if let Some(cells) = families.cells.read().unwrap_or_else(PoisonError::into_inner).get(&response) {
            return then(cells);
        }
        let cells = Cells {
            total: families.total.get_or_create(&response).clone(),
            duration: families.duration.get_or_create(&request).clone(),
            size: families.size.get_or_create(&request).clone(),
        };
        let result = then(&cells);
        families.cells.write().unwrap_or_else(PoisonError::into_inner).insert(response, cells);
        result
    }

    /// Credentials were judged.
    pub(super) fn authenticated(&self, verdict: Verdict) {
        self.families.authenticated[verdict as usize].inc();
    }

    /// Rights were judged.
    pub(super) fn authorized(&self, verdict: Verdict) {
        self.families.authorized[verdict as usize].inc();
    }

    /// These values were served.
    pub(super) fn serve(&self, group: MetricsGroup, series: &[(Series, Sample)]) {
        if series.is_empty() {
            return;
        }
        let now = Timestamp::now();
        let place = MetricsGroup::ALL.iter().position(|of| *of == group);
        let Some(histogram) = place.and_then(|place| self.families.fresh.get(place)) else { return };
        for (_, sample) in series {
            let age = Duration::try_from(now.duration_since(sample.timestamp)).unwrap_or_default();
            histogram.observe(age.as_secs_f64());
        }
    }

    fn labels(&self, of: Option<&Attributes>) -> Request {
        let (group, version, resource, subresource, scope, verb) = match of {
            Some(Attributes::Resource(attributes)) => {
                let ResourceAttributes { group, version, namespace, resource, subresource, name, verb } = attributes;
                let scope = match (namespace, name) {
                    (_, Some(_)) => "resource",
                    (Some(_), None) => "namespace",
                    (None, None) => "cluster",
                };
                // Metrics of objects are subresources of the object.
                let known = |name: &str| self.known.iter().find(|known| **known == name).copied();
                let metric = known(resource).or_else(|| subresource.as_deref().and_then(known)).unwrap_or(OTHER);
                let sub = if subresource.as_deref() == Some("explain") { "explain" } else { "" };
                (group_label(group), version_label(version), metric, sub, scope, verb_label(verb))
            }
            Some(Attributes::NonResource { verb, .. }) => ("", "", "", "", "", verb_label(verb)),
            None => ("", "", "", "", "", OTHER),
        };
        Request { verb, group, version, resource, subresource, scope, component: "wva" }
    }
}

/// A request that is being answered, from [`RequestMetrics::begin`] to its drop.
#[derive(Debug)]
pub(super) struct InFlightRequest {
    gauge: Gauge,
    since: Instant,
}

impl InFlightRequest {
    /// It was answered, and is counted in `cells`.
    pub(super) fn end_in(&self, cells: &Cells, size: Option<u64>) {
        cells.count(self.since.elapsed(), size);
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

fn group_label(group: &str) -> &'static str {
    MetricsGroup::from_name(group).map_or(OTHER, MetricsGroup::name)
}

fn version_label(version: &str) -> &'static str {
    ["v1beta1", "v1beta2"].into_iter().find(|known| *known == version).unwrap_or(OTHER)
}

/// Verbs in upper case, as `k8s.io/apiserver` labels them.
fn verb_label(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::MetricsRegistry;

    fn attributes(resource: &str, group: &str) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            verb: "list".into(),
            group: group.to_owned(),
            version: "v1beta1".to_owned(),
            namespace: Some("a".to_owned()),
            resource: resource.to_owned(),
            ..ResourceAttributes::default()
        })
    }

    #[test]
    fn a_request_is_counted_under_the_names_of_kubernetes_and_what_callers_invent_makes_no_series() {
        let mut registry = MetricsRegistry::new();
        let metrics = RequestMetrics::register(registry.registry_mut()).with_resources(&["wva_desired_replicas"]);
        for (resource, group) in
            [("wva_desired_replicas", "external.metrics.k8s.io"), ("nonsense-1", "g1"), ("nonsense-2", "g2")]
        {
            let request = metrics.begin();
            metrics.end(&request, Some(&attributes(resource, group)), StatusCode::OK, Some(300));
        }
        let text = registry.encode().unwrap();
        let line = r#"apiserver_request_total{verb="LIST",dry_run="",group="external.metrics.k8s.io",version="v1beta1",resource="wva_desired_replicas",subresource="",scope="namespace",component="wva",code="200"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("nonsense"), "{text}");
        assert!(text.contains(r#"group="other",version="v1beta1",resource="other""#), "{text}");
        assert!(text.contains(r#"apiserver_current_inflight_requests{request_kind="readOnly"} 0"#), "{text}");
        assert!(text.contains("apiserver_request_duration_seconds_count"), "{text}");
    }
}
