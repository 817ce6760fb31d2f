//! Capacity by simulation: a bisection over the rate for each pool size.

use super::{
    approximation,
    workload::{Sample, Stream},
};
use crate::{
    fleet::{Objective, Picoseconds, Pool, PoolOptions, Profile, Request, VariantSpec},
    interfaces::{CapacityCurve, CapacityPoint, CapacityQuestion, MissCurve, MissPoint},
};

/// How much a simulation may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Pool sizes, rising.
    pub sizes: Vec<u32>,
    /// Requests played per rate, at least.
    pub requests: usize,
    /// How many residence times of a request a simulation covers, at least.
    pub residences: f64,
    /// Relative width at which a bisection ends.
    pub precision: f64,
}

impl Default for Effort {
    /// A few tenths of a second.
    fn default() -> Self {
        Self { sizes: vec![1, 2, 4, 8, 16], requests: 6_000, residences: 15.0, precision: 0.04 }
    }
}

const VARIANT: &str = "replica";
/// Share of the requests at the start and at the end that are played but not judged: the pool fills and empties.
const WARM_UP: f64 = 0.2;
const COOL_DOWN: f64 = 0.1;
/// Requests between two looks at whether the rate has failed already.
const STRIDE: usize = 200;

/// Loads that misses are measured at. A lone replica may carry far more than its capacity before most requests miss.
const LOADS: [f64; 9] = [0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0];
/// Load before a spell of another.
const USUAL: f64 = 0.85;
/// Share of the mean-value capacity that is a light load, and the size of the pool it is put on.
const LIGHT: f64 = 0.3;
const LIGHT_SIZE: u32 = 4;
/// How long a load other than the usual lasts: a cold start, in seconds.
const SPELL: f64 = 120.0;

/// The curve of `question`.
pub fn simulated(question: &CapacityQuestion, effort: &Effort) -> CapacityCurve {
    let mut bench = Bench::new(question, effort);
    let mut points: Vec<CapacityPoint> = Vec::with_capacity(effort.sizes.len());
    let mut guess = 0.8 * approximation::mean_value(question);
    for &replicas in &effort.sizes {
        let mut point = bench.search(replicas, guess);
        // More replicas never carry less each: what says otherwise is chance.
        if let Some(last) = points.last().filter(|last| last.rate > point.rate) {
            point = CapacityPoint { replicas, ..*last };
        }
        guess = point.rate.max(1e-6);
        points.push(point);
    }
    let misses = bench.misses(&points);
    CapacityCurve { points, misses }
}

/// Plays one question at different sizes and rates.
struct Bench<'a> {
    question: &'a CapacityQuestion,
    effort: &'a Effort,
    profile: Profile,
    objective: Objective,
    /// Share of the requests that may miss.
    allowance: f64,
    stream: Stream,
}

/// What one rate came to.
#[derive(Clone, Copy)]
struct Run {
    is_met: bool,
    in_flight: f64,
    /// Share of the requests that missed, where the run went to its end.
    missed: f64,
}

impl<'a> Bench<'a> {
    fn new(question: &'a CapacityQuestion, effort: &'a Effort) -> Self {
        let objective = Objective {
            ttft: question
                .time_to_first_token_ms
                .map_or(Picoseconds::MAX, |target| Picoseconds::from_millis(target.into())),
            tpot: question
                .inter_token_latency_us
                .map_or(Picoseconds::MAX, |target| Picoseconds::new(u64::from(target) * 1_000_000)),
        };
        let mut bench = Self {
            question,
            effort,
            profile: profile(question),
            objective,
            allowance: 0.0,
            stream: Stream::new(question),
        };
        let wanted = 1.0 - f64::from(question.target_share_milli) / 1e3;
        // Some requests miss however many replicas there are, such as prompts that take too long on their own. Where they
        // leave less than half of the allowance, half of it is granted to the others all the same: beyond that replicas
        // would buy next to nothing.
        let light = LIGHT * approximation::mean_value(question);
        let hopeless = if light > 0.0 { bench.spell(LIGHT_SIZE, light, light) } else { 0.0 };
        bench.allowance = wanted.max(hopeless + wanted / 2.0).min(0.5);
        bench
    }

    /// The highest rate per replica that a pool of `replicas` carries, searched around `guess`.
    fn search(&mut self, replicas: u32, guess: f64) -> CapacityPoint {
        const WIDEN: f64 = 1.3;
        const MOST_STEPS: u32 = 24;
        let (mut low, mut high) = (None::<(f64, Run)>, None::<f64>);
        let mut rate = guess;
        for _ in 0..MOST_STEPS {
            let run = self.run(replicas, rate, self.allowance);
            if run.is_met {
                low = Some((rate, run));
            } else {
                high = Some(rate);
            }
            rate = match (low, high) {
                (Some((low, _)), None) => low * WIDEN,
                (None, Some(high)) => high / WIDEN,
                (Some((low, _)), Some(high)) if high / low <= 1.0 + self.effort.precision => break,
                (Some((low, _)), Some(high)) => (low * high).sqrt(),
                (None, None) => break,
            };
        }
        let (rate, in_flight) = low.map_or((0.0, 0.0), |(rate, run)| (rate, run.in_flight));
        CapacityPoint { replicas, rate, in_flight }
    }

    /// Shares of misses beside the capacity found, for each size of pool.
    fn misses(&mut self, points: &[CapacityPoint]) -> Vec<MissCurve> {
        let able = points.iter().filter(|point| point.rate > 0.0);
        able.map(|point| MissCurve { replicas: point.replicas, points: self.misses_of(point) }).collect()
    }

    fn misses_of(&mut self, point: &CapacityPoint) -> Vec<MissPoint> {
        /// Beyond this more load changes nothing that matters.
        const ALL: f64 = 0.95;
        let mut least = 0.0_f64;
        let mut curve = Vec::with_capacity(LOADS.len());
        for load in LOADS {
            // More load never misses less: what says otherwise is chance.
            // Up to the capacity the same requests are judged as for it. A spell has too few to tell one miss in a hundred.
            least = least.max(if load <= 1.0 {
                self.run(point.replicas, point.rate * load, 1.0).missed
            } else {
                self.spell(point.replicas, point.rate * USUAL, point.rate * load)
            });
            curve.push(MissPoint { load, share: least });
            if least > ALL {
                break;
            }
        }
        curve
    }

    /// Share of requests that miss their targets in a spell of `rate` per replica, after a time at `usual`.
    fn spell(&mut self, replicas: u32, usual: f64, rate: f64) -> f64 {
        let warm_up = (5.0 * approximation::residence(self.question, usual)).max(60.0);
        let (usual, rate) = (usual * f64::from(replicas), rate * f64::from(replicas));
        let before = (usual * warm_up) as usize;
        let count = before + ((rate * SPELL) as usize).max(self.effort.requests / 2);
        let mut pool = self.pool(replicas);
        let samples = self.stream.first(count + 1);
        let began = samples[before].arrival;
        let from = began / usual;
        let mut account = Account { judged: (from, f64::INFINITY), objective: self.objective, misses: 0, stay: 0.0 };
        for sample in &samples[..count] {
            let into = (sample.arrival - began).max(0.0) / rate;
            let arrival = sample.arrival.min(began) / usual + into;
            pool.submit(request(sample, arrival));
        }
        pool.advance_to(pool.now() + Picoseconds::from_millis(3_600_000));
        account.take(&mut pool);
        (account.misses as f64 / (count - before) as f64).min(1.0)
    }

    /// Plays a steady rate; not to the end where more than the share `allowed` has missed.
    fn run(&mut self, replicas: u32, rate: f64, allowed: f64) -> Run {
        let pool_rate = rate * f64::from(replicas);
        let residence = approximation::residence(self.question, rate);
        let count = self.effort.requests.max((self.effort.residences * residence * pool_rate) as usize);
        let mut pool = self.pool(replicas);
        let samples = self.stream.first(count);
        let at = |share: f64| samples[((share * count as f64) as usize).min(count - 1)].arrival / pool_rate;
        let judged = (at(WARM_UP), at(1.0 - COOL_DOWN));
        let judged_count = (1.0 - WARM_UP - COOL_DOWN) * count as f64;
        let most_misses = (allowed * judged_count) as usize;

        let mut account = Account { judged, objective: self.objective, misses: 0, stay: 0.0 };
        for stride in samples.chunks(STRIDE) {
            for sample in stride {
                pool.submit(request(sample, sample.arrival / pool_rate));
            }
            account.take(&mut pool);
            if account.misses > most_misses {
                return Run { is_met: false, in_flight: 0.0, missed: 1.0 };
            }
        }
        pool.advance_to(pool.now() + Picoseconds::from_millis(3_600_000));
        account.take(&mut pool);
        let lost = pool.attainment().in_flight() + pool.attainment().rejected;
        let missed = account.misses as f64 + lost as f64 * judged_count / count as f64;
        let is_met = account.misses <= most_misses && lost as f64 <= allowed * count as f64;
        // Little: the time that requests stayed, per second of their arrivals.
        let in_flight = account.stay / (judged.1 - judged.0).max(1e-9) / f64::from(replicas);
        Run { is_met, in_flight, missed: (missed / judged_count).min(1.0) }
    }

    fn pool(&self, replicas: u32) -> Pool {
        let options = PoolOptions { objective: self.objective, record_completions: true, ..PoolOptions::default() };
        let mut pool = Pool::new(options);
        let cold_start = Picoseconds::ZERO;
        pool.add_variant(VariantSpec { cold_start, ..VariantSpec::new(VARIANT, self.profile.clone()) });
        // The variant was added above.
        let _ = pool.set_replicas(VARIANT, replicas);
        pool.advance_to(Picoseconds::new(1));
        pool
    }
}

/// Judges completions by when they arrived.
struct Account {
    judged: (f64, f64),
    objective: Objective,
    misses: usize,
    /// Seconds that judged requests stayed.
    stay: f64,
}

impl Account {
    fn take(&mut self, pool: &mut Pool) {
        for completion in pool.take_completions() {
            let arrival = completion.request.arrival.as_secs_f64();
            if arrival < self.judged.0 || arrival > self.judged.1 {
                continue;
            }
            self.misses += usize::from(!completion.meets(&self.objective));
            self.stay += completion.finished_at.as_secs_f64() - arrival;
        }
    }
}

/// `arrival` in seconds.
fn request(sample: &Sample, arrival: f64) -> Request {
    let arrival = Picoseconds::from_secs_f64(arrival);
    Request { cached_tokens: sample.cached, ..Request::new(arrival, sample.prompt, sample.output) }
}

fn profile(question: &CapacityQuestion) -> Profile {
    let service = &question.service;
    let milliseconds = |picoseconds: u64| picoseconds as f64 * 1e-9;
    Profile {
        name: String::new(),
        accelerator: String::new(),
        accelerators: 1,
        iteration_ms: milliseconds(service.base),
        prefill_ms_per_token: milliseconds(service.per_prefill_token),
        decode_ms_per_sequence: milliseconds(service.per_sequence),
        kv_ms_per_token: milliseconds(service.per_kv_token),
        kv_tokens: service.kv_cache_tokens,
        price: 0.0,
        max_num_seqs: service.max_batch,
        max_num_batched_tokens: service.max_batched_tokens,
    }
}
