//! The Go project's throughput analyzer (opt-in in its v0.9), repeated exactly for its published vectors and for comparison.
//! Nothing of ours decides by it: what a replica carries is learned by [`crate::estimation`].
//!
//! It fits a line to the time between tokens over the share k of the KV cache in use, ITL(k) = A·k + B, and takes the tokens
//! per second at k = 0.85 for what a replica supplies. Its known defects are part of it: prompts that are computed are in
//! the line, not in the model, and a queue is charged as if it had to be gone within two tokens' time.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use crate::interfaces::age;

/// Share of the cache at which a replica counts as full.
const FULL: f64 = 0.85;
/// Shares between which observations count.
const USABLE: (f64, f64) = (0.15, FULL);
/// Observations kept, for how long, and how many over which spread make a line.
const MOST: usize = 20;
const KEPT: Duration = Duration::from_secs(30 * 60);
const LEAST: usize = 10;
const LEAST_SPREAD: f64 = 0.30;
/// Intercept in seconds before any line was fitted.
const INTERCEPT: f64 = 0.006;
/// Lengths that changed by more make what was seen worthless.
const SHAPE_MOVED: f64 = 0.20;
/// So many looks in a row with a generation rate further off than this, at this share of the cache or more, do so too.
const MISFITS: u32 = 3;
const MISFIT: f64 = 0.15;
const MISFIT_FROM: f64 = 0.30;

/// Lengths of the requests that replicas serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestShape {
    /// Mean prompt length.
    pub prompt_tokens: f64,
    /// Mean output length.
    pub output_tokens: f64,
    /// Share of prompt tokens found in the prefix cache.
    pub prefix_hit_ratio: f64,
}

impl RequestShape {
    /// Prompt tokens that are computed.
    fn computed(&self) -> f64 {
        self.prompt_tokens * (1.0 - self.prefix_hit_ratio)
    }

    /// KV tokens that a request holds on average.
    pub fn kv_tokens(&self) -> f64 {
        self.computed() + self.output_tokens / 2.0
    }

    /// The mean over replicas, each with its rate of requests; those without any count only where none has some.
    pub fn mean(replicas: &[(f64, Self)]) -> Option<Self> {
        let total: f64 = replicas.iter().map(|(rate, _)| rate).sum();
        let weight = |rate: f64| if total > 0.0 { rate / total } else { 1.0 / replicas.len() as f64 };
        let over = |value: fn(&Self) -> f64| replicas.iter().map(|(rate, shape)| weight(*rate) * value(shape)).sum();
        (!replicas.is_empty()).then(|| Self {
            prompt_tokens: over(|shape| shape.prompt_tokens),
            output_tokens: over(|shape| shape.output_tokens),
            prefix_hit_ratio: over(|shape| shape.prefix_hit_ratio),
        })
    }

    fn has_moved_from(&self, before: &Self) -> bool {
        let moved = |now: f64, then: f64| (now - then).abs() > SHAPE_MOVED * then;
        moved(self.computed(), before.computed()) || moved(self.output_tokens, before.output_tokens)
    }
}

/// Mean output length over variants, each with its replicas.
pub fn mean_output_tokens(variants: &[(u32, f64)]) -> Option<f64> {
    let replicas: f64 = variants.iter().map(|(replicas, _)| f64::from(*replicas)).sum();
    let tokens: f64 = variants.iter().map(|(replicas, tokens)| f64::from(*replicas) * tokens).sum();
    (replicas > 0.0).then(|| tokens / replicas)
}

/// Seconds between tokens over the share of the KV cache in use: A·k + B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyLine {
    /// A.
    pub slope: f64,
    /// B.
    pub intercept: f64,
}

impl LatencyLine {
    /// The line of least squares through (k, seconds); `None` where all k are alike or it does not rise.
    pub fn fitted(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let (k, seconds) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let (k, seconds) = (k / count, seconds / count);
        let (over, under) = points.iter().fold((0.0, 0.0), |sum, point| {
            (sum.0 + (point.0 - k) * (point.1 - seconds), sum.1 + (point.0 - k) * (point.0 - k))
        });
        let slope = over / under;
        Self { slope, intercept: seconds - slope * k }.usable()
    }

    /// The line of least squares through (k, seconds) with this intercept, which upstream takes while points are few.
    pub fn with_intercept(points: &[(f64, f64)], intercept: f64) -> Option<Self> {
        let over: f64 = points.iter().map(|(k, seconds)| (seconds - intercept) * k).sum();
        let under: f64 = points.iter().map(|(k, _)| k * k).sum();
        Self { slope: over / under, intercept }.usable()
    }

    /// Seconds between tokens with this share of the cache in use.
    pub fn at(&self, share: f64) -> f64 {
        self.slope * share + self.intercept
    }

    /// Tokens per second that a replica with so large a cache generates with this share of it in use.
    fn generated(&self, share: f64, kv_cache_tokens: f64, shape: &RequestShape) -> f64 {
        share * kv_cache_tokens / shape.kv_tokens() / self.at(share)
    }

    /// Tokens per second that a replica with so large a cache supplies.
    pub fn supply(&self, kv_cache_tokens: f64, shape: &RequestShape) -> f64 {
        self.generated(FULL, kv_cache_tokens, shape)
    }

    /// Tokens per second wanted: by requests that arrive, and by those that wait at the gateway.
    pub fn demand(&self, arrival_rate: f64, mean_output_tokens: f64, queue: f64) -> f64 {
        arrival_rate * mean_output_tokens + queue / (2.0 * self.at(FULL))
    }

    fn usable(self) -> Option<Self> {
        (self.slope > 1e-12 && self.at(FULL) > 0.0).then_some(self)
    }
}

/// One look at a variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThroughputObservation {
    /// When.
    pub at: Timestamp,
    /// Share of the KV cache in use, k.
    pub usage: f64,
    /// Seconds between tokens.
    pub inter_token_latency: f64,
    /// Tokens generated per second and replica, where known.
    pub generation_rate: Option<f64>,
}

/// What was seen of one variant lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThroughputWindow {
    points: VecDeque<(Timestamp, (f64, f64))>,
    shape: Option<RequestShape>,
    intercept: Option<f64>,
    misfits: u32,
}

impl ThroughputWindow {
    /// Takes in a look at replicas with so large a cache that serve such requests.
    pub fn observe(&mut self, look: &ThroughputObservation, kv_cache_tokens: f64, shape: RequestShape) {
        if self.shape.is_some_and(|before| shape.has_moved_from(&before)) {
            self.clear();
        }
        self.shape = Some(shape);
        let misfits =
            look.generation_rate.zip(self.line()).filter(|_| look.usage >= MISFIT_FROM).map(|(rate, line)| {
                let modelled = line.generated(look.usage, kv_cache_tokens, &shape);
                (rate - modelled).abs() > MISFIT * modelled
            });
        self.misfits = if misfits == Some(true) { self.misfits + 1 } else { 0 };
        if self.misfits >= MISFITS {
            self.clear();
        }
        self.points.retain(|(at, _)| age(look.at, *at) <= KEPT);
        if (USABLE.0..=USABLE.1).contains(&look.usage) && look.inter_token_latency > 0.0 {
            self.points.push_back((look.at, (look.usage, look.inter_token_latency)));
            self.points.drain(..self.points.len().saturating_sub(MOST));
        }
        if let Some(line) = self.fitted() {
            self.intercept = Some(line.intercept);
        }
    }

    /// The line: fitted where there are points enough, else by the last intercept.
    pub fn line(&self) -> Option<LatencyLine> {
        let by_intercept = || LatencyLine::with_intercept(&self.points(), self.intercept.unwrap_or(INTERCEPT));
        self.fitted().or_else(by_intercept)
    }

    fn fitted(&self) -> Option<LatencyLine> {
        let points = self.points();
        let shares = || points.iter().map(|(share, _)| *share);
        let spread = shares().fold(f64::MIN, f64::max) - shares().fold(f64::MAX, f64::min);
        // A hair less: 0.50 − 0.20 is not quite 0.30.
        (points.len() >= LEAST && spread >= LEAST_SPREAD - 1e-9).then(|| LatencyLine::fitted(&points))?
    }

    fn points(&self) -> Vec<(f64, f64)> {
        self.points.iter().map(|(_, point)| *point).collect()
    }

    /// The last intercept stays: it is what the hardware does without load.
    fn clear(&mut self) {
        self.points.clear();
        self.misfits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saturation::upstream_v2::{UpstreamV2Config, required_and_spare};

    const SHAPE: RequestShape = RequestShape { prompt_tokens: 5000.0, output_tokens: 200.0, prefix_hit_ratio: 0.1 };
    const LINE: LatencyLine = LatencyLine { slope: 0.073, intercept: 0.006 };
    const CACHE: f64 = 1_024_000.0;

    fn close(one: f64, other: f64) -> bool {
        (one / other - 1.0).abs() < 1e-3
    }

    #[test]
    fn upstreams_supply_vector_holds() {
        assert_eq!(SHAPE.kv_tokens(), 4600.0);
        assert!(close(FULL * CACHE / SHAPE.kv_tokens(), 189.22));
        assert!(close(LINE.at(FULL), 0.06805));
        assert!(close(LINE.supply(CACHE, &SHAPE), 2780.6));
    }

    #[test]
    fn upstreams_demand_vectors_hold() {
        // (req/s, queue, ready, pending, demand, more?, less?)
        let cases = [
            (15.0, 0.0, 1.0, 0.0, 3000.0, true, false),
            (5.0, 0.0, 1.0, 0.0, 1000.0, false, true),
            (0.0, 450.0, 1.0, 0.0, 3306.0, true, false),
            (45.0, 0.0, 3.0, 0.0, 9000.0, true, false),
            (15.0, 0.0, 1.0, 1.0, 3000.0, false, false),
        ];
        let supply = LINE.supply(CACHE, &SHAPE);
        for (rate, queue, ready, pending, demand, up, down) in cases {
            let wanted = LINE.demand(rate, SHAPE.output_tokens, queue);
            assert!(close(wanted, demand), "{rate} req/s: {wanted}");
            let config = UpstreamV2Config::default();
            let (required, spare) = required_and_spare(wanted, ready * supply, pending * supply, &config);
            assert_eq!((required > 0.0, spare > 0.0), (up, down), "{rate} req/s, {queue} wait: {required} {spare}");
        }
        assert!(close(supply * 3.0, 8342.0) && close(supply * 2.0, 5561.0));
    }

    #[test]
    fn upstreams_means_hold() {
        let shape = |prompt_tokens, output_tokens, prefix_hit_ratio| RequestShape {
            prompt_tokens,
            output_tokens,
            prefix_hit_ratio,
        };
        let (one, other) = (shape(1000.0, 200.0, 0.1), shape(3000.0, 600.0, 0.5));
        let mean = |rates: (f64, f64)| RequestShape::mean(&[(rates.0, one), (rates.1, other)]).unwrap();
        for (rates, expected) in
            [((1.0, 3.0), shape(2500.0, 500.0, 0.4)), ((0.0, 0.0), shape(2000.0, 400.0, 0.3)), ((0.0, 2.0), other)]
        {
            let mean = mean(rates);
            assert!(close(mean.prompt_tokens, expected.prompt_tokens), "{rates:?}: {mean:?}");
            assert!(close(mean.output_tokens, expected.output_tokens), "{rates:?}: {mean:?}");
            assert!(close(mean.prefix_hit_ratio, expected.prefix_hit_ratio), "{rates:?}: {mean:?}");
        }
        assert_eq!(mean_output_tokens(&[(1, 100.0), (3, 300.0)]), Some(250.0));
        assert_eq!((RequestShape::mean(&[]), mean_output_tokens(&[(0, 100.0)])), (None, None));
    }

    #[test]
    fn upstreams_lines_hold() {
        let line = LatencyLine::fitted(&[(0.2, 0.05 * 0.2 + 0.008), (0.8, 0.05 * 0.8 + 0.008)]).unwrap();
        assert!(close(line.slope, 0.05) && close(line.intercept, 0.008), "{line:?}");
        assert_eq!(LatencyLine::fitted(&[(0.5, 0.03), (0.5, 0.04)]), None, "all alike");
        assert_eq!(LatencyLine::fitted(&[(0.2, 0.03), (0.8, 0.03)]), None, "flat");
        assert_eq!(LatencyLine::fitted(&[(0.2, 0.04), (0.8, 0.03)]), None, "falling");
        assert_eq!(LatencyLine::fitted(&[]), None);
        assert_eq!(LatencyLine::with_intercept(&[], 0.006), None);
    }

    /// Looks a minute apart, at shares of the cache from 0.2 in steps of 0.04, on the line of these numbers.
    fn observed(looks: i64, line: LatencyLine) -> ThroughputWindow {
        let mut window = ThroughputWindow::default();
        (0..looks).for_each(|look| window.observe(&looked(look, 0.2 + 0.04 * look as f64, line), CACHE, SHAPE));
        window
    }

    fn looked(minute: i64, usage: f64, line: LatencyLine) -> ThroughputObservation {
        ThroughputObservation {
            at: Timestamp::from_second(60 * minute).unwrap(),
            usage,
            inter_token_latency: line.at(usage),
            generation_rate: Some(line.generated(usage, CACHE, &SHAPE)),
        }
    }

    #[test]
    fn few_points_take_the_intercept_that_is_supposed_and_ten_their_own() {
        let line = LatencyLine { slope: 0.05, intercept: 0.008 };
        assert_eq!(observed(9, line).line().unwrap().intercept, 0.006);
        assert!(close(observed(10, line).line().unwrap().intercept, 0.008));
        assert_eq!(ThroughputWindow::default().line(), None);
    }

    #[test]
    fn other_lengths_and_a_rate_that_does_not_fit_clear_the_window() {
        let mut window = observed(10, LINE);
        window.observe(&looked(10, 0.5, LINE), CACHE, RequestShape { output_tokens: 241.0, ..SHAPE });
        assert_eq!(window.points.len(), 1);

        let mut window = observed(10, LINE);
        let slower = |minute| ThroughputObservation { generation_rate: Some(10.0), ..looked(minute, 0.5, LINE) };
        (10..12).for_each(|minute| window.observe(&slower(minute), CACHE, SHAPE));
        assert_eq!(window.points.len(), 12);
        window.observe(&slower(12), CACHE, SHAPE);
        assert_eq!(window.points.len(), 1);
        assert!(close(window.intercept.unwrap(), LINE.intercept), "what was fitted last is kept");
    }

    #[test]
    fn what_is_old_too_much_or_out_of_range_does_not_count() {
        let mut window = observed(10, LINE);
        window.observe(&looked(10, 0.9, LINE), CACHE, SHAPE);
        window.observe(&looked(11, 0.1, LINE), CACHE, SHAPE);
        assert_eq!(window.points.len(), 10);
        window.observe(&looked(35, 0.5, LINE), CACHE, SHAPE);
        assert_eq!(window.points.len(), 6, "those of the last half hour");
        (36..66).for_each(|minute| window.observe(&looked(minute, 0.5, LINE), CACHE, SHAPE));
        assert_eq!(window.points.len(), MOST);
    }
}
