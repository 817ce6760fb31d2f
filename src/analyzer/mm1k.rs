//! M/M/1/K: one server, exponential service, room for K.

use super::{
    QueueError, QueueMetrics,
    error::{arrival_rate, capacity, service_rate},
};

/// A single server with Poisson arrivals, exponential service and at most `capacity` requests in the system.
///
/// With ρ = λ/μ the probability of n requests is proportional to ρⁿ; any ρ has a steady state, because who finds the
/// system full is turned away.
///
/// ```
/// use wva::analyzer::MM1KModel;
///
/// let queue = MM1KModel::new(1.0, 2.0, 10)?.metrics();
/// assert!((queue.response_time - 0.995_112_414).abs() < 1e-9);
/// assert!((queue.blocking_probability - 0.000_488_520).abs() < 1e-9);
/// # Ok::<(), wva::analyzer::QueueError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MM1KModel {
    arrival_rate: f64,
    service_rate: f64,
    capacity: u32,
}

impl MM1KModel {
    /// The queue with these rates and room for `capacity`, the one in service included.
    ///
    /// # Errors
    /// When a rate is not a number in its range, or there is room for nobody.
    pub fn new(arrivals: f64, service: f64, room: u32) -> Result<Self, QueueError> {
        Ok(Self {
            arrival_rate: arrival_rate(arrivals)?,
            service_rate: service_rate(service)?,
            capacity: capacity(room)?,
        })
    }

    /// Its steady state.
    pub fn metrics(&self) -> QueueMetrics {
        let offered = self.arrival_rate / self.service_rate;
        let service_time = 1.0 / self.service_rate;
        if offered <= 0.0 {
            return QueueMetrics { service_time, response_time: service_time, ..QueueMetrics::default() };
        }
        let (empty, full, in_system) = self.probabilities(offered);
        // What gets in is what gets out; of the two the one that does not subtract almost equal numbers.
        let throughput =
            if offered <= 1.0 { self.arrival_rate * (1.0 - full) } else { self.service_rate * (1.0 - empty) };
        let response_time = (in_system / throughput).max(service_time);
        let waiting_time = response_time - service_time;
        QueueMetrics {
            utilization: 1.0 - empty,
            in_system,
            in_service: 1.0 - empty,
            in_queue: throughput * waiting_time,
            throughput,
            response_time,
            waiting_time,
            service_time,
            blocking_probability: full,
        }
    }

    /// Probability of nobody, probability of a full system, and mean number. Summed from the likelier end, so that no
    /// power overflows.
    fn probabilities(&self, offered: f64) -> (f64, f64, f64) {
        let from_full = offered > 1.0;
        let ratio = if from_full { 1.0 / offered } else { offered };
        let (mut weight, mut total, mut moment) = (1.0, 0.0, 0.0);
        for steps in 0..=self.capacity {
            total += weight;
            moment += weight * f64::from(steps);
            if steps < self.capacity {
                weight *= ratio;
            }
        }
        let (near, far, distance) = (1.0 / total, weight / total, moment / total);
        if from_full { (far, near, f64::from(self.capacity) - distance) } else { (near, far, distance) }
    }
}
