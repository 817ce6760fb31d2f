//! Which engine an instance is, what its KV cache holds, and which adapters it has loaded.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    ingest::{InstanceKey, Place, QueryResults, rank, text},
    queries::{ADAPTERS, Query, fact_tag},
    response::Series,
};
use crate::{
    collector::mapping::{EngineCatalog, adapters},
    interfaces::{LoraAdapters, Quantity, ReplicaMetrics, Signal},
};

/// What [`Query::Engines`] told.
#[derive(Debug, Default)]
pub(super) struct Facts<'r> {
    /// Places in the catalog.
    engines: HashMap<InstanceKey<'r>, usize>,
    capacities: HashMap<Place<'r>, Vec<Told<'r>>>,
    /// With the moment they were told of: the newest counts.
    adapters: HashMap<Place<'r>, (f64, LoraAdapters)>,
}

/// A part of a KV cache's capacity. Its series often lack the model's name, and sometimes the rank.
#[derive(Debug)]
struct Told<'r> {
    rank: &'r str,
    engine: usize,
    quantity: Quantity,
    value: f64,
}

impl<'r> Facts<'r> {
    pub(super) fn of(results: &'r QueryResults, catalog: &EngineCatalog) -> Self {
        let mut meanings = HashMap::<String, (usize, Quantity, Vec<Option<&'static str>>)>::new();
        for fact in catalog.facts() {
            let tag = fact_tag(fact.engine, fact.quantity);
            meanings.entry(tag).or_insert((fact.engine, fact.quantity, Vec::new())).2.push(fact.label);
        }
        let mut facts = Self::default();
        for series in results.get(&Query::Engines).into_iter().flatten() {
            let Some(tag) = text(series.labels.quantity.as_deref()) else { continue };
            if tag == ADAPTERS {
                facts.add_adapters(series);
            } else if let Some((engine, quantity, places)) = meanings.get(tag) {
                facts.add(series, *engine, *quantity, places);
            }
        }
        facts
    }

    fn add(&mut self, series: &'r Series, engine: usize, quantity: Quantity, labels: &[Option<&'static str>]) {
        if quantity == Quantity::Waiting {
            // An engine of the configuration stands before those built in.
            if let Ok(key) = InstanceKey::of(&series.labels) {
                let first = self.engines.entry(key).or_insert(engine);
                *first = engine.min(*first);
            }
        } else if let (Ok(place), Some(value)) = (Place::of(&series.labels), number(series, labels)) {
            let told = Told { rank: rank(&series.labels), engine, quantity, value };
            self.capacities.entry(place).or_default().push(told);
        }
    }

    fn add_adapters(&mut self, series: &'r Series) {
        let Ok(place) = Place::of(&series.labels) else { return };
        let told = (series.value, adapters(|label| series.labels.info(label)));
        let newest = self.adapters.entry(place).or_insert(told);
        if told.0 > newest.0 {
            *newest = told;
        }
    }

    /// The engine's place in the catalog.
    pub(super) fn engine(&self, key: &InstanceKey<'_>) -> Option<usize> {
        self.engines.get(key).copied()
    }

    /// The adapters of an instance; its series tell neither model nor rank.
    pub(super) fn adapters(&self, key: &InstanceKey<'_>) -> Option<LoraAdapters> {
        self.adapters.get(&key.place).map(|(_, adapters)| *adapters)
    }

    /// KV-cache capacity of an engine instance in tokens. Where only one of the two series has a rank (vLLM's simulator),
    /// the place decides. A restart within the window leaves two sizes behind: the smaller promises less.
    pub(super) fn capacity(&self, key: &InstanceKey<'_>) -> Option<f64> {
        let engine = self.engine(key);
        let candidates = self.capacities.get(&key.place)?;
        let of_engine = || candidates.iter().filter(|told| engine.is_none_or(|engine| engine == told.engine));
        let least = |quantity| {
            let least = |fits: &dyn Fn(&str) -> bool| {
                let told = of_engine().filter(|told| told.quantity == quantity && fits(told.rank));
                told.map(|told| told.value).reduce(f64::min)
            };
            least(&|rank| rank == key.engine).or_else(|| least(&|rank| rank.is_empty() || key.engine.is_empty()))
        };
        let blocks = || Some(least(Quantity::KvCacheBlocks)? * least(Quantity::KvCacheBlockSize)?);
        least(Quantity::KvCacheTokens).or_else(blocks)
    }
}

/// The number that a series tells, in one of `labels` or (`None`) as its value. Of vLLM's blocks it is "None" until the
/// engine has profiled its memory.
fn number(series: &Series, labels: &[Option<&'static str>]) -> Option<f64> {
    let in_label = labels.iter().flatten().find_map(|label| series.labels.info(label));
    let number = match in_label {
        Some(text) => text.parse().ok(),
        None => labels.contains(&None).then_some(series.value),
    };
    number.filter(|number| number.is_finite() && *number > 0.0)
}

/// Keeps what an earlier fetch told where the query has gaps: what an engine is does not change while it runs.
pub(super) fn carry_over(replica: &mut ReplicaMetrics, earlier: &ReplicaMetrics, gaps: &HashSet<Query>) {
    if gaps.contains(&Query::Engines) {
        replica.engine = earlier.engine;
        if replica.performance.lora == Signal::Missing && earlier.performance.lora != Signal::Missing {
            Arc::make_mut(&mut replica.performance).lora = earlier.performance.lora;
        }
    }
}
