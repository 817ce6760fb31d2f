//! Several sources as one: of each signal the freshest sample counts, whoever brought it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};

use crate::interfaces::{
    CollectorError, LengthDistribution, MetricsCollector, ModelKey, ModelMetrics, PerformanceSignals, ReplicaMetrics,
    ServedModel, Signal, SourceHealth,
};

/// Reads several sources as one.
pub struct MergedCollector {
    sources: Vec<Arc<dyn MetricsCollector>>,
}

impl MergedCollector {
    /// A collector of `sources`; where two samples are equally fresh the earlier source counts.
    pub fn new(sources: Vec<Arc<dyn MetricsCollector>>) -> Self {
        Self { sources }
    }
}

impl fmt::Debug for MergedCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergedCollector").field("sources", &self.sources.len()).finish()
    }
}

impl MetricsCollector for MergedCollector {
    fn fetch_saturation_metrics<'a>(
        &'a self,
        model: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
        async move {
            let mut with_replicas = self.sources.iter().filter(|source| source.has_replicas());
            if let (Some(only), None) = (with_replicas.next(), with_replicas.next()) {
                return only.fetch_saturation_metrics(model).await;
            }
            let mut merged: BTreeMap<(Arc<str>, Rank), ReplicaMetrics> = BTreeMap::new();
            let mut failure = None;
            let mut any = false;
            for source in &self.sources {
                match source.fetch_saturation_metrics(model).await {
                    Ok(replicas) => {
                        any = true;
                        add(&mut merged, replicas);
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            match failure {
                Some(error) if !any => Err(error),
                _ => Ok(merged.into_values().collect()),
            }
        }
        .boxed()
    }

    fn fetch_model_metrics<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, ModelMetrics> {
        async move {
            let mut merged = ModelMetrics::default();
            for source in &self.sources {
                let other = source.fetch_model_metrics(model).await;
                freshest(&mut merged.gateway_queue, other.gateway_queue);
                freshest(&mut merged.gateway_arrival_rate, other.gateway_arrival_rate);
                freshest(&mut merged.gateway_recent_arrival_rate, other.gateway_recent_arrival_rate);
                most(&mut merged.prompt_lengths, other.prompt_lengths);
                most(&mut merged.output_lengths, other.output_lengths);
            }
            merged
        }
        .boxed()
    }

    fn served_models(&self, wanted: &dyn Fn(&ModelKey) -> bool) -> Vec<ServedModel> {
        let mut served: BTreeMap<(ModelKey, Arc<str>), ServedModel> = BTreeMap::new();
        for model in self.sources.iter().flat_map(|source| source.served_models(wanted)) {
            let known = served.entry((model.model.clone(), model.pod.clone())).or_insert_with(|| model.clone());
            known.sampled_at = known.sampled_at.max(model.sampled_at);
        }
        served.into_values().collect()
    }

    /// One source that has what is needed is enough; without one, what each has instead.
    fn validate_metrics_availability<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
        async move {
            // A source that never has series of its own to miss, such as a gateway, says nothing of a model.
            let (mut clauses, mut failure, mut names) = (Vec::new(), None, None);
            for source in self.sources.iter().filter(|source| source.has_replicas()) {
                match source.validate_metrics_availability(model).await {
                    Ok(()) => return Ok(()),
                    Err(CollectorError::MissingSeries { missing, found, .. }) => {
                        clauses.push(found);
                        names = names.or(Some(missing));
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            match (names, failure) {
                (Some(missing), _) => {
                    Err(CollectorError::MissingSeries { model: model.clone(), missing, found: clauses.join("; ") })
                }
                (None, Some(error)) => Err(error),
                (None, None) => Ok(()),
            }
        }
        .boxed()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
        async move {
            let outcomes = join_all(self.sources.iter().map(|source| source.refresh())).await;
            let any = outcomes.iter().any(Result::is_ok);
            outcomes.into_iter().find(Result::is_err).filter(|_| !any).unwrap_or(Ok(()))
        }
        .boxed()
    }

    fn health(&self) -> SourceHealth {
        let all = self.sources();
        SourceHealth {
            name: all.iter().map(|source| &*source.name).collect::<Vec<_>>().join(" and ").into(),
            last_success: all.iter().filter_map(|source| source.last_success).max(),
            last_error: all.into_iter().find_map(|source| source.last_error),
        }
    }

    fn sources(&self) -> Vec<SourceHealth> {
        self.sources.iter().flat_map(|source| source.sources()).collect()
    }
}

/// Index of a data-parallel engine. Sources may name the address of one instance differently, but not its rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The engine with this index, in a pod with one instance of it.
    Index(u32),
    /// An instance that shares pod and index with another: engines of one pod behind several ports.
    Named(Arc<str>),
}

fn index(instance: &str) -> u32 {
    instance.rsplit_once('/').and_then(|(_, rank)| rank.parse().ok()).unwrap_or(0)
}

/// Adds the replicas of one source.
fn add(merged: &mut BTreeMap<(Arc<str>, Rank), ReplicaMetrics>, replicas: Vec<ReplicaMetrics>) {
    let mut counts: BTreeMap<(Arc<str>, u32), usize> = BTreeMap::new();
    for replica in &replicas {
        *counts.entry((replica.pod.clone(), index(&replica.instance))).or_default() += 1;
    }
    for replica in replicas {
        let rank = index(&replica.instance);
        let is_only = counts.get(&(replica.pod.clone(), rank)) == Some(&1);
        let rank = if is_only { Rank::Index(rank) } else { Rank::Named(replica.instance.clone()) };
        match merged.get_mut(&(replica.pod.clone(), rank.clone())) {
            Some(known) => merge(known, replica),
            None => {
                merged.insert((replica.pod.clone(), rank), replica);
            }
        }
    }
}

fn merge(known: &mut ReplicaMetrics, other: ReplicaMetrics) {
    if newest(&other) > newest(known) {
        known.engine = other.engine;
    }
    known.variant = known.variant.take().or(other.variant);
    freshest(&mut known.kv_cache_usage, other.kv_cache_usage);
    freshest(&mut known.queue_length, other.queue_length);
    freshest(&mut known.running, other.running);
    freshest(&mut known.request_rate, other.request_rate);
    freshest(&mut known.kv_cache_tokens, other.kv_cache_tokens);
    if *other.performance != PerformanceSignals::default() {
        let mut performance = PerformanceSignals::clone(&known.performance);
        merge_performance(&mut performance, &other.performance);
        known.performance = Arc::new(performance);
    }
}

fn newest(replica: &ReplicaMetrics) -> Option<jiff::Timestamp> {
    [replica.kv_cache_usage, replica.queue_length, replica.running].iter().filter_map(Signal::sampled_at).max()
}

fn merge_performance(known: &mut PerformanceSignals, other: &PerformanceSignals) {
    let PerformanceSignals {
        arrival_rate,
        recent_arrival_rate,
        kv_cache_usage_now,
        queue_length_now,
        waiting_for_capacity,
        mean_running,
        prompt_tokens,
        output_tokens,
        prompt_token_rate,
        generation_token_rate,
        time_to_first_token,
        inter_token_latency,
        queue_time,
        prefix_cache_hit_ratio,
        preemption_rate,
        rejection_rate,
        finished,
        asleep,
        lora,
    } = known;
    for (known, other) in [
        (arrival_rate, other.arrival_rate),
        (recent_arrival_rate, other.recent_arrival_rate),
        (kv_cache_usage_now, other.kv_cache_usage_now),
        (queue_length_now, other.queue_length_now),
        (waiting_for_capacity, other.waiting_for_capacity),
        (mean_running, other.mean_running),
        (prompt_tokens, other.prompt_tokens),
        (output_tokens, other.output_tokens),
        (prompt_token_rate, other.prompt_token_rate),
        (generation_token_rate, other.generation_token_rate),
        (prefix_cache_hit_ratio, other.prefix_cache_hit_ratio),
        (preemption_rate, other.preemption_rate),
        (rejection_rate, other.rejection_rate),
        (asleep, other.asleep),
    ] {
        freshest(known, other);
    }
    freshest(time_to_first_token, other.time_to_first_token);
    freshest(inter_token_latency, other.inter_token_latency);
    freshest(queue_time, other.queue_time);
    freshest(finished, other.finished);
    freshest(lora, other.lora);
}

/// Keeps the later sample. An engine that never has a quantity is known only to who reads the engine itself: "not
/// defined" beats "missing".
fn freshest<T: Copy>(known: &mut Signal<T>, other: Signal<T>) {
    let is_better = match (&*known, &other) {
        (Signal::Present { sampled_at: before, .. }, Signal::Present { sampled_at, .. }) => sampled_at > before,
        (Signal::Missing, _) | (Signal::NotDefined, Signal::Present { .. }) => true,
        _ => false,
    };
    if is_better {
        *known = other;
    }
}

/// Keeps the distribution that counts more requests.
fn most(known: &mut Option<Arc<LengthDistribution>>, other: Option<Arc<LengthDistribution>>) {
    let total = |lengths: &Option<Arc<LengthDistribution>>| lengths.as_ref().map_or(0.0, |lengths| lengths.total());
    if total(&other) > total(known) {
        *known = other;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn replica(instance: &str, kv: Signal<f64>, queue: Signal<f64>) -> ReplicaMetrics {
        ReplicaMetrics {
            pod: "p".into(),
            instance: instance.into(),
            kv_cache_usage: kv,
            queue_length: queue,
            ..ReplicaMetrics::default()
        }
    }

    fn merged(sources: &[&[ReplicaMetrics]]) -> Vec<ReplicaMetrics> {
        let mut merged = BTreeMap::new();
        for replicas in sources {
            add(&mut merged, replicas.to_vec());
        }
        merged.into_values().collect()
    }

    #[test]
    fn of_each_signal_the_freshest_sample_counts() {
        let old = |value| Signal::present(value, at(10));
        let new = |value| Signal::present(value, at(20));
        let found =
            merged(&[&[replica("10.0.0.1:8000", old(0.1), new(2.0))], &[replica("some-name", new(0.9), old(7.0))]]);
        assert_eq!(found.len(), 1, "one instance under two names: {found:?}");
        assert_eq!((found[0].kv_cache_usage, found[0].queue_length), (new(0.9), new(2.0)));
    }

    #[test]
    fn absence_never_replaces_a_sample_and_not_defined_beats_missing() {
        let table = [
            (Signal::present(1.0, at(1)), Signal::Missing, Signal::present(1.0, at(1))),
            (Signal::Missing, Signal::present(1.0, at(1)), Signal::present(1.0, at(1))),
            (Signal::Missing, Signal::NotDefined, Signal::NotDefined),
            (Signal::NotDefined, Signal::Missing, Signal::NotDefined),
            (Signal::NotDefined, Signal::present(1.0, at(1)), Signal::present(1.0, at(1))),
            (Signal::present(1.0, at(1)), Signal::present(2.0, at(1)), Signal::present(1.0, at(1))),
        ];
        for (mut known, other, expected) in table {
            freshest(&mut known, other);
            assert_eq!(known, expected);
        }
    }

    #[test]
    fn ranks_of_a_pod_stay_apart_and_so_do_engines_behind_several_ports() {
        let some = || Signal::present(0.5, at(1));
        let ranks = [replica("a:1", some(), some()), replica("a:1/1", some(), some())];
        assert_eq!(merged(&[&ranks, &ranks]).len(), 2);
        let ports = [replica("a:1", some(), some()), replica("a:2", some(), some())];
        assert_eq!(merged(&[&ports, &ports]).len(), 2);
    }
}
