//! Decisions as gauges on `/metrics`, under the names and labels they are served with to the HPA.
//!
//! The gauges are written out of the newest decisions on every scrape, so that nothing is left of a variant that went
//! away, a decision that is withheld, or one that is too old. A withheld decision has no desired replicas; what was
//! observed (current replicas, saturation) still shows.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Unit,
};

use super::{MetricsRegistry, engines::EngineMetrics};
use crate::{
    clock::Clock,
    constants::{
        LABEL_DIRECTION, LABEL_SIGNAL, WVA_CURRENT_REPLICAS, WVA_DESIRED_RATIO, WVA_DESIRED_REPLICAS,
        WVA_SATURATION_LEVEL, WVA_SCALING_DECISION,
    },
    interfaces::{Decision, Desired, Outcome, Signal, Snapshot, wire_labels},
};

/// Cycles take milliseconds when warm; the last bucket is the default interval.
const CYCLE_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Metrics of decisions and of the cycles that make them.
#[derive(Clone, Debug)]
pub struct DecisionMetrics {
    published: Arc<Published>,
    engines: EngineMetrics,
    withheld: Family<[(&'static str, &'static str); 1], Counter>,
    cycle_duration: Histogram,
}

impl DecisionMetrics {
    /// Registers the metrics. Decisions older than `max_age` are not shown; `controller_instance` becomes a label.
    pub fn register(
        registry: &mut MetricsRegistry,
        clock: Arc<dyn Clock>,
        max_age: Duration,
        controller_instance: Option<&str>,
    ) -> Self {
        let engines = EngineMetrics::register(registry, clock.clone(), controller_instance);
        let published = Arc::new(Published {
            decisions: Mutex::new(Arc::new([])),
            max_age_micros: AtomicU64::new(micros(max_age)),
            controller_instance: controller_instance.map(Into::into),
            clock,
        });
        let withheld = Family::default();
        let cycle_duration = Histogram::new(CYCLE_BUCKETS);
        let registry = registry.registry_mut();
        registry.register_collector(Box::new(published.clone()));
        // The registry appends `_total` and `_seconds`.
        registry.register(
            "wva_decisions_withheld",
            "Decisions that were withheld for lack of inputs, one per variant and cycle",
            withheld.clone(),
        );
        registry.register_with_unit(
            "wva_cycle_duration",
            "Time a decision cycle took",
            Unit::Seconds,
            cycle_duration.clone(),
        );
        Self { published, engines, withheld, cycle_duration }
    }

    /// Replaces all decisions with these. A variant without one disappears.
    pub fn publish(&self, decisions: impl Into<Arc<[Decision]>>) {
        let decisions = decisions.into();
        for decision in &*decisions {
            self.count(decision);
        }
        *self.published.lock() = decisions;
    }

    /// Replaces what decisions were made on.
    pub fn observe(&self, snapshot: Arc<Snapshot>) {
        self.engines.publish(snapshot);
    }

    /// Records how long a cycle took.
    pub fn observe_cycle(&self, duration: Duration) {
        self.cycle_duration.observe(duration.as_secs_f64());
    }

    /// Changes how old a decision may be to be shown: `ages.decision`.
    pub fn set_max_age(&self, max_age: Duration) {
        self.published.max_age_micros.store(micros(max_age), Ordering::Relaxed);
    }

    fn count(&self, decision: &Decision) {
        if let Outcome::Withheld(withheld) = &decision.outcome {
            self.withheld.get_or_create(&[("reason", withheld.kind.as_str())]).inc();
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The newest decisions.
#[derive(Debug)]
struct Published {
    /// Shared with a scrape in progress, which therefore never holds up a cycle.
    decisions: Mutex<Arc<[Decision]>>,
    max_age_micros: AtomicU64,
    controller_instance: Option<Arc<str>>,
    clock: Arc<dyn Clock>,
}

fn desired(decision: &Decision) -> Option<&Desired> {
    match &decision.outcome {
        Outcome::Desired(desired) => Some(desired),
        Outcome::Withheld(_) => None,
    }
}

/// Desired over current replicas; from none, the desired replicas themselves, as upstream has it.
fn desired_ratio(decision: &Decision) -> Option<f64> {
    Some(f64::from(desired(decision)?.replicas) / f64::from(decision.current?.max(1)))
}

/// One value of a family and the label it has beside the common ones.
type Point = (f64, Option<(&'static str, &'static str)>);

/// The points of a family for one variant.
type Points = fn(&Decision) -> [Option<Point>; 2];

/// Name, help and points of each family.
const FAMILIES: [(&str, &str, Points); 5] = [
    (WVA_DESIRED_REPLICAS, "Desired replicas of the variant.", |decision| {
        [desired(decision).map(|desired| (f64::from(desired.replicas), None)), None]
    }),
    (WVA_CURRENT_REPLICAS, "Observed replicas of the variant.", |decision| {
        [decision.current.map(|current| (f64::from(current), None)), None]
    }),
    (WVA_DESIRED_RATIO, "Desired over observed replicas.", |decision| {
        [desired_ratio(decision).map(|value| (value, None)), None]
    }),
    (WVA_SATURATION_LEVEL, "Load over threshold per signal; 1 is saturated.", |decision| {
        let point = |level: &Signal<f64>, signal| level.value().map(|value| (*value, Some((LABEL_SIGNAL, signal))));
        [point(&decision.saturation.kv_cache, "kv_cache"), point(&decision.saturation.queue_depth, "queue_depth")]
    }),
    (WVA_SCALING_DECISION, "1 for the direction of the newest decision.", |decision| {
        [desired(decision).map(|desired| (1.0, Some((LABEL_DIRECTION, desired.direction.as_str())))), None]
    }),
];

impl Published {
    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<[Decision]>> {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a decision is young enough. One from the future (clock skew) is.
    fn is_fresh(&self, decision: &Decision, now: Timestamp) -> bool {
        let age = now.duration_since(decision.decided_at);
        age.as_micros() <= i128::from(self.max_age_micros.load(Ordering::Relaxed))
    }

    fn labels<'a>(&'a self, decision: &'a Decision) -> Vec<(&'static str, &'a str)> {
        let instance = self.controller_instance.as_deref();
        wire_labels(&decision.variant, &decision.model.model_id, decision.accelerator.as_deref(), instance).collect()
    }
}

impl Collector for Published {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let decisions = self.lock().clone();
        let now = self.clock.now();
        let fresh = || decisions.iter().filter(|decision| self.is_fresh(decision, now));
        for (name, help, points) in FAMILIES {
            if !fresh().any(|decision| points(decision).iter().any(Option::is_some)) {
                continue;
            }
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for decision in fresh() {
                for (value, label) in points(decision).into_iter().flatten() {
                    let mut labels = self.labels(decision);
                    labels.extend(label);
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SimulatedClock,
        interfaces::{Direction, EngineName, ModelKey, Reason, SaturationLevel, VariantKey, Withheld, WithheldKind},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn decision(variant: &str, current: u32, desired: u32) -> Decision {
        Decision {
            variant: VariantKey::new("prod", variant),
            model: ModelKey::new("prod", "ibm/granite-13b"),
            accelerator: Some("H100".into()),
            current: Some(current),
            ready: current,
            decided_at: at(0),
            saturation: SaturationLevel { kv_cache: Signal::present(0.5, at(0)), queue_depth: Signal::Missing },
            outcome: Outcome::Desired(Desired {
                replicas: desired,
                unconstrained: desired,
                direction: Direction::between(current, desired),
                reason: Reason { engine: EngineName::Saturation, text: "spare capacity 12 %".into() },
                bound_by: None,
                oldest_input: None,
            }),
        }
    }

    fn withheld(variant: &str) -> Decision {
        let reason = Withheld { kind: WithheldKind::MetricsMissing, message: "no series".into() };
        Decision { outcome: Outcome::Withheld(reason), ..decision(variant, 3, 3) }
    }

    struct Fixture {
        registry: MetricsRegistry,
        metrics: DecisionMetrics,
        clock: Arc<SimulatedClock>,
    }

    impl Fixture {
        fn new(controller_instance: Option<&str>) -> Self {
            let mut registry = MetricsRegistry::new();
            let clock = Arc::new(SimulatedClock::new(at(0)));
            let age = Duration::from_mins(2);
            let metrics = DecisionMetrics::register(&mut registry, clock.clone(), age, controller_instance);
            Self { registry, metrics, clock }
        }

        /// The sample lines that mention `part`.
        fn lines(&self, part: &str) -> Vec<String> {
            let text = self.registry.encode().unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(part));
            lines.map(ToOwned::to_owned).collect()
        }
    }

    const LABELS: &str = r#"variant_name="a",namespace="prod",accelerator_type="H100",model_name="ibm/granite-13b""#;

    #[test]
    fn a_decision_shows_under_the_names_and_labels_it_is_served_with() {
        let fixture = Fixture::new(None);
        fixture.metrics.publish([decision("a", 4, 6)]);
        let expected = [
            format!("wva_desired_replicas{{{LABELS}}} 6.0"),
            format!("wva_current_replicas{{{LABELS}}} 4.0"),
            format!("wva_desired_ratio{{{LABELS}}} 1.5"),
            format!("wva_saturation_level{{{LABELS},signal=\"kv_cache\"}} 0.5"),
            format!("wva_scaling_decision{{{LABELS},direction=\"up\"}} 1.0"),
        ];
        assert_eq!(fixture.lines("variant_name"), expected, "and no level for the signal that is missing");
    }

    #[test]
    fn nothing_is_left_of_a_variant_that_went_away() {
        let fixture = Fixture::new(None);
        fixture.metrics.publish([decision("a", 1, 2), decision("b", 1, 2)]);
        fixture.metrics.publish([decision("b", 1, 2)]);
        assert!(fixture.lines("variant_name=\"a\"").is_empty());
        assert!(!fixture.lines("variant_name=\"b\"").is_empty());
        fixture.metrics.publish([]);
        assert!(fixture.lines("variant_name").is_empty());
    }

    #[test]
    fn a_withheld_decision_takes_the_desired_series_away_and_is_counted() {
        let fixture = Fixture::new(None);
        fixture.metrics.publish([decision("a", 3, 5)]);
        fixture.metrics.publish([withheld("a"), withheld("b")]);
        for name in ["wva_desired_replicas", "wva_desired_ratio", "wva_scaling_decision"] {
            assert!(fixture.lines(name).is_empty(), "{name}");
        }
        assert_eq!(fixture.lines("wva_current_replicas").len(), 2, "what was observed still shows");
        assert_eq!(fixture.lines("withheld"), ["wva_decisions_withheld_total{reason=\"MetricsMissing\"} 2"]);
    }

    #[test]
    fn a_decision_older_than_its_limit_is_not_shown() {
        let fixture = Fixture::new(None);
        fixture.metrics.publish([decision("a", 3, 5)]);
        fixture.clock.advance(Duration::from_mins(2));
        assert!(!fixture.lines("wva_desired_replicas").is_empty());
        fixture.clock.advance(Duration::from_secs(1));
        assert!(fixture.lines("variant_name").is_empty());
        fixture.metrics.set_max_age(Duration::from_mins(5));
        assert!(!fixture.lines("wva_desired_replicas").is_empty());
    }

    #[test]
    fn the_direction_moves_from_one_series_to_another() {
        let fixture = Fixture::new(None);
        fixture.metrics.publish([decision("a", 3, 5)]);
        fixture.metrics.publish([decision("a", 5, 4)]);
        assert_eq!(
            fixture.lines("wva_scaling_decision"),
            [format!("wva_scaling_decision{{{LABELS},direction=\"down\"}} 1.0")]
        );
    }

    #[test]
    fn unknowns_never_become_zero() {
        let fixture = Fixture::new(Some("blue"));
        let unread = Decision { current: None, accelerator: None, ..decision("a", 0, 2) };
        fixture.metrics.publish([unread]);
        assert!(fixture.lines("wva_current_replicas").is_empty());
        assert!(fixture.lines("wva_desired_ratio").is_empty());
        let line = &fixture.lines("wva_desired_replicas")[0];
        assert!(
            line.contains("accelerator_type=\"unresolved\"") && line.contains("controller_instance=\"blue\""),
            "{line}"
        );
        fixture.metrics.publish([decision("a", 0, 2)]);
        assert!(fixture.lines("wva_desired_ratio")[0].ends_with(" 2.0"), "from zero the ratio is what is desired");
    }

    #[test]
    fn label_values_are_escaped() {
        let fixture = Fixture::new(None);
        let hostile = Decision { model: ModelKey::new("prod", "a\"b\\c\nd"), ..decision("a", 1, 1) };
        fixture.metrics.publish([hostile]);
        let line = &fixture.lines("wva_desired_replicas")[0];
        assert!(line.contains(r#"model_name="a\"b\\c\nd""#), "{line}");
    }

    #[test]
    fn cycles_are_a_histogram_in_seconds() {
        let fixture = Fixture::new(None);
        fixture.metrics.observe_cycle(Duration::from_millis(3));
        assert_eq!(fixture.lines("wva_cycle_duration_seconds_count"), ["wva_cycle_duration_seconds_count 1"]);
        assert_eq!(fixture.lines("le=\"0.005\""), ["wva_cycle_duration_seconds_bucket{le=\"0.005\"} 1"]);
    }
}
