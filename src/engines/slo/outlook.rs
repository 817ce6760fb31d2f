//! What a replica asked for now will meet, and how many replicas that is worth.
//!
//! A replica asked for now serves one cold start later, and one given up now would be missed for as long. So the engine
//! remembers the arrivals of the last hours and asks them: from where arrivals are now, where did they go within that time?
//! The answer is a distribution of rates to come: wide where the workload is violent, narrow where it is calm. Of every size
//! of the pool the capacity curve tells what share of these requests would miss; taken is the size at which replicas and
//! misses together cost least (a newsvendor problem). So a replica is kept where it saves many requests, and not where it
//! saves few: the few misses that an objective allows fall where avoiding them would be dearest.

use std::{sync::LazyLock, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reversion::Reversion;
use crate::interfaces::{CapacityCurve, age};

/// A replica that saves at least a quarter of its own capacity from missing is worth its cost. What comes of it, with
/// [`MOST_MISSED`], is measured in `docs/decisions.md`.
const PRICE: f64 = 4.0;
/// No plan expects more misses than this many times the share that the objective allows: not all that is to be feared comes
/// true, because replicas are given up late.
const MOST_MISSED: f64 = 3.0;
/// A replica that is there is given up only where it would not be worth this much more: a replica that comes and goes with
/// the noise costs a cold start each time.
const RELUCTANCE: f64 = 2.0;
/// Between two remembered rates.
const STEP: Duration = Duration::from_secs(30);
/// Steps from asking to serving: a cold start of two minutes, and the time to notice.
const AHEAD: usize = 5;
/// Steps whose mean is the usual rate: five minutes.
const USUAL: usize = 10;
/// Steps remembered: four hours.
const KEPT: usize = 480;
/// Rates are kept as thousandths of their natural logarithm.
const RESOLUTION: f64 = 1000.0;
/// A step of which nothing is known.
const UNKNOWN: i16 = i16::MIN;
/// How far from the present rate a remembered one may be to tell something of it, in the logarithm.
const ALIKE: f64 = 0.33;
/// How far a rate may move and still be taken for so many times what it was, in the logarithm. What moves further goes to a
/// level of its own: bursts are as high after a busy minute as after a calm one.
const MOVES: f64 = 1.0;
/// Width of a bin of rates to come, in the logarithm, and bins on either side of the present rate.
const WIDTH: f64 = 0.08;
const REACH: usize = 40;
/// What is supposed before anything is remembered, as numbers of observations, normally distributed with these deviations:
/// most rates stay near what they are, but what has not been seen in an hour may yet come.
const SUPPOSED: [(f64, f64); 2] = [(10.0, 0.12), (6.0, 0.25)];
/// No pool is larger.
const MOST: u32 = 100_000;

/// Arrivals of the last hours, one rate per half minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArrivalHistory {
    /// Oldest first.
    rates: Vec<i16>,
    /// How rates return to what is usual.
    #[serde(default)]
    reversion: Reversion,
    /// Time of the newest.
    until: Option<Timestamp>,
}

impl ArrivalHistory {
    /// Remembers the rate of requests per second at `now`.
    pub(super) fn observe(&mut self, now: Timestamp, rate: f64) {
        let Some(until) = self.until else { return self.begin(now, rate) };
        let steps = (age(now, until).as_secs_f64() / STEP.as_secs_f64()) as usize;
        if steps > KEPT {
            return self.begin(now, rate);
        }
        if steps > 0 {
            // What fell between is not known.
            self.rates.extend(std::iter::repeat_n(UNKNOWN, steps - 1));
            self.rates.push(quantised(rate));
            self.learn_reversion();
            self.rates.drain(..self.rates.len().saturating_sub(KEPT));
            self.until = Some(until + STEP * steps as u32);
        }
    }

    fn begin(&mut self, now: Timestamp, rate: f64) {
        self.rates = vec![quantised(rate)];
        self.reversion = Reversion::default();
        self.until = Some(now);
    }

    /// Learns from the rate of a cold start ago, now that it is known what became of it.
    fn learn_reversion(&mut self) {
        const REMEMBERED: f32 = 1.0 - 1.0 / KEPT as f32;
        let last = self.rates.len() - 1;
        let Some(then) = last.checked_sub(AHEAD) else { return };
        let (rate, later) = (self.rates[then], self.rates[last]);
        if rate != UNKNOWN && later != UNKNOWN {
            let mut usual = Usual::default();
            self.rates[then.saturating_sub(USUAL)..=then].iter().for_each(|rate| usual.add(*rate));
            let (distance, moved) = (f32::from(rate) - usual.mean(), f32::from(later) - f32::from(rate));
            self.reversion.observe(distance / RESOLUTION as f32, moved / RESOLUTION as f32, REMEMBERED);
        }
    }

    /// The rates that `rate` may turn into by the time a replica asked for now serves.
    pub(super) fn outlook(&self, rate: f64) -> Outlook {
        let now = quantised(rate);
        let returning = self.reversion.returning();
        let expected = |rate: i16, usual: f32| {
            let distance = (f32::from(rate) - usual) / RESOLUTION as f32;
            rate - (returning.of(distance) * RESOLUTION as f32) as i16
        };
        let mut usual = Usual::default();
        self.rates.iter().rev().take(USUAL).for_each(|rate| usual.add(*rate));
        usual.add(now);
        let present = expected(now, usual.mean());

        let mut weights = BINS.map(|bin| bin.supposed);
        let (likeness, bins_apart, jumps) = (&*LIKENESS, &*BINS_APART, &*JUMPS);
        let mut usual = Usual::default();
        for (step, &later) in self.rates.iter().skip(AHEAD).enumerate() {
            let then = self.rates[step];
            usual.add(then);
            if let Some(before) = step.checked_sub(USUAL + 1) {
                usual.remove(self.rates[before]);
            }
            if then == UNKNOWN || later == UNKNOWN {
                continue;
            }
            let then = expected(then, usual.mean());
            if let Some(weight) = likeness.get(usize::from(then.abs_diff(present))) {
                let jump = jumps.get(usize::from(then.abs_diff(later))).copied().unwrap_or(1.0);
                let from = then + (jump * f32::from(present - then)) as i16;
                weights[bin(from, later, bins_apart)] += weight;
            }
        }
        let total: f64 = weights.iter().sum();
        let rates = weights.iter().enumerate().filter(|(_, weight)| **weight > 1e-3 * total);
        let expected = rate * (f64::from(present - now) / RESOLUTION).exp();
        Outlook {
            rates: rates.map(|(bin, weight)| (expected * BINS[bin].factor, weight / total)).collect(),
            supposed: (SUPPOSED.iter().map(|(count, _)| count).sum::<f64>() / total).min(1.0),
        }
    }
}

/// The mean of some remembered rates, unknown ones left out.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    sum: i32,
    count: usize,
}

impl Usual {
    fn add(&mut self, rate: i16) {
        if rate != UNKNOWN {
            self.sum += i32::from(rate);
            self.count += 1;
        }
    }

    fn remove(&mut self, rate: i16) {
        if rate != UNKNOWN {
            self.sum -= i32::from(rate);
            self.count -= 1;
        }
    }

    fn mean(self) -> f32 {
        /// Divisions, made once: this is asked for hundreds of times a cycle.
        static PARTS: LazyLock<[f32; USUAL + 2]> =
            LazyLock::new(|| std::array::from_fn(|count| 1.0 / count.max(1) as f32));
        self.sum as f32 * PARTS[self.count]
    }
}

fn quantised(rate: f64) -> i16 {
    (rate.clamp(1e-6, 1e9).ln() * RESOLUTION).round() as i16
}

/// What a remembered rate tells of the present one, by how far apart they are in thousandths of the logarithm. Hours of rates
/// are gone through in every cycle: they are looked up.
static LIKENESS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let apart = (0_u16..).map(|apart| f64::from(apart) / RESOLUTION / ALIKE);
    apart.take_while(|apart| *apart < 1.0).map(|apart| 1.0 - apart * apart).collect()
});

/// In how far a move by so many thousandths of the logarithm leads to a level of its own, 0 to 1, as long as it matters.
static JUMPS: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let level = (0_u16..).map(|moved| 1.0 - (-f64::from(moved) / RESOLUTION / MOVES).exp());
    level.take_while(|level| *level < 0.99).map(|level| level as f32).collect()
});

/// Bins between two rates that are so many thousandths of the logarithm apart, as far as there are bins.
static BINS_APART: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let moved = (0_u16..).map(|apart| (f64::from(apart) / RESOLUTION / WIDTH).round() as usize);
    moved.take_while(|bins| *bins < REACH).collect()
});

/// The bin of a rate that went from `then` to `later`.
fn bin(then: i16, later: i16, bins_apart: &[usize]) -> usize {
    let bins = bins_apart.get(usize::from(then.abs_diff(later))).copied().unwrap_or(REACH);
    if later < then { REACH - bins } else { REACH + bins }
}

/// A bin of rates to come.
#[derive(Clone, Copy)]
struct Bin {
    /// Over the present rate.
    factor: f64,
    /// Observations that are supposed to lie here.
    supposed: f64,
}

static BINS: LazyLock<[Bin; 2 * REACH + 1]> = LazyLock::new(|| {
    std::array::from_fn(|bin| {
        let moved = (bin as f64 - REACH as f64) * WIDTH;
        let normal = |(count, deviation): (f64, f64)| {
            let z = moved / deviation;
            count * WIDTH / (deviation * std::f64::consts::TAU.sqrt()) * (-z * z / 2.0).exp()
        };
        Bin { factor: moved.exp(), supposed: SUPPOSED.into_iter().map(normal).sum() }
    })
});

/// Share of requests that miss at a light load, where that is more than is `allowed`: no number of replicas saves these.
fn hopeless(curve: &CapacityCurve, size: f64, allowed: f64) -> f64 {
    const LIGHT: f64 = 0.6;
    Some(curve.miss_share(size, LIGHT)).filter(|share| *share > allowed).unwrap_or(0.0)
}

/// Rates to come, each with its probability.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outlook {
    rates: Vec<(f64, f64)>,
    /// The part of it that is supposed and not remembered, 0 to 1.
    pub(super) supposed: f64,
}

impl Outlook {
    /// The same from another rate.
    pub(super) fn scaled(mut self, factor: f64) -> Self {
        self.rates.iter_mut().for_each(|(rate, _)| *rate *= factor);
        self
    }

    /// The number of replicas at which they and the requests that miss cost least, where a pool of n carries
    /// `capacity(n)` and `held` replicas are set, and a share of `allowed` requests may miss. A replica comes in so many
    /// `parts`: where variants are mixed, what a pool carries is no multiple of what one replica of the reference does.
    pub(super) fn replicas(
        &self,
        curve: &CapacityCurve,
        capacity: impl Fn(f64) -> f64,
        held: f64,
        allowed: f64,
        parts: u32,
    ) -> f64 {
        let held = (held.max(0.0) * f64::from(parts)).floor() / f64::from(parts);
        // Where no size will do, what is set is the best that is known.
        let Some(wanted) = self.cheapest(curve, &capacity, PRICE, allowed, parts) else { return held.max(1.0) };
        if wanted >= held {
            return wanted;
        }
        let doubted = self.cheapest(curve, &capacity, PRICE * RELUCTANCE, allowed / RELUCTANCE, parts);
        held.min(doubted.unwrap_or(held)).max(wanted)
    }

    /// The cheapest number of whole replicas, and of those a part less.
    fn cheapest(
        &self,
        curve: &CapacityCurve,
        capacity: &impl Fn(f64) -> f64,
        price: f64,
        allowed: f64,
        parts: u32,
    ) -> Option<f64> {
        let arriving: f64 = self.rates.iter().map(|(rate, share)| rate * share).sum();
        let cost = |size: f64| {
            let carried = capacity(size);
            // A pool may be too small to meet the objective at any rate.
            if carried <= 0.0 {
                return f64::INFINITY;
            }
            let missed = self.missed(curve, size, carried);
            let most = MOST_MISSED * allowed + hopeless(curve, size, allowed);
            if missed <= most * arriving { size + price * missed * size / carried } else { f64::INFINITY }
        };
        let (mut best, mut least) = (None, f64::INFINITY);
        let mut replicas = 1_u32;
        while replicas <= MOST && f64::from(replicas) < least {
            let of_size = cost(f64::from(replicas));
            if of_size < least {
                (best, least) = (Some(f64::from(replicas)), of_size);
            }
            // In hundreds of replicas one more or less is not worth the look.
            replicas += 1 + replicas / 64;
        }
        let whole = best?;
        let smaller = (1..parts).map(|part| whole - f64::from(part) / f64::from(parts)).filter(|size| *size >= 1.0);
        let (best, _) = smaller
            .map(|size| (size, cost(size)))
            .fold((whole, least), |least, other| if other.1 < least.1 { other } else { least });
        Some(best)
    }

    /// Requests per second that miss in a pool of `size` replicas that carries `carried`.
    fn missed(&self, curve: &CapacityCurve, size: f64, carried: f64) -> f64 {
        let misses = curve.misses_of(size);
        self.rates.iter().map(|(rate, share)| share * rate * misses.share(rate / carried)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::{CapacityPoint, MissCurve, MissPoint};

    fn at(step: usize) -> Timestamp {
        Timestamp::UNIX_EPOCH + STEP * step as u32
    }

    /// Replicas that carry 10 requests per second each and miss everything at a tenth more.
    fn curve() -> CapacityCurve {
        let points = [(0.8, 0.0), (1.0, 0.01), (1.1, 1.0)].map(|(load, share)| MissPoint { load, share });
        CapacityCurve {
            points: vec![CapacityPoint { replicas: 1, rate: 10.0, in_flight: 10.0 }],
            misses: vec![MissCurve { replicas: 1, points: points.to_vec() }],
        }
    }

    fn replicas(history: &ArrivalHistory, rate: f64) -> u32 {
        history.outlook(rate).replicas(&curve(), |replicas| 10.0 * replicas, 0.0, 0.01, 1) as u32
    }

    fn history(rate: impl Fn(usize) -> f64) -> ArrivalHistory {
        let mut history = ArrivalHistory::default();
        (0..400).for_each(|step| history.observe(at(step), rate(step)));
        history
    }

    #[test]
    fn a_calm_past_needs_less_reserve_than_none_and_a_violent_one_more() {
        let calm = replicas(&history(|_| 50.0), 50.0);
        let unknown = replicas(&ArrivalHistory::default(), 50.0);
        let violent = replicas(&history(|step| if step / 6 % 2 == 0 { 50.0 } else { 90.0 }), 50.0);
        assert!(calm <= unknown && unknown < violent && violent <= 10, "{calm} {unknown} {violent}");
    }

    #[test]
    fn what_bursts_went_to_is_kept_between_them_and_not_multiplied_in_them() {
        let bursts = history(|step| if step % 16 < 3 { 80.0 } else { 20.0 });
        let (between, within) = (replicas(&bursts, 20.0), replicas(&bursts, 80.0));
        assert!((8..=10).contains(&between) && (8..=11).contains(&within), "{between} {within}");
    }

    #[test]
    fn bursts_from_a_busier_minute_go_to_the_same_level() {
        let bursts = history(|step| if step % 16 < 3 { 80.0 } else { 20.0 });
        let highest = |rate| bursts.outlook(rate).rates.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
        assert!((highest(24.0) / 80.0 - 1.0).abs() < 0.1, "{}", highest(24.0));
        // A little more is a little more of whatever it was.
        let growing = history(|step| if step % 2 == 0 { 50.0 } else { 55.0 });
        let highest = |rate| growing.outlook(rate).rates.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
        assert!(highest(70.0) > 1.1 * highest(52.0));
    }

    #[test]
    fn a_replica_is_not_worth_the_few_requests_that_it_would_save() {
        // Less than one part in a hundred of the time the rate doubles.
        let rare = history(|step| if step % 400 < 3 { 100.0 } else { 50.0 });
        assert!(replicas(&rare, 50.0) < 10);
    }

    #[test]
    fn requests_that_miss_anyhow_buy_no_replicas() {
        let hopeless = |share: f64| {
            let mut curve = curve();
            curve.misses[0].points =
                [(0.6, share), (1.0, share + 0.01), (1.1, 1.0)].map(|(load, share)| MissPoint { load, share }).to_vec();
            history(|_| 50.0).outlook(50.0).replicas(&curve, |replicas| 10.0 * replicas, 0.0, 0.01, 1)
        };
        assert!(hopeless(0.2) <= hopeless(0.0) + 1.0, "{} {}", hopeless(0.2), hopeless(0.0));
    }

    #[test]
    fn a_pool_too_small_for_the_objective_is_passed_over() {
        let carried = |replicas: f64| if replicas < 3.0 { 0.0 } else { 10.0 * replicas };
        let outlook = history(|_| 5.0).outlook(5.0);
        assert_eq!(outlook.replicas(&curve(), carried, 4.0, 0.01, 1), 3.0);
        assert_eq!(outlook.replicas(&curve(), |_| 0.0, 4.0, 0.01, 1), 4.0, "what is set stays");
    }

    #[test]
    fn what_is_there_stays_while_the_doubt_lasts() {
        let history = history(|_| 50.0);
        let wanted = replicas(&history, 50.0);
        let with = |held| history.outlook(50.0).replicas(&curve(), |replicas| 10.0 * replicas, held, 0.01, 1);
        assert_eq!(with(1.0), f64::from(wanted));
        assert!((f64::from(wanted)..10.0).contains(&with(40.0)));
    }

    #[test]
    fn a_mixed_pool_is_sized_in_parts_of_a_replica() {
        let outlook = history(|_| 43.0).outlook(43.0);
        let sized = |parts| outlook.replicas(&curve(), |replicas| 10.0 * replicas, 0.0, 0.01, parts);
        let (whole, quarters) = (sized(1), sized(4));
        assert!(quarters < whole && quarters > whole - 1.0 && (4.0 * quarters).fract() == 0.0, "{whole} {quarters}");
    }

    #[test]
    fn a_rate_above_what_is_usual_is_expected_to_return_where_it_always_did() {
        // Half a minute in three up or down, about fifty.
        let swinging = history(|step| if step % 6 < 3 { 55.0 } else { 45.0 });
        let mean = |outlook: Outlook| outlook.rates.iter().map(|(rate, share)| rate * share).sum::<f64>();
        assert!(mean(swinging.outlook(55.0)) < 54.0 && mean(swinging.outlook(45.0)) > 46.0);
        assert!(mean(swinging.outlook(200.0)) > 160.0, "a jump is not expected to be gone");
    }

    #[test]
    fn no_rate_overflows_the_memory() {
        let wild = history(|step| if step % 3 == 0 { f64::MAX } else { 0.0 });
        for rate in [0.0, 1.0, 1e9, 1e300] {
            let rates = wild.outlook(rate).rates;
            let is_sound = |(rate, share): &(f64, f64)| rate.is_finite() && *rate >= 0.0 && (0.0..=1.0).contains(share);
            assert!(!rates.is_empty() && rates.iter().all(is_sound), "{rate}: {rates:?}");
        }
    }

    #[test]
    fn a_gap_is_unknown_and_a_long_one_ends_the_memory() {
        let mut history = history(|_| 50.0);
        history.observe(at(410), 500.0);
        assert_eq!(history.rates.iter().filter(|rate| **rate == UNKNOWN).count(), 10);
        assert_eq!(history.rates.len(), 411);
        history.observe(at(410), 700.0);
        history.observe(at(409), 900.0);
        assert_eq!(history.rates.last(), Some(&quantised(500.0)), "each moment counts once, in order");
        history.observe(at(410 + KEPT + 1), 50.0);
        assert_eq!(history.rates.len(), 1);
    }

    #[test]
    fn the_more_is_remembered_the_less_is_supposed_and_only_of_rates_like_the_present_one() {
        let calm = history(|_| 50.0);
        assert!((ArrivalHistory::default().outlook(50.0).supposed - 1.0).abs() < 0.01);
        assert!(calm.outlook(50.0).supposed < 0.05);
        assert!(calm.outlook(100.0).supposed > 0.95);
    }

    #[test]
    fn probabilities_add_up_and_the_present_is_in_the_middle() {
        let outlook = history(|_| 50.0).outlook(50.0);
        let total: f64 = outlook.rates.iter().map(|(_, share)| share).sum();
        let mean: f64 = outlook.rates.iter().map(|(rate, share)| rate * share).sum();
        assert!((total - 1.0).abs() < 0.01 && (mean / 50.0 - 1.0).abs() < 0.02, "{total} {mean}");
    }
}
