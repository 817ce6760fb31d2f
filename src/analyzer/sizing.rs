//! How much a replica may carry under an objective.

use super::{Analysis, QueueAnalyzer, QueueError, Target, error::within};
use crate::interfaces::ServiceObjective;

/// What requests are owed, in seconds. A target that is absent is met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Targets {
    /// Greatest time to first token.
    pub time_to_first_token: Option<f64>,
    /// Greatest mean time between tokens of one request.
    pub inter_token_latency: Option<f64>,
    /// Least tokens per second that a replica generates.
    pub tokens_per_second: Option<f64>,
    /// Share of requests that must meet the latencies, above 0 and below 1.
    pub share: f64,
}

impl Default for Targets {
    /// No target, for 99 % of requests.
    fn default() -> Self {
        Self { time_to_first_token: None, inter_token_latency: None, tokens_per_second: None, share: 0.99 }
    }
}

impl From<&ServiceObjective> for Targets {
    fn from(objective: &ServiceObjective) -> Self {
        Self {
            time_to_first_token: objective.time_to_first_token,
            inter_token_latency: objective.inter_token_latency,
            tokens_per_second: objective.tokens_per_second,
            share: objective.target_share,
        }
    }
}

/// The most a replica may carry under targets.
#[derive(Clone, Debug)]
pub struct Sizing {
    /// Requests per second.
    pub rate: f64,
    /// The latency target that binds; `None` when saturation does.
    pub bound_by: Option<Target>,
    /// What the replica does at this rate.
    pub at: Analysis,
}

/// Highest share of the rate of saturation that is looked at: closer, queues are as long as anything.
const HIGHEST: f64 = 0.99;
/// Halvings of the range of rates: to a ten-thousandth.
const HALVINGS: u32 = 14;

impl QueueAnalyzer {
    /// The greatest rate at which the targets are met, by bisection.
    ///
    /// # Errors
    /// [`QueueError::Infeasible`] names the target that even a lone request misses, or the tokens per second that cannot
    /// be reached within the latencies; [`QueueError::InvalidInput`] what is no target.
    pub fn size(&self, targets: &Targets) -> Result<Sizing, QueueError> {
        targets.check()?;
        let unloaded = self.unloaded()?;
        if let Some(target) = targets.missed(&unloaded) {
            return Err(targets.infeasible(target, &unloaded));
        }
        let highest = self.saturation().rate * HIGHEST;
        let (mut low, mut high) = (unloaded.rate, highest);
        let (mut at, mut bound_by) = (unloaded, None);
        let best = self.analyze(highest)?;
        match targets.missed(&best) {
            None => (low, at) = (highest, best),
            missed => bound_by = missed,
        }
        for _ in 0..HALVINGS {
            if high - low <= 0.0 {
                break;
            }
            let analysis = self.analyze(f64::midpoint(low, high))?;
            match targets.missed(&analysis) {
                None => (low, at) = (analysis.rate, analysis),
                missed => (high, bound_by) = (analysis.rate, missed),
            }
        }
        let tokens = low * self.output_tokens();
        if let Some(wanted) = targets.tokens_per_second.filter(|wanted| *wanted > tokens) {
            let target = Target::TokensPerSecond;
            return Err(QueueError::Infeasible { target, wanted, best: tokens, unit: "tokens/s" });
        }
        Ok(Sizing { rate: low, bound_by, at })
    }
}

impl Targets {
    fn check(&self) -> Result<(), QueueError> {
        const SECONDS: &str = "it must be a number of seconds above 0";
        let least = f64::MIN_POSITIVE;
        let time_to_first_token = self.time_to_first_token.unwrap_or(1.0);
        within("time-to-first-token target", time_to_first_token, least, 1e9, SECONDS)?;
        within("inter-token-latency target", self.inter_token_latency.unwrap_or(1.0), least, 1e9, SECONDS)?;
        let tokens = "it must be a number of tokens per second of at least 0";
        within("tokens-per-second target", self.tokens_per_second.unwrap_or(1.0), 0.0, 1e12, tokens)?;
        within("share of requests", self.share, 1e-6, 0.999_999, "it must lie between 0 and 1")?;
        Ok(())
    }

    /// The target that most requests miss, if too many do.
    pub(super) fn missed(&self, analysis: &Analysis) -> Option<Target> {
        let first_token = self.time_to_first_token.map_or(1.0, |most| analysis.share_within_time_to_first_token(most));
        let token_gaps = self.inter_token_latency.map_or(1.0, |most| analysis.share_within_inter_token_latency(most));
        // The first token hangs on the own prompt, the others on everybody's: as good as independent. In the simulator the
        // share that meets both is 0 to 0.6 points above the product, and up to 1.3 points below the lesser.
        if first_token * token_gaps >= self.share {
            None
        } else if first_token <= token_gaps {
            Some(Target::TimeToFirstToken)
        } else {
            Some(Target::InterTokenLatency)
        }
    }

    fn infeasible(&self, target: Target, unloaded: &Analysis) -> QueueError {
        let (wanted, best) = match target {
            Target::TimeToFirstToken => (self.time_to_first_token, unloaded.time_to_first_token_percentile(self.share)),
            _ => (self.inter_token_latency, unloaded.inter_token_latency_percentile(self.share)),
        };
        QueueError::Infeasible { target, wanted: wanted.unwrap_or_default(), best, unit: "s" }
    }
}
