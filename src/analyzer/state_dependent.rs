//! M/M/1/K whose service rate depends on how many are served: a batch that shares one accelerator.

use super::{
    QueueError, QueueMetrics,
    error::{arrival_rate, capacity, service_rate, within},
};

/// A birth–death queue with Poisson arrivals and service rates μ(1), μ(2), …, μ(N); with more than N in the system the
/// rest waits and the rate stays μ(N).
///
/// ```
/// use wva::analyzer::MM1StateDependent;
///
/// // Two at once are served twice as fast as one, three three times.
/// let queue = MM1StateDependent::new(1.5, &[1.0, 2.0, 3.0], 5)?.metrics();
/// assert!((queue.in_service - 1.454_237_288).abs() < 1e-9);
/// assert!((queue.waiting_time - 0.083_916_084).abs() < 1e-9);
/// # Ok::<(), wva::analyzer::QueueError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MM1StateDependent {
    servers: usize,
    /// Rate with one in service, for an empty queue's service time.
    first_rate: f64,
    /// Served per unit of time.
    throughput: f64,
    /// Probability of n in the system, n = 0 … K.
    probabilities: Vec<f64>,
}

impl MM1StateDependent {
    /// The queue with `rates[n - 1]` while n are served and room for `room`, those in service included.
    ///
    /// # Errors
    /// When a rate is not a number in its range, there is none, or there is room for nobody.
    pub fn new(arrivals: f64, rates: &[f64], room: u32) -> Result<Self, QueueError> {
        let arrival_rate = arrival_rate(arrivals)?;
        let capacity = capacity(room)?;
        within("number of service rates", rates.len() as f64, 1.0, 1e6, "there must be between 1 and 1000000")?;
        let rates = rates.iter().map(|&rate| service_rate(rate)).collect::<Result<Vec<_>, _>>()?;
        let probabilities = probabilities(arrival_rate, &rates, capacity);
        // What gets out, which subtracts nothing: λ·(1 − p(K)) has no digits left when almost all are turned away.
        let served = probabilities.iter().skip(1).enumerate().map(|(n, p)| p * rates[n.min(rates.len() - 1)]);
        let throughput = served.sum();
        Ok(Self { servers: rates.len(), first_rate: rates[0], throughput, probabilities })
    }

    /// Probability of n in the system, n = 0 … K.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// Its steady state.
    pub fn metrics(&self) -> QueueMetrics {
        let full = self.probabilities.last().copied().unwrap_or_default();
        let empty = self.probabilities.first().copied().unwrap_or_default();
        let throughput = self.throughput;
        if throughput <= 0.0 {
            let service_time = 1.0 / self.first_rate;
            return QueueMetrics { service_time, response_time: service_time, ..QueueMetrics::default() };
        }
        let mean = |value: fn(usize, usize) -> usize| -> f64 {
            self.probabilities.iter().enumerate().map(|(n, p)| value(n, self.servers) as f64 * p).sum()
        };
        let in_system = mean(|n, _| n);
        let in_service = mean(usize::min);
        let in_queue = mean(usize::saturating_sub);
        QueueMetrics {
            utilization: 1.0 - empty,
            in_system,
            in_service,
            in_queue,
            throughput,
            response_time: in_system / throughput,
            waiting_time: in_queue / throughput,
            service_time: in_service / throughput,
            blocking_probability: full,
        }
    }
}

/// Weights in logarithms: a product of a thousand ratios overflows.
fn probabilities(arrival_rate: f64, rates: &[f64], capacity: u32) -> Vec<f64> {
    let states = capacity as usize + 1;
    if arrival_rate <= 0.0 {
        let mut probabilities = vec![0.0; states];
        probabilities[0] = 1.0;
        return probabilities;
    }
    let mut weights = Vec::with_capacity(states);
    let mut logarithm = 0.0_f64;
    weights.push(logarithm);
    for state in 1..states {
        logarithm += arrival_rate.ln() - rates[state.min(rates.len()) - 1].ln();
        weights.push(logarithm);
    }
    let greatest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for weight in &mut weights {
        *weight = (*weight - greatest).exp();
    }
    let total: f64 = weights.iter().sum();
    for weight in &mut weights {
        *weight /= total;
    }
    weights
}
