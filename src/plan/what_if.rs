//! Changes to a snapshot: cost, limits, thresholds, service objectives.

use std::{collections::BTreeSet, str::FromStr, sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use clap::Args;
use jiff::fmt::friendly::SpanParser;

use crate::interfaces::{
    AcceleratorLimits, AcceleratorMode, AcceleratorPool, Inventory, ModelKey, SaturationPolicy,
    SaturationScalingConfig, ServiceObjective, Snapshot,
};

/// What to change before deciding. Whatever is left out stays as it was recorded.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What if")]
pub struct WhatIf {
    /// Models that thresholds and objectives are changed of; all where left out
    #[arg(long = "model", value_name = "MODEL_ID")]
    models: Vec<String>,
    /// Cost of one replica of a variant
    #[arg(long, value_name = "[NAMESPACE/]VARIANT=COST", value_parser = assignment::<f64>)]
    cost: Vec<(String, f64)>,
    /// Most replicas of a variant
    #[arg(long, value_name = "[NAMESPACE/]VARIANT=COUNT", value_parser = assignment::<u32>)]
    max_replicas: Vec<(String, u32)>,
    /// Fewest replicas of a variant
    #[arg(long, value_name = "[NAMESPACE/]VARIANT=COUNT", value_parser = assignment::<u32>)]
    min_replicas: Vec<(String, u32)>,
    /// Whether accelerators are limited to the inventory
    #[arg(long, value_name = "unlimited|limited", value_parser = accelerator_mode)]
    limits: Option<AcceleratorMode>,
    /// Free accelerators of a type, beside those of our own replicas; implies --limits limited
    #[arg(long, value_name = "TYPE=COUNT", value_parser = assignment::<u32>)]
    free: Vec<(String, u32)>,
    /// Who gets what is left of the accelerators
    #[arg(long, value_name = "None|PriorityExhaustive|PriorityRoundRobin|RoundRobin", value_parser = saturation_policy)]
    saturation_policy: Option<SaturationPolicy>,
    /// KV-cache usage at which a replica is saturated, in percent
    #[arg(long, value_name = "PERCENT")]
    kv_cache_threshold: Option<f64>,
    /// Waiting requests at which a replica is saturated
    #[arg(long, value_name = "REQUESTS")]
    queue_depth_threshold: Option<f64>,
    /// Spare capacity below which a model grows, in percent of the threshold
    #[arg(long, value_name = "PERCENT")]
    spare_capacity_target: Option<f64>,
    /// What must be spare beyond the target before a model shrinks, in percent
    #[arg(long, value_name = "PERCENT")]
    safety_margin: Option<f64>,
    /// Greatest time to first token, such as 500ms
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    ttft: Option<f64>,
    /// Greatest time between two tokens of a request, such as 40ms
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    itl: Option<f64>,
    /// Share of requests that must meet both, in percent
    #[arg(long, value_name = "PERCENT")]
    target_share: Option<f64>,
}

impl WhatIf {
    /// Whether the engine may ask for capacity curves that nobody recorded.
    pub(super) fn asks_for_curves(&self) -> bool {
        self.changes_objectives()
    }

    fn changes_objectives(&self) -> bool {
        self.ttft.is_some() || self.itl.is_some() || self.target_share.is_some()
    }

    /// Changes `snapshot`; what was changed, as clauses.
    pub(super) fn apply(&self, snapshot: &mut Snapshot) -> anyhow::Result<Vec<String>> {
        let mut changes = Vec::new();
        let models = self.meant(snapshot)?;
        self.variants(snapshot, &mut changes)?;
        self.limits(snapshot, &mut changes);
        self.thresholds(snapshot, &models, &mut changes)?;
        self.objectives(snapshot, &models, &mut changes)?;
        Ok(changes)
    }

    fn meant(&self, snapshot: &Snapshot) -> anyhow::Result<BTreeSet<ModelKey>> {
        let known: BTreeSet<&ModelKey> = snapshot.variants.iter().map(|found| &found.variant.model).collect();
        for model in &self.models {
            if !known.iter().any(|known| *known.model_id == **model) {
                let names: BTreeSet<&str> = known.iter().map(|known| &*known.model_id).collect();
                bail!("--model {model} is not in the snapshot; it has {}", list(names));
            }
        }
        let is_meant =
            |known: &ModelKey| self.models.is_empty() || self.models.iter().any(|id| **id == *known.model_id);
        Ok(known.into_iter().filter(|known| is_meant(known)).cloned().collect())
    }

    fn variants(&self, snapshot: &mut Snapshot, changes: &mut Vec<String>) -> anyhow::Result<()> {
        for (name, cost) in &self.cost {
            ensure!(cost.is_finite() && *cost >= 0.0, "--cost {name}={cost}: it must be a number of at least 0");
            for variant in named(snapshot, name)? {
                changes.push(format!("cost of {} {} instead of {}", variant.key, cost, variant.cost));
                variant.cost = *cost;
            }
        }
        for (name, max) in &self.max_replicas {
            for variant in named(snapshot, name)? {
                changes.push(format!("maximum of {} {max}", variant.key));
                variant.bounds.max = Some(*max);
                variant.bounds.min = variant.bounds.min.min(*max);
            }
        }
        for (name, min) in &self.min_replicas {
            for variant in named(snapshot, name)? {
                ensure!(
                    variant.bounds.max.is_none_or(|max| *min <= max),
                    "--min-replicas {name}={min}: it is more than the variant's maximum"
                );
                changes.push(format!("minimum of {} {min} instead of {}", variant.key, variant.bounds.min));
                variant.bounds.min = *min;
            }
        }
        Ok(())
    }

    fn limits(&self, snapshot: &mut Snapshot, changes: &mut Vec<String>) {
        let before = snapshot.limits;
        let limited = (!self.free.is_empty()).then_some(AcceleratorMode::Limited);
        let accelerators = self.limits.or(limited).unwrap_or(before.accelerators);
        let saturation_policy = self.saturation_policy.unwrap_or(before.saturation_policy);
        snapshot.limits = AcceleratorLimits { accelerators, saturation_policy, ..before };
        if accelerators != before.accelerators {
            let word = if accelerators == AcceleratorMode::Limited { "limited" } else { "unlimited" };
            changes.push(format!("accelerators {word}"));
        }
        if saturation_policy != before.saturation_policy {
            changes.push(format!("saturation policy {saturation_policy}"));
        }
        if self.free.is_empty() {
            return;
        }
        let mut inventory: Inventory = snapshot.inventory.as_deref().cloned().unwrap_or_default();
        for (accelerator, free) in &self.free {
            inventory.pools.retain(|pool| *pool.accelerator != **accelerator);
            inventory.pools.push(pool(accelerator, *free));
            changes.push(format!("{free} free accelerators of type {accelerator}"));
        }
        snapshot.inventory = Some(Arc::new(inventory));
    }

    fn thresholds(
        &self,
        snapshot: &mut Snapshot,
        models: &BTreeSet<ModelKey>,
        changes: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let mut changed = |name: &str, value: Option<f64>, unit: &str| {
            changes.extend(value.map(|value| format!("{name} {value}{unit}")));
            value
        };
        let percent = |value: Option<f64>| value.map(|percent| percent / 100.0);
        let kv_cache = percent(changed("kvCacheThreshold", self.kv_cache_threshold, " %"));
        let queue = changed("queueDepthThreshold", self.queue_depth_threshold, "");
        let spare = percent(changed("spareCapacityTarget", self.spare_capacity_target, " %"));
        let margin = percent(changed("safetyMargin", self.safety_margin, " %"));
        if [kv_cache, queue, spare, margin].iter().all(Option::is_none) {
            return Ok(());
        }
        for model in models {
            let before = snapshot.saturation_of(model).clone();
            let after = SaturationScalingConfig {
                kv_cache_threshold: kv_cache.unwrap_or(before.kv_cache_threshold),
                queue_depth_threshold: queue.unwrap_or(before.queue_depth_threshold),
                spare_capacity_target: spare.unwrap_or(before.spare_capacity_target),
                safety_margin: margin.unwrap_or(before.safety_margin),
                ..before
            };
            after.validate()?;
            snapshot.saturation_per_model.insert(model.clone(), Arc::new(after));
        }
        Ok(())
    }

    fn objectives(
        &self,
        snapshot: &mut Snapshot,
        models: &BTreeSet<ModelKey>,
        changes: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        if !self.changes_objectives() {
            return Ok(());
        }
        if let Some(share) = self.target_share {
            ensure!(share > 0.0 && share < 100.0, "--target-share {share}: it must be a percentage between 0 and 100");
        }
        for model in models {
            let before = snapshot.objectives.get(model).map(|objective| (**objective).clone());
            let before = before.unwrap_or_else(|| ServiceObjective {
                class: "what-if".into(),
                priority: 50,
                time_to_first_token: None,
                inter_token_latency: None,
                tokens_per_second: None,
                target_share: 0.99,
            });
            let after = ServiceObjective {
                time_to_first_token: self.ttft.or(before.time_to_first_token),
                inter_token_latency: self.itl.or(before.inter_token_latency),
                target_share: self.target_share.map_or(before.target_share, |percent| percent / 100.0),
                ..before
            };
            snapshot.objectives.insert(model.clone(), Arc::new(after));
        }
        let clause = |name: &str, value: Option<f64>, unit: &str| value.map(|value| format!("{name} {value}{unit}"));
        changes.extend(clause("time to first token", self.ttft, " s"));
        changes.extend(clause("time between tokens", self.itl, " s"));
        changes.extend(clause("share of requests", self.target_share, " %"));
        Ok(())
    }
}

/// The variants that `name` means: `namespace/name`, or a name in whatever namespace.
fn named<'a>(
    snapshot: &'a mut Snapshot,
    name: &str,
) -> anyhow::Result<impl Iterator<Item = &'a mut crate::interfaces::Variant> + use<'a>> {
    let (namespace, short) = match name.split_once('/') {
        Some((namespace, short)) => (Some(namespace.to_owned()), short.to_owned()),
        None => (None, name.to_owned()),
    };
    let is_meant = move |variant: &crate::interfaces::Variant| {
        *variant.key.name == *short && namespace.as_deref().is_none_or(|namespace| *variant.key.namespace == *namespace)
    };
    if !snapshot.variants.iter().any(|found| is_meant(&found.variant)) {
        let names: BTreeSet<String> = snapshot.variants.iter().map(|found| found.variant.key.to_string()).collect();
        bail!("variant {name} is not in the snapshot; it has {}", list(names.iter().map(String::as_str)));
    }
    Ok(snapshot.variants.iter_mut().map(|found| &mut found.variant).filter(move |variant| is_meant(variant)))
}

/// The first names of a list that may be long.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.into_iter().collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

fn pool(accelerator: &str, free: u32) -> AcceleratorPool {
    AcceleratorPool { node_group: "what-if".into(), ..AcceleratorPool::of_free(accelerator, free) }
}

fn assignment<T: FromStr>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.rsplit_once('=').ok_or("it must be NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("{value:?} is not such a number"))?;
    Ok((name.to_owned(), value))
}

fn accelerator_mode(text: &str) -> Result<AcceleratorMode, String> {
    match text {
        "unlimited" => Ok(AcceleratorMode::Unlimited),
        "limited" => Ok(AcceleratorMode::Limited),
        _ => Err("it must be unlimited or limited".to_owned()),
    }
}

fn saturation_policy(text: &str) -> Result<SaturationPolicy, String> {
    let found = SaturationPolicy::ALL.into_iter().find(|policy| policy.to_string() == text);
    found.ok_or_else(|| "it must be None, PriorityExhaustive, PriorityRoundRobin or RoundRobin".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let duration = SpanParser::new().parse_duration(text).map_err(|_| "it must be a duration such as 500ms")?;
    let duration = Duration::try_from(duration).map_err(|_| "it must not be negative")?;
    if duration.is_zero() { Err("it must be longer than 0s".to_owned()) } else { Ok(duration.as_secs_f64()) }
}
