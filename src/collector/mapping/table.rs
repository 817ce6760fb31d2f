//! The table of engines: which families each exports, and what they mean. Data only; a new engine or a new name is a row.
//!
//! Families of one quantity stand newest first: of those an engine exports, the first is believed. Counters are named
//! without `_total`, which some client libraries add and others do not; histograms without `_bucket`, `_sum`, `_count`.
//!
//! Where the names come from: what each server registers in its own source (given with each engine), and the protocol of
//! model servers of llm-d-router, which reads the same gauges (`pkg/epp/framework/plugins/datalayer/extractor/metrics`).

use crate::interfaces::{EngineKind, Quantity as Q};

/// One engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Engine {
    pub(super) kind: EngineKind,
    /// Label that names the model; empty where none does, so that the pod's variant has to.
    pub(super) model_label: &'static str,
    /// Labels that number the data-parallel engines of a pod; the first that is there counts.
    pub(super) rank_labels: &'static [&'static str],
    /// Labels of copies that all say the same, such as tensor-parallel ranks: those numbered 0 are read; of a
    /// data-parallel rank, whose copies are numbered through with those of the others, the one it names first.
    pub(super) copy_labels: &'static [&'static str],
    pub(super) families: &'static [Family],
}

/// One family and what it means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) quantity: Q,
    pub(super) name: &'static str,
    /// Only samples with this label and value.
    pub(super) label: Option<(&'static str, &'static str)>,
    pub(super) value: Value,
    /// Of several samples of one engine instance the greatest counts, as for every gauge, and not their sum.
    pub(super) greatest: bool,
}

/// Where the number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// It is the sample's value.
    Sample,
    /// It is a label of an info metric.
    Label(&'static str),
    /// 1 minus the sample's value.
    Complement,
}

const fn family(quantity: Q, name: &'static str) -> Family {
    Family { quantity, name, label: None, value: Value::Sample, greatest: false }
}

impl Family {
    const fn only(mut self, label: &'static str, value: &'static str) -> Self {
        self.label = Some((label, value));
        self
    }

    const fn in_label(mut self, label: &'static str) -> Self {
        self.value = Value::Label(label);
        self
    }

    const fn greatest(mut self) -> Self {
        self.greatest = true;
        self
    }

    const fn complement(mut self) -> Self {
        self.value = Value::Complement;
        self
    }
}

/// Labels that say why a request ended; vLLM's and its simulator's.
pub(super) const REASON_LABELS: [&str; 3] = ["finished_reason", "finish_reason", "reason"];

/// `LoRA` adapters: an info metric whose labels hold lists of names.
pub(in crate::collector) const LORA_INFO: &str = "vllm:lora_requests_info";
/// Its labels: adapters with running requests, those with waiting ones, and slots.
pub(super) const LORA_LABELS: [&str; 3] = ["running_lora_adapters", "waiting_lora_adapters", "max_lora"];

pub(super) static ENGINES: [Engine; 5] = [VLLM, SGLANG, TRT_LLM, TRITON, TGI];

/// vLLM 0.6 to 0.33 (`vllm/v1/metrics/loggers.py`) and llm-d-inference-sim.
const VLLM: Engine = Engine {
    kind: EngineKind::Vllm,
    model_label: "model_name",
    rank_labels: &["engine"],
    copy_labels: &[],
    families: &[
        family(Q::KvCacheUsage, "vllm:kv_cache_usage_perc"),
        family(Q::KvCacheUsage, "vllm:gpu_cache_usage_perc"),
        family(Q::KvCacheBlocks, "vllm:cache_config_info").in_label("num_gpu_blocks"),
        family(Q::KvCacheBlockSize, "vllm:cache_config_info").in_label("block_size"),
        family(Q::Waiting, "vllm:num_requests_waiting"),
        family(Q::WaitingForCapacity, "vllm:num_requests_waiting_by_reason").only("reason", "capacity"),
        family(Q::Running, "vllm:num_requests_running"),
        family(Q::Asleep, "vllm:engine_sleep_state").only("sleep_state", "awake").complement(),
        family(Q::PromptTokens, "vllm:prompt_tokens"),
        family(Q::GenerationTokens, "vllm:generation_tokens"),
        family(Q::PrefixQueries, "vllm:prefix_cache_queries"),
        family(Q::PrefixQueries, "vllm:gpu_prefix_cache_queries"),
        family(Q::PrefixHits, "vllm:prefix_cache_hits"),
        family(Q::PrefixHits, "vllm:gpu_prefix_cache_hits"),
        family(Q::Preemptions, "vllm:num_preemptions"),
        family(Q::Rejections, "vllm:admission_rejections"),
        family(Q::Finished, "vllm:request_success"),
        family(Q::TimeToFirstToken, "vllm:time_to_first_token_seconds"),
        family(Q::InterTokenLatency, "vllm:inter_token_latency_seconds"),
        family(Q::InterTokenLatency, "vllm:time_per_output_token_seconds"),
        family(Q::QueueTime, "vllm:request_queue_time_seconds"),
        family(Q::PromptLength, "vllm:request_prompt_tokens"),
        family(Q::OutputLength, "vllm:request_generation_tokens"),
    ],
};

/// SGLang 0.4 and 0.5 (`python/sglang/srt/observability/metrics_collector.py`, before `srt/metrics/collector.py`).
///
/// `cache_hit_rate` changed its unit between versions: the ratio comes from the counters. `num_retractions` is a histogram
/// over finished requests; retractions are counted as they happen by `num_retracted_requests`. Versions before 0.5.11 have
/// their pages as labels of `cache_config_info`. Of the queues of disaggregated serving the one before decode counts, which
/// waits for KV cache; `num_prefill_bootstrap_queue_reqs` waits for that one, and what is in transfer has its room already.
const SGLANG: Engine = Engine {
    kind: EngineKind::Sglang,
    model_label: "model_name",
    rank_labels: &["dp_rank"],
    copy_labels: &["tp_rank", "pp_rank"],
    families: &[
        family(Q::KvCacheUsage, "sglang:token_usage"),
        family(Q::KvCacheTokens, "sglang:max_total_num_tokens"),
        family(Q::KvCacheBlocks, "sglang:num_pages"),
        family(Q::KvCacheBlocks, "sglang:cache_config_info").in_label("num_pages"),
        family(Q::KvCacheBlockSize, "sglang:page_size"),
        family(Q::KvCacheBlockSize, "sglang:cache_config_info").in_label("page_size"),
        family(Q::Waiting, "sglang:num_queue_reqs"),
        family(Q::Preallocating, "sglang:num_decode_prealloc_queue_reqs"),
        family(Q::Running, "sglang:num_running_reqs"),
        family(Q::PromptTokens, "sglang:prompt_tokens"),
        family(Q::GenerationTokens, "sglang:generation_tokens"),
        family(Q::PrefixQueries, "sglang:prompt_tokens"),
        family(Q::PrefixHits, "sglang:cached_tokens"),
        family(Q::Preemptions, "sglang:num_retracted_requests"),
        family(Q::Finished, "sglang:num_requests"),
        family(Q::Aborted, "sglang:num_aborted_requests"),
        family(Q::TimeToFirstToken, "sglang:time_to_first_token_seconds"),
        family(Q::InterTokenLatency, "sglang:inter_token_latency_seconds"),
        family(Q::InterTokenLatency, "sglang:time_per_output_token_seconds"),
        family(Q::QueueTime, "sglang:queue_time_seconds"),
        family(Q::PromptLength, "sglang:prompt_tokens_histogram"),
        family(Q::OutputLength, "sglang:generation_tokens_histogram"),
    ],
};

/// TensorRT-LLM's own server (`tensorrt_llm/metrics/collector.py`), and Dynamo. What concerns single requests is there only
/// under `return_perf_metrics: true`.
const TRT_LLM: Engine = Engine {
    kind: EngineKind::TensorRtLlm,
    model_label: "model_name",
    rank_labels: &[],
    copy_labels: &[],
    families: &[
        family(Q::KvCacheUsage, "trtllm_kv_cache_utilization"),
        family(Q::KvCacheBlocks, "trtllm_kv_cache_max_blocks"),
        family(Q::KvCacheBlockSize, "trtllm_kv_cache_tokens_per_block"),
        family(Q::Waiting, "trtllm_num_requests_waiting"),
        family(Q::Running, "trtllm_num_requests_running"),
        family(Q::PromptTokens, "trtllm_prompt_tokens"),
        family(Q::GenerationTokens, "trtllm_generation_tokens"),
        family(Q::PrefixQueries, "trtllm_prompt_tokens"),
        family(Q::PrefixHits, "trtllm_prompt_cached_tokens"),
        family(Q::Finished, "trtllm_request_success"),
        family(Q::Failed, "trtllm_request_error"),
        family(Q::TimeToFirstToken, "trtllm_time_to_first_token_seconds"),
        family(Q::InterTokenLatency, "trtllm_time_per_output_token_seconds"),
        family(Q::QueueTime, "trtllm_request_queue_time_seconds"),
    ],
};

/// Triton, with the TensorRT-LLM backend (`custom_metrics_reporter.cc`) and plain. Its `model` label names a stage of a pipeline and not what is
/// served; each request passes every stage, so the busiest one counts.
const TRITON: Engine = Engine {
    kind: EngineKind::Triton,
    model_label: "",
    rank_labels: &[],
    copy_labels: &[],
    families: &[
        family(Q::KvCacheUsage, "nv_trt_llm_kv_cache_block_metrics").only("kv_cache_block_type", "fraction"),
        family(Q::KvCacheBlocks, "nv_trt_llm_kv_cache_block_metrics").only("kv_cache_block_type", "max"),
        family(Q::KvCacheBlockSize, "nv_trt_llm_kv_cache_block_metrics").only("kv_cache_block_type", "tokens_per"),
        family(Q::Waiting, "nv_trt_llm_request_metrics").only("request_type", "waiting"),
        family(Q::Waiting, "nv_inference_pending_request_count"),
        family(Q::Running, "nv_trt_llm_request_metrics").only("request_type", "scheduled"),
        family(Q::Finished, "nv_inference_request_success").greatest(),
        family(Q::Failed, "nv_inference_request_failure").greatest(),
    ],
};

/// Text Generation Inference (`backends/v3/src/backend.rs`, `router/src/server.rs`). It exports neither KV-cache usage nor
/// capacity: `tgi_batch_current_max_tokens` is what the batch at hand may grow to, and 0 while there is none.
const TGI: Engine = Engine {
    kind: EngineKind::Tgi,
    model_label: "",
    rank_labels: &[],
    copy_labels: &[],
    families: &[
        family(Q::Waiting, "tgi_queue_size"),
        family(Q::Running, "tgi_batch_current_size"),
        family(Q::Arrivals, "tgi_request_count"),
        family(Q::Finished, "tgi_request_success"),
        family(Q::Failed, "tgi_request_failure"),
        family(Q::InterTokenLatency, "tgi_request_mean_time_per_token_duration"),
        family(Q::QueueTime, "tgi_request_queue_duration"),
        family(Q::PromptLength, "tgi_request_input_length"),
        family(Q::OutputLength, "tgi_request_generated_tokens"),
    ],
};

/// Requests a gateway holds: the endpoint picker's flow control, newest name first (`llm_d_router_metrics.go` of
/// llm-d-router, `pkg/epp/metrics/metrics.go` of gateway-api-inference-extension before it).
pub(in crate::collector) const GATEWAY_QUEUE: [&str; 3] = [
    "llm_d_epp_flow_control_queue_size",
    "inference_extension_flow_control_queue_size",
    "llm_d_inference_scheduler_flow_control_queue_size",
];
/// Requests a gateway received.
pub(in crate::collector) const GATEWAY_REQUESTS: [&str; 4] = [
    "llm_d_epp_request",
    "inference_objective_request",
    "inference_model_request",
    "llm_d_inference_scheduler_objective_request",
];
/// Labels of the model, the name it is served under before the name that was asked for.
pub(super) const GATEWAY_MODEL_LABELS: [&str; 2] = ["target_model_name", "model_name"];
