//! Service times of an engine, learned from what it says while it serves.
//!
//! An iteration takes `base + prefill·p + sequence·n + kv·k` seconds (p prompt tokens, n decoding sequences, k resident KV
//! tokens). Mean latencies are linear in these four, so a Kalman filter learns them: the time between tokens gives one
//! equation, the time from being scheduled to the first token another. KV tokens are a regressor of their own: what is
//! learned at one context length would otherwise be wrong at another.
//!
//! It starts from a profile, or from nothing: then the ratios between the four are taken from memory bandwidth and
//! arithmetic, which differ little between accelerators ([`Estimate::from_observation`]). Pure: no clock, no I/O.

mod filter;
mod observation;

pub use filter::Estimate;
pub use observation::Observation;

#[cfg(test)]
mod tests;
