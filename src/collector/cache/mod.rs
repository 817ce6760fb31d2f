//! Caches between a metric source and its readers.

mod memory;
mod noop;

use std::{fmt, time::Duration};

use prometheus_client::metrics::counter::Counter;

pub use memory::MemoryCache;
pub use noop::NoopCache;

/// A bounded map whose entries expire.
pub trait Cache<K, V>: fmt::Debug + Send + Sync {
    /// The value stored for `key`, unless it has expired or was evicted. Counts as a hit or a miss.
    fn get(&self, key: &K) -> Option<V>;

    /// Stores `value` for `key`; its age starts anew.
    fn insert(&self, key: K, value: V);

    /// Forgets `key`.
    fn remove(&self, key: &K);

    /// How long ago the value of `key` was stored; `None` when there is none.
    fn age(&self, key: &K) -> Option<Duration>;
}

/// What readers met in a cache. Clones share the counts, so that whoever registers them sees what the cache counts.
#[derive(Clone, Debug, Default)]
pub struct CacheCounters {
    /// Reads answered from the cache.
    pub hits: Counter,
    /// Reads that found nothing, or something expired.
    pub misses: Counter,
    /// Entries pushed out for lack of room.
    pub evictions: Counter,
}
