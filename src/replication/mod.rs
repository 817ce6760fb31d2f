//! Decisions and learned state, kept in Kubernetes so that every replica answers alike and a new leader starts from the old
//! one's memory.
//!
//! ```text
//!  leader: cycle ─► pack ─► wva-decisions-N (by model, when something changed) ─► wva-heartbeat (every cycle or so)
//!                    └────► wva-state-N     (when something changed, not more than twice a minute)
//!  follower:  watch of decisions and heartbeat ─► assemble ─► served, aged by when the heartbeat was received
//!  new leader:                    wva-state-N  ─► unpack   ─► engines::State
//! ```
//!
//! The objects are `ConfigMap`s that `manifests/` creates; each holds one compressed document. Writes are fenced: a document
//! carries the term of its writer ([`crate::election::Leadership`]), a new leader writes all of them before it decides,
//! and from then on what an old one still sends is refused by `resourceVersion`, and ignored by its term.

mod archive;
mod document;
mod follower;
mod view;

pub use archive::{Archive, ArchiveError};
pub use document::{DECISION_SHARDS, Heartbeat, STATE_PARTS, Shard, shard_of};
pub use follower::follow;
pub use view::{Received, View};

/// The ConfigMap of the heartbeat.
pub const HEARTBEAT: &str = "wva-heartbeat";

/// The ConfigMap of one shard of the decisions.
pub fn decisions_name(shard: usize) -> String {
    format!("wva-decisions-{shard}")
}

/// The ConfigMap of one part of the state.
pub fn state_name(part: usize) -> String {
    format!("wva-state-{part}")
}
