//! The one shared state between deciding and serving: the latest decisions, in memory.
//!
//! The engine publishes a whole set at once; readers see the old set or the new one, never a mixture. A decision older
//! than its limit is refused, so a stopped engine makes the HPA hold instead of obeying yesterday's number.

mod series;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    apiserver::{MetricsProvider, Refusal, Series, UnknownMetric},
    clock::Clock,
    constants::{
        WVA_CURRENT_REPLICAS, WVA_DESIRED_RATIO, WVA_DESIRED_REPLICAS, WVA_SATURATION_LEVEL, WVA_SCALING_DECISION,
    },
    interfaces::{Decision, age},
};

const METRICS: [&str; 5] =
    [WVA_DESIRED_REPLICAS, WVA_CURRENT_REPLICAS, WVA_DESIRED_RATIO, WVA_SATURATION_LEVEL, WVA_SCALING_DECISION];

/// The latest decisions, and their rendering as series of the external metrics API.
#[derive(Debug)]
pub struct DecisionStore {
    clock: Arc<dyn Clock>,
    controller_instance: Option<Arc<str>>,
    published: ArcSwap<Published>,
}

#[derive(Debug, Default)]
struct Published {
    max_age: Duration,
    decisions: Arc<[Decision]>,
    /// Series per metric and namespace, rendered once per publication.
    series: BTreeMap<&'static str, BTreeMap<Arc<str>, Vec<Series>>>,
}

impl DecisionStore {
    /// An empty store. `controller_instance` becomes a label of every series, where several installations share a cluster.
    pub fn new(clock: Arc<dyn Clock>, controller_instance: Option<Arc<str>>) -> Self {
        Self { clock, controller_instance, published: ArcSwap::default() }
    }

    /// Replaces all decisions. Values older than `max_age` are refused from then on.
    pub fn publish(&self, decisions: Vec<Decision>, max_age: Duration) {
        let mut series: BTreeMap<&'static str, BTreeMap<Arc<str>, Vec<Series>>> = BTreeMap::new();
        for decision in &decisions {
            for (metric, item) in series::of(decision, self.controller_instance.as_deref()) {
                series.entry(metric).or_default().entry(decision.variant.namespace.clone()).or_default().push(item);
            }
        }
        self.published.store(Arc::new(Published { max_age, decisions: decisions.into(), series }));
    }

    /// The latest decisions.
    pub fn decisions(&self) -> Arc<[Decision]> {
        self.published.load().decisions.clone()
    }

    /// The series with its value refused when it is too old.
    fn aged(&self, series: &Series, max_age: Duration) -> Series {
        let Ok(sample) = &series.value else { return series.clone() };
        let old = age(self.clock.now(), sample.timestamp);
        if old <= max_age {
            return series.clone();
        }
        let message = format!(
            "variant {}/{}: the last decision is {} s old and refused after {} s; check the logs of wva for the reason its engine stopped",
            series.namespace,
            series.subject,
            old.as_secs(),
            max_age.as_secs()
        );
        Series { value: Err(Refusal { message }), ..series.clone() }
    }
}

impl MetricsProvider for DecisionStore {
    fn metric_names(&self) -> &[&'static str] {
        &METRICS
    }

    fn select(
        &self,
        namespace: Option<&str>,
        metric: &str,
        matches: &dyn Fn(&BTreeMap<String, String>) -> bool,
    ) -> Result<Vec<Series>, UnknownMetric> {
        if !METRICS.contains(&metric) {
            return Err(UnknownMetric);
        }
        let published = self.published.load();
        let Some(namespaces) = published.series.get(metric) else { return Ok(Vec::new()) };
        let selected = namespaces
            .iter()
            .filter(|(name, _)| namespace.is_none_or(|namespace| namespace == &***name))
            .flat_map(|(_, series)| series)
            .filter(|series| matches(&series.labels))
            .map(|series| self.aged(series, published.max_age))
            .collect();
        Ok(selected)
    }

    fn subjects(&self, namespace: &str) -> Vec<Arc<str>> {
        let published = self.published.load();
        let in_namespace = published.decisions.iter().filter(|decision| &*decision.variant.namespace == namespace);
        in_namespace.map(|decision| decision.variant.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        clock::SimulatedClock,
        interfaces::{
            Desired, Direction, EngineName, ModelKey, Outcome, Reason, SaturationLevel, Signal, VariantKey, Withheld,
            WithheldKind,
        },
    };

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn decision(name: &str, outcome: Outcome) -> Decision {
        Decision {
            variant: VariantKey::new("prod", name),
            model: ModelKey::new("prod", "meta/llama"),
            accelerator: Some("H100".into()),
            current: Some(2),
            ready: 2,
            decided_at: start(),
            saturation: SaturationLevel { kv_cache: Signal::present(0.875, start()), queue_depth: Signal::Missing },
            outcome,
        }
    }

    fn three() -> Outcome {
        Outcome::Desired(Desired {
            replicas: 3,
            unconstrained: 3,
            direction: Direction::Up,
            reason: Reason { engine: EngineName::Saturation, text: "busy".to_owned() },
            bound_by: None,
            oldest_input: None,
        })
    }

    fn store() -> (Arc<SimulatedClock>, DecisionStore) {
        let clock = Arc::new(SimulatedClock::new(start()));
        let store = DecisionStore::new(clock.clone(), None);
        let withheld =
            Outcome::Withheld(Withheld { kind: WithheldKind::MetricsMissing, message: "nothing".to_owned() });
        store.publish(vec![decision("a", three()), decision("b", withheld)], Duration::from_secs(120));
        (clock, store)
    }

    fn values(
        store: &DecisionStore,
        metric: &str,
        variant: &str,
    ) -> Vec<(BTreeMap<String, String>, Result<u64, String>)> {
        let selected = store.select(Some("prod"), metric, &|labels| labels["variant_name"] == variant).unwrap();
        selected
            .into_iter()
            .map(|series| (series.labels.as_ref().clone(), series.value.map(|s| s.milli).map_err(|r| r.message)))
            .collect()
    }

    #[test]
    fn one_item_per_variant_with_the_contracts_labels() {
        let (_, store) = store();
        let found = values(&store, WVA_DESIRED_REPLICAS, "a");
        let labels =
            [("accelerator_type", "H100"), ("model_name", "meta/llama"), ("namespace", "prod"), ("variant_name", "a")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(found, [(labels, Ok(3000))]);
        assert_eq!(values(&store, WVA_CURRENT_REPLICAS, "a")[0].1, Ok(2000));
        assert_eq!(values(&store, WVA_DESIRED_RATIO, "a")[0].1, Ok(1500));
    }

    #[test]
    fn the_scaling_decision_is_one_item_whose_label_tells_the_direction() {
        let (_, store) = store();
        let found = values(&store, WVA_SCALING_DECISION, "a");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0["direction"].as_str(), &found[0].1), ("up", &Ok(1000)));
    }

    #[test]
    fn a_saturation_signal_that_is_missing_is_refused_not_zero() {
        let (_, store) = store();
        let found: BTreeMap<_, _> = values(&store, WVA_SATURATION_LEVEL, "a")
            .into_iter()
            .map(|(labels, value)| (labels["signal"].clone(), value))
            .collect();
        assert_eq!(found["kv_cache"], Ok(875));
        assert!(found["queue_depth"].is_err());
    }

    #[test]
    fn a_withheld_decision_is_refused_with_its_own_message_but_current_replicas_stay_readable() {
        let (_, store) = store();
        assert_eq!(values(&store, WVA_DESIRED_REPLICAS, "b")[0].1, Err("nothing".to_owned()));
        assert_eq!(values(&store, WVA_CURRENT_REPLICAS, "b")[0].1, Ok(2000));
    }

    #[test]
    fn a_decision_older_than_its_limit_is_refused() {
        let (clock, store) = store();
        clock.advance(Duration::from_secs(120));
        assert_eq!(values(&store, WVA_DESIRED_REPLICAS, "a")[0].1, Ok(3000));
        clock.advance(Duration::from_secs(1));
        let refused = values(&store, WVA_DESIRED_REPLICAS, "a")[0].1.clone().unwrap_err();
        assert!(refused.starts_with("variant prod/a: the last decision is 121 s old"), "{refused}");
    }

    #[test]
    fn unknown_metrics_are_told_from_empty_ones_and_a_variant_that_left_is_gone() {
        let (_, store) = store();
        assert!(store.select(Some("prod"), "wva_nonsense", &|_| true).is_err());
        assert!(store.select(Some("other"), WVA_DESIRED_REPLICAS, &|_| true).unwrap().is_empty());
        assert_eq!(store.select(None, WVA_DESIRED_REPLICAS, &|_| true).unwrap().len(), 2);
        store.publish(Vec::new(), Duration::from_secs(120));
        assert!(store.select(None, WVA_DESIRED_REPLICAS, &|_| true).unwrap().is_empty());
        assert!(store.subjects("prod").is_empty());
    }
}
