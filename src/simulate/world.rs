//! The simulated cluster: pools under their traces, scale targets, and what limits or harms them.

use jiff::Timestamp;

use super::{
    scenario::{Scenario, Slow, VariantScenario},
    sizing::Sizing,
    sketch::Sketch,
    source::{Requests, SourceError},
};
use crate::{
    fleet::{Attainment, Objective, Picoseconds, Pool, PoolOptions, Replica, ReplicaState, Request, VariantSpec},
    interfaces::ScaleObservation,
};

/// When every simulation begins: 1 January 2026.
const ORIGIN_SECONDS: i64 = 1_767_225_600;

/// Length of the stretches of time that requests are also counted by.
pub(super) const SEGMENT_SECONDS: f64 = 300.0;

/// A moment of simulated time as the rest of the product writes it.
pub(super) fn timestamp(time: Picoseconds) -> Timestamp {
    let nanoseconds = i128::from(ORIGIN_SECONDS) * 1_000_000_000 + i128::from(time.get() / 1000);
    Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::MAX)
}

/// The simulated time of such a moment.
pub(super) fn since_origin(moment: Timestamp) -> Picoseconds {
    let nanoseconds = moment.as_nanosecond() - i128::from(ORIGIN_SECONDS) * 1_000_000_000;
    Picoseconds::new(u64::try_from(nanoseconds * 1000).unwrap_or(0))
}

/// Everything outside the policy.
#[derive(Debug)]
pub(super) struct World {
    pub(super) models: Vec<ModelWorld>,
    pub(super) variants: Vec<VariantWorld>,
    quotas: Vec<(String, u32)>,
    slow_start: Option<Slow>,
    slow_replica: Option<Slow>,
    /// Greatest number of replicas set, per model.
    pub(super) greatest: Vec<u32>,
    now: Picoseconds,
}

/// One model's requests and replicas.
#[derive(Debug)]
pub(super) struct ModelWorld {
    pub(super) pool: Pool,
    requests: Requests,
    next: Option<Request>,
    objective: Objective,
    /// By the first variant's profile.
    sizing: Option<Sizing>,
    /// Seconds of a replica's work that arrived since [`ModelWorld::take_work`] was last called.
    work: f64,
    pub(super) ttft: Sketch,
    pub(super) itl: Sketch,
    /// Requests that arrived and that met their objective, by five minutes of arrival.
    pub(super) segments: Vec<(u64, u64)>,
}

/// One scale target.
#[derive(Debug)]
pub(super) struct VariantWorld {
    pub(super) model: usize,
    pub(super) scenario: VariantScenario,
    /// `spec.replicas`.
    pub(super) spec: u32,
    /// Since when.
    spec_since: Picoseconds,
    /// Times that `spec.replicas` changed.
    pub(super) actions: u64,
}

impl World {
    pub(super) fn new(scenario: &Scenario, seed: u64, initial: &[u32]) -> Result<Self, SourceError> {
        let mut models = Vec::new();
        for (index, model) in scenario.models.iter().enumerate() {
            let options = PoolOptions {
                objective: model.objective,
                flow_control: model.flow_control,
                record_completions: true,
                ..PoolOptions::default()
            };
            let mut requests = model.load.open(seed.wrapping_mul(1009).wrapping_add(index as u64))?;
            let next = requests.next_request()?;
            models.push(ModelWorld {
                pool: Pool::new(options),
                requests,
                next,
                objective: model.objective,
                sizing: model.variants.first().map(|variant| Sizing::new(&variant.profile, &model.objective)),
                work: 0.0,
                ttft: Sketch::default(),
                itl: Sketch::default(),
                segments: Vec::new(),
            });
        }
        let variants = scenario.variants().zip(initial).map(|((model, variant), &replicas)| VariantWorld {
            model,
            scenario: variant.clone(),
            spec: replicas,
            spec_since: Picoseconds::ZERO,
            actions: 0,
        });
        let mut world = Self {
            models,
            variants: variants.collect(),
            quotas: scenario.quotas.clone().into_iter().collect(),
            slow_start: scenario.faults.slow_start,
            slow_replica: scenario.faults.slow_replica,
            greatest: vec![0; scenario.models.len()],
            now: Picoseconds::ZERO,
        };
        world.install();
        world.note_greatest();
        Ok(world)
    }

    /// Sets the variants up with their first replicas ready.
    fn install(&mut self) {
        for variant in &self.variants {
            let pool = &mut self.models[variant.model].pool;
            let mut spec = variant.pool_spec();
            spec.cold_start = Picoseconds::ZERO;
            pool.add_variant(spec);
            for _ in 0..variant.spec {
                // The variant was added above.
                let _ = pool.add_replica(&variant.scenario.name, Picoseconds::ZERO);
            }
            pool.add_variant(variant.pool_spec());
        }
    }

    /// The time reached.
    pub(super) fn now(&self) -> Picoseconds {
        self.now
    }

    /// Whether all requests have arrived.
    pub(super) fn all_arrived(&self) -> bool {
        self.models.iter().all(|model| model.next.is_none())
    }

    /// Whether all requests that arrived have ended.
    pub(super) fn all_ended(&self) -> bool {
        self.models.iter().all(|model| model.pool.attainment().in_flight() == 0)
    }

    /// Lets time pass until `time`; requests arrive on their way.
    pub(super) fn advance_to(&mut self, time: Picoseconds) -> Result<(), SourceError> {
        for model in &mut self.models {
            model.advance_to(time)?;
        }
        self.now = self.now.max(time);
        Ok(())
    }

    /// Sets `spec.replicas` of a variant.
    pub(super) fn set_replicas(&mut self, index: usize, replicas: u32) {
        let variant = &mut self.variants[index];
        if variant.spec == replicas {
            return;
        }
        variant.spec = replicas;
        variant.spec_since = self.now;
        variant.actions += 1;
        self.note_greatest();
        self.reconcile();
    }

    fn note_greatest(&mut self) {
        for (index, greatest) in self.greatest.iter_mut().enumerate() {
            let of_model = self.variants.iter().filter(|variant| variant.model == index);
            *greatest = (*greatest).max(of_model.map(|variant| variant.spec).sum());
        }
    }

    /// Lets controllers and scheduler do their part: replicas for which there are accelerators are created, those too many
    /// are drained. The faults that are due strike.
    pub(super) fn reconcile(&mut self) {
        self.slow_a_replica();
        for index in 0..self.variants.len() {
            let (wanted, active) = (self.variants[index].spec, self.active(index));
            let room = if wanted > active { self.room_for(index) } else { 0 };
            let count = wanted.min(active + room);
            if count == active {
                continue;
            }
            if count > active && self.slow_start.is_some_and(|slow| Picoseconds::from(slow.at) <= self.now) {
                self.start_slowly(index, active + 1);
            }
            let variant = &self.variants[index];
            // Every variant was added to its pool at the start.
            let _ = self.models[variant.model].pool.set_replicas(&variant.scenario.name, count);
        }
    }

    /// The next replica of a variant takes its time.
    fn start_slowly(&mut self, index: usize, count: u32) {
        let Some(slow) = self.slow_start.take() else { return };
        let variant = &self.variants[index];
        let pool = &mut self.models[variant.model].pool;
        let mut spec = variant.pool_spec();
        spec.cold_start = Picoseconds::from_secs_f64(spec.cold_start.as_secs_f64() * slow.factor);
        pool.add_variant(spec);
        let _ = pool.set_replicas(&variant.scenario.name, count);
        pool.add_variant(variant.pool_spec());
    }

    fn slow_a_replica(&mut self) {
        let Some(slow) = self.slow_replica.filter(|slow| Picoseconds::from(slow.at) <= self.now) else { return };
        for model in &mut self.models {
            let oldest = model.pool.replicas().iter().find(|replica| replica.state() == ReplicaState::Ready);
            if let Some(id) = oldest.map(Replica::id) {
                model.pool.slow_down(id, slow.factor);
                self.slow_replica = None;
                return;
            }
        }
    }

    /// Replicas of a variant that start or are ready.
    fn active(&self, index: usize) -> u32 {
        self.replicas(index).filter(|replica| replica.state() != ReplicaState::Draining).count() as u32
    }

    fn replicas(&self, index: usize) -> impl Iterator<Item = &Replica> {
        let variant = &self.variants[index];
        let pool = &self.models[variant.model].pool;
        pool.replicas().iter().filter(move |replica| pool.variant_of(replica).name == variant.scenario.name)
    }

    /// Further replicas of a variant for which there are accelerators.
    fn room_for(&self, index: usize) -> u32 {
        let profile = &self.variants[index].scenario.profile;
        let Some((_, quota)) = self.quotas.iter().find(|(name, _)| *name == profile.accelerator) else {
            return u32::MAX / 2;
        };
        let used: u32 = (0..self.variants.len())
            .filter(|&other| self.variants[other].scenario.profile.accelerator == profile.accelerator)
            .map(|other| self.replicas(other).count() as u32 * self.variants[other].scenario.profile.accelerators)
            .sum();
        quota.saturating_sub(used) / profile.accelerators.max(1)
    }

    /// The scale targets as their scale subresources and pods show them.
    pub(super) fn scales(&self) -> Vec<ScaleObservation> {
        (0..self.variants.len()).map(|index| self.scale(index)).collect()
    }

    fn scale(&self, index: usize) -> ScaleObservation {
        let variant = &self.variants[index];
        let mut ready = 0;
        let mut pending_since = Vec::new();
        for replica in self.replicas(index) {
            match replica.state() {
                ReplicaState::Ready => ready += 1,
                ReplicaState::Starting => pending_since.push(timestamp(replica.created_at())),
                ReplicaState::Draining => {}
            }
        }
        // Pods that no node has room for exist all the same.
        let unscheduled = variant.spec.saturating_sub(ready + pending_since.len() as u32);
        pending_since.extend((0..unscheduled).map(|_| timestamp(variant.spec_since)));
        ScaleObservation { spec: variant.spec, current: ready + pending_since.len() as u32, ready, pending_since }
    }

    /// Ready replicas over all variants of a model.
    pub(super) fn ready(&self, model: usize) -> u32 {
        let replicas = self.models[model].pool.replicas();
        replicas.iter().filter(|replica| replica.state() == ReplicaState::Ready).count() as u32
    }

    /// How the requests of all models have fared.
    pub(super) fn attainments(&self) -> Vec<Attainment> {
        self.models.iter().map(|model| model.pool.attainment()).collect()
    }
}

impl VariantWorld {
    fn pool_spec(&self) -> VariantSpec {
        let mut spec = VariantSpec::new(self.scenario.name.clone(), self.scenario.profile.clone());
        spec.cold_start = self.scenario.cold_start.into();
        spec.routing_weight = self.scenario.routing_weight();
        spec
    }
}

impl ModelWorld {
    fn advance_to(&mut self, time: Picoseconds) -> Result<(), SourceError> {
        while let Some(request) = self.next.filter(|request| request.arrival <= time) {
            self.work += self.sizing.map_or(0.0, |sizing| sizing.seconds(&request));
            self.segment(request.arrival).0 += 1;
            self.pool.submit(request);
            self.next = self.requests.next_request()?;
        }
        self.pool.advance_to(time);
        for completion in self.pool.take_completions() {
            if completion.meets(&self.objective) {
                self.segment(completion.request.arrival).1 += 1;
            }
            self.ttft.observe(completion.ttft());
            if let Some(tpot) = completion.tpot() {
                self.itl.observe(tpot);
            }
        }
        Ok(())
    }

    fn segment(&mut self, arrival: Picoseconds) -> &mut (u64, u64) {
        let index = (arrival.as_secs_f64() / SEGMENT_SECONDS) as usize;
        if self.segments.len() <= index {
            self.segments.resize(index + 1, (0, 0));
        }
        &mut self.segments[index]
    }

    /// Seconds of a replica's work that arrived since the last call.
    pub(super) fn take_work(&mut self) -> f64 {
        std::mem::take(&mut self.work)
    }
}
