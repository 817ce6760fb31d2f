//! The pools of several models, each under its own load.

use std::{collections::BTreeMap, iter::Peekable};

use super::{
    load::Load,
    pool::{Pool, PoolOptions},
    request::Request,
    time::Picoseconds,
};
use crate::interfaces::ModelKey;

/// All pools, advanced together.
#[derive(Debug, Default)]
pub struct Fleet {
    pools: BTreeMap<ModelKey, LoadedPool>,
    now: Picoseconds,
}

#[derive(Debug)]
struct LoadedPool {
    pool: Pool,
    load: Option<RunningLoad>,
}

#[derive(Debug)]
struct RunningLoad {
    since: Picoseconds,
    requests: Peekable<Load>,
}

impl Fleet {
    /// The pool of that model; an empty one if there was none.
    pub fn pool_or_new(&mut self, key: &ModelKey) -> &mut Pool {
        let now = self.now;
        let loaded = self.pools.entry(key.clone()).or_insert_with(|| {
            let mut pool = Pool::new(PoolOptions::default());
            pool.advance_to(now);
            LoadedPool { pool, load: None }
        });
        &mut loaded.pool
    }

    /// The pool of that model.
    pub fn pool(&self, key: &ModelKey) -> Option<&Pool> {
        self.pools.get(key).map(|loaded| &loaded.pool)
    }

    /// The pool of that model, to change.
    pub fn pool_mut(&mut self, key: &ModelKey) -> Option<&mut Pool> {
        self.pools.get_mut(key).map(|loaded| &mut loaded.pool)
    }

    /// All pools, by namespace and model.
    pub fn pools(&self) -> impl Iterator<Item = (&ModelKey, &Pool)> {
        self.pools.iter().map(|(key, loaded)| (key, &loaded.pool))
    }

    /// Puts a model under `load`, starting now, in place of the load it was under.
    pub fn set_load(&mut self, key: &ModelKey, load: Option<Load>) {
        let since = self.now;
        self.pool_or_new(key);
        if let Some(loaded) = self.pools.get_mut(key) {
            loaded.load = load.map(|load| RunningLoad { since, requests: load.peekable() });
        }
    }

    /// Lets time pass until `time`; requests arrive on their way.
    pub fn advance_to(&mut self, time: Picoseconds) {
        for LoadedPool { pool, load } in self.pools.values_mut() {
            while let Some(request) = load.as_mut().and_then(|load| load.next_until(time)) {
                pool.submit(request);
            }
            pool.advance_to(time);
        }
        self.now = self.now.max(time);
    }

    /// The time reached.
    pub fn now(&self) -> Picoseconds {
        self.now
    }
}

impl RunningLoad {
    fn next_until(&mut self, time: Picoseconds) -> Option<Request> {
        let since = self.since;
        let request = self.requests.next_if(|request| since + request.arrival <= time)?;
        Some(Request { arrival: since + request.arrival, ..request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{GeneratedLoad, LoadSpec, Profile, TokenLengths, VariantSpec};

    fn seconds(seconds: u64) -> Picoseconds {
        Picoseconds::from_millis(seconds * 1000)
    }

    fn load(rate: f64) -> Load {
        let lengths = (TokenLengths::Fixed(100), TokenLengths::Fixed(10));
        Load::new(&LoadSpec::Regular(GeneratedLoad::constant(rate, lengths.0, lengths.1))).unwrap()
    }

    #[test]
    fn each_model_gets_its_own_load_from_when_it_is_set() {
        let (one, other) = (ModelKey::new("default", "one"), ModelKey::new("default", "other"));
        let mut fleet = Fleet::default();
        for key in [&one, &other] {
            let pool = fleet.pool_or_new(key);
            pool.add_variant(VariantSpec::new("only", Profile::built_in("llama-3.1-8b-h100").unwrap()));
            pool.add_replica("only", Picoseconds::ZERO).unwrap();
        }
        fleet.set_load(&one, Some(load(2.0)));
        fleet.advance_to(seconds(10));
        fleet.set_load(&other, Some(load(1.0)));
        fleet.set_load(&one, None);
        fleet.advance_to(seconds(20));

        let arrived = |key| fleet.pool(key).unwrap().attainment().arrived;
        assert_eq!((arrived(&one), arrived(&other)), (20, 10));
        assert_eq!(fleet.pool(&other).unwrap().attainment().completed, 9, "the one that came at 20 s is under way");
    }

    #[test]
    fn a_pool_made_later_starts_at_the_time_reached() {
        let mut fleet = Fleet::default();
        fleet.advance_to(seconds(100));
        assert_eq!(fleet.pool_or_new(&ModelKey::new("default", "late")).now(), seconds(100));
    }
}
