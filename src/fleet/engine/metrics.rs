//! What an engine counts about itself: the content of its `/metrics`, without names or text.

use super::{
    histogram::{Bounds, Histogram},
    sequence::Sequence,
};
use crate::fleet::{request::Request, time::Picoseconds};

/// Counters and histograms of one engine since it started. Histograms of times are in picoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineMetrics {
    /// Prompt tokens of requests whose first token is out, cached ones included; recomputed ones count once.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub generation_tokens: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_cache_queries: u64,
    /// Prompt tokens found there.
    pub prefix_cache_hits: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Requests that ran to their end.
    pub finished: u64,
    /// Requests cut off because the engine stopped.
    pub aborted: u64,
    /// Arrival at the engine to first token.
    pub time_to_first_token: Histogram,
    /// Between two tokens of a request.
    pub inter_token_latency: Histogram,
    /// Mean time per output token of a request.
    pub time_per_output_token: Histogram,
    /// Arrival at the engine to last token.
    pub e2e_request_latency: Histogram,
    /// Arrival at the engine to the first iteration.
    pub queue_time: Histogram,
    /// First iteration to first token.
    pub prefill_time: Histogram,
    /// First token to last token.
    pub decode_time: Histogram,
    /// First iteration to last token.
    pub inference_time: Histogram,
    /// Prompt length of a finished request.
    pub request_prompt_tokens: Histogram,
    /// Generated length of a finished request.
    pub request_generation_tokens: Histogram,
    /// Tokens computed and generated per iteration.
    pub iteration_tokens: Histogram,
}

const TTFT_MS: [u64; 22] = [
    1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000, 20_000, 40_000, 80_000, 160_000,
    640_000, 2_560_000,
];
const ITL_MS: [u64; 19] =
    [10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2500, 5000, 7500, 10_000, 20_000, 40_000, 80_000];
const LATENCY_MS: [u64; 21] = [
    300, 500, 800, 1000, 1500, 2000, 2500, 5000, 10_000, 15_000, 20_000, 30_000, 40_000, 50_000, 60_000, 120_000,
    240_000, 480_000, 960_000, 1_920_000, 7_680_000,
];
/// 1, 2 and 5 times the powers of ten up to a context of 131,072 tokens.
static REQUEST_TOKENS: Bounds =
    Bounds::new(&[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 131_072]);
static ITERATION_TOKENS: Bounds = Bounds::new(&[1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384]);

const fn picoseconds<const N: usize>(milliseconds: [u64; N]) -> [u64; N] {
    let mut bounds = milliseconds;
    let mut index = 0;
    while index < N {
        bounds[index] = Picoseconds::from_millis(bounds[index]).get();
        index += 1;
    }
    bounds
}

static TTFT: Bounds = Bounds::new(&picoseconds(TTFT_MS));
static ITL: Bounds = Bounds::new(&picoseconds(ITL_MS));
static LATENCY: Bounds = Bounds::new(&picoseconds(LATENCY_MS));

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            prompt_tokens: 0,
            generation_tokens: 0,
            prefix_cache_queries: 0,
            prefix_cache_hits: 0,
            preemptions: 0,
            finished: 0,
            aborted: 0,
            time_to_first_token: Histogram::new(&TTFT),
            inter_token_latency: Histogram::new(&ITL),
            time_per_output_token: Histogram::new(&ITL),
            e2e_request_latency: Histogram::new(&LATENCY),
            queue_time: Histogram::new(&LATENCY),
            prefill_time: Histogram::new(&LATENCY),
            decode_time: Histogram::new(&LATENCY),
            inference_time: Histogram::new(&LATENCY),
            request_prompt_tokens: Histogram::new(&REQUEST_TOKENS),
            request_generation_tokens: Histogram::new(&REQUEST_TOKENS),
            iteration_tokens: Histogram::new(&ITERATION_TOKENS),
        }
    }
}

impl EngineMetrics {
    pub(super) fn looked_up(&mut self, request: &Request) {
        self.prefix_cache_queries += u64::from(request.prompt_tokens);
        self.prefix_cache_hits += u64::from(request.cached_tokens.min(request.prompt_tokens));
    }

    pub(super) fn first_token(&mut self, sequence: &Sequence, at: Picoseconds) {
        self.prompt_tokens += u64::from(sequence.request.prompt_tokens);
        self.time_to_first_token.observe(at.since(sequence.submitted_at).get());
    }

    pub(super) fn finished(&mut self, sequence: &Sequence, tpot: Option<Picoseconds>, at: Picoseconds) {
        let Sequence { request, submitted_at, scheduled_at, first_token_at, .. } = *sequence;
        self.finished += 1;
        self.request_prompt_tokens.observe(request.prompt_tokens.into());
        self.request_generation_tokens.observe(request.output_tokens.into());
        self.e2e_request_latency.observe(at.since(submitted_at).get());
        self.queue_time.observe(scheduled_at.since(submitted_at).get());
        self.prefill_time.observe(first_token_at.since(scheduled_at).get());
        self.decode_time.observe(at.since(first_token_at).get());
        self.inference_time.observe(at.since(scheduled_at).get());
        if let Some(tpot) = tpot {
            self.time_per_output_token.observe(tpot.get());
        }
    }
}
