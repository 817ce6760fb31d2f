//! What every single queue is reduced to.

/// A queue in its steady state. Times are in the unit whose inverse the rates are in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueMetrics {
    /// Share of time in which somebody is served.
    pub utilization: f64,
    /// Mean number in the system, L.
    pub in_system: f64,
    /// Mean number being served.
    pub in_service: f64,
    /// Mean number waiting, `L_q`.
    pub in_queue: f64,
    /// Served per unit of time, X.
    pub throughput: f64,
    /// Mean time in the system, T.
    pub response_time: f64,
    /// Mean time waiting, W.
    pub waiting_time: f64,
    /// Mean time being served, S.
    pub service_time: f64,
    /// Share of arrivals turned away because the system is full.
    pub blocking_probability: f64,
}
