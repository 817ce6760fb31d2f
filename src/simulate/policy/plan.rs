//! A plan made beforehand: so many replicas ready in each segment of time. What `clairvoyant` and the search for the
//! best-known plan produce; it sets replicas itself, a cold start early.

use std::time::Duration;

use jiff::Timestamp;

use super::{Actuation, ModelSample, Policy, Rhythm};
use crate::{
    fleet::Picoseconds,
    interfaces::ScaleObservation,
    simulate::{scenario::Scenario, world},
};

const STEP: Duration = Duration::from_secs(5);

/// Ready replicas per segment, for each variant.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::simulate) struct Plan {
    /// Length of a segment.
    pub(in crate::simulate) segment: Duration,
    /// Per variant, per segment. The last one holds on.
    pub(in crate::simulate) replicas: Vec<Vec<u32>>,
}

impl Plan {
    /// Replicas that must be ready at `time`.
    fn ready(&self, variant: usize, time: Picoseconds) -> u32 {
        let segment = (time.as_secs_f64() / self.segment.as_secs_f64()) as usize;
        let replicas = &self.replicas[variant];
        replicas.get(segment).or(replicas.last()).copied().unwrap_or(0)
    }

    /// Replicas that must exist at `time` so that all are ready when due: the most of any segment from now until a cold
    /// start and a step ahead.
    fn set(&self, variant: usize, time: Picoseconds, ahead: Duration) -> u32 {
        let end = time + Picoseconds::from(ahead) + STEP.into();
        let mut most = self.ready(variant, end);
        let mut at = time;
        while at < end {
            most = most.max(self.ready(variant, at));
            at += self.segment.into();
        }
        most
    }

    /// What the plan has at the start.
    pub(in crate::simulate) fn initial(&self, scenario: &Scenario) -> Vec<u32> {
        let variants = scenario.variants().enumerate();
        variants.map(|(index, (_, variant))| self.set(index, Picoseconds::ZERO, variant.cold_start)).collect()
    }
}

/// Carries a plan out.
#[derive(Debug)]
pub(in crate::simulate) struct Planned<'a> {
    scenario: &'a Scenario,
    plan: Plan,
}

impl<'a> Planned<'a> {
    pub(in crate::simulate) fn new(scenario: &'a Scenario, plan: Plan) -> Self {
        Self { scenario, plan }
    }
}

impl Policy for Planned<'_> {
    fn rhythm(&self) -> Rhythm {
        Rhythm { sample_every: STEP, delay: Duration::ZERO, decide_every: None }
    }

    fn actuation(&self) -> Actuation {
        Actuation::Direct
    }

    fn sample(&mut self, _: Timestamp, _: &[ModelSample<'_>]) {}

    fn decide(&mut self, now: Timestamp, _: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        let time = world::since_origin(now);
        let variants = self.scenario.variants().enumerate();
        variants.map(|(index, (_, variant))| Ok(f64::from(self.plan.set(index, time, variant.cold_start)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_set_a_cold_start_early_and_kept_until_their_segment_ends() {
        let plan = Plan { segment: Duration::from_secs(300), replicas: vec![vec![2, 5, 1]] };
        let set = |second: u64| plan.set(0, Picoseconds::from_millis(second * 1000), Duration::from_secs(120));
        assert_eq!([0, 170, 175, 299, 599, 600, 9999].map(set), [2, 2, 5, 5, 5, 1, 1]);
    }
}
