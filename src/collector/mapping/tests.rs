//! Each engine's own words, and what is read in them.

use proptest::prelude::*;

use super::*;
use crate::config::{CustomEngine, CustomFamily};
use crate::interfaces::{EngineKind, EngineReading, Quantity as Q};

fn readings(text: &str) -> Vec<EngineReading> {
    EngineCatalog::default().readings(text)
}

fn values(reading: &EngineReading, quantities: &[Q]) -> Vec<Option<f64>> {
    quantities.iter().map(|quantity| reading.value(*quantity)).collect()
}

#[test]
fn real_vllm_names_labels_and_both_generations_are_read() {
    let text = r#"
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 37
vllm:num_requests_waiting{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 4
vllm:num_requests_waiting_by_reason{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct",reason="capacity"} 3
vllm:num_requests_waiting_by_reason{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct",reason="deferred"} 1
vllm:engine_sleep_state{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",sleep_state="awake"} 1
vllm:engine_sleep_state{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",sleep_state="discard_all"} 0
vllm:kv_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 0.6123
vllm:gpu_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 0.1
vllm:gpu_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="1"} 0.25
vllm:request_success_total{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",finished_reason="length"} 5
vllm:request_success_total{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",finished_reason="stop"} 95
vllm:request_success_total{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",finished_reason="abort"} 2
vllm:request_success_total{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",finished_reason="error"} 1
vllm:request_success_created{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",finished_reason="stop"} 1.7e9
vllm:admission_rejections_total{model_name="meta-llama/Llama-3.1-8B-Instruct",reason="queue_full"} 6
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="23257",engine="0"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters="c"} 1.7e9
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a",waiting_lora_adapters=""} 1.6e9
"#;
    let found = readings(text);
    assert_eq!(found.iter().map(|reading| &*reading.rank).collect::<Vec<_>>(), ["0", "1"]);
    let rejections: Vec<_> = found.iter().map(|reading| reading.value(Q::Rejections)).collect();
    assert_eq!(rejections, [Some(6.0), None], "a total of all ranks counts once");
    let first = &found[0];
    assert_eq!((&*first.model, first.engine), ("meta-llama/Llama-3.1-8B-Instruct", EngineKind::Vllm));
    let gauges = [Q::KvCacheUsage, Q::Waiting, Q::WaitingForCapacity, Q::Running, Q::Asleep];
    assert_eq!(values(first, &gauges), [Some(0.6123), Some(4.0), Some(3.0), Some(37.0), Some(0.0)]);
    let ended = [Q::Finished, Q::FinishedByLength, Q::Aborted, Q::Failed];
    assert_eq!(values(first, &ended), [95.0, 5.0, 2.0, 1.0].map(Some));
    assert_eq!(first.kv_cache_tokens(), Some(372_112.0));
    let lora = first.lora.unwrap();
    assert_eq!((lora.running, lora.waiting, lora.max), (2, 1, 4), "the newest series counts");
    assert_eq!(values(&found[1], &[Q::KvCacheUsage, Q::Waiting]), [Some(0.25), None]);
}

/// Engine, a few lines as it exports them, and what they mean.
type Row = (EngineKind, &'static str, &'static [(Q, f64)], Option<f64>);

const ENGINES: [Row; 7] = [
    (
        EngineKind::Vllm,
        r#"
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:num_requests_waiting{model_name="m"} 2
vllm:request_success{model_name="m",finish_reason="stop"} 7
vllm:gpu_prefix_cache_hits_total{model_name="m"} 30
vllm:gpu_prefix_cache_queries_total{model_name="m"} 60
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1"#,
        &[
            (Q::KvCacheUsage, 0.5),
            (Q::Waiting, 2.0),
            (Q::Finished, 7.0),
            (Q::PrefixHits, 30.0),
            (Q::PrefixQueries, 60.0),
        ],
        Some(16_000.0),
    ),
    (
        EngineKind::Sglang,
        r#"
sglang:token_usage{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 0.25
sglang:token_usage{engine_type="unified",model_name="m",pp_rank="0",tp_rank="1"} 0.9
sglang:num_queue_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 3
sglang:num_running_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 8
sglang:max_total_num_tokens{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 65536
sglang:num_requests_total{model_name="m"} 41
sglang:prompt_tokens_total{model_name="m"} 1000
sglang:cached_tokens_total{model_name="m",cache_source="device"} 200
sglang:cached_tokens_total{model_name="m",cache_source="host"} 50
sglang:num_retracted_requests_total{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 6
sglang:num_retractions_sum{model_name="m"} 5
sglang:num_retractions_count{model_name="m"} 41"#,
        &[
            (Q::KvCacheUsage, 0.25),
            (Q::Waiting, 3.0),
            (Q::Running, 8.0),
            (Q::Finished, 41.0),
            (Q::PrefixQueries, 1000.0),
            (Q::PrefixHits, 250.0),
            (Q::Preemptions, 6.0),
        ],
        Some(65_536.0),
    ),
    (
        EngineKind::Sglang,
        r#"
sglang:token_usage{model_name="m",pp_rank="0",tp_rank="0"} 0.5
sglang:cache_config_info{model_name="m",num_pages="1000",page_size="64",pp_rank="0",tp_rank="0"} 1"#,
        &[(Q::KvCacheUsage, 0.5)],
        Some(64_000.0),
    ),
    (
        EngineKind::TensorRtLlm,
        r#"
trtllm_kv_cache_utilization{model_name="m"} 0.75
trtllm_kv_cache_max_blocks{model_name="m"} 100
trtllm_kv_cache_tokens_per_block{model_name="m"} 32
trtllm_num_requests_waiting{model_name="m"} 1
trtllm_num_requests_running{model_name="m"} 6
trtllm_request_success_total{model_name="m",finished_reason="stop"} 12
trtllm_request_error_total{model_name="m",http_code="400"} 2
trtllm_request_error_total{model_name="m",http_code="500"} 1
trtllm_prompt_tokens_total{model_name="m"} 900
trtllm_prompt_cached_tokens_total{model_name="m"} 300
trtllm_generation_tokens_total{model_name="m"} 700"#,
        &[
            (Q::KvCacheUsage, 0.75),
            (Q::Waiting, 1.0),
            (Q::Running, 6.0),
            (Q::Finished, 12.0),
            (Q::Failed, 3.0),
            (Q::PromptTokens, 900.0),
            (Q::PrefixHits, 300.0),
            (Q::PrefixQueries, 900.0),
            (Q::GenerationTokens, 700.0),
        ],
        Some(3_200.0),
    ),
    (
        EngineKind::Triton,
        r#"
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 5
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 16
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.6
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 500
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
nv_inference_pending_request_count{model="tensorrt_llm",version="1"} 99
nv_inference_request_success{model="ensemble",version="1"} 70
nv_inference_request_success{model="preprocessing",version="1"} 71"#,
        &[(Q::KvCacheUsage, 0.6), (Q::Waiting, 5.0), (Q::Running, 16.0), (Q::Finished, 71.0)],
        Some(32_000.0),
    ),
    (
        EngineKind::Triton,
        r#"
nv_inference_pending_request_count{model="llama",version="1"} 4
nv_inference_request_success{model="llama",version="1"} 70"#,
        &[(Q::Waiting, 4.0), (Q::Finished, 70.0)],
        None,
    ),
    (
        EngineKind::Tgi,
        r#"
tgi_queue_size 9
tgi_batch_current_size 4
tgi_batch_current_max_tokens 16000
tgi_request_count 100
tgi_request_success 80
tgi_request_failure{err="overloaded"} 3
tgi_request_failure{err="validation"} 4"#,
        &[(Q::Waiting, 9.0), (Q::Running, 4.0), (Q::Arrivals, 100.0), (Q::Finished, 80.0), (Q::Failed, 7.0)],
        None,
    ),
];

#[test]
fn each_engine_is_known_by_the_names_it_exports() {
    for (engine, text, expected, capacity) in ENGINES {
        let found = readings(text);
        assert_eq!(found.len(), 1, "{engine:?}: {found:?}");
        assert_eq!(found[0].engine, engine);
        for (quantity, value) in expected {
            assert_eq!(found[0].value(*quantity), Some(*value), "{engine:?} {quantity:?}");
        }
        assert_eq!(found[0].kv_cache_tokens(), capacity, "{engine:?}");
    }
}

#[test]
fn what_an_engine_never_exports_is_not_defined_rather_than_missing() {
    let not_defined = |text: &str| readings(text)[0].not_defined;
    let vllm = not_defined("vllm:num_requests_waiting{model_name=\"m\"} 0");
    assert!([Q::KvCacheUsage, Q::Arrivals, Q::KvCacheTokens].iter().all(|quantity| !vllm.contains(*quantity)));
    let tgi = not_defined("tgi_queue_size 0");
    assert!([Q::KvCacheUsage, Q::KvCacheTokens, Q::PrefixHits].iter().all(|quantity| tgi.contains(*quantity)));
    assert!(!tgi.contains(Q::Waiting));
}

#[test]
fn data_parallel_ranks_are_instances_of_their_own() {
    let sglang = "sglang:num_queue_reqs{model_name=\"m\",dp_rank=\"0\"} 1\nsglang:num_queue_reqs{model_name=\"m\",dp_rank=\"1\"} 2\n";
    let found = readings(sglang);
    assert_eq!(
        found.iter().map(|reading| (&*reading.rank, reading.value(Q::Waiting))).collect::<Vec<_>>(),
        [("0", Some(1.0)), ("1", Some(2.0))]
    );
    let vllm = readings(include_str!("../../../tests/fixtures/collector/vllm-0.33-data-parallel.prom"));
    assert!(vllm.len() > 1 && vllm.iter().all(|reading| !reading.rank.is_empty()), "{vllm:?}");
}

#[test]
fn of_each_data_parallel_rank_one_of_its_copies_is_read() {
    // Two ranks of attention on two devices each: the devices are numbered through.
    let text = r#"
sglang:num_queue_reqs{dp_rank="0",model_name="m",pp_rank="0",tp_rank="0"} 1
sglang:num_queue_reqs{dp_rank="1",model_name="m",pp_rank="0",tp_rank="2"} 2
sglang:num_retracted_requests_total{dp_rank="0",model_name="m",pp_rank="0",tp_rank="1"} 5
sglang:num_retracted_requests_total{dp_rank="0",model_name="m",pp_rank="0",tp_rank="0"} 5
sglang:num_retracted_requests_total{dp_rank="1",model_name="m",pp_rank="0",tp_rank="3"} 7
sglang:num_retracted_requests_total{dp_rank="1",model_name="m",pp_rank="0",tp_rank="2"} 7
"#;
    let found = readings(text);
    let of = |reading: &EngineReading| (reading.rank.to_string(), values(reading, &[Q::Waiting, Q::Preemptions]));
    assert_eq!(
        found.iter().map(of).collect::<Vec<_>>(),
        [("0".to_owned(), vec![Some(1.0), Some(5.0)]), ("1".to_owned(), vec![Some(2.0), Some(7.0)])]
    );
}

#[test]
fn the_answers_of_real_servers_hold_what_a_decision_needs() {
    for (name, text) in [
        ("0.6", include_str!("../../../tests/fixtures/collector/vllm-0.6.prom")),
        ("0.33", include_str!("../../../tests/fixtures/collector/vllm-0.33.prom")),
        ("simulator", include_str!("../../../tests/fixtures/collector/llm-d-inference-sim.prom")),
    ] {
        let found = readings(text);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let needed = [Q::KvCacheUsage, Q::Waiting, Q::Running];
        assert!(values(&found[0], &needed).iter().all(Option::is_some), "{name}: {:?}", found[0]);
    }
}

#[test]
fn a_histogram_is_read_in_whatever_buckets_it_has() {
    let text = r#"
vllm:time_to_first_token_seconds_bucket{model_name="m",le="0.5"} 2
vllm:time_to_first_token_seconds_bucket{model_name="m",le="+Inf"} 10
vllm:time_to_first_token_seconds_bucket{model_name="m",le="2.0"} 7
vllm:time_to_first_token_seconds_sum{model_name="m"} 12.5
vllm:time_to_first_token_seconds_count{model_name="m"} 10
vllm:time_per_output_token_seconds_sum{model_name="m"} 1
vllm:time_per_output_token_seconds_count{model_name="m"} 20
vllm:inter_token_latency_seconds_sum{model_name="m"} 3
vllm:inter_token_latency_seconds_count{model_name="m"} 30
"#;
    let found = readings(text);
    let first_token = found[0].histogram(Q::TimeToFirstToken).unwrap();
    assert_eq!((&*first_token.bounds, &*first_token.counts), (&[0.5, 2.0][..], &[2.0, 5.0, 3.0][..]));
    assert_eq!(first_token.sum, 12.5);
    let inter_token = found[0].histogram(Q::InterTokenLatency).unwrap();
    assert_eq!(
        (inter_token.count(), inter_token.sum),
        (30.0, 3.0),
        "of two generations the newer counts, in any order"
    );
}

#[test]
fn an_engine_of_the_configuration_is_read_and_takes_a_family_from_one_built_in() {
    let family = |quantity, name: &str, label: Option<(&str, &str)>| CustomFamily {
        quantity,
        name: name.into(),
        label: label.map(|(name, value)| (name.into(), value.into())),
    };
    let catalog = EngineCatalog::new(&[CustomEngine {
        name: "mine".into(),
        model_label: Some("served".into()),
        rank_label: None,
        families: vec![
            family(Q::Waiting, "mine_requests", Some(("state", "queued"))),
            family(Q::Finished, "mine_done", None),
            family(Q::Running, "tgi_batch_current_size", None),
        ],
    }]);
    let text = "mine_requests{served=\"m\",state=\"queued\"} 3\nmine_requests{served=\"m\",state=\"running\"} 9\n\
                mine_done_total{served=\"m\"} 5\ntgi_batch_current_size{served=\"m\"} 4\n";
    let found = catalog.readings(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].engine, EngineKind::Custom);
    assert_eq!(values(&found[0], &[Q::Waiting, Q::Finished, Q::Running]), [3.0, 5.0, 4.0].map(Some));
}

#[test]
fn what_is_not_a_number_is_not_read_as_zero() {
    let text = "vllm:kv_cache_usage_perc{model_name=\"m\"} NaN\nvllm:num_requests_waiting{model_name=\"m\"} 0\n";
    assert_eq!(values(&readings(text)[0], &[Q::KvCacheUsage, Q::Waiting]), [None, Some(0.0)]);
    assert_eq!(readings("<html>hello</html>"), []);
}

#[test]
fn both_generations_of_gateway_names_are_read_once() {
    let old = r#"
inference_extension_flow_control_queue_size{fairness_id="a",priority="0",model_name="m",target_model_name="m"} 4
inference_extension_flow_control_queue_size{fairness_id="b",priority="0",model_name="m",target_model_name="m"} 3
inference_objective_request_total{model_name="m",target_model_name="m-lora"} 2
inference_objective_request_total{model_name="m",target_model_name=""} 10
"#;
    let new = r#"
llm_d_epp_flow_control_queue_size{fairness_id="a",model_name="m",target_model_name="m"} 5
llm_d_epp_request_total{model_name="m",target_model_name="m"} 11
"#;
    let of = |text: &str| -> Vec<_> {
        gateway_readings(text)
            .into_iter()
            .map(|reading| (reading.model.to_string(), reading.queue, reading.requests))
            .collect()
    };
    assert_eq!(of(old), [("m".to_owned(), Some(7.0), Some(10.0)), ("m-lora".to_owned(), None, Some(2.0))]);
    assert_eq!(of(new), [("m".to_owned(), Some(5.0), Some(11.0))]);
    assert_eq!(of(&format!("{old}{new}"))[0], ("m".to_owned(), Some(5.0), Some(11.0)), "twins are not added up");
}

fn line() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "vllm:num_requests_waiting",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:time_to_first_token_seconds_sum",
        "vllm:cache_config_info",
        "vllm:lora_requests_info",
        "llm_d_epp_request_total",
        "tgi_queue_size",
        "other",
    ]);
    (names, "[a-z,=\"{}\\\\é ]{0,30}", "[-+0-9eNaInf. ]{0,12}")
        .prop_map(|(name, labels, value)| format!("{name}{{model_name=\"m\",le=\"0.5\",{labels}}} {value}"))
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic_and_what_it_keeps_is_bounded(
        lines in prop::collection::vec(prop_oneof![line(), "\\PC{0,60}".prop_map(String::from)], 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = lines.join("\n");
        let end = (0..=cut.index(text.len() + 1)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let found = readings(&text[..end]);
        prop_assert!(found.len() <= lines.len());
        for reading in &found {
            for quantity in Q::HISTOGRAMS {
                if let Some(histogram) = reading.histogram(quantity) {
                    prop_assert_eq!(histogram.counts.len(), histogram.bounds.len() + 1);
                    prop_assert!(histogram.counts.iter().all(|count| count.is_finite() && *count >= 0.0));
                }
            }
        }
        prop_assert!(gateway_readings(&text[..end]).len() <= lines.len());
    }
}

#[test]
fn an_answer_with_endless_instances_is_cut_off() {
    let text: String = (0..10_000)
        .fold(String::new(), |text, n| text + &format!("vllm:num_requests_waiting{{model_name=\"m{n}\"}} 1\n"));
    assert_eq!(readings(&text).len(), 256);
}
