//! The cache in memory.

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use jiff::Timestamp;
use moka::{notification::RemovalCause, sync};

use super::{Cache, CacheCounters};
use crate::{clock::Clock, interfaces::age};

/// Keeps up to `capacity` entries, each for `time_to_live` after it was stored; beyond that the least useful goes
/// (moka's `TinyLFU`).
///
/// Expiry is counted on our [`Clock`], so that scaled and simulated time hold here too. moka knows only the wall clock:
/// its own expiry merely frees memory.
pub struct MemoryCache<K, V> {
    entries: sync::Cache<K, Entry<V>>,
    time_to_live: Duration,
    clock: Arc<dyn Clock>,
    counters: CacheCounters,
}

#[derive(Clone)]
struct Entry<V> {
    value: V,
    stored_at: Timestamp,
}

impl<K, V> MemoryCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// An empty cache that counts in `counters`.
    pub fn new(capacity: u64, time_to_live: Duration, clock: Arc<dyn Clock>, counters: CacheCounters) -> Self {
        let evictions = counters.evictions.clone();
        let entries = sync::Cache::builder()
            .max_capacity(capacity)
            .time_to_live(time_to_live)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    evictions.inc();
                }
            })
            .build();
        Self { entries, time_to_live, clock, counters }
    }
}

impl<K, V> Cache<K, V> for MemoryCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn get(&self, key: &K) -> Option<V> {
        let now = self.clock.now();
        let live = self.entries.get(key).filter(|entry| age(now, entry.stored_at) < self.time_to_live);
        let counter = if live.is_some() { &self.counters.hits } else { &self.counters.misses };
        counter.inc();
        live.map(|entry| entry.value)
    }

    fn insert(&self, key: K, value: V) {
        self.entries.insert(key, Entry { value, stored_at: self.clock.now() });
    }

    fn remove(&self, key: &K) {
        self.entries.invalidate(key);
    }

    fn age(&self, key: &K) -> Option<Duration> {
        self.entries.get(key).map(|entry| age(self.clock.now(), entry.stored_at))
    }
}

impl<K, V> fmt::Debug for MemoryCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("time_to_live", &self.time_to_live)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;

    const TIME_TO_LIVE: Duration = Duration::from_secs(30);

    fn cache(capacity: u64) -> (MemoryCache<u32, &'static str>, Arc<SimulatedClock>, CacheCounters) {
        let clock = Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
        let counters = CacheCounters::default();
        (MemoryCache::new(capacity, TIME_TO_LIVE, clock.clone(), counters.clone()), clock, counters)
    }

    #[test]
    fn an_entry_is_found_until_its_time_to_live_has_passed_on_our_clock() {
        let (cache, clock, counters) = cache(10);
        cache.insert(1, "one");
        clock.advance(TIME_TO_LIVE.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(cache.get(&1), Some("one"));
        clock.advance(Duration::from_millis(1));
        assert_eq!(cache.get(&1), None);
        assert_eq!((counters.hits.get(), counters.misses.get()), (1, 1));
    }

    #[test]
    fn storing_again_starts_the_age_anew() {
        let (cache, clock, _) = cache(10);
        cache.insert(1, "one");
        clock.advance(Duration::from_secs(20));
        assert_eq!(cache.age(&1), Some(Duration::from_secs(20)));
        cache.insert(1, "uno");
        assert_eq!(cache.age(&1), Some(Duration::ZERO));
        clock.advance(Duration::from_secs(20));
        assert_eq!(cache.get(&1), Some("uno"));
    }

    #[test]
    fn a_removed_entry_is_gone() {
        let (cache, _, _) = cache(10);
        cache.insert(1, "one");
        cache.remove(&1);
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.age(&1), None);
    }

    #[test]
    fn it_never_holds_more_than_its_capacity_and_counts_what_it_pushes_out() {
        let (cache, _, counters) = cache(10);
        for key in 0..100 {
            cache.insert(key, "entry");
        }
        cache.entries.run_pending_tasks();
        assert_eq!(cache.entries.entry_count(), 10);
        assert_eq!(counters.evictions.get(), 90);
    }
}
