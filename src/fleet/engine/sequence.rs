//! A request inside an engine.

use crate::fleet::{
    profile::BLOCK_SIZE,
    request::{Completion, Request},
    time::Picoseconds,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub(super) request: Request,
    pub(super) submitted_at: Picoseconds,
    /// When it was first admitted; meaningful once `admissions` is positive.
    pub(super) scheduled_at: Picoseconds,
    /// Meaningful once `generated` is positive.
    pub(super) first_token_at: Picoseconds,
    /// Kept while preempted, for the gap until the next token.
    pub(super) last_token_at: Picoseconds,
    pub(super) generated: u32,
    pub(super) admissions: u32,
}

impl Sequence {
    pub(super) fn new(request: Request, submitted_at: Picoseconds) -> Self {
        Self {
            request,
            submitted_at,
            scheduled_at: Picoseconds::ZERO,
            first_token_at: Picoseconds::ZERO,
            last_token_at: Picoseconds::ZERO,
            generated: 0,
            admissions: 0,
        }
    }

    /// The sequence with one admission more.
    pub(super) fn admitted(mut self, at: Picoseconds) -> Self {
        if self.admissions == 0 {
            self.scheduled_at = at;
        }
        self.admissions += 1;
        self
    }

    /// Tokens that must be in the KV cache before the next one can be generated.
    pub(super) fn context(&self) -> u32 {
        self.request.prompt_tokens + self.generated
    }

    /// Tokens that this admission has to compute before the next one can be generated. At least one: a prompt found whole
    /// in the prefix cache still has its last token computed. What was cached is taken as evicted by the time of a recompute.
    pub(super) fn work(&self) -> u32 {
        let cached = if self.admissions == 1 { self.request.cached_tokens } else { 0 };
        self.context().saturating_sub(cached).max(1)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.generated >= self.request.output_tokens
    }

    pub(super) fn complete(&self, at: Picoseconds) -> Completion {
        Completion {
            request: self.request,
            first_token_at: self.first_token_at,
            finished_at: at,
            preemptions: self.admissions.saturating_sub(1),
        }
    }
}

/// Blocks that hold `tokens`.
pub(super) fn blocks_for(tokens: u32) -> u32 {
    tokens.div_ceil(BLOCK_SIZE)
}
