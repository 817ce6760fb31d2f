//! Upstream's queueing model with its formulas as they are, defects included: for its vectors, for comparison and for
//! migration. Times in milliseconds, rates in requests per second, as there.
//!
//! With mean input length I, mean output length O and n requests in the batch:
//!
//! ```text
//! T(n)       = α + n·(β·(I+O)/(O+1) + γ·(I + O/2))     iteration
//! prefill(n) = T(n) + (β+γ)·I                          0 without input
//! decode(n)  = T(n) + β + γ·(I + O/2)
//! μ(n)       = n / (prefill(n) + O·decode(n))
//! ```

use super::{
    MM1StateDependent, QueueError, Target,
    error::{capacity, within},
};

/// Share of μ(1) below which upstream does not look.
const LOWEST: f64 = 0.001;
/// Distance to μ(N) that it keeps.
const STABILITY: f64 = 0.001;
/// Share of the greatest rate that a tokens-per-second target may use.
const THROUGHPUT_SHARE: f64 = 0.9;
/// Halvings of the range of rates; the range is narrower than an `f64` can tell by then.
const HALVINGS: u32 = 100;

/// Service times (α, β, γ in milliseconds) and limits of one replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Fixed time of an iteration.
    pub alpha: f64,
    /// Computing, per token.
    pub beta: f64,
    /// Memory access, per resident token.
    pub gamma: f64,
    /// Most requests in the batch.
    pub max_batch: u32,
    /// Most requests that wait.
    pub max_queue: u32,
}

/// Mean lengths in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanLengths {
    /// Of the prompt.
    pub input: f64,
    /// Of the output.
    pub output: f64,
}

/// What one replica does at some rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Analysis {
    /// Requests per second offered.
    pub rate: f64,
    /// Requests per second served.
    pub throughput: f64,
    /// Mean time from arrival to the last token, milliseconds.
    pub response_time: f64,
    /// Mean time waiting, milliseconds.
    pub waiting_time: f64,
    /// Mean number in the batch.
    pub concurrency: f64,
    /// Mean prefill time, milliseconds.
    pub prefill_time: f64,
    /// Mean time between tokens, milliseconds.
    pub inter_token_latency: f64,
    /// Mean time to first token, milliseconds.
    pub time_to_first_token: f64,
    /// Mean number in the batch over the largest.
    pub utilization: f64,
}

/// Targets of a service class as upstream has them; zero is no target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Targets {
    /// Mean time to first token, milliseconds.
    pub time_to_first_token: f64,
    /// Mean time between tokens, milliseconds.
    pub inter_token_latency: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
}

/// Greatest rates that meet the targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// By the first token alone, requests per second.
    pub rate_time_to_first_token: f64,
    /// By the time between tokens alone.
    pub rate_inter_token_latency: f64,
    /// By the tokens per second alone.
    pub rate_tokens_per_second: f64,
    /// The least of these, and what it brings.
    pub at: Analysis,
}

/// Upstream's analyzer of one replica.
///
/// ```
/// use wva::analyzer::upstream::{MeanLengths, Parameters, QueueAnalyzer, Targets};
///
/// let parameters = Parameters { alpha: 5.0, beta: 0.05, gamma: 5e-5, max_batch: 256, max_queue: 100 };
/// let replica = QueueAnalyzer::new(parameters, MeanLengths { input: 512.0, output: 256.0 })?;
/// let targets = Targets { time_to_first_token: 100.0, inter_token_latency: 12.0, ..Targets::default() };
/// assert!((replica.size(&targets)?.at.rate - 11.941_156_7).abs() < 1e-6);
/// # Ok::<(), wva::analyzer::QueueError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QueueAnalyzer {
    parameters: Parameters,
    lengths: MeanLengths,
    /// μ(1) … μ(N), requests per millisecond.
    rates: Vec<f64>,
}

impl QueueAnalyzer {
    /// The analyzer of a replica with these parameters, serving requests of these lengths.
    ///
    /// # Errors
    /// Names the input that is no number in its range.
    pub fn new(parameters: Parameters, lengths: MeanLengths) -> Result<Self, QueueError> {
        const MILLISECONDS: &str = "it must be a number of milliseconds from 0 to 1e6";
        const TOKENS: &str = "it must be a number of tokens from 0 to 1e7";
        within("alpha", parameters.alpha, 1e-6, 1e6, "it must be a number of milliseconds from 1e-6 to 1e6")?;
        within("beta", parameters.beta, 0.0, 1e6, MILLISECONDS)?;
        within("gamma", parameters.gamma, 0.0, 1e6, MILLISECONDS)?;
        within("mean input length", lengths.input, 0.0, 1e7, TOKENS)?;
        within("mean output length", lengths.output, 0.0, 1e7, TOKENS)?;
        within("sum of the mean lengths", lengths.input + lengths.output, 1e-3, 2e7, "there must be some tokens")?;
        capacity(parameters.max_batch)?;
        capacity(parameters.max_batch.saturating_add(parameters.max_queue))?;
        let mut analyzer = Self { parameters, lengths, rates: Vec::new() };
        analyzer.rates = (1..=parameters.max_batch)
            .map(|n| {
                let n = f64::from(n);
                n / (analyzer.prefill_time(n) + lengths.output * analyzer.decode_time(n))
            })
            .collect();
        Ok(analyzer)
    }

    /// T(n), milliseconds.
    pub fn iteration_time(&self, concurrency: f64) -> f64 {
        let Parameters { alpha, beta, gamma, .. } = self.parameters;
        let MeanLengths { input, output } = self.lengths;
        alpha + concurrency * (beta * (input + output) / (output + 1.0) + gamma * (input + output / 2.0))
    }

    /// prefill(n), milliseconds.
    pub fn prefill_time(&self, concurrency: f64) -> f64 {
        if self.lengths.input == 0.0 {
            return 0.0;
        }
        self.iteration_time(concurrency) + (self.parameters.beta + self.parameters.gamma) * self.lengths.input
    }

    /// decode(n), milliseconds.
    pub fn decode_time(&self, concurrency: f64) -> f64 {
        let resident = self.lengths.input + self.lengths.output / 2.0;
        self.iteration_time(concurrency) + self.parameters.beta + self.parameters.gamma * resident
    }

    /// Rates between which upstream looks, requests per second.
    pub fn rate_range(&self) -> (f64, f64) {
        let first = self.rates.first().copied().unwrap_or_default();
        let last = self.rates.last().copied().unwrap_or_default();
        (first * LOWEST * 1000.0, last * (1.0 - STABILITY) * 1000.0)
    }

    /// What the replica does at `rate` requests per second.
    ///
    /// # Errors
    /// When the rate is no number in its range.
    pub fn analyze(&self, rate: f64) -> Result<Analysis, QueueError> {
        let room = self.parameters.max_batch.saturating_add(self.parameters.max_queue);
        let queue = MM1StateDependent::new(rate / 1000.0, &self.rates, room)?.metrics();
        let prefill_time = self.prefill_time(queue.in_service).min(queue.service_time);
        let decoding = queue.service_time - prefill_time;
        let inter_token_latency = if self.lengths.output > 0.0 { decoding / self.lengths.output } else { 0.0 };
        Ok(Analysis {
            rate,
            throughput: queue.throughput * 1000.0,
            response_time: queue.response_time,
            waiting_time: queue.waiting_time,
            concurrency: queue.in_service,
            prefill_time,
            inter_token_latency,
            time_to_first_token: queue.waiting_time + prefill_time + inter_token_latency,
            utilization: queue.in_service / f64::from(self.parameters.max_batch),
        })
    }

    /// Greatest rate that meets the targets on average.
    ///
    /// # Errors
    /// [`QueueError::Infeasible`] names a target that is missed even at the lowest rate; [`QueueError::InvalidInput`] one
    /// that is no target.
    pub fn size(&self, targets: &Targets) -> Result<Sizing, QueueError> {
        let rate_time_to_first_token =
            self.greatest_rate(Target::TimeToFirstToken, targets.time_to_first_token, |at| at.time_to_first_token)?;
        let rate_inter_token_latency =
            self.greatest_rate(Target::InterTokenLatency, targets.inter_token_latency, |at| at.inter_token_latency)?;
        let (_, most) = self.rate_range();
        let wants_throughput = is_target(Target::TokensPerSecond, targets.tokens_per_second)?;
        let rate_tokens_per_second = if wants_throughput { most * THROUGHPUT_SHARE } else { most };
        let rate = rate_time_to_first_token.min(rate_inter_token_latency).min(rate_tokens_per_second);
        Ok(Sizing {
            rate_time_to_first_token,
            rate_inter_token_latency,
            rate_tokens_per_second,
            at: self.analyze(rate)?,
        })
    }

    fn greatest_rate(&self, target: Target, wanted: f64, latency: fn(&Analysis) -> f64) -> Result<f64, QueueError> {
        let (mut low, mut high) = self.rate_range();
        if !is_target(target, wanted)? || latency(&self.analyze(high)?) <= wanted {
            return Ok(high);
        }
        let best = latency(&self.analyze(low)?);
        if best > wanted {
            return Err(QueueError::Infeasible { target, wanted, best, unit: "ms" });
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if latency(&self.analyze(middle)?) <= wanted { low = middle } else { high = middle }
        }
        Ok(low)
    }
}

fn is_target(target: Target, wanted: f64) -> Result<bool, QueueError> {
    let name = match target {
        Target::TimeToFirstToken => "time-to-first-token target",
        Target::InterTokenLatency => "inter-token-latency target",
        Target::TokensPerSecond => "tokens-per-second target",
    };
    Ok(within(name, wanted, 0.0, 1e12, "it must be a number of at least 0, where 0 is no target")? > 0.0)
}
