//! One replica of a variant: an engine with a life cycle, starting → ready → draining → gone.

use std::fmt;

use serde::Serialize;

use super::{engine::Engine, profile::Profile, time::Picoseconds};

/// Names a replica within its pool; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ReplicaId(pub(super) u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a replica is in its life. One that is gone is no longer in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// Loads the model; takes no requests.
    Starting,
    /// Takes requests.
    Ready,
    /// Finishes what it has and takes no more.
    Draining,
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    pub(super) id: ReplicaId,
    /// Index of its variant in the pool.
    pub(super) variant: usize,
    pub(super) state: ReplicaState,
    pub(super) created_at: Picoseconds,
    pub(super) ready_at: Picoseconds,
    pub(super) drain_started_at: Picoseconds,
    pub(super) engine: Engine,
}

impl Replica {
    pub(super) fn new(
        id: ReplicaId,
        variant: usize,
        profile: &Profile,
        now: Picoseconds,
        cold_start: Picoseconds,
    ) -> Self {
        Self {
            id,
            variant,
            state: ReplicaState::Starting,
            created_at: now,
            ready_at: now + cold_start,
            drain_started_at: Picoseconds::MAX,
            engine: Engine::new(profile, now),
        }
    }

    /// Its name in the pool.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// Where it is in its life.
    pub fn state(&self) -> ReplicaState {
        self.state
    }

    /// When it was created.
    pub fn created_at(&self) -> Picoseconds {
        self.created_at
    }

    /// When it was, or will be, ready.
    pub fn ready_at(&self) -> Picoseconds {
        self.ready_at
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// When it went, if it is drained.
    pub(super) fn gone_at(&self) -> Option<Picoseconds> {
        let drained = self.state == ReplicaState::Draining && self.engine.is_idle();
        drained.then(|| self.drain_started_at.max(self.engine.idle_since()))
    }
}
