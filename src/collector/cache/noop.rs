//! The cache that keeps nothing.

use std::{fmt, time::Duration};

use super::{Cache, CacheCounters};

/// Keeps nothing: every read misses and goes to the source.
#[derive(Clone, Debug, Default)]
pub struct NoopCache {
    counters: CacheCounters,
}

impl NoopCache {
    /// A cache that counts its misses in `counters`.
    pub fn new(counters: CacheCounters) -> Self {
        Self { counters }
    }
}

impl<K, V> Cache<K, V> for NoopCache
where
    K: fmt::Debug,
    V: fmt::Debug,
{
    fn get(&self, _key: &K) -> Option<V> {
        self.counters.misses.inc();
        None
    }

    fn insert(&self, _key: K, _value: V) {}

    fn remove(&self, _key: &K) {}

    fn age(&self, _key: &K) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_not_found_and_the_miss_is_counted() {
        let counters = CacheCounters::default();
        let cache = NoopCache::new(counters.clone());
        cache.insert("model", 1);
        assert_eq!(Cache::<_, i32>::get(&cache, &"model"), None);
        assert_eq!(Cache::<_, i32>::age(&cache, &"model"), None);
        assert_eq!((counters.hits.get(), counters.misses.get()), (0, 1));
    }
}
