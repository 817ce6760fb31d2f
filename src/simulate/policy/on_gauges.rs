//! Stock HPAs on engine gauges: `production-stack`, `kv-queue` and `in-flight`.
//!
//! Each is an HPA without `behavior`: tolerance 0.1, up to the double or four, down to the greatest proposal of five
//! minutes. Several metrics make the greatest of their proposals, which is that of the greatest ratio.

use jiff::Timestamp;

use super::{
    Actuation, ModelSample, Policy, Rhythm,
    gauges::{Gauges, gauges},
};
use crate::{interfaces::ScaleObservation, simulate::scenario::Scenario};

/// A gauge and how much of it one replica should have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    sum: fn(&Gauges) -> f64,
    per_replica: f64,
}

/// An HPA on the sums of gauges.
#[derive(Debug)]
pub(in crate::simulate) struct OnGauges<'a> {
    scenario: &'a Scenario,
    targets: Vec<Target>,
    latest: Option<Vec<Gauges>>,
}

impl<'a> OnGauges<'a> {
    fn new(scenario: &'a Scenario, targets: Vec<Target>) -> Self {
        Self { scenario, targets, latest: None }
    }

    /// vLLM production-stack: KEDA on `sum(vllm:num_requests_waiting)` with this threshold; documented: 5.
    pub(in crate::simulate) fn production_stack(scenario: &'a Scenario, threshold: f64) -> Self {
        Self::new(scenario, vec![Target { sum: |gauges| gauges.waiting, per_replica: threshold }])
    }

    /// llm-d's HPA baseline: mean KV usage, documented 0.7, and a mean queue of 2.
    pub(in crate::simulate) fn kv_queue(scenario: &'a Scenario, kv_usage: f64) -> Self {
        Self::new(
            scenario,
            vec![
                Target { sum: |gauges| gauges.kv_usage, per_replica: kv_usage },
                Target { sum: |gauges| gauges.waiting, per_replica: 2.0 },
            ],
        )
    }

    /// llm-d's KEDA on the endpoint picker's in-flight requests; the guide's example: 250.
    pub(in crate::simulate) fn in_flight(scenario: &'a Scenario, per_replica: f64) -> Self {
        Self::new(scenario, vec![Target { sum: Gauges::in_flight, per_replica }])
    }

    fn ask(&self, gauges: &Gauges) -> f64 {
        self.targets.iter().map(|target| (target.sum)(gauges) / target.per_replica).fold(0.0, f64::max)
    }
}

impl Policy for OnGauges<'_> {
    fn rhythm(&self) -> Rhythm {
        Rhythm::of_scrapes(self.scenario)
    }

    fn actuation(&self) -> Actuation {
        Actuation::Hpa(None)
    }

    fn sample(&mut self, _: Timestamp, models: &[ModelSample<'_>]) {
        self.latest = Some(gauges(self.scenario, models));
    }

    fn decide(&mut self, _: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        match &self.latest {
            Some(latest) => latest.iter().map(|gauges| Ok(self.ask(gauges))).collect(),
            None => scales.iter().map(|_| Err("nothing was scraped yet".to_owned())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::tests::one_variant;

    fn gauges_of(replicas: f64, running: f64, waiting: f64, kv_usage: f64) -> Gauges {
        Gauges { replicas, running, waiting, kv_usage, held: 0.0 }
    }

    #[test]
    fn each_asks_for_its_sum_over_its_target_and_the_greater_of_two() {
        let scenario = one_variant();
        let busy = gauges_of(4.0, 100.0, 12.0, 2.8);
        for (policy, expected) in [
            (OnGauges::production_stack(&scenario, 5.0), 12.0 / 5.0),
            (OnGauges::kv_queue(&scenario, 0.7), 6.0),
            (OnGauges::in_flight(&scenario, 16.0), 7.0),
        ] {
            assert!((policy.ask(&busy) - expected).abs() < 1e-9, "{policy:?}");
        }
        assert!((OnGauges::kv_queue(&scenario, 0.7).ask(&gauges_of(4.0, 9.0, 0.0, 2.8)) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_waiting_queue_is_the_only_thing_production_stack_sees() {
        let scenario = one_variant();
        assert_eq!(OnGauges::production_stack(&scenario, 5.0).ask(&gauges_of(4.0, 1000.0, 0.0, 4.0)), 0.0);
    }
}
