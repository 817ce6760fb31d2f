//! Who decides. A policy sees samples of what engines export and the scale targets, and asks for replicas; between its ask
//! and the scale target stands the stock HPA's arithmetic, or nothing where the system it stands for scales directly.

mod apa;
mod coming;
mod dynamo;
mod fixed;
mod gauges;
mod ingest;
mod kpa;
mod names;
mod on_gauges;
mod plan;
mod upstream_v1;
mod upstream_v2;
mod wva;

use std::time::Duration;

use jiff::Timestamp;

use super::{scenario::Scenario, world::ModelWorld};
use crate::{
    fleet::{Replica, ReplicaState},
    hpa::Behavior,
    interfaces::{ScaleObservation, Snapshot},
};

pub(super) use self::{
    fixed::Fixed,
    names::{Named, PolicyName},
    plan::{Plan, Planned},
};

/// One scaling system.
pub(super) trait Policy {
    /// When it looks and decides.
    fn rhythm(&self) -> Rhythm;

    /// How what it asks for becomes `spec.replicas`.
    fn actuation(&self) -> Actuation;

    /// Takes in one round of samples, taken at `at`.
    fn sample(&mut self, at: Timestamp, models: &[ModelSample<'_>]);

    /// Replicas asked for per variant, in the scenario's order; not rounded, as the HPA rounds up itself. An error is one
    /// the HPA would have had from the metrics API.
    fn decide(&mut self, now: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>>;

    /// Why it decided last what it did, for `--explain`.
    fn explain(&self) -> Option<String> {
        None
    }

    /// The snapshot it decided on last, if it works with any.
    fn snapshot(&self) -> Option<&Snapshot> {
        None
    }
}

/// When a policy looks and decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// Between two rounds of samples.
    pub(super) sample_every: Duration,
    /// From a sample to its use.
    pub(super) delay: Duration,
    /// Between two decisions; `None` decides on every round of samples.
    pub(super) decide_every: Option<Duration>,
}

impl Rhythm {
    /// Scrapes as the scenario says, and decides on each.
    pub(super) fn of_scrapes(scenario: &Scenario) -> Self {
        let timing = scenario.timing;
        Self { sample_every: timing.scrape_interval, delay: timing.scrape_delay, decide_every: None }
    }
}

/// How an ask becomes `spec.replicas`.
#[derive(Clone, Debug)]
pub(super) enum Actuation {
    /// Through a stock HPA with this `behavior`.
    Hpa(Option<Behavior>),
    /// Set at once, rounded up.
    Direct,
}

/// One model's replicas whose scrape succeeded, and its gateway.
pub(super) struct ModelSample<'a> {
    /// Ready replicas.
    pub(super) replicas: Vec<&'a Replica>,
    /// The whole of the model, of which policies read what the gateway exports.
    pub(super) world: &'a ModelWorld,
}

impl ModelSample<'_> {
    /// Requests held at the gateway.
    pub(super) fn gateway_queue(&self) -> usize {
        self.world.pool.gateway_queue()
    }

    /// Requests that reached the gateway so far.
    pub(super) fn arrived(&self) -> u64 {
        self.world.pool.attainment().arrived
    }

    /// All ready replicas, scraped or not.
    pub(super) fn ready(&self) -> impl Iterator<Item = &Replica> {
        self.world.pool.replicas().iter().filter(|replica| replica.state() == ReplicaState::Ready)
    }

    /// Name of the variant that `replica` belongs to.
    pub(super) fn variant_of(&self, replica: &Replica) -> &str {
        &self.world.pool.variant_of(replica).name
    }
}
