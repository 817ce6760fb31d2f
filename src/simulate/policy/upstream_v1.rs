//! `wva-upstream-v1`: the Go project's percentage analyzer behind an HPA as its chart ships it.
//!
//! One-minute peaks from Prometheus every 15 s, a decision every 15 s, one replica at a time, the whole model frozen while a
//! replica starts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Actuation, ModelSample, Policy, Rhythm, ingest::Ingest};
use crate::{
    hpa::{Behavior, Policy as HpaPolicy, PolicyKind, ScalingRules, Select},
    interfaces::{
        Growth, ModelKey, ReplicaBounds, Role, SaturationAnalyzer, SaturationScalingConfig, ScaleObservation,
        SpareTriggers, VariantDecision, VariantKey,
    },
    saturation::UpstreamV1Analyzer,
    simulate::scenario::Scenario,
};

const NAMESPACE: &str = "default";

/// Version 1 of upstream.
#[derive(Debug)]
pub(in crate::simulate) struct UpstreamV1 {
    rhythm: Rhythm,
    models: Vec<(ModelKey, Ingest)>,
    variants: Vec<UpstreamVariant>,
    config: SaturationScalingConfig,
}

#[derive(Debug)]
struct UpstreamVariant {
    model: usize,
    key: VariantKey,
    cost: f64,
    bounds: ReplicaBounds,
}

impl UpstreamV1 {
    /// Upstream's defaults with this `kvSpareTrigger`; documented: 0.10.
    pub(in crate::simulate) fn new(scenario: &Scenario, kv_spare_trigger: f64) -> Self {
        let keys = scenario.models.iter().map(|model| ModelKey::new(NAMESPACE, &*model.name));
        let models = keys.map(|key| (key.clone(), Ingest::new(key)));
        let variants = scenario.variants().map(|(model, variant)| UpstreamVariant {
            model,
            key: VariantKey::new(NAMESPACE, Arc::<str>::from(variant.name.as_str())),
            cost: variant.profile.price,
            bounds: ReplicaBounds { min: variant.min_replicas, max: Some(variant.max_replicas) },
        });
        let triggers = SpareTriggers { kv_cache: kv_spare_trigger, queue_depth: 3.0 };
        Self {
            rhythm: Rhythm::of_scrapes(scenario),
            models: models.collect(),
            variants: variants.collect(),
            config: SaturationScalingConfig { spare_triggers: Some(triggers), ..SaturationScalingConfig::default() },
        }
    }

    fn targets(&self, model: usize, scales: &[ScaleObservation]) -> BTreeMap<VariantKey, u32> {
        let (key, ingest) = &self.models[model];
        let analysis = UpstreamV1Analyzer.analyze_model_saturation(key, &ingest.replicas(), &self.config);
        let of_model = self.variants.iter().zip(scales).filter(|(variant, _)| variant.model == model);
        let decisions: Vec<_> = of_model
            .map(|(variant, scale)| VariantDecision {
                variant: variant.key.clone(),
                cost: variant.cost,
                role: Role::Both,
                spec: scale.spec,
                current: scale.spec,
                pending: scale.spec.saturating_sub(scale.ready),
                // Nothing persists it since v0.9.
                desired: None,
                bounds: variant.bounds,
                growth: Growth::Likely,
            })
            .collect();
        UpstreamV1Analyzer.calculate_capacity_targets(&analysis, &decisions)
    }
}

impl Policy for UpstreamV1 {
    fn rhythm(&self) -> Rhythm {
        self.rhythm
    }

    fn actuation(&self) -> Actuation {
        Actuation::Hpa(Some(chart_behavior()))
    }

    fn sample(&mut self, at: Timestamp, models: &[ModelSample<'_>]) {
        for ((_, ingest), model) in self.models.iter_mut().zip(models) {
            ingest.record(at, model);
        }
    }

    fn decide(&mut self, _: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        let targets: Vec<_> = (0..self.models.len()).map(|model| self.targets(model, scales)).collect();
        let target = |variant: &UpstreamVariant| targets[variant.model].get(&variant.key).copied();
        self.variants
            .iter()
            .zip(scales)
            .map(|(variant, scale)| Ok(f64::from(target(variant).unwrap_or(scale.spec))))
            .collect()
    }
}

/// The chart's HPA: stabilization 240 s both ways, ten pods per 150 s, the default tolerance.
pub(super) fn chart_behavior() -> Behavior {
    let rules = || ScalingRules {
        window: Duration::from_secs(240),
        tolerance: 0.1,
        policies: vec![HpaPolicy { kind: PolicyKind::Pods, value: 10, period: Duration::from_secs(150) }],
        select: Select::Max,
    };
    Behavior { scale_up: rules(), scale_down: rules() }
}
