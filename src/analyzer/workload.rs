//! What requests look like.

use super::{Lengths, QueueError, error::within};

/// The requests that a replica serves. Prompt and output lengths are taken as independent.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Prompt lengths.
    pub prompts: Lengths,
    /// Output lengths.
    pub outputs: Lengths,
    /// Share of prompt tokens that the prefix cache holds and that need no computing, 0 to 1.
    prefix_cache_hits: f64,
}

impl Workload {
    /// Requests with these lengths, nothing of which is cached.
    pub fn new(prompts: Lengths, outputs: Lengths) -> Self {
        Self { prompts, outputs, prefix_cache_hits: 0.0 }
    }

    /// The same requests, of whose prompt tokens the prefix cache holds this share.
    ///
    /// # Errors
    /// When it is no share.
    pub fn with_prefix_cache_hits(self, share: f64) -> Result<Self, QueueError> {
        let prefix_cache_hits =
            within("share of prefix cache hits", share, 0.0, 1.0, "it must be a share from 0 to 1")?;
        Ok(Self { prefix_cache_hits, ..self })
    }

    /// Prompt tokens that are computed; at least one.
    pub(super) fn computed(&self) -> Lengths {
        self.prompts.clone().scaled(1.0 - self.prefix_cache_hits)
    }
}
