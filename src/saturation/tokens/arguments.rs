//! What a vLLM command line says of the engine's capacity, before any observation.

use serde::{Deserialize, Serialize};

/// vLLM V1's default of `--max-num-batched-tokens`, with chunked prefill.
const DEFAULT_BATCHED_TOKENS: f64 = 8192.0;
/// The same of V0 with chunked prefill, and the least without.
const V0_BATCHED_TOKENS: f64 = 2048.0;
/// vLLM's default of `--max-num-seqs`.
const DEFAULT_SEQUENCES: f64 = 256.0;

/// Arguments of vLLM that bound how much work a replica takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineArguments {
    /// Tokens in one iteration at most (`--max-num-batched-tokens`).
    pub max_batched_tokens: f64,
    /// Sequences in one batch at most (`--max-num-seqs`).
    pub max_sequences: f64,
    /// Accelerators one engine spans (`--tensor-parallel-size` · `--pipeline-parallel-size`).
    pub parallelism: u32,
    /// KV-cache size in tokens, where `--num-gpu-blocks-override` fixes it.
    pub kv_cache_tokens: Option<f64>,
}

impl Default for EngineArguments {
    fn default() -> Self {
        Self {
            max_batched_tokens: DEFAULT_BATCHED_TOKENS,
            max_sequences: DEFAULT_SEQUENCES,
            parallelism: 1,
            kv_cache_tokens: None,
        }
    }
}

impl EngineArguments {
    /// Reads a command line, as `--flag value` or `--flag=value`, also within one shell string. Unknown flags and values
    /// that are no numbers leave the default. `uses_v1` is false where `VLLM_USE_V1=0` is set.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>, uses_v1: bool) -> Self {
        let words: Vec<&str> = arguments.into_iter().flat_map(str::split_whitespace).collect();
        let text = |flag: &str| {
            words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(flag)? {
                "" => words.get(at + 1).copied(),
                rest => rest.strip_prefix('='),
            })
        };
        let number = |flag: &str| text(flag)?.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
        let parallelism = |flag: &str| number(flag).map_or(1.0, f64::trunc);
        let block_size = number("--block-size").unwrap_or(16.0);
        let is_chunked = uses_v1 || words.contains(&"--enable-chunked-prefill");
        let default_tokens = match (uses_v1, is_chunked) {
            (true, _) => DEFAULT_BATCHED_TOKENS,
            (false, true) => V0_BATCHED_TOKENS,
            (false, false) => number("--max-model-len").unwrap_or(0.0).max(V0_BATCHED_TOKENS),
        };
        let engines = parallelism("--tensor-parallel-size") * parallelism("--pipeline-parallel-size");
        Self {
            max_batched_tokens: number("--max-num-batched-tokens").unwrap_or(default_tokens),
            max_sequences: number("--max-num-seqs").unwrap_or(DEFAULT_SEQUENCES),
            parallelism: engines.clamp(1.0, 4096.0) as u32,
            kv_cache_tokens: number("--num-gpu-blocks-override").map(|blocks| blocks * block_size),
        }
    }

    /// KV-cache tokens that the batch holds at most, by its own limits (the third choice of `k2` upstream): as many
    /// sequences as share the iteration's tokens, each half through its output. Without lengths, the iteration's tokens.
    pub fn compute_bound(&self, prompt_tokens: f64, output_tokens: f64) -> f64 {
        if !(prompt_tokens > 0.0 || output_tokens > 0.0) {
            return self.max_batched_tokens;
        }
        let by_tokens = self.max_batched_tokens * output_tokens / (prompt_tokens + output_tokens);
        let sequences = by_tokens.min(self.max_sequences).max(0.0);
        (sequences * (prompt_tokens + output_tokens / 2.0)).trunc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's vectors 27 and 29.
    #[test]
    fn upstreams_estimates_hold() {
        let with = |max_batched_tokens| EngineArguments { max_batched_tokens, ..EngineArguments::default() };
        assert_eq!(with(2048.0).compute_bound(500.0, 100.0), 140_800.0);
        assert_eq!(with(4096.0).compute_bound(500.0, 100.0), 140_800.0);
        assert_eq!(with(4096.0).compute_bound(500.0, 0.0), 0.0);
        assert_eq!(with(8192.0).compute_bound(0.0, 0.0), 8192.0);
    }

    #[test]
    fn a_command_line_is_read_however_it_is_written() {
        let line = ["vllm serve m --max-num-seqs 64 --tensor-parallel-size=4", "--pipeline-parallel-size", "2"];
        let arguments = EngineArguments::parse(line, true);
        assert_eq!((arguments.max_sequences, arguments.parallelism), (64.0, 8));
        assert_eq!(arguments.max_batched_tokens, 8192.0);
        let fixed = EngineArguments::parse(["--num-gpu-blocks-override=1000", "--block-size", "32"], true);
        assert_eq!(fixed.kv_cache_tokens, Some(32_000.0));
    }

    #[test]
    fn older_engines_have_other_defaults() {
        assert_eq!(EngineArguments::parse(["--max-model-len", "32768"], false).max_batched_tokens, 32_768.0);
        assert_eq!(EngineArguments::parse(["--enable-chunked-prefill"], false).max_batched_tokens, 2048.0);
    }

    #[test]
    fn what_is_no_number_leaves_the_default() {
        let broken = ["--max-num-seqs", "many", "--tensor-parallel-size=-1", "--max-num-batched-tokens"];
        assert_eq!(EngineArguments::parse(broken, true), EngineArguments::default());
    }
}
