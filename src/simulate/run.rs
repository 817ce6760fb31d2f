//! One policy through one scenario on a simulated clock.
//!
//! ```text
//!  every scrape interval:  replicas ─► samples ─► policy          (scrape delay) ─► decide ─► asks
//!  every HPA sync:         asks ─► HPA arithmetic ─► spec.replicas ─► World
//!  every second:           requests arrive, replicas get ready, demand is measured
//! ```

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    lag::LagTracker,
    outcome::Outcome,
    policy::{Actuation, ModelSample, Policy},
    scenario::Scenario,
    source::SourceError,
    timeline::Timeline,
    world::{World, timestamp},
};
use crate::{
    fleet::{Picoseconds, ReplicaState},
    hpa::{Hpa, HpaSpec, Scale, SyncOutcome},
    interfaces::Snapshot,
};

const SECOND: Picoseconds = Picoseconds::from_millis(1000);
/// Requests that arrive within this time are scored apart: a policy may still be learning.
const LEARNING: Duration = Duration::from_secs(15 * 60);

/// A policy at work on a scenario.
pub(super) struct Simulation<'a> {
    scenario: &'a Scenario,
    policy: Box<dyn Policy + 'a>,
    world: World,
    hpas: Vec<Option<Hpa>>,
    asks: Vec<Option<Result<f64, String>>>,
    next: Schedule,
    lag: LagTracker,
    timeline: Timeline,
    random: SmallRng,
    learning: Option<Vec<crate::fleet::Attainment>>,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

/// What a run tells while it goes on.
pub(super) enum Progress<'a> {
    /// The time reached.
    Time(Picoseconds),
    /// Why the policy decided at that time what it did.
    Explanation(Picoseconds, &'a str),
    /// What it decided on.
    Snapshot(&'a Snapshot),
}

/// When each kind of event comes next.
struct Schedule {
    tick: Picoseconds,
    sample: Picoseconds,
    decide: Picoseconds,
    sync: Picoseconds,
}

impl Schedule {
    fn next(&self) -> Picoseconds {
        self.tick.min(self.sample).min(self.decide).min(self.sync)
    }
}

impl<'a> Simulation<'a> {
    /// Prepares a run that starts with `initial` replicas per variant. `progress` is told the time reached.
    pub(super) fn new(
        scenario: &'a Scenario,
        policy: Box<dyn Policy + 'a>,
        seed: u64,
        initial: &[u32],
        progress: &'a mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, SourceError> {
        let world = World::new(scenario, seed, initial)?;
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5eed);
        // The phases of scrape and sync against each other and against the trace are nobody's choice.
        let mut phase =
            |period: Duration| Picoseconds::from_secs_f64(random.random_range(0.0..1.0) * period.as_secs_f64());
        let rhythm = policy.rhythm();
        let next = Schedule {
            tick: SECOND,
            sample: phase(rhythm.sample_every),
            decide: rhythm.decide_every.map_or(Picoseconds::MAX, &mut phase),
            sync: phase(scenario.timing.hpa_sync),
        };
        let behavior = match policy.actuation() {
            Actuation::Hpa(behavior) => Some(behavior),
            Actuation::Direct => None,
        };
        let hpas = world.variants.iter().map(|variant| {
            let bounds = (variant.scenario.min_replicas, variant.scenario.max_replicas);
            let spec = |behavior| HpaSpec { behavior, ..HpaSpec::adopting(bounds.0, bounds.1, Duration::ZERO) };
            behavior.clone().map(|behavior| Hpa::new(spec(behavior)))
        });
        Ok(Self {
            hpas: hpas.collect(),
            asks: vec![None; world.variants.len()],
            lag: LagTracker::new(world.models.len()),
            timeline: Timeline::default(),
            scenario,
            policy,
            world,
            next,
            random,
            learning: None,
            progress,
        })
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<Outcome, SourceError> {
        while !self.world.all_arrived() {
            let time = self.next.next();
            self.world.advance_to(time)?;
            self.handle(time);
        }
        // The first look after the last arrival, within a second of it: costs and hours are of one moment.
        let end = self.world.now();
        let costs: Vec<f64> = self.world.models.iter().map(|model| model.pool.cost()).collect();
        let hours = self.replica_hours();
        let deadline = self.world.now() + self.scenario.timing.drain.into();
        while !self.world.all_ended() && self.world.now() < deadline {
            let time = self.world.now() + SECOND;
            self.world.advance_to(time)?;
            self.world.reconcile();
        }
        Ok(Outcome::new(&self.world, end, &costs, &hours, self.learning.as_deref(), &self.lag, self.timeline))
    }

    fn replica_hours(&self) -> Vec<f64> {
        let hours =
            |model: &super::world::ModelWorld| model.pool.status().iter().map(|status| status.replica_hours).sum();
        self.world.models.iter().map(hours).collect()
    }

    fn handle(&mut self, time: Picoseconds) {
        if time >= self.next.tick {
            self.tick(time);
        }
        if time >= self.next.sample {
            self.sample(time);
        }
        if time >= self.next.decide {
            self.decide(time);
        }
        if time >= self.next.sync {
            self.sync(time);
        }
    }

    fn tick(&mut self, time: Picoseconds) {
        self.next.tick = time + SECOND;
        self.world.reconcile();
        self.lag.tick(time, &mut self.world);
        let demand = (0..self.world.models.len()).map(|model| self.lag.demand(model)).sum();
        self.timeline.tick(time, demand, &self.world);
        if self.learning.is_none() && time >= LEARNING.into() {
            self.learning = Some(self.world.attainments());
        }
        (self.progress)(Progress::Time(time));
    }

    fn sample(&mut self, time: Picoseconds) {
        let rhythm = self.policy.rhythm();
        self.next.sample = time + rhythm.sample_every.into();
        let dark = self.scenario.faults.dark.is_some_and(|window| {
            let from = Picoseconds::from(window.at);
            time >= from && time < from + window.length.into()
        });
        if !dark {
            let loss = self.scenario.faults.scrape_loss;
            let random = &mut self.random;
            let models: Vec<_> = self
                .world
                .models
                .iter()
                .map(|world| ModelSample {
                    replicas: world
                        .pool
                        .replicas()
                        .iter()
                        .filter(|replica| replica.state() == ReplicaState::Ready)
                        .filter(|_| loss == 0.0 || !random.random_bool(loss))
                        .collect(),
                    world,
                })
                .collect();
            self.policy.sample(timestamp(time), &models);
            self.lag.sampled(time, time + rhythm.delay.into());
        }
        if rhythm.decide_every.is_none() {
            self.next.decide = time + rhythm.delay.into();
        }
    }

    fn decide(&mut self, time: Picoseconds) {
        self.next.decide = self.policy.rhythm().decide_every.map_or(Picoseconds::MAX, |every| time + every.into());
        let asks = self.policy.decide(timestamp(time), &self.world.scales());
        if let Some(explanation) = self.policy.explain() {
            (self.progress)(Progress::Explanation(time, &explanation));
        }
        if let Some(snapshot) = self.policy.snapshot() {
            (self.progress)(Progress::Snapshot(snapshot));
        }
        if time < self.scenario.timing.warm_up.into() {
            return;
        }
        for (index, ask) in asks.into_iter().enumerate() {
            if let Ok(replicas) = &ask {
                self.lag.asked(
                    time,
                    self.world.variants[index].model,
                    *replicas > f64::from(self.world.variants[index].spec),
                );
            }
            let is_direct = self.hpas[index].is_none();
            if let (true, Ok(replicas)) = (is_direct, &ask) {
                let scenario = &self.world.variants[index].scenario;
                let replicas = (replicas.ceil() as u32).clamp(scenario.min_replicas, scenario.max_replicas);
                self.set_replicas(time, index, replicas);
            }
            self.asks[index] = Some(ask);
        }
    }

    fn sync(&mut self, time: Picoseconds) {
        self.next.sync = time + self.scenario.timing.hpa_sync.into();
        let scales = self.world.scales();
        for (index, scale) in scales.iter().enumerate() {
            let Some(hpa) = &mut self.hpas[index] else { continue };
            let now = timestamp(time);
            let observed = Scale { spec: scale.spec, status: scale.current };
            let Some(ask) = &self.asks[index] else {
                // During the warm-up the HPA adopts what is there, again and again: its window starts full.
                hpa.sync(now, observed, Ok(&[u64::from(scale.spec) * 1000]));
                continue;
            };
            let milli = ask.as_ref().map(|replicas| [(replicas.max(0.0) * 1000.0).round() as u64]);
            let reading = milli.as_ref().map(<[u64; 1]>::as_slice).map_err(|message| (*message).clone());
            if let SyncOutcome::Scaled(replicas) = hpa.sync(now, observed, reading) {
                self.set_replicas(time, index, replicas);
            }
        }
    }

    fn set_replicas(&mut self, time: Picoseconds, index: usize, replicas: u32) {
        if replicas > self.world.variants[index].spec {
            self.lag.granted(time, self.world.variants[index].model);
        }
        self.world.set_replicas(index, replicas);
    }
}
