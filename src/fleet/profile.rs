//! How fast one replica works, how much it holds and what it costs, as data under fixed names.
//!
//! The built-in profiles are fits to published operator tables of an analytical model (NVIDIA aiconfigurator 0.8.0, vLLM
//! 0.14) plus 1–2 ms of engine overhead per iteration. They were not measured on accelerators.

use serde::Deserialize;

use super::time::Picoseconds;
use crate::interfaces::ServiceProfile;

/// Tokens in one block of the KV cache, vLLM's default.
pub const BLOCK_SIZE: u32 = 16;

/// One kind of replica: a model on so many accelerators.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// Name it is asked for by.
    pub name: String,
    /// Accelerator, as the GPU operator's label `nvidia.com/gpu.product` has it.
    pub accelerator: String,
    /// Accelerators of one replica.
    pub accelerators: u32,
    /// Time of every iteration, α, in milliseconds.
    pub iteration_ms: f64,
    /// Time per prompt token computed in the iteration, `β_p`, in milliseconds.
    pub prefill_ms_per_token: f64,
    /// Time per sequence that decodes in the iteration, `β_d`, in milliseconds.
    pub decode_ms_per_sequence: f64,
    /// Time per token in the KV cache of a decoding sequence, γ, in milliseconds.
    pub kv_ms_per_token: f64,
    /// Size of the KV cache in tokens.
    pub kv_tokens: u32,
    /// Price of one replica for an hour; one H100 is 1.
    pub price: f64,
    /// Most sequences in a batch (`--max-num-seqs`).
    #[serde(default = "default_max_num_seqs")]
    pub max_num_seqs: u16,
    /// Most tokens computed in one iteration (`--max-num-batched-tokens`).
    #[serde(default = "default_max_num_batched_tokens")]
    pub max_num_batched_tokens: u32,
}

fn default_max_num_seqs() -> u16 {
    256
}

fn default_max_num_batched_tokens() -> u32 {
    2048
}

impl Profile {
    /// The built-in profile of that name.
    pub fn built_in(name: &str) -> Option<Self> {
        BUILT_IN.iter().find(|row| row.0 == name).map(from_row)
    }

    /// Names of the built-in profiles.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|row| row.0)
    }

    /// The same as decisions see it, in seconds.
    pub fn service_profile(&self) -> ServiceProfile {
        ServiceProfile {
            base: self.iteration_ms / 1000.0,
            per_prefill_token: self.prefill_ms_per_token / 1000.0,
            per_sequence: self.decode_ms_per_sequence / 1000.0,
            per_kv_token: self.kv_ms_per_token / 1000.0,
            kv_cache_tokens: f64::from(self.kv_tokens),
            max_batch: self.max_num_seqs.into(),
            max_batched_tokens: self.max_num_batched_tokens,
        }
    }

    /// Blocks of the KV cache.
    pub fn kv_blocks(&self) -> u32 {
        self.kv_tokens / BLOCK_SIZE
    }
}

/// Name, accelerator, accelerators, α, `β_p`, `β_d`, γ, KV tokens, price.
type Row = (&'static str, &'static str, u32, f64, f64, f64, f64, u32, f64);

const H100: &str = "NVIDIA-H100-80GB-HBM3";
const A100: &str = "NVIDIA-A100-SXM4-80GB";
const L40S: &str = "NVIDIA-L40S";

const BUILT_IN: [Row; 5] = [
    ("llama-3.1-8b-h100", H100, 1, 7.0, 0.0190, 0.0063, 0.000_041_3, 372_000, 1.0),
    ("llama-3.1-8b-a100", A100, 1, 11.5, 0.0560, 0.0250, 0.000_080_2, 372_000, 0.5333),
    ("llama-3.1-8b-l40s", L40S, 1, 23.0, 0.0605, 0.0255, 0.000_189_9, 165_000, 0.4267),
    ("qwen3-32b-2xh100", H100, 2, 13.5, 0.0460, 0.0163, 0.000_044_6, 300_000, 2.0),
    ("llama-3.1-70b-4xh100", H100, 4, 16.0, 0.0500, 0.0207, 0.000_029_7, 480_000, 4.0),
];

fn from_row(&(name, accelerator, accelerators, alpha, prefill, decode, kv, kv_tokens, price): &Row) -> Profile {
    Profile {
        name: name.to_owned(),
        accelerator: accelerator.to_owned(),
        accelerators,
        iteration_ms: alpha,
        prefill_ms_per_token: prefill,
        decode_ms_per_sequence: decode,
        kv_ms_per_token: kv,
        kv_tokens,
        price,
        max_num_seqs: default_max_num_seqs(),
        max_num_batched_tokens: default_max_num_batched_tokens(),
    }
}

/// The timing of a profile in whole picoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    iteration: u64,
    prefill_token: u64,
    decode_sequence: u64,
    kv_token: u64,
}

impl Timing {
    pub(super) fn new(profile: &Profile) -> Self {
        let picoseconds = |milliseconds: f64| Picoseconds::from_secs_f64(milliseconds / 1000.0).get();
        Self {
            // An iteration that took no time would stop the simulated clock.
            iteration: picoseconds(profile.iteration_ms).max(1),
            prefill_token: picoseconds(profile.prefill_ms_per_token),
            decode_sequence: picoseconds(profile.decode_ms_per_sequence),
            kv_token: picoseconds(profile.kv_ms_per_token),
        }
    }

    /// T = α + `β_p`·`prefill_tokens` + `β_d`·`sequences` + γ·`kv_tokens`.
    pub(super) fn iteration(&self, prefill_tokens: u32, sequences: u32, kv_tokens: u64) -> Picoseconds {
        Picoseconds::new(
            self.iteration
                + self.prefill_token * u64::from(prefill_tokens)
                + self.decode_sequence * u64::from(sequences)
                + self.kv_token * kv_tokens,
        )
    }

    /// The timing of a replica that works `factor` times slower.
    pub(super) fn slower(&self, factor: f64) -> Self {
        let scaled = |picoseconds: u64| (picoseconds as f64 * factor).round() as u64;
        Self {
            iteration: scaled(self.iteration).max(1),
            prefill_token: scaled(self.prefill_token),
            decode_sequence: scaled(self.decode_sequence),
            kv_token: scaled(self.kv_token),
        }
    }

    /// How much longer each iteration gets when `sequences` decode: every one adds a token to its KV cache.
    pub(super) fn growth(&self, sequences: u32) -> u64 {
        self.kv_token * u64::from(sequences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_found_by_its_name_and_has_sane_numbers() {
        for name in Profile::built_in_names() {
            let profile = Profile::built_in(name).unwrap();
            assert_eq!(profile.name, name);
            assert!(profile.iteration_ms > profile.prefill_ms_per_token, "{name}");
            assert!(profile.kv_blocks() > 10_000 && profile.price > 0.0, "{name}");
        }
        assert_eq!(Profile::built_in("llama-3.1-8b-tpu"), None);
    }

    #[test]
    fn coefficients_are_whole_picoseconds_without_loss() {
        let timing = Timing::new(&Profile::built_in("llama-3.1-8b-l40s").unwrap());
        assert_eq!(timing.iteration(0, 0, 1).get() - timing.iteration(0, 0, 0).get(), 189_900);
        assert_eq!(
            timing.iteration(2048, 100, 200_000).get(),
            23_000_000_000 + 123_904_000_000 + 2_550_000_000 + 37_980_000_000
        );
    }
}
