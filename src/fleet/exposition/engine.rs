//! An engine's `/metrics`: names, labels, types and help of vLLM 0.33, or the names of vLLM 0.8.

use std::fmt;

use clap::ValueEnum;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Families, Labels, render};
use crate::{
    constants::{
        VLLM_CACHE_CONFIG_INFO, VLLM_GPU_CACHE_USAGE_PERC, VLLM_KV_CACHE_USAGE_PERC, VLLM_NUM_REQUESTS_RUNNING,
        VLLM_NUM_REQUESTS_WAITING, VLLM_REQUEST_SUCCESS,
    },
    fleet::{
        engine::{Engine, EngineMetrics, Histogram},
        profile::BLOCK_SIZE,
    },
    interfaces::{EngineKind, EngineReading, Quantity},
};

/// In a second.
const PICOSECONDS: f64 = 1e12;

/// Names an engine exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NameGeneration {
    /// Those of vLLM 0.33.
    #[default]
    Current,
    /// Those before vLLM 0.10: `gpu_cache_usage_perc`, `time_per_output_token_seconds`, no `engine` label.
    Older,
}

/// How engines export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposition {
    /// Which names.
    pub names: NameGeneration,
    /// Whether `vllm:cache_config_info` is there: vLLM's Python frontend has it, its Rust frontend has not.
    pub cache_config_info: bool,
}

impl Default for Exposition {
    fn default() -> Self {
        Self { names: NameGeneration::Current, cache_config_info: true }
    }
}

/// What one engine exports at one moment; rendering needs no access to the engine any more.
#[derive(Clone, Debug)]
pub struct EngineScrape {
    exposition: Exposition,
    model_name: String,
    kv_blocks: u32,
    running: u64,
    waiting: u64,
    kv_usage: f64,
    metrics: EngineMetrics,
}

impl EngineScrape {
    /// Takes the values of `engine`, which serves `model_name`.
    pub fn new(exposition: Exposition, model_name: &str, engine: &Engine) -> Self {
        Self {
            exposition,
            model_name: model_name.to_owned(),
            kv_blocks: engine.kv_blocks(),
            running: engine.running() as u64,
            waiting: engine.waiting() as u64,
            kv_usage: engine.kv_usage(),
            metrics: engine.metrics().clone(),
        }
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When the text cannot be built, which formatting into memory does not do.
    pub fn render(self) -> Result<String, fmt::Error> {
        render(self)
    }

    /// What a reader of [`Self::render`]'s text makes of it, without the text: a simulator has no time for that.
    pub fn reading(&self) -> EngineReading {
        let metrics = &self.metrics;
        let rank = if self.is_current() { "0" } else { "" };
        let mut reading = EngineReading::new(EngineKind::Vllm, self.model_name.as_str(), rank);
        for (quantity, value) in [
            (Quantity::Running, self.running as f64),
            (Quantity::Waiting, self.waiting as f64),
            (Quantity::KvCacheUsage, self.kv_usage),
            (Quantity::PromptTokens, metrics.prompt_tokens as f64),
            (Quantity::GenerationTokens, metrics.generation_tokens as f64),
            (Quantity::PrefixQueries, metrics.prefix_cache_queries as f64),
            (Quantity::PrefixHits, metrics.prefix_cache_hits as f64),
            (Quantity::Preemptions, metrics.preemptions as f64),
            (Quantity::Finished, metrics.finished as f64),
            (Quantity::FinishedByLength, 0.0),
            (Quantity::Aborted, metrics.aborted as f64),
        ] {
            reading.set(quantity, value);
        }
        if self.is_current() {
            reading.set(Quantity::WaitingForCapacity, self.waiting as f64);
        }
        if self.exposition.cache_config_info {
            reading.set(Quantity::KvCacheBlocks, f64::from(self.kv_blocks));
            reading.set(Quantity::KvCacheBlockSize, f64::from(BLOCK_SIZE));
        }
        for (quantity, histogram, unit) in [
            (Quantity::TimeToFirstToken, &metrics.time_to_first_token, PICOSECONDS),
            (Quantity::InterTokenLatency, &metrics.inter_token_latency, PICOSECONDS),
            (Quantity::QueueTime, &metrics.queue_time, PICOSECONDS),
            (Quantity::PromptLength, &metrics.request_prompt_tokens, 1.0),
            (Quantity::OutputLength, &metrics.request_generation_tokens, 1.0),
        ] {
            reading.set_histogram(quantity, histogram.reading(unit));
        }
        reading
    }

    fn is_current(&self) -> bool {
        self.exposition.names == NameGeneration::Current
    }

    fn gauges(&self, families: &mut Families<'_>, labels: Labels<'_>) -> Result<(), fmt::Error> {
        families.gauge(
            VLLM_NUM_REQUESTS_RUNNING,
            "Number of requests in model execution batches.",
            &[(labels, self.running)],
        )?;
        families.gauge(
            VLLM_NUM_REQUESTS_WAITING,
            "Number of requests waiting to be processed.",
            &[(labels, self.waiting)],
        )?;
        if self.is_current() {
            let reason = |reason| [labels, &[("reason", reason)]].concat();
            families.gauge(
                "vllm:num_requests_waiting_by_reason",
                "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; \
                 'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all \
                 reasons equals vllm:num_requests_waiting.",
                &[(&reason("capacity"), self.waiting), (&reason("deferred"), 0)],
            )?;
            families.gauge(
                VLLM_KV_CACHE_USAGE_PERC,
                "KV-cache usage. 1 means 100 percent usage.",
                &[(labels, self.kv_usage)],
            )
        } else {
            families.gauge(
                VLLM_GPU_CACHE_USAGE_PERC,
                "GPU KV-cache usage. 1 means 100 percent usage.",
                &[(labels, self.kv_usage)],
            )
        }
    }

    fn counters(&self, families: &mut Families<'_>, labels: Labels<'_>) -> Result<(), fmt::Error> {
        let prefix = if self.is_current() { "vllm:prefix_cache" } else { "vllm:gpu_prefix_cache" };
        let queried = "Prefix cache queries, in terms of number of queried tokens.";
        let metrics = &self.metrics;
        families.counter(&format!("{prefix}_queries"), queried, &[(labels, metrics.prefix_cache_queries)])?;
        let hits = "Prefix cache hits, in terms of number of cached tokens..";
        families.counter(&format!("{prefix}_hits"), hits, &[(labels, metrics.prefix_cache_hits)])?;
        let step = "Histogram of number of tokens per engine_step..";
        families.histogram("vllm:iteration_tokens_total", step, labels, &metrics.iteration_tokens, 1.0)?;
        let preemptions = "Cumulative number of preemption from the engine..";
        families.counter("vllm:num_preemptions", preemptions, &[(labels, metrics.preemptions)])?;
        let prompt = "Number of prefill tokens processed..";
        families.counter("vllm:prompt_tokens", prompt, &[(labels, metrics.prompt_tokens)])?;
        let generation = "Number of generation tokens processed..";
        families.counter("vllm:generation_tokens", generation, &[(labels, metrics.generation_tokens)])?;
        let reason = |reason| [labels, &[("finished_reason", reason)]].concat();
        families.counter(
            VLLM_REQUEST_SUCCESS,
            "Count of successfully processed requests..",
            &[(&reason("abort"), metrics.aborted), (&reason("length"), 0), (&reason("stop"), metrics.finished)],
        )
    }

    fn histograms(&self, families: &mut Families<'_>, labels: Labels<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.metrics;
        for (name, help, histogram) in [
            ("vllm:request_prompt_tokens", "Number of prefill tokens processed..", &metrics.request_prompt_tokens),
            (
                "vllm:request_generation_tokens",
                "Number of generation tokens processed..",
                &metrics.request_generation_tokens,
            ),
        ] {
            families.histogram(name, help, labels, histogram, 1.0)?;
        }
        for (name, help, histogram) in self.latencies() {
            families.histogram(name, help, labels, histogram, PICOSECONDS)?;
        }
        Ok(())
    }

    fn latencies(&self) -> [(&'static str, &'static str, &Histogram); 8] {
        let metrics = &self.metrics;
        let inter_token = if self.is_current() {
            ("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds..")
        } else {
            ("vllm:time_per_output_token_seconds", "Histogram of time per output token in seconds..")
        };
        [
            (
                "vllm:time_to_first_token_seconds",
                "Histogram of time to first token in seconds..",
                &metrics.time_to_first_token,
            ),
            (inter_token.0, inter_token.1, &metrics.inter_token_latency),
            (
                "vllm:e2e_request_latency_seconds",
                "Histogram of e2e request latency in seconds..",
                &metrics.e2e_request_latency,
            ),
            (
                "vllm:request_queue_time_seconds",
                "Histogram of time spent in WAITING phase for request..",
                &metrics.queue_time,
            ),
            (
                "vllm:request_prefill_time_seconds",
                "Histogram of time spent in PREFILL phase for request..",
                &metrics.prefill_time,
            ),
            (
                "vllm:request_decode_time_seconds",
                "Histogram of time spent in DECODE phase for request..",
                &metrics.decode_time,
            ),
            (
                "vllm:request_inference_time_seconds",
                "Histogram of time spent in RUNNING phase for request..",
                &metrics.inference_time,
            ),
            (
                "vllm:request_time_per_output_token_seconds",
                "Histogram of time_per_output_token_seconds per request..",
                &metrics.time_per_output_token,
            ),
        ]
    }
}

impl Collector for EngineScrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families(encoder);
        let both = [("model_name", self.model_name.as_str()), ("engine", "0")];
        let labels: Labels<'_> = if self.is_current() { &both } else { &both[..1] };
        if self.exposition.cache_config_info {
            let (block_size, blocks) = (BLOCK_SIZE.to_string(), self.kv_blocks.to_string());
            let fields = [("block_size", block_size.as_str()), ("cache_dtype", "auto"), ("num_gpu_blocks", &blocks)];
            // It has no `model_name`.
            let labels = [&fields, &labels[1..]].concat();
            families.gauge(VLLM_CACHE_CONFIG_INFO, "Information of the LLMEngine CacheConfig.", &[(&labels, 1.0)])?;
        }
        self.gauges(&mut families, labels)?;
        self.counters(&mut families, labels)?;
        self.histograms(&mut families, labels)
    }
}
