//! Recorded answers of a real Prometheus, and what no exporter should send.

use proptest::prelude::*;

use super::*;
use crate::{
    collector::prometheus::{InfoLabels, queries::fact_tag, response},
    interfaces::{EngineKind, LoraAdapters},
};

const WINDOW: Duration = Duration::from_secs(60);

fn ingested(results: &QueryResults) -> Ingested {
    let reading = Reading {
        catalog: &EngineCatalog::default(),
        window: WINDOW,
        ahead: SignedDuration::ZERO,
        model_of: &|_, pod| (pod == "of-a-variant").then(|| "declared".into()),
    };
    ingest(results, &reading)
}

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
        (Query::Engines, answer!("engines")),
        (Query::SampleTime, answer!("sample_time")),
    ];
    answers.into_iter().map(|(query, body)| (query, response::parse(body).unwrap().unwrap().series)).collect()
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
    let ingested = ingested(results);
    let mut all = ingested.models.into_values().flatten();
    let replica = all.next().unwrap();
    assert_eq!(all.next(), None);
    replica
}

#[test]
fn an_instance_of_current_vllm_has_all_its_signals_at_the_time_of_the_scrape() {
    let ingested = ingested(&recorded());
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
    let ingested = ingested(&recorded());
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
    let ingested = ingested(&recorded());
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
    let ingested = ingested(&recorded());
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
    for replica in ingested(&results).models.values().flatten() {
        assert_eq!(replica.kv_cache_usage, Signal::Missing);
        assert_eq!(replica.kv_cache_tokens, Signal::Missing);
    }
    results.insert(Query::SampleTime, series(labels("chat", "a", "0"), f64::NAN));
    results.insert(Query::KvCacheUsage, series(labels("chat", "a", "0"), 0.5));
    assert!(ingested(&results).models.values().flatten().all(|replica| replica.kv_cache_usage == Signal::Missing));
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
    let found = ingested(&HashMap::from([(Query::KvCacheUsage, series(renamed.clone(), 0.5))]));
    assert_eq!(found.models[&ModelKey::new("theirs", "model")][0].pod, "their-pod".into());
    let both = SeriesLabels { namespace: Some("ours".into()), pod: Some("our-pod".into()), ..renamed };
    let found = ingested(&HashMap::from([(Query::KvCacheUsage, series(both, 0.5))]));
    assert_eq!(found.models[&ModelKey::new("ours", "model")][0].pod, "our-pod".into());
}

#[test]
fn capacity_joins_by_engine_index_or_by_place_where_one_side_has_none() {
    let told = |engine: &str, quantity, info: InfoLabels| Series {
        labels: SeriesLabels {
            model_name: None,
            quantity: Some(fact_tag(0, quantity).into()),
            info: Some(info.into()),
            ..labels("chat", "a", engine)
        },
        value: 1.0,
    };
    let geometry = |engine: &str, blocks: &str| {
        let size = InfoLabels { block_size: Some("16".into()), ..InfoLabels::default() };
        let blocks = InfoLabels { num_gpu_blocks: Some(blocks.into()), ..InfoLabels::default() };
        [told(engine, Quantity::KvCacheBlockSize, size), told(engine, Quantity::KvCacheBlocks, blocks)]
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
            (Query::Engines, geometries.into_iter().flatten().collect()),
        ]);
        assert_eq!(only(&results).kv_cache_tokens.value().copied(), expected, "{case}");
    }
}

#[test]
fn only_unanswered_queries_keep_their_earlier_signals() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut earlier = ingested(&recorded()).models[&llama("chat")].clone();
    for replica in &mut earlier {
        replica.running = Signal::present(5.0, at(10));
        replica.kv_cache_usage = Signal::present(0.9, at(10));
    }
    let mut results = recorded();
    results.remove(&Query::Running);
    let mut current = ingested(&results).models;
    carry_over(&mut current, &HashMap::from([(llama("chat"), earlier.into())]), &HashSet::from([Query::Running]));
    for replica in &current[&llama("chat")] {
        assert_eq!(replica.running, Signal::present(5.0, at(10)));
        assert_ne!(replica.kv_cache_usage, Signal::present(0.9, at(10)));
    }
}

/// A series of [`Query::Engines`] of the engine that is the `place`th in the table.
fn fact(place: usize, quantity: Quantity, of: &SeriesLabels, value: f64) -> Series {
    Series { labels: SeriesLabels { quantity: Some(fact_tag(place, quantity).into()), ..of.clone() }, value }
}

#[test]
fn every_engine_is_known_by_what_it_exports_and_tells_its_capacity_in_its_own_way() {
    let tokens = |place| vec![(place, Quantity::KvCacheTokens, 64_000.0)];
    let blocks = |place| vec![(place, Quantity::KvCacheBlocks, 100.0), (place, Quantity::KvCacheBlockSize, 32.0)];
    let table = [
        (EngineKind::Vllm, 0, vec![], None),
        (EngineKind::Sglang, 1, tokens(1), Some(64_000.0)),
        (EngineKind::Sglang, 1, blocks(1), Some(3_200.0)),
        (EngineKind::TensorRtLlm, 2, blocks(2), Some(3_200.0)),
        (EngineKind::Triton, 3, blocks(3), Some(3_200.0)),
        (EngineKind::Triton, 3, blocks(2), None),
        (EngineKind::Tgi, 4, vec![], None),
    ];
    for (engine, place, told, capacity) in table {
        let labels = labels("chat", "a", "");
        let mut engines = vec![fact(place, Quantity::Waiting, &labels, 0.0)];
        engines.extend(told.into_iter().map(|(place, quantity, value)| fact(place, quantity, &labels, value)));
        let found = only(&HashMap::from([
            (Query::QueueLength, series(labels.clone(), 1.0)),
            (Query::SampleTime, series(labels.clone(), 1.0)),
            (Query::Engines, engines),
        ]));
        assert_eq!((found.engine, found.kv_cache_tokens.value().copied()), (engine, capacity));
        let usage = if engine == EngineKind::Tgi { Signal::NotDefined } else { Signal::Missing };
        assert_eq!(found.kv_cache_usage, usage, "{engine:?}: TGI exports none");
    }
}

#[test]
fn an_engine_that_names_no_model_serves_what_its_variant_declares() {
    let nameless = |pod| SeriesLabels { model_name: None, ..labels("chat", pod, "") };
    let of = |pod| ingested(&HashMap::from([(Query::QueueLength, series(nameless(pod), 1.0))]));
    let found = of("of-a-variant");
    assert_eq!(found.models[&ModelKey::new("chat", "declared")].len(), 1);
    assert!(found.nameless.is_empty());
    let found = of("of-nobody");
    assert!(found.models.is_empty());
    assert_eq!(found.unattributable, Unattributable::default(), "it may be another team's");
    let addresses: Vec<_> = found.nameless.into_iter().collect();
    assert_eq!(addresses, [("chat".into(), ["of-nobody:8000".into()].into())]);
}

#[test]
fn adapters_are_told_by_labels_for_all_ranks_of_a_pod() {
    let info = InfoLabels {
        running_lora_adapters: Some("a,b".into()),
        waiting_lora_adapters: Some("c".into()),
        max_lora: Some("4".into()),
        ..InfoLabels::default()
    };
    let adapters = SeriesLabels {
        model_name: None,
        engine: None,
        quantity: Some("adapters".into()),
        info: Some(info.into()),
        ..labels("chat", "a", "")
    };
    let ranks = || ["0", "1"].map(|rank| Series { labels: labels("chat", "a", rank), value: 1.0 }).to_vec();
    let mean = |labels: SeriesLabels| SeriesLabels { quantity: Some("running".into()), ..labels };
    let found = ingested(&HashMap::from([
        (Query::QueueLength, ranks()),
        (Query::SampleTime, ranks()),
        (Query::Moments, ranks().into_iter().map(|s| Series { labels: mean(s.labels), ..s }).collect()),
        (Query::Engines, series(adapters, 1.7e9)),
    ]));
    let at = Timestamp::from_second(1).unwrap();
    let expected = Signal::present(LoraAdapters { running: 2, waiting: 1, max: 4 }, at);
    let replicas = &found.models[&ModelKey::new("chat", "model")];
    assert_eq!(replicas.len(), 2);
    assert!(replicas.iter().all(|replica| replica.performance.lora == expected), "{replicas:?}");
}

#[test]
fn what_waits_before_the_queue_waits_too() {
    let before = SeriesLabels { quantity: Some("preallocating".into()), ..labels("chat", "a", "0") };
    let (queue, before) = (series(labels("chat", "a", "0"), 2.0), series(before, 3.0));
    for (answer, expected) in [
        ([queue.clone(), before.clone()].concat(), Some(&5.0)),
        ([before.clone(), queue].concat(), Some(&5.0)),
        // A part is no whole.
        (before, None),
    ] {
        let results =
            HashMap::from([(Query::QueueLength, answer), (Query::SampleTime, series(labels("chat", "a", "0"), 1.0))]);
        assert_eq!(only(&results).queue_length.value(), expected);
    }
}

#[test]
fn the_clock_of_a_source_is_told_by_when_it_answered() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let hour = SignedDuration::from_hours(1);
    for (evaluated_at, expected) in [
        (None, SignedDuration::ZERO),
        (Some(f64::NAN), SignedDuration::ZERO),
        (Some(10_005.0), SignedDuration::ZERO),
        (Some(9_990.0), SignedDuration::ZERO),
        (Some(10_008.0 + 3600.0), hour),
        (Some(10_000.0 - 3600.0), -hour),
    ] {
        let ahead =
            |known| SourceClock { ahead: known, evaluated_at: None }.after(evaluated_at, at(10_000), at(10_008)).ahead;
        assert_eq!(ahead(SignedDuration::ZERO), expected, "{evaluated_at:?}");
        let about = expected + SignedDuration::from_secs(3);
        assert_eq!(ahead(about), about, "{evaluated_at:?}: as good as known");
    }
}

#[test]
fn an_answer_that_is_replayed_does_not_set_the_clock_back() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let first = SourceClock::default().after(Some(10_000.0), at(10_000), at(10_001));
    assert_eq!(first.ahead, SignedDuration::ZERO);
    let replayed = first.after(Some(10_000.0), at(10_600), at(10_601));
    assert_eq!(replayed.ahead, SignedDuration::ZERO, "what it holds grows old");
    // A clock that is set back goes on from there.
    assert_eq!(replayed.after(Some(9_000.0), at(10_660), at(10_661)).ahead, SignedDuration::from_secs(-1_660));
}

#[test]
fn what_a_partial_answer_leaves_out_of_an_instance_that_is_there_stays_as_it_was() {
    let earlier = ingested(&recorded());
    let shared = earlier.models.iter().map(|(model, replicas)| (model.clone(), Arc::from(replicas.clone()))).collect();
    let known: &HashMap<ModelKey, Arc<[ReplicaMetrics]>> = &shared;
    for query in Query::ALL.into_iter().filter(|query| !matches!(query, Query::Gateways | Query::Lengths)) {
        let mut results = recorded();
        results.insert(query, Vec::new());
        let mut current = ingested(&results).models;
        let without = current.clone();
        let counts = recorded().get(&query).is_some_and(|series| !series.is_empty());
        assert_eq!(without != earlier.models, counts, "{query:?}: what the recording says of it is missed");
        carry_over(&mut current, known, &HashSet::from([query]));
        assert_eq!(current, earlier.models, "{query:?}");
        let mut unchanged = without.clone();
        carry_over(&mut unchanged, known, &HashSet::new());
        assert_eq!(unchanged, without, "{query:?}: without gaps nothing is kept");
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
        let ingested = ingested(&results);
        for replica in ingested.models.values().flatten() {
            for signal in [replica.kv_cache_usage, replica.queue_length] {
                prop_assert!(signal.value().is_none_or(|value| value.is_finite() && *value >= 0.0));
            }
        }
        let distinct: HashSet<_> = samples.iter().map(|s| (&s.0, &s.1, &s.2)).collect();
        let named: usize = ingested.models.values().map(Vec::len).sum();
        let attributed = named + ingested.nameless.values().map(BTreeSet::len).sum::<usize>();
        prop_assert!(attributed + ingested.unattributable.instances <= distinct.len());
        prop_assert!(attributed + ingested.unattributable.instances > 0 || samples.is_empty());
    }
}
