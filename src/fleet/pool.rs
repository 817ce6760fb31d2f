//! All replicas of one model, across its variants, behind one gateway and one router.

use std::collections::VecDeque;

use thiserror::Error;

use super::{
    accounts::{Attainment, ReplicaTime, VariantStatus},
    profile::Profile,
    replica::{Replica, ReplicaId, ReplicaState},
    request::{Completion, Objective, Request},
    router::{FlowControl, Route, Router},
    time::Picoseconds,
};

/// How often a gateway with flow control looks whether a replica has room again; the refresh interval of the Gateway API
/// inference extension's endpoint picker.
const FLOW_CONTROL_INTERVAL: Picoseconds = Picoseconds::from_millis(50);

/// A variant of the model as it is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantSpec {
    /// Name, unique in the pool.
    pub name: String,
    /// What each replica is.
    pub profile: Profile,
    /// From creation to ready.
    pub cold_start: Picoseconds,
    /// Load a replica should carry relative to others; faster hardware has more.
    pub routing_weight: f64,
}

impl VariantSpec {
    /// A variant with a cold start of two minutes and the usual share of the load.
    pub fn new(name: impl Into<String>, profile: Profile) -> Self {
        Self { name: name.into(), profile, cold_start: Picoseconds::from_millis(120_000), routing_weight: 1.0 }
    }
}

/// What holds for a whole pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolOptions {
    /// What a request must meet.
    pub objective: Objective,
    /// Most requests held at the gateway; further ones are rejected.
    pub gateway_capacity: usize,
    /// Whether the gateway holds requests while all ready replicas are saturated.
    pub flow_control: Option<FlowControl>,
    /// Whether to keep each completion for [`Pool::take_completions`].
    pub record_completions: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            objective: Objective::default(),
            gateway_capacity: 100_000,
            flow_control: None,
            record_completions: false,
        }
    }
}

/// A pool has no variant of that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the pool has no variant {name:?}; it has {known:?}: add the variant first")]
pub struct UnknownVariant {
    /// The name asked for.
    pub name: String,
    /// The names there are.
    pub known: Vec<String>,
}

/// The replicas of one model.
#[derive(Debug)]
pub struct Pool {
    options: PoolOptions,
    variants: Vec<Variant>,
    replicas: Vec<Replica>,
    /// Replicas created so far.
    created: u64,
    gateway: VecDeque<Request>,
    router: Router,
    now: Picoseconds,
    /// When the next starting replica is ready.
    next_ready: Picoseconds,
    attainment: Attainment,
    /// Completions not yet accounted for; kept for its memory.
    fresh: Vec<Completion>,
    recorded: Vec<Completion>,
}

#[derive(Debug)]
struct Variant {
    spec: VariantSpec,
    replicas_asked: Option<u32>,
    scale_actions: u64,
    /// Time of the replicas that are gone.
    past: ReplicaTime,
}

impl Pool {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Self {
        Self {
            options,
            variants: Vec::new(),
            replicas: Vec::new(),
            created: 0,
            gateway: VecDeque::new(),
            router: Router::default(),
            now: Picoseconds::ZERO,
            next_ready: Picoseconds::MAX,
            attainment: Attainment::default(),
            fresh: Vec::new(),
            recorded: Vec::new(),
        }
    }

    /// Adds a variant, or changes what its future replicas are.
    pub fn add_variant(&mut self, spec: VariantSpec) {
        match self.variants.iter_mut().find(|variant| variant.spec.name == spec.name) {
            Some(variant) => variant.spec = spec,
            None => self.variants.push(Variant {
                spec,
                replicas_asked: None,
                scale_actions: 0,
                past: ReplicaTime::default(),
            }),
        }
    }

    /// Changes what a request must meet, for those that complete from now on.
    pub fn set_objective(&mut self, objective: Objective) {
        self.options.objective = objective;
    }

    /// Changes whether and how the gateway holds requests.
    pub fn set_flow_control(&mut self, flow_control: Option<FlowControl>) {
        self.options.flow_control = flow_control;
    }

    /// Asks for `count` replicas: new ones start cold; of those too many the starting go first, then the youngest, as a
    /// `ReplicaSet` chooses.
    ///
    /// # Errors
    /// When there is no such variant.
    pub fn set_replicas(&mut self, variant: &str, count: u32) -> Result<(), UnknownVariant> {
        let index = self.index(variant)?;
        let asked = &mut self.variants[index];
        if asked.replicas_asked.replace(count) != Some(count) {
            asked.scale_actions += 1;
        }
        let cold_start = asked.spec.cold_start;
        let mut active: Vec<_> = self
            .replicas
            .iter()
            .filter(|replica| replica.variant == index && replica.state != ReplicaState::Draining)
            .map(|replica| (replica.state == ReplicaState::Ready, replica.ready_at, replica.id))
            .collect();
        for _ in active.len()..count as usize {
            self.create(index, cold_start);
        }
        active.sort_unstable_by_key(|&(ready, ready_at, id)| (!ready, ready_at, id));
        for &(.., id) in active.iter().skip(count as usize) {
            self.drain(id);
        }
        Ok(())
    }

    /// Adds one replica that will be ready after `cold_start`, whatever was asked for by [`Self::set_replicas`].
    ///
    /// # Errors
    /// When there is no such variant.
    pub fn add_replica(&mut self, variant: &str, cold_start: Picoseconds) -> Result<ReplicaId, UnknownVariant> {
        let index = self.index(variant)?;
        Ok(self.create(index, cold_start))
    }

    /// Lets a replica finish its requests and go; one that is still starting goes at once.
    pub fn drain(&mut self, id: ReplicaId) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == id)
            && replica.state != ReplicaState::Draining
        {
            replica.state = ReplicaState::Draining;
            replica.drain_started_at = self.now;
            self.reap();
            self.schedule_ready();
        }
    }

    /// Makes a replica work `factor` times slower from now on.
    pub fn slow_down(&mut self, id: ReplicaId, factor: f64) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == id) {
            replica.engine.slow_down(factor);
        }
    }

    /// Ends a replica at once; its requests are lost.
    pub fn stop(&mut self, id: ReplicaId) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == id) {
            self.attainment.aborted += replica.engine.abort();
            self.drain(id);
            self.reap();
        }
    }

    /// Lets a request arrive, at its arrival time or now if that has passed.
    pub fn submit(&mut self, request: Request) {
        self.advance_to(request.arrival);
        self.attainment.arrived += 1;
        // Those held before it go first.
        let route = if self.gateway.is_empty() { self.route(&request) } else { Route::Hold };
        match route {
            Route::To(index) => self.send(index, request),
            Route::Hold if self.gateway.len() < self.options.gateway_capacity => self.gateway.push_back(request),
            Route::Hold | Route::Reject => self.attainment.rejected += 1,
        }
    }

    /// Lets time pass until `time`.
    pub fn advance_to(&mut self, time: Picoseconds) {
        while let Some(event) = self.next_event(time) {
            self.run_engines(event);
            self.welcome_ready();
            self.dispatch();
        }
        self.run_engines(time);
    }

    /// The time reached.
    pub fn now(&self) -> Picoseconds {
        self.now
    }

    /// Replicas that are not gone, oldest first.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The replica of that name, until it is gone.
    pub fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.id == id)
    }

    /// The variant a replica belongs to.
    pub fn variant_of(&self, replica: &Replica) -> &VariantSpec {
        &self.variants[replica.variant].spec
    }

    /// Requests held at the gateway.
    pub fn gateway_queue(&self) -> usize {
        self.gateway.len()
    }

    /// How the requests have fared.
    pub fn attainment(&self) -> Attainment {
        self.attainment
    }

    /// Completions since the last call, in order of their end per replica, if they are recorded.
    pub fn take_completions(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.recorded)
    }

    /// Replica hours times price over all variants so far.
    pub fn cost(&self) -> f64 {
        self.status().iter().map(|status| status.cost).sum()
    }

    /// The variants as they stand, in the order they were added.
    pub fn status(&self) -> Vec<VariantStatus> {
        self.variants.iter().enumerate().map(|(index, variant)| self.variant_status(index, variant)).collect()
    }

    fn variant_status(&self, index: usize, variant: &Variant) -> VariantStatus {
        let mut time = variant.past;
        let (mut starting, mut ready, mut draining) = (0, 0, 0);
        let mut pending_since = None;
        for replica in self.replicas.iter().filter(|replica| replica.variant == index) {
            time.add(replica.created_at, self.now);
            match replica.state {
                ReplicaState::Starting => {
                    starting += 1;
                    pending_since.get_or_insert(replica.created_at.as_secs_f64());
                }
                ReplicaState::Ready => ready += 1,
                ReplicaState::Draining => draining += 1,
            }
        }
        VariantStatus {
            name: variant.spec.name.clone(),
            spec: variant.replicas_asked,
            current: starting + ready,
            ready,
            draining,
            pending_since_seconds: pending_since,
            replica_hours: time.hours(),
            cost: time.hours() * variant.spec.profile.price,
            scale_actions: variant.scale_actions,
        }
    }

    fn index(&self, name: &str) -> Result<usize, UnknownVariant> {
        self.variants.iter().position(|variant| variant.spec.name == name).ok_or_else(|| UnknownVariant {
            name: name.to_owned(),
            known: self.variants.iter().map(|variant| variant.spec.name.clone()).collect(),
        })
    }

    fn create(&mut self, variant: usize, cold_start: Picoseconds) -> ReplicaId {
        let id = ReplicaId(self.created);
        self.created += 1;
        self.replicas.push(Replica::new(id, variant, &self.variants[variant].spec.profile, self.now, cold_start));
        self.schedule_ready();
        id
    }

    fn schedule_ready(&mut self) {
        let starting = self.replicas.iter().filter(|replica| replica.state == ReplicaState::Starting);
        self.next_ready = starting.map(Replica::ready_at).min().unwrap_or(Picoseconds::MAX);
    }

    /// The next time up to `limit` at which held requests may go on.
    fn next_event(&self, limit: Picoseconds) -> Option<Picoseconds> {
        // Also when flow control has just been switched off: what it held must go on.
        let looks =
            !self.gateway.is_empty() && self.replicas.iter().any(|replica| replica.state == ReplicaState::Ready);
        let look = if looks { self.now.next_multiple_of(FLOW_CONTROL_INTERVAL) } else { Picoseconds::MAX };
        Some(self.next_ready.min(look)).filter(|&event| event <= limit && event < Picoseconds::MAX)
    }

    fn run_engines(&mut self, time: Picoseconds) {
        for replica in &mut self.replicas {
            replica.engine.advance_to(time, &mut self.fresh);
        }
        self.now = self.now.max(time);
        if self.fresh.is_empty() {
            return;
        }
        for completion in &self.fresh {
            self.attainment.completed(completion, &self.options.objective);
        }
        if self.options.record_completions {
            self.recorded.append(&mut self.fresh);
        }
        self.fresh.clear();
        self.reap();
    }

    /// Removes the replicas that are drained.
    fn reap(&mut self) {
        let variants = &mut self.variants;
        self.replicas.retain(|replica| {
            let Some(gone_at) = replica.gone_at() else { return true };
            variants[replica.variant].past.add(replica.created_at, gone_at);
            false
        });
    }

    fn welcome_ready(&mut self) {
        for replica in &mut self.replicas {
            if replica.state == ReplicaState::Starting && replica.ready_at <= self.now {
                replica.state = ReplicaState::Ready;
            }
        }
        self.schedule_ready();
    }

    fn dispatch(&mut self) {
        while let Some(&request) = self.gateway.front() {
            match self.route(&request) {
                Route::To(index) => self.send(index, request),
                Route::Hold => break,
                Route::Reject => self.attainment.rejected += 1,
            }
            self.gateway.pop_front();
        }
    }

    fn route(&mut self, request: &Request) -> Route {
        let variants = &self.variants;
        let weight = |replica: &Replica| variants[replica.variant].spec.routing_weight;
        self.router.route(request, &self.replicas, weight, self.options.flow_control.as_ref())
    }

    fn send(&mut self, index: usize, request: Request) {
        if self.replicas[index].engine.submit(request).is_err() {
            self.attainment.rejected += 1;
        }
    }
}

#[cfg(test)]
mod tests;
