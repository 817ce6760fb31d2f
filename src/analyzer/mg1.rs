//! M/G/1: one server, service times of any distribution.

use super::{
    QueueError, QueueMetrics,
    error::{arrival_rate, within},
};

/// A single server with Poisson arrivals, service times of any distribution and room for everybody: the
/// Pollaczek–Khinchine formula `W = λ·E[S²] / (2·(1 − ρ))`.
///
/// ```
/// use wva::analyzer::MG1Model;
///
/// // Prompts that all take as long wait half as long as prompts of exponential length (M/D/1 against M/M/1).
/// let constant = MG1Model::new(0.8, 1.0, 0.0)?.metrics();
/// let exponential = MG1Model::new(0.8, 1.0, 1.0)?.metrics();
/// assert!((constant.waiting_time - 2.0).abs() < 1e-9 && (exponential.waiting_time - 4.0).abs() < 1e-9);
/// # Ok::<(), wva::analyzer::QueueError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MG1Model {
    arrival_rate: f64,
    mean_service: f64,
    variation: f64,
}

impl MG1Model {
    /// The queue with this mean service time and its coefficient of variation (standard deviation over mean).
    ///
    /// # Errors
    /// [`QueueError::Unstable`] when more arrives than can be served, [`QueueError::InvalidInput`] for what is no number
    /// in its range.
    pub fn new(arrivals: f64, mean_service: f64, variation: f64) -> Result<Self, QueueError> {
        let queue = Self {
            arrival_rate: arrival_rate(arrivals)?,
            mean_service: within(
                "mean service time",
                mean_service,
                1e-12,
                1e12,
                "it must be a number from 1e-12 to 1e12 units of time",
            )?,
            variation: within("coefficient of variation", variation, 0.0, 1e6, "it must be a number from 0 to 1e6")?,
        };
        let limit = 1.0 / mean_service;
        if queue.load() >= 1.0 { Err(QueueError::Unstable { arrival_rate: arrivals, limit }) } else { Ok(queue) }
    }

    fn load(&self) -> f64 {
        self.arrival_rate * self.mean_service
    }

    /// Its steady state.
    pub fn metrics(&self) -> QueueMetrics {
        let load = self.load();
        // E[S²] = E[S]²·(1 + cv²), with one E[S] inside ρ.
        let waiting_time = load * self.mean_service * (1.0 + self.variation * self.variation) / (2.0 * (1.0 - load));
        let in_queue = self.arrival_rate * waiting_time;
        QueueMetrics {
            utilization: load,
            in_system: in_queue + load,
            in_service: load,
            in_queue,
            throughput: self.arrival_rate,
            response_time: waiting_time + self.mean_service,
            waiting_time,
            service_time: self.mean_service,
            blocking_probability: 0.0,
        }
    }
}
