//! The collector against a real Prometheus that scrapes engines.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use wva::{
    config::{CustomEngine, CustomFamily},
    interfaces::{EngineKind, LoraAdapters, ModelKey, Quantity, ReplicaMetrics, Signal, VariantKey},
};

use crate::collector_support::{Collecting, Engines, Prometheus, Target, eventually};

const CURRENT_VLLM: &str = include_str!("../fixtures/collector/vllm-0.33.prom");
const OLD_VLLM: &str = include_str!("../fixtures/collector/vllm-0.6.prom");
const SIMULATOR: &str = include_str!("../fixtures/collector/llm-d-inference-sim.prom");
const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

fn model() -> ModelKey {
    ModelKey::new("chat", MODEL)
}

/// Fetches until every one of `count` replicas has all its signals: a rate needs two scrapes.
async fn complete(collecting: &Collecting, model: &ModelKey, count: usize) -> Vec<ReplicaMetrics> {
    let is_complete = |replica: &ReplicaMetrics| {
        let signals = [
            replica.kv_cache_usage,
            replica.queue_length,
            replica.running,
            replica.request_rate,
            replica.kv_cache_tokens,
        ];
        signals.iter().all(|signal| signal.value().is_some())
    };
    eventually("every replica has every signal", async || {
        let replicas = collecting.fetch(model).await;
        (replicas.len() == count && replicas.iter().all(is_complete)).then_some(replicas)
    })
    .await
}

/// When Prometheus took its samples of `selector` within the last minute.
async fn scrapes(prometheus: &Prometheus, selector: &str) -> HashSet<Timestamp> {
    let result = prometheus.ask(&format!("{selector}[1m]")).await;
    let samples = result[0]["values"].as_array().unwrap();
    let milliseconds = samples.iter().map(|sample| (sample[0].as_f64().unwrap() * 1000.0).round() as i64);
    milliseconds.map(|time| Timestamp::from_millisecond(time).unwrap()).collect()
}

#[tokio::test]
async fn values_of_both_generations_arrive_with_the_time_of_their_scrape_and_their_variant() {
    let engines = Engines::start().await;
    engines.export("current-0", CURRENT_VLLM);
    engines.export("old-0", OLD_VLLM);
    engines.export("sim-0", SIMULATOR);
    let mut twice = Target::pod("chat", "current-0");
    twice.job = "the-same-pod-again";
    let targets = [Target::pod("chat", "current-0"), Target::pod("chat", "old-0"), Target::pod("chat", "sim-0"), twice];
    let prometheus = Prometheus::start(&engines, &targets).await;
    let collecting = Collecting::new(&prometheus.config()).unwrap();

    let replicas = complete(&collecting, &model(), 3).await;
    let values: Vec<_> = replicas
        .iter()
        .map(|replica| {
            let of = |signal: Signal<f64>| *signal.value().unwrap();
            (
                &*replica.pod,
                of(replica.kv_cache_usage),
                of(replica.queue_length),
                of(replica.running),
                of(replica.kv_cache_tokens),
            )
        })
        .collect();
    assert_eq!(
        values,
        [
            ("current-0", 0.6123, 4.0, 37.0, 16.0 * 23_257.0),
            ("old-0", 0.3125, 3.0, 12.0, 16.0 * 7281.0),
            ("sim-0", 0.438_476_562_5, 22.0, 8.0, 16.0 * 1024.0),
        ]
    );
    let sampled_at = replicas[1].queue_length.sampled_at().unwrap();
    let scrapes = scrapes(&prometheus, r#"vllm:num_requests_waiting{pod="old-0"}"#).await;
    assert!(scrapes.contains(&sampled_at), "{sampled_at} is none of {scrapes:?}");

    assert_eq!(replicas[0].variant, None);
    let variant = VariantKey::new("chat", "llama-h100");
    collecting.pods.own(&variant, "current-0");
    let replicas = collecting.collector.fetch_saturation_metrics(&model()).await.unwrap();
    assert_eq!(
        replicas[0].variant,
        Some(variant),
        "a pod is attributed as soon as its owner is known, without a fetch"
    );
    assert_eq!(collecting.collector.validate_metrics_availability(&model()).await, Ok(()));
}

/// One pod of each engine but vLLM, with what it exports, and its KV-cache capacity.
const OTHER_ENGINES: [(EngineKind, &str, &str, Option<f64>); 5] = [
    (
        EngineKind::Sglang,
        "sglang-0",
        "sglang:token_usage{engine_type=\"decode\",model_name=\"m\",tp_rank=\"0\",pp_rank=\"0\"} 0.25\n\
         sglang:num_queue_reqs{engine_type=\"decode\",model_name=\"m\",tp_rank=\"0\",pp_rank=\"0\"} 1\n\
         sglang:num_decode_prealloc_queue_reqs{engine_type=\"decode\",model_name=\"m\",tp_rank=\"0\",pp_rank=\"0\"} 2\n\
         sglang:max_total_num_tokens{engine_type=\"decode\",model_name=\"m\",tp_rank=\"0\",pp_rank=\"0\"} 65536\n",
        Some(65_536.0),
    ),
    (
        EngineKind::TensorRtLlm,
        "trtllm-0",
        "trtllm_kv_cache_utilization{model_name=\"m\"} 0.25\ntrtllm_num_requests_waiting{model_name=\"m\"} 3\n\
         trtllm_kv_cache_max_blocks{model_name=\"m\"} 100\ntrtllm_kv_cache_tokens_per_block{model_name=\"m\"} 32\n",
        Some(3_200.0),
    ),
    (
        EngineKind::Triton,
        "triton-0",
        "nv_trt_llm_request_metrics{model=\"stage\",request_type=\"waiting\",version=\"1\"} 3\n\
         nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\",model=\"stage\",version=\"1\"} 0.25\n\
         nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\",model=\"stage\",version=\"1\"} 500\n\
         nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\",model=\"stage\",version=\"1\"} 64\n",
        Some(32_000.0),
    ),
    (EngineKind::Tgi, "tgi-0", "tgi_queue_size 3\ntgi_batch_current_size 4\n", None),
    (
        EngineKind::Custom,
        "mine-0",
        "mine_usage{served=\"m\"} 0.25\nmine_queue{served=\"m\"} 3\nmine_room{served=\"m\"} 1000\n",
        Some(1_000.0),
    ),
];

#[tokio::test]
async fn every_engine_is_told_apart_with_its_capacity_and_those_that_name_no_model_serve_their_variant() {
    let engines = Engines::start().await;
    let mut targets = Vec::new();
    for (_, pod, exposition, _) in OTHER_ENGINES {
        engines.export(pod, exposition);
        targets.push(Target::pod("chat", pod));
    }
    let lora = "vllm:num_requests_waiting{model_name=\"m\"} 3\nvllm:num_requests_running{model_name=\"m\"} 1\n\
                vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a,b\",waiting_lora_adapters=\"c\"} 1.7e9\n\
                vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a\",waiting_lora_adapters=\"\"} 1.6e9\n";
    engines.export("vllm-0", lora);
    targets.push(Target::pod("chat", "vllm-0"));
    let prometheus = Prometheus::start(&engines, &targets).await;
    let mut config = prometheus.config();
    let family = |quantity, name: &str| CustomFamily { quantity, name: name.into(), label: None };
    config.collector.engines = vec![CustomEngine {
        name: "mine".into(),
        model_label: Some("served".into()),
        rank_label: None,
        families: vec![
            family(Quantity::KvCacheUsage, "mine_usage"),
            family(Quantity::Waiting, "mine_queue"),
            family(Quantity::KvCacheTokens, "mine_room"),
        ],
    }];
    let collecting = Collecting::new(&config).unwrap();
    let variant = VariantKey::new("chat", "llama");
    collecting.pods.declare(&variant, "m");
    for pod in ["triton-0", "tgi-0"] {
        collecting.pods.own(&variant, pod);
    }
    let model = ModelKey::new("chat", "m");
    let replicas = eventually("every pod is known", async || {
        let replicas = collecting.fetch(&model).await;
        // Queries are asked side by side: one may have seen a pod that another has not.
        let is_known = |replica: &ReplicaMetrics| {
            let signals = [replica.kv_cache_usage, replica.queue_length];
            &*replica.pod == "vllm-0" || !signals.contains(&Signal::Missing)
        };
        (replicas.len() == OTHER_ENGINES.len() + 1 && replicas.iter().all(is_known)).then_some(replicas)
    })
    .await;
    let of = |pod: &str| replicas.iter().find(|replica| &*replica.pod == pod).unwrap();
    for (engine, pod, _, capacity) in OTHER_ENGINES {
        let found = of(pod);
        assert_eq!(found.engine, engine, "{pod}");
        assert_eq!(found.queue_length.value(), Some(&3.0), "{pod}");
        assert_eq!(found.kv_cache_tokens.value().copied(), capacity, "{pod}");
        match engine {
            EngineKind::Tgi => assert_eq!(found.kv_cache_usage, Signal::NotDefined),
            _ => assert_eq!(found.kv_cache_usage.value(), Some(&0.25), "{pod}"),
        }
    }
    let adapters = LoraAdapters { running: 2, waiting: 1, max: 4 };
    assert_eq!(of("vllm-0").performance.lora.value(), Some(&adapters), "the newest series counts");
    assert_eq!(of("tgi-0").performance.lora, Signal::NotDefined);
    assert_eq!(collecting.collector.validate_metrics_availability(&model).await, Ok(()));
}

#[tokio::test]
async fn a_pod_that_two_jobs_scrape_completes_its_requests_only_once() {
    let engines = Engines::start().await;
    let mut twice = Target::pod("chat", "pod-0");
    twice.job = "the-same-pod-again";
    let prometheus = Prometheus::start(&engines, &[Target::pod("chat", "pod-0"), twice]).await;
    let collecting = Collecting::new(&prometheus.config()).unwrap();
    let mut completed = 0;
    eventually("both jobs see both reasons", async || {
        completed += 1;
        let exposition = format!(
            "vllm:kv_cache_usage_perc{{model_name=\"m\"}} 0.5\n\
             vllm:num_requests_waiting{{model_name=\"m\"}} 0\n\
             vllm:request_success_total{{model_name=\"m\",finished_reason=\"stop\"}} {completed}\n\
             vllm:request_success_total{{model_name=\"m\",finished_reason=\"length\"}} {completed}\n"
        );
        engines.export("pod-0", exposition);
        let result = prometheus.ask("rate(vllm:request_success_total[1m]) > 0").await;
        (result.as_array()?.len() == 4).then_some(())
    })
    .await;
    let rate = *collecting.fetch(&ModelKey::new("chat", "m")).await[0].request_rate.value().unwrap();
    let over_both = prometheus.ask("sum(rate(vllm:request_success_total[1m]))").await;
    let over_both: f64 = over_both[0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(rate > over_both * 0.25 && rate < over_both * 0.75, "{rate} of {over_both} requests per second");
}

#[tokio::test]
async fn when_a_pod_dies_its_values_stay_but_their_sample_time_stops() {
    let engines = Engines::start().await;
    engines.export("dying-0", CURRENT_VLLM);
    let prometheus = Prometheus::start(&engines, &[Target::pod("chat", "dying-0")]).await;
    let collecting = Collecting::new(&prometheus.config()).unwrap();
    eventually("scrapes over more than one step of the subquery", async || {
        let result = prometheus.ask("count_over_time(vllm:num_requests_waiting[1m]) > 7").await;
        (!result.as_array()?.is_empty()).then_some(())
    })
    .await;
    engines.kill("dying-0");
    eventually("Prometheus sees the pod down", async || {
        let result = prometheus.ask(r#"up{pod="dying-0"} == 0"#).await;
        (!result.as_array()?.is_empty()).then_some(())
    })
    .await;

    let scrapes = scrapes(&prometheus, "vllm:num_requests_waiting").await;
    let usage = collecting.fetch(&model()).await[0].kv_cache_usage;
    let Signal::Present { value, sampled_at } = usage else { panic!("{usage:?}") };
    assert_eq!(value, 0.6123);
    assert!(scrapes.contains(&sampled_at), "{sampled_at} is none of {scrapes:?}");
    let limit = Duration::from_mins(1);
    assert_eq!(usage.fresh(sampled_at + limit, limit), usage);
    assert_eq!(usage.fresh(sampled_at + limit + Duration::from_secs(1), limit), Signal::Missing);

    // Prometheus goes on, the sample time does not.
    eventually("Prometheus scrapes in vain some more", async || {
        let result = prometheus.ask(r#"count_over_time((up{pod="dying-0"} == 0)[1m:1s]) > 2"#).await;
        (!result.as_array()?.is_empty()).then_some(())
    })
    .await;
    let later = collecting.fetch(&model()).await[0].kv_cache_usage;
    assert!(later.sampled_at().is_none_or(|later| scrapes.contains(&later)), "{later:?}");
}

#[tokio::test]
async fn the_number_of_queries_does_not_grow_with_the_number_of_models() {
    const MANY: usize = 50;
    let engines = Engines::start().await;
    let pods: Vec<_> = (0..MANY).map(|number| format!("pod-{number}")).collect();
    let targets: Vec<_> = pods.iter().map(|pod| Target::pod("chat", pod)).collect();
    engines.export(&pods[0], CURRENT_VLLM);
    let prometheus = Prometheus::start(&engines, &targets).await;
    let collecting = Collecting::new(&prometheus.config()).unwrap();
    complete(&collecting, &model(), 1).await;

    let cost_of_a_fetch = async || {
        let before = prometheus.queries_answered().await;
        collecting.collector.refresh().await.unwrap();
        prometheus.queries_answered().await - before
    };
    let one_model = cost_of_a_fetch().await;
    for (number, pod) in pods.iter().enumerate() {
        engines.export(pod, CURRENT_VLLM.replace(MODEL, &format!("org/model-{number}")));
    }
    eventually("all models are known", async || {
        collecting.collector.refresh().await.unwrap();
        (collecting.tracker.statistics()["kv_cache_usage"].series > MANY).then_some(())
    })
    .await;
    // The lengths of requests are asked for once a minute.
    for cost in [one_model, cost_of_a_fetch().await] {
        assert!((10..=11).contains(&cost), "{cost} queries");
    }
    let last = ModelKey::new("chat", format!("org/model-{}", MANY - 1));
    assert_eq!(collecting.collector.fetch_saturation_metrics(&last).await.unwrap().len(), 1);
}

#[tokio::test]
async fn engines_without_a_pod_label_and_misspelt_models_are_told_to_the_user() {
    let engines = Engines::start().await;
    engines.export("static-0", CURRENT_VLLM);
    let mut target = Target::pod("chat", "static-0");
    target.labels.clear();
    let prometheus = Prometheus::start(&engines, &[target]).await;
    let collecting = Collecting::new(&prometheus.config()).unwrap();
    let error = eventually("health tells of what cannot be attributed", async || {
        collecting.collector.refresh().await.unwrap();
        collecting.collector.health().last_error
    })
    .await;
    assert!(error.contains("static-0:8000") && error.contains("`pod` label"), "{error}");
    let error = collecting.collector.validate_metrics_availability(&model()).await.unwrap_err().to_string();
    assert!(error.contains("relabel __meta_kubernetes_pod_name to pod"), "{error}");
}
