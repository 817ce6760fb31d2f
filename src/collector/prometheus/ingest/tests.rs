//! Recorded answers of a real Prometheus, and what no exporter should send.

use proptest::prelude::*;

use super::*;
use crate::collector::prometheus::response;

const WINDOW: Duration = Duration::from_secs(60);

/// When Prometheus scraped `new-0` in the recorded answers.
const SCRAPED: i64 = 1_795_473_822_498;

/// Answers of Prometheus 2.42 to our queries, scraping the expositions in `tests/fixtures/collector`.
fn recorded() -> QueryResults {
    macro_rules! answer {
        ($name:literal) => {
            &include_bytes!(concat!("../../../../tests/fixtures/collector/prometheus-2.42/", $name, ".json"))[..]
        };
    }
    let answers = [
        (Query::KvCacheUsage, answer!("kv_cache_usage")),
        (Query::QueueLength, answer!("queue_length")),
        (Query::Running, answer!("running")),
        (Query::RequestRate, answer!("request_rate")),
        (Query::CacheConfig, answer!("cache_config")),
        (Query::SampleTime, answer!("sample_time")),
    ];
    answers.into_iter().map(|(query, body)| (query, response::parse(body).unwrap().unwrap())).collect()
}

fn llama(namespace: &str) -> ModelKey {
    ModelKey::new(namespace, "meta-llama/Llama-3.1-8B-Instruct")
}

fn replica<'a>(ingested: &'a Ingested, model: &ModelKey, instance: &str) -> &'a ReplicaMetrics {
    ingested.models[model].iter().find(|replica| &*replica.instance == instance).unwrap()
}

fn labels(namespace: &str, pod: &str, engine: &str) -> SeriesLabels {
    SeriesLabels {
        namespace: Some(namespace.into()),
        pod: Some(pod.into()),
        instance: Some(format!("{pod}:8000").into()),
        model_name: Some("model".into()),
        engine: Some(engine.into()),
        ..SeriesLabels::default()
    }
}

fn series(labels: SeriesLabels, value: f64) -> Vec<Series> {
    vec![Series { labels, value }]
}

/// The one engine instance in `results`.
fn only(results: &QueryResults) -> ReplicaMetrics {
    let ingested = ingest(results, WINDOW);
    let mut all = ingested.models.into_values().flatten();
    let replica = all.next().unwrap();
    assert_eq!(all.next(), None);
    replica
}

#[test]
fn an_instance_of_current_vllm_has_all_its_signals_at_the_time_of_the_scrape() {
    let ingested = ingest(&recorded(), WINDOW);
    let at = Timestamp::from_millisecond(SCRAPED).unwrap();
    let expected = ReplicaMetrics {
        pod: "new-0".into(),
        instance: "10.0.0.1:8000".into(),
        variant: None,
        engine: EngineKind::Vllm,
        kv_cache_usage: Signal::present(0.6123, at),
        queue_length: Signal::present(4.0, at),
        running: Signal::present(37.0, at),
        request_rate: Signal::present(1.9974, at),
        kv_cache_tokens: Signal::present(16.0 * 23_257.0, at),
        performance: Arc::default(),
    };
    assert_eq!(replica(&ingested, &llama("chat"), "10.0.0.1:8000"), &expected);
}

#[test]
fn old_metric_names_and_those_of_the_simulator_mean_the_same() {
    let ingested = ingest(&recorded(), WINDOW);
    let table = [
        // namespace, instance, KV-cache usage, waiting, running, capacity
        ("chat", "10.0.0.2:8000", 0.3125, 3.0, 12.0, 16.0 * 7281.0),
        ("dev", "10.0.0.4:8000", 0.438_476_562_5, 22.0, 8.0, 16.0 * 1024.0),
    ];
    for (namespace, instance, usage, waiting, running, tokens) in table {
        let found = replica(&ingested, &llama(namespace), instance);
        assert_eq!(found.kv_cache_usage.value(), Some(&usage));
        assert_eq!(found.queue_length.value(), Some(&waiting));
        assert_eq!(found.running.value(), Some(&running));
        assert_eq!(found.kv_cache_tokens.value(), Some(&tokens));
        assert!(found.request_rate.value().is_some_and(|rate| *rate > 0.6), "{:?}", found.request_rate);
    }
}

#[test]
fn data_parallel_ranks_are_instances_of_their_own_and_what_is_not_a_number_is_missing() {
    let ingested = ingest(&recorded(), WINDOW);
    let ranks = &ingested.models[&ModelKey::new("chat", "deepseek-ai/DeepSeek-V3")];
    let names: Vec<_> = ranks.iter().map(|rank| (&*rank.pod, &*rank.instance)).collect();
    assert_eq!(names, [("ranks-0", "10.0.0.3:8000"), ("ranks-0", "10.0.0.3:8000/1")]);
    assert_eq!(ranks[0].kv_cache_usage.value(), Some(&0.5));
    assert_eq!(ranks[0].kv_cache_tokens.value(), Some(&64_000.0));
    assert_eq!(ranks[1].kv_cache_usage, Signal::Missing, "the engine exports NaN");
    assert_eq!(ranks[1].queue_length.value(), Some(&9.0));
    assert_eq!(ranks[1].kv_cache_tokens, Signal::Missing, "num_gpu_blocks is None");
}

#[test]
fn instances_without_a_pod_are_left_out_and_counted_once_with_a_remedy() {
    let ingested = ingest(&recorded(), WINDOW);
    assert_eq!(
        ingested.unattributable,
        Unattributable { instances: 1, example: Some(("10.0.0.5:8000".to_owned(), "pod")) }
    );
    assert!(ingested.unattributable.to_string().contains("__meta_kubernetes_pod_name"));
    assert_eq!(ingested.models[&llama("chat")].len(), 2);
}

#[test]
fn a_value_whose_sample_time_is_unknown_is_missing() {
    let mut results = recorded();
    results.remove(&Query::SampleTime);
    for replica in ingest(&results, WINDOW).models.values().flatten() {
        assert_eq!(replica.kv_cache_usage, Signal::Missing);
        assert_eq!(replica.kv_cache_tokens, Signal::Missing);
    }
    results.insert(Query::SampleTime, series(labels("chat", "a", "0"), f64::NAN));
    results.insert(Query::KvCacheUsage, series(labels("chat", "a", "0"), 0.5));
    assert!(
        ingest(&results, WINDOW).models.values().flatten().all(|replica| replica.kv_cache_usage == Signal::Missing)
    );
}

#[test]
fn labels_that_the_scrape_renamed_stand_in_only_for_those_it_did_not_set() {
    let renamed = SeriesLabels {
        exported_namespace: Some("theirs".into()),
        exported_pod: Some("their-pod".into()),
        namespace: Some(String::new().into()),
        pod: None,
        ..labels("", "", "0")
    };
    let found = ingest(&HashMap::from([(Query::KvCacheUsage, series(renamed.clone(), 0.5))]), WINDOW);
    assert_eq!(found.models[&ModelKey::new("theirs", "model")][0].pod, "their-pod".into());
    let both = SeriesLabels { namespace: Some("ours".into()), pod: Some("our-pod".into()), ..renamed };
    let found = ingest(&HashMap::from([(Query::KvCacheUsage, series(both, 0.5))]), WINDOW);
    assert_eq!(found.models[&ModelKey::new("ours", "model")][0].pod, "our-pod".into());
}

#[test]
fn capacity_joins_by_engine_index_or_by_place_where_one_side_has_none() {
    let geometry = |engine: &str, blocks: &str| Series {
        labels: SeriesLabels {
            model_name: None,
            block_size: Some("16".into()),
            num_gpu_blocks: Some(blocks.into()),
            ..labels("chat", "a", engine)
        },
        value: 1.0,
    };
    let table = [
        ("same index", "1", vec![geometry("0", "10"), geometry("1", "20")], Some(320.0)),
        ("no index on the instance", "", vec![geometry("0", "10")], Some(160.0)),
        ("no index on the geometry", "3", vec![geometry("", "10")], Some(160.0)),
        ("a restart left two geometries", "0", vec![geometry("0", "30"), geometry("0", "20")], Some(320.0)),
        ("another rank's geometry", "1", vec![geometry("0", "10")], None),
        ("no blocks", "0", vec![geometry("0", "0")], None),
    ];
    for (case, engine, geometries, expected) in table {
        let results = HashMap::from([
            (Query::KvCacheUsage, series(labels("chat", "a", engine), 0.5)),
            (Query::SampleTime, series(labels("chat", "a", engine), 1.0)),
            (Query::CacheConfig, geometries),
        ]);
        assert_eq!(only(&results).kv_cache_tokens.value().copied(), expected, "{case}");
    }
}

#[test]
fn only_unanswered_queries_keep_their_earlier_signals() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut earlier = ingest(&recorded(), WINDOW).models[&llama("chat")].clone();
    for replica in &mut earlier {
        replica.running = Signal::present(5.0, at(10));
        replica.kv_cache_usage = Signal::present(0.9, at(10));
    }
    let mut results = recorded();
    results.remove(&Query::Running);
    let mut current = ingest(&results, WINDOW).models[&llama("chat")].clone();
    carry_over(&mut current, &earlier, &HashSet::from([Query::Running]));
    for replica in current {
        assert_eq!(replica.running, Signal::present(5.0, at(10)));
        assert_ne!(replica.kv_cache_usage, Signal::present(0.9, at(10)));
    }
}

proptest! {
    #[test]
    fn whatever_comes_a_signal_is_a_finite_number_of_at_least_zero_or_missing(
        samples in prop::collection::vec(("[ab]{0,1}", "[ab]{0,1}", "[01]{0,1}", any::<f64>(), any::<f64>()), 0..20)
    ) {
        let column = |value: fn(&(String, String, String, f64, f64)) -> f64| -> Vec<Series> {
            samples.iter().map(|s| Series { labels: labels(&s.0, &s.1, &s.2), value: value(s) }).collect()
        };
        let results = HashMap::from([
            (Query::KvCacheUsage, column(|sample| sample.3)),
            (Query::QueueLength, column(|sample| -sample.3)),
            (Query::SampleTime, column(|sample| sample.4)),
        ]);
        let ingested = ingest(&results, WINDOW);
        for replica in ingested.models.values().flatten() {
            for signal in [replica.kv_cache_usage, replica.queue_length] {
                prop_assert!(signal.value().is_none_or(|value| value.is_finite() && *value >= 0.0));
            }
        }
        let distinct: HashSet<_> = samples.iter().map(|s| (&s.0, &s.1, &s.2)).collect();
        let attributed: usize = ingested.models.values().map(Vec::len).sum();
        prop_assert!(attributed + ingested.unattributable.instances <= distinct.len());
        prop_assert!(attributed + ingested.unattributable.instances > 0 || samples.is_empty());
    }
}
