//! `dynamo`: the rule of NVIDIA Dynamo's planner in its `sla` mode, for one pool that does both prefill and decode.
//!
//! *Throughput loop*, every 180 s: the request rate and mean lengths of the last interval (its `constant` predictor) over
//! what one replica carries within the objective by its profile make the least number of replicas. *Load loop*, every 5 s:
//! by a linear model of the iteration over batch and KV tokens (here the profile itself, which the planner's regression
//! converges to), one replica more when every worker would miss the objective, one less when all would stay within 80 % of
//! it with one fewer, and nothing while replicas start.

use std::time::Duration;

use jiff::Timestamp;

use super::{Actuation, ModelSample, Policy, Rhythm};
use crate::{
    fleet::{BLOCK_SIZE, Engine, Objective, Picoseconds, Profile, Request},
    interfaces::{ScaleObservation, age},
    simulate::{scenario::Scenario, sizing::Sizing},
};

const LOAD_INTERVAL: Duration = Duration::from_secs(5);
const THROUGHPUT_INTERVAL: Duration = Duration::from_secs(180);
const SENSITIVITY: f64 = 0.8;

/// The planner.
#[derive(Debug)]
pub(in crate::simulate) struct Dynamo<'a> {
    scenario: &'a Scenario,
    /// The objective it is told, as a share of the true one.
    strictness: f64,
    models: Vec<Traffic>,
    planners: Vec<Planner>,
}

/// What a model's frontend saw in an interval.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    since: Option<Timestamp>,
    arrived: u64,
    prompt: f64,
    output: f64,
    finished: f64,
    rate: f64,
    lengths: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Planner {
    /// From the throughput loop.
    least: f64,
    /// From the load loop.
    step: f64,
}

/// What a worker's next request would see.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    ttft: f64,
    itl: f64,
}

impl<'a> Dynamo<'a> {
    pub(in crate::simulate) fn new(scenario: &'a Scenario, strictness: f64) -> Self {
        Self {
            scenario,
            strictness,
            models: vec![Traffic::default(); scenario.models.len()],
            planners: scenario.variants().map(|_| Planner::default()).collect(),
        }
    }

    fn objective(&self, model: usize) -> Objective {
        let Objective { ttft, tpot } = self.scenario.models[model].objective;
        let part = |time: Picoseconds| Picoseconds::from_secs_f64(time.as_secs_f64() * self.strictness);
        Objective { ttft: part(ttft), tpot: part(tpot) }
    }
}

impl Traffic {
    /// Closes the interval when it is over.
    fn observe(&mut self, at: Timestamp, sample: &ModelSample<'_>) -> bool {
        let mut totals = (0.0, 0.0, 0.0);
        for replica in sample.world.pool.replicas() {
            let metrics = replica.engine().metrics();
            totals.0 += metrics.request_prompt_tokens.sum() as f64;
            totals.1 += metrics.request_generation_tokens.sum() as f64;
            totals.2 += metrics.finished as f64;
        }
        let since = *self.since.get_or_insert(at);
        let seconds = age(at, since).as_secs_f64();
        let is_over = seconds >= THROUGHPUT_INTERVAL.as_secs_f64();
        if is_over {
            self.rate = (sample.arrived() - self.arrived) as f64 / seconds;
            let finished = totals.2 - self.finished;
            // Replicas that left took their counters with them.
            if finished > 0.0 && totals.0 >= self.prompt {
                self.lengths = Some(((totals.0 - self.prompt) / finished, (totals.1 - self.output) / finished));
            }
        }
        if is_over || since == at {
            (self.since, self.arrived) = (Some(at), sample.arrived());
            (self.prompt, self.output, self.finished) = totals;
        }
        is_over
    }
}

impl Estimate {
    fn of(engine: &Engine, profile: &Profile, prompt: f64, fewer: f64) -> Self {
        let sequences = engine.running() as f64 * fewer;
        let kv_tokens = f64::from(engine.kv_blocks_used()) * f64::from(BLOCK_SIZE) * fewer;
        let decode =
            profile.iteration_ms + profile.decode_ms_per_sequence * sequences + profile.kv_ms_per_token * kv_tokens;
        let queued = (engine.waiting() as f64 * fewer + 1.0) * prompt;
        let iterations = (queued / f64::from(profile.max_num_batched_tokens)).ceil();
        let ttft = iterations * decode + queued * profile.prefill_ms_per_token;
        Self { ttft: ttft / 1e3, itl: decode / 1e3 }
    }

    fn within(&self, objective: &Objective, share: f64) -> bool {
        self.ttft <= objective.ttft.as_secs_f64() * share && self.itl <= objective.tpot.as_secs_f64() * share
    }
}

/// One replica more, one less, or as many.
fn load_step(now: &[Estimate], consolidated: &[Estimate], objective: &Objective) -> f64 {
    if now.is_empty() {
        0.0
    } else if now.iter().all(|worker| !worker.within(objective, 1.0)) {
        1.0
    } else if now.len() > 1 && consolidated.iter().all(|worker| worker.within(objective, SENSITIVITY)) {
        -1.0
    } else {
        0.0
    }
}

impl Policy for Dynamo<'_> {
    fn rhythm(&self) -> Rhythm {
        Rhythm { sample_every: LOAD_INTERVAL, delay: Duration::ZERO, decide_every: None }
    }

    fn actuation(&self) -> Actuation {
        Actuation::Direct
    }

    fn sample(&mut self, at: Timestamp, models: &[ModelSample<'_>]) {
        let closed: Vec<bool> =
            self.models.iter_mut().zip(models).map(|(traffic, sample)| traffic.observe(at, sample)).collect();
        let scenario = self.scenario;
        for (index, (model, variant)) in scenario.variants().enumerate() {
            let (traffic, sample) = (self.models[model], &models[model]);
            let objective = self.objective(model);
            let (prompt, output) = traffic.lengths.unwrap_or((1000.0, 200.0));
            let of_variant = || sample.replicas.iter().filter(|replica| sample.variant_of(replica) == variant.name);
            let count = of_variant().count() as f64;
            // With one worker fewer, each of the others has so many times as much.
            let fewer = count / (count - 1.0).max(1.0);
            let estimate = |factor: f64| {
                of_variant().map(move |replica| Estimate::of(replica.engine(), &variant.profile, prompt, factor))
            };
            let (workers, consolidated): (Vec<_>, Vec<_>) = (estimate(1.0).collect(), estimate(fewer).collect());
            let planner = &mut self.planners[index];
            if closed[model] {
                let request = Request::new(Picoseconds::ZERO, prompt as u32, output as u32);
                planner.least = (traffic.rate * Sizing::new(&variant.profile, &objective).seconds(&request)).ceil();
            }
            planner.step = load_step(&workers, &consolidated, &objective);
        }
    }

    fn decide(&mut self, _: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        let ask = |(planner, scale): (&Planner, &ScaleObservation)| {
            let step = if scale.ready < scale.spec { 0.0 } else { planner.step };
            Ok((f64::from(scale.spec) + step).max(planner.least))
        };
        self.planners.iter().zip(scales).map(ask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVE: Objective = Objective::from_millis(1000, 50);

    fn worker(ttft: f64, itl: f64) -> Estimate {
        Estimate { ttft, itl }
    }

    #[test]
    fn one_more_only_when_every_worker_misses_one_less_only_when_all_would_stay_well_within() {
        let (good, tight, bad) = (worker(0.1, 0.02), worker(0.9, 0.045), worker(2.0, 0.02));
        assert_eq!(load_step(&[bad, bad], &[bad, bad], &OBJECTIVE), 1.0);
        assert_eq!(load_step(&[bad, good], &[bad, good], &OBJECTIVE), 0.0);
        assert_eq!(load_step(&[good, good], &[good, good], &OBJECTIVE), -1.0);
        assert_eq!(load_step(&[good, good], &[good, tight], &OBJECTIVE), 0.0, "consolidation would be too tight");
        assert_eq!(load_step(&[good], &[good], &OBJECTIVE), 0.0, "the last one stays");
        assert_eq!(load_step(&[], &[], &OBJECTIVE), 0.0);
    }
}
