//! What is heard of the engines, as gauges on `/metrics`: replicas that are ready and replicas that are measured, and pods
//! whose engines count for no variant. Written out of the newest snapshot on every scrape.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::MetricsRegistry;
use crate::{
    clock::Clock,
    constants::{
        LABEL_MODEL_NAME, LABEL_NAMESPACE, LABEL_VARIANT_NAME, WVA_MEASURED_REPLICAS, WVA_READY_REPLICAS,
        WVA_UNATTRIBUTED_PODS,
    },
    interfaces::{Snapshot, TargetObservation, VariantObservation, age, wire_labels},
};

/// The newest snapshot. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct EngineMetrics(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    controller_instance: Option<Arc<str>>,
    clock: Arc<dyn Clock>,
}

impl EngineMetrics {
    pub(super) fn register(
        registry: &mut MetricsRegistry,
        clock: Arc<dyn Clock>,
        controller_instance: Option<&str>,
    ) -> Self {
        let controller_instance = controller_instance.map(Into::into);
        let metrics = Self(Arc::new(Seen { snapshot: Mutex::default(), controller_instance, clock }));
        registry.registry_mut().register_collector(Box::new(metrics.clone()));
        metrics
    }

    pub(super) fn publish(&self, snapshot: Arc<Snapshot>) {
        *self.0.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    /// The newest snapshot, unless decisions on it would be refused.
    fn fresh(&self) -> Option<Arc<Snapshot>> {
        let snapshot = self.0.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        (age(self.0.clock.now(), snapshot.taken_at) <= snapshot.ages.decision).then_some(snapshot)
    }
}

/// Name, help and number of a gauge per variant.
type PerVariant = (&'static str, &'static str, fn(&Snapshot, &VariantObservation) -> Option<usize>);

const PER_VARIANT: [PerVariant; 2] = [
    (WVA_READY_REPLICAS, "Ready replicas of the variant", |_, observed| match &observed.target {
        TargetObservation::Found(scale) => Some(scale.ready as usize),
        TargetObservation::NotFound { .. } => None,
    }),
    (WVA_MEASURED_REPLICAS, "Ready replicas of the variant whose signals are fresh", |snapshot, observed| {
        Some(observed.measured_pods(snapshot.taken_at, snapshot.ages.signal))
    }),
];

impl Collector for EngineMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(snapshot) = self.fresh() else { return Ok(()) };
        for (name, help, number) in PER_VARIANT {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for observed in &snapshot.variants {
                let Some(number) = number(&snapshot, observed) else { continue };
                let (variant, instance) = (&observed.variant, self.0.controller_instance.as_deref());
                let labels: Vec<_> =
                    wire_labels(&variant.key, &variant.model.model_id, variant.accelerator.as_deref(), instance)
                        .collect();
                ConstGauge::new(number as f64).encode(family.encode_family(&labels)?)?;
            }
        }
        let help =
            "Ready pods whose engines count for no variant: replicas of none, or of one that declares another model";
        let mut family = encoder.encode_descriptor(WVA_UNATTRIBUTED_PODS, help, None, MetricType::Gauge)?;
        for engines in &snapshot.unattributed {
            let labels = [
                (LABEL_NAMESPACE, &*engines.model.namespace),
                (LABEL_MODEL_NAME, &*engines.model.model_id),
                (LABEL_VARIANT_NAME, engines.variant.as_ref().map_or("", |variant| &*variant.name)),
            ];
            ConstGauge::new(engines.pods as f64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        clock::SimulatedClock,
        interfaces::{
            ModelKey, ReplicaBounds, ReplicaMetrics, Role, ScaleObservation, Signal, TargetReference,
            UnattributedEngines, Variant, VariantKey,
        },
    };

    fn snapshot(at: Timestamp) -> Snapshot {
        let heard = |pod: &str, ago| ReplicaMetrics {
            pod: pod.into(),
            queue_length: Signal::present(0.0, at - Duration::from_secs(ago)),
            ..ReplicaMetrics::default()
        };
        let observed = VariantObservation {
            variant: Variant {
                key: VariantKey::new("prod", "a"),
                model: ModelKey::new("prod", "m"),
                accelerator: Some("L4".into()),
                accelerators_per_replica: None,
                profile: None,
                cost: 1.0,
                role: Role::Both,
                bounds: ReplicaBounds::default(),
                target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "a".into() },
                overrides: Arc::default(),
                shadow: false,
            },
            target: TargetObservation::Found(ScaleObservation { ready: 3, ..ScaleObservation::default() }),
            replicas: vec![heard("p-0", 1), heard("p-0", 1), heard("p-1", 2), heard("p-2", 61)],
            autoscalers: Vec::new(),
        };
        let of = |variant: Option<&str>| UnattributedEngines {
            model: ModelKey::new("prod", "other"),
            variant: variant.map(|name| VariantKey::new("prod", name)),
            pods: 2,
            example: "p".into(),
        };
        Snapshot { variants: vec![observed], unattributed: vec![of(None), of(Some("a"))], ..Snapshot::at(at) }
    }

    #[test]
    fn replicas_that_are_ready_and_those_that_are_heard_of_show_side_by_side_until_they_are_too_old() {
        let mut registry = MetricsRegistry::new();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Arc::new(SimulatedClock::new(start));
        let metrics = EngineMetrics::register(&mut registry, clock.clone(), None);
        let lines = || {
            let text = registry.encode().unwrap();
            let of_engines = |line: &&str| line.contains("_replicas{") || line.starts_with("wva_unattributed_pods{");
            text.lines().filter(of_engines).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert!(lines().is_empty());
        metrics.publish(Arc::new(snapshot(start)));
        let labels = r#"variant_name="a",namespace="prod",accelerator_type="L4",model_name="m""#;
        let expected = [
            format!("wva_ready_replicas{{{labels}}} 3.0"),
            format!("wva_measured_replicas{{{labels}}} 2.0"),
            r#"wva_unattributed_pods{namespace="prod",model_name="other",variant_name=""} 2.0"#.to_owned(),
            r#"wva_unattributed_pods{namespace="prod",model_name="other",variant_name="a"} 2.0"#.to_owned(),
        ];
        assert_eq!(lines(), expected);
        clock.advance(Duration::from_secs(121));
        assert!(lines().is_empty());
    }
}
