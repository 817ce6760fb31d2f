//! One request on its way through a pool, and what became of it.

use super::time::Picoseconds;

/// A request as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrives at the gateway.
    pub arrival: Picoseconds,
    /// Length of the prompt in tokens; at least 1.
    pub prompt_tokens: u32,
    /// Tokens that will be generated; at least 1.
    pub output_tokens: u32,
    /// Leading tokens of the prompt that the prefix cache holds, and that need no computing.
    pub cached_tokens: u32,
}

impl Request {
    /// A request without a cached prefix. Lengths of zero count as one: an engine computes and generates at least a token.
    pub fn new(arrival: Picoseconds, prompt_tokens: u32, output_tokens: u32) -> Self {
        Self { arrival, prompt_tokens: prompt_tokens.max(1), output_tokens: output_tokens.max(1), cached_tokens: 0 }
    }
}

/// A finished request and the times a client would have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request.
    pub request: Request,
    /// When its first token came out.
    pub first_token_at: Picoseconds,
    /// When its last token came out.
    pub finished_at: Picoseconds,
    /// How often it lost its place in the batch.
    pub preemptions: u32,
}

impl Completion {
    /// Time to first token, waiting at the gateway included.
    pub fn ttft(&self) -> Picoseconds {
        self.first_token_at.since(self.request.arrival)
    }

    /// Mean time per output token after the first; `None` when there is only one.
    pub fn tpot(&self) -> Option<Picoseconds> {
        let intervals = u64::from(self.request.output_tokens).checked_sub(1).filter(|&count| count > 0)?;
        Some(Picoseconds::new(self.finished_at.since(self.first_token_at).get() / intervals))
    }

    /// Whether both times are within the objective.
    pub fn meets(&self, objective: &Objective) -> bool {
        self.ttft() <= objective.ttft && self.tpot().is_none_or(|tpot| tpot <= objective.tpot)
    }
}

/// A service level objective for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// Longest time to first token.
    pub ttft: Picoseconds,
    /// Longest mean time per output token.
    pub tpot: Picoseconds,
}

impl Objective {
    /// An objective in milliseconds.
    pub const fn from_millis(ttft: u64, tpot: u64) -> Self {
        Self { ttft: Picoseconds::from_millis(ttft), tpot: Picoseconds::from_millis(tpot) }
    }
}

impl Default for Objective {
    /// One second to the first token and 50 ms for each after it: an interactive chat with a model of 8 billion parameters.
    fn default() -> Self {
        Self::from_millis(1000, 50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(first_ms: u64, finished_ms: u64, output_tokens: u32) -> Completion {
        Completion {
            request: Request::new(Picoseconds::ZERO, 10, output_tokens),
            first_token_at: Picoseconds::from_millis(first_ms),
            finished_at: Picoseconds::from_millis(finished_ms),
            preemptions: 0,
        }
    }

    #[test]
    fn both_times_must_be_within_the_objective_and_at_it_is_within() {
        let objective = Objective::from_millis(1000, 50);
        for (first_ms, finished_ms, output_tokens, meets) in
            [(1000, 1500, 11, true), (1001, 1100, 11, false), (100, 601, 11, false), (1000, 1000, 1, true)]
        {
            let completion = completion(first_ms, finished_ms, output_tokens);
            assert_eq!(completion.meets(&objective), meets, "{completion:?}");
        }
    }
}
