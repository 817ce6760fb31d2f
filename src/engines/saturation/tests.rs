//! The engine in a small closed world: Poisson arrivals to replicas that hold each request for a while, one-minute peaks,
//! cold starts, and the stock HPA.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Binomial, Distribution, Poisson};

use crate::{
    engines::{
        State, step,
        tests::{at, desired, snapshot, variant},
    },
    hpa::{Hpa, HpaSpec, Scale, SyncOutcome},
    interfaces::{
        SaturationScalingConfig, ScaleObservation, Signal, TargetObservation, TokenThresholds, VariantObservation,
    },
};

const TICK: i64 = 15;
const COLD_START: i64 = 120;
/// Seconds that a request stays, on average; requests that fill a KV cache, and its tokens.
const STAY: f64 = 8.0;
const MOST: f64 = 250.0;
const TOKENS: f64 = 300e3;

/// Requests in one replica, of the last minute, newest last.
struct Replica(VecDeque<f64>);

impl Replica {
    fn second(&mut self, rate: f64, random: &mut StdRng) {
        let before = self.0.back().copied().unwrap_or(0.0) as u64;
        let stay = Binomial::new(before, (-1.0 / STAY).exp()).unwrap().sample(random) as f64;
        self.0.push_back(stay + Poisson::new(rate).unwrap().sample(random));
        self.0.drain(..self.0.len().saturating_sub(60));
    }

    fn peak(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

fn observed(replicas: &[Replica], spec: u32, pending: &[i64], second: i64) -> VariantObservation {
    let mut observed = variant("a", 1.0, replicas.len() as u32, (0.0, 0.0), second);
    observed.variant.bounds.max = Some(50);
    for (metrics, replica) in observed.replicas.iter_mut().zip(replicas) {
        metrics.kv_cache_usage = Signal::present((replica.peak() / MOST).min(1.0), at(second));
        metrics.queue_length = Signal::present((replica.peak() - MOST).max(0.0), at(second));
        metrics.running = Signal::present(replica.0.back().copied().unwrap_or(0.0).min(MOST), at(second));
        metrics.kv_cache_tokens = Signal::present(TOKENS, at(second));
    }
    observed.target = TargetObservation::Found(ScaleObservation {
        spec,
        current: spec,
        ready: replicas.len() as u32,
        pending_since: pending.iter().map(|since| at(*since)).collect(),
    });
    observed
}

/// An hour at `rate` requests per second. Returns the seconds and sizes of the HPA's actions.
fn hour(seed: u64, rate: f64, config: &Arc<SaturationScalingConfig>) -> Vec<(i64, i64)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut hpa = Hpa::new(HpaSpec::adopting(1, 50, Duration::from_secs(300)));
    let (mut state, mut spec, mut pending) = (State::default(), 1 + (rate / 20.0) as u32, Vec::<i64>::new());
    let mut replicas: Vec<Replica> = (0..spec).map(|_| Replica(VecDeque::new())).collect();
    let mut actions = Vec::new();
    for second in 0..3600 {
        let share = rate / replicas.len() as f64;
        for replica in &mut replicas {
            replica.second(share, &mut random);
        }
        let started = pending.iter().filter(|since| second - **since >= COLD_START).count();
        pending.drain(..started);
        replicas.extend((0..started).map(|_| Replica(VecDeque::new())));
        // Before a minute is over peaks are not what they will be.
        if second % TICK != 0 || second < 60 {
            continue;
        }
        let mut world = snapshot(second, vec![observed(&replicas, spec, &pending, second)]);
        world.saturation = config.clone();
        let (next, decisions) = step(&state, &world);
        state = next;
        let reading = [u64::from(desired(&decisions, "a").replicas) * 1000];
        let synced = hpa.sync(at(second), Scale { spec, status: spec }, Ok(&reading));
        let SyncOutcome::Scaled(scaled) = synced else { panic!("{synced:?}") };
        if scaled != spec {
            actions.push((second, i64::from(scaled) - i64::from(spec)));
        }
        pending.extend((spec..scaled).map(|_| second));
        pending.truncate((scaled as usize).saturating_sub(replicas.len()));
        replicas.truncate(scaled as usize);
        spec = scaled;
    }
    actions
}

#[test]
fn an_hour_of_constant_poisson_load_has_no_reversal_within_ten_minutes() {
    let percentages = SaturationScalingConfig::default();
    let tokens = SaturationScalingConfig { tokens: Some(TokenThresholds::default()), ..percentages.clone() };
    for config in [percentages, tokens].map(Arc::new) {
        for rate in [12.0, 50.0, 130.0] {
            for seed in 0..10 {
                let actions = hour(seed, rate, &config);
                let is_reversed =
                    |pair: &[(i64, i64)]| pair[0].1.signum() != pair[1].1.signum() && pair[1].0 - pair[0].0 < 600;
                let engine = if config.tokens.is_some() { "tokens" } else { "percentages" };
                assert!(!actions.windows(2).any(is_reversed), "{engine}, {rate} req/s, seed {seed}: {actions:?}");
            }
        }
    }
}
