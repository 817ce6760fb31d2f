//! Why a model has no usable series, in words a person can act on.
//!
//! A model name that differs a little from what the engine exports makes an autoscaler silently inert; hence the names
//! that do exist, nearest first.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::Catalog;
use crate::{
    constants::{VLLM_GPU_CACHE_USAGE_PERC, VLLM_KV_CACHE_USAGE_PERC, VLLM_NUM_REQUESTS_WAITING},
    interfaces::{CollectorError, ModelKey, ReplicaMetrics, Signal},
};

/// How many names a message lists.
const LISTED: usize = 5;

/// Checks that at least one of `replicas` has each signal that a decision needs, sampled within `age_limit`.
pub(super) fn check(
    model: &ModelKey,
    replicas: &[ReplicaMetrics],
    catalog: &Catalog,
    source_name: &str,
    now: Timestamp,
    age_limit: Duration,
) -> Result<(), CollectorError> {
    let needed: [(String, fn(&ReplicaMetrics) -> Signal<f64>); 2] = [
        (format!("{VLLM_KV_CACHE_USAGE_PERC} (or {VLLM_GPU_CACHE_USAGE_PERC})"), |replica| replica.kv_cache_usage),
        (VLLM_NUM_REQUESTS_WAITING.to_owned(), |replica| replica.queue_length),
    ];
    let is_fresh = |signal: Signal<f64>| signal.fresh(now, age_limit).value().is_some();
    let missing: Vec<_> =
        needed.iter().filter(|(_, signal)| !replicas.iter().any(|replica| is_fresh(signal(replica)))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut found = if replicas.is_empty() {
        what_exists(model, catalog, source_name)
    } else {
        let newest =
            missing.iter().flat_map(|(_, signal)| replicas.iter().filter_map(|r| signal(r).sampled_at())).max();
        what_is_wrong_with(replicas, newest, now)
    };
    if catalog.unattributable.instances > 0 {
        found = format!("{found}; {}", catalog.unattributable);
    }
    let missing = missing.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" and ");
    Err(CollectorError::MissingSeries { model: model.clone(), missing, found })
}

fn what_is_wrong_with(replicas: &[ReplicaMetrics], newest: Option<Timestamp>, now: Timestamp) -> String {
    let pod = replicas.first().map_or("", |replica| &replica.pod);
    match newest {
        Some(newest) => format!(
            "the newest sample is {} s old, of {} engine instance(s) such as pod {pod}; check in Prometheus that their \
             targets are up",
            now.duration_since(newest).as_secs(),
            replicas.len()
        ),
        None => format!(
            "its {} engine instance(s), such as pod {pod}, export other series but no number here; check that the scrape \
             keeps these series and that the engine is a vLLM",
            replicas.len()
        ),
    }
}

fn what_exists(model: &ModelKey, catalog: &Catalog, source_name: &str) -> String {
    if let Some(models) = catalog.models.get(&model.namespace) {
        return format!(
            "namespace {} has series of {}; set spec.modelID to the name the engine serves (its model_name label)",
            model.namespace,
            nearest_first(&model.model_id, models.iter().cloned())
        );
    }
    let elsewhere: Vec<_> = catalog.models.iter().filter(|(_, models)| models.contains(&model.model_id)).collect();
    if !elsewhere.is_empty() {
        let namespaces = list(elsewhere.into_iter().map(|(namespace, _)| namespace.clone()).collect());
        return format!("the model has series in namespace {namespaces}; a variant must be where its pods are");
    }
    if catalog.models.is_empty() {
        return format!(
            "{source_name} has no vLLM series that belong to a pod; check that it scrapes the engines, for example \
             through a PodMonitor"
        );
    }
    format!(
        "namespace {} has no vLLM series, but namespace {} has; check that Prometheus scrapes the pods, for example \
         through a PodMonitor",
        model.namespace,
        list(catalog.models.keys().cloned().collect())
    )
}

fn nearest_first(name: &str, candidates: impl Iterator<Item = Arc<str>>) -> String {
    let name = name.to_lowercase();
    let mut candidates: Vec<_> =
        candidates.map(|candidate| (strsim::sorensen_dice(&name, &candidate.to_lowercase()), candidate)).collect();
    candidates.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    list(candidates.into_iter().map(|(_, candidate)| candidate).collect())
}

fn list(names: Vec<Arc<str>>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let listed = names[..names.len() - more].join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}
