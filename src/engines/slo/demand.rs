//! What arrives, what waits, what is in flight.

use jiff::Timestamp;

use crate::{
    engines::group::{Instance, Member},
    interfaces::{AgeLimits, ModelMetrics, Signal},
};

/// Seconds in which what waits is to be worked off.
const DRAIN: f64 = 60.0;
/// Length of the recent window in seconds.
const RECENT: f64 = 20.0;

/// The work of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Demand {
    /// Requests arriving per second; `None` where no source counts them.
    pub(super) arrivals: Option<f64>,
    /// Requests per second by which these will have grown, as far as a trend shows.
    pub(super) trend: f64,
    /// Requests waiting, at the gateway and at replicas.
    pub(super) waiting: f64,
    /// Requests in flight, waiting ones included; `None` where it is not measured.
    pub(super) in_flight: Option<f64>,
    /// Sample time of the oldest signal used.
    pub(super) oldest: Option<Timestamp>,
}

impl Demand {
    /// Requests per second to plan for: what arrives, and what waits within a minute. What waits at a replica does not
    /// move to a new one, and a queue is long gone when that is ready: it adds half of the arrivals at most.
    pub(super) fn rate(&self, arrivals: f64) -> f64 {
        arrivals + (self.waiting / DRAIN).min(arrivals / 2.0)
    }
}

/// The demand on `members` by their `instances` and what is known of the model.
pub(super) fn measure(
    members: &[Member<'_>],
    instances: &[Instance<'_>],
    model: &ModelMetrics,
    now: Timestamp,
    ages: &AgeLimits,
) -> Demand {
    let fresh = |signal: Signal<f64>| sound(signal.fresh(now, ages.signal));
    let ready: u32 = members.iter().map(|member| member.scale.ready).sum();
    let sum = |value: fn(&Instance<'_>) -> Signal<f64>| total(instances, ready, |instance| fresh(value(instance)));

    let gateway = fresh(model.gateway_arrival_rate);
    let (usual, recent) = if gateway.value().is_some() {
        (gateway, fresh(model.gateway_recent_arrival_rate))
    } else {
        (sum(|instance| instance.performance.arrival_rate), sum(|instance| instance.performance.recent_arrival_rate))
    };
    let arrivals = usual.value().map(|usual| surge(*usual, recent.value().copied()));
    let trend = usual.value().map_or(0.0, |usual| trend(*usual, recent.value().copied()));

    let held = fresh(model.gateway_queue);
    let queued = sum(|instance| instance.performance.queue_length_now);
    let running = sum(|instance| instance.running);
    let waiting = held.value().unwrap_or(&0.0) + queued.value().unwrap_or(&0.0);
    let in_flight = running.value().map(|running| running + waiting);
    let used = [usual, recent, held, queued, running];
    Demand { arrivals, trend, waiting, in_flight, oldest: used.iter().filter_map(Signal::sampled_at).min() }
}

/// Rates and counts beyond this are not measurements.
const MOST: f64 = 1e9;

/// What is no count of requests is missing, wherever it came from.
fn sound(signal: Signal<f64>) -> Signal<f64> {
    if signal.value().is_none_or(|value| (0.0..=MOST).contains(value)) { signal } else { Signal::Missing }
}

/// The usual rate, or the recent one as far as it exceeds the usual by more than chance: one standard deviation of a
/// Poisson count.
fn surge(usual: f64, recent: Option<f64>) -> f64 {
    recent.map_or(usual, |recent| usual.max(recent - noise(recent)))
}

/// What exceeds the usual rate by more than three standard deviations is a trend and will go on for as long as it took to
/// see; a jump looks the same at first, so no more than a quarter is put on it.
fn trend(usual: f64, recent: Option<f64>) -> f64 {
    const CERTAIN: f64 = 3.0;
    recent.map_or(0.0, |recent| (recent - usual - CERTAIN * noise(recent)).clamp(0.0, usual.max(0.0) / 4.0))
}

fn noise(recent: f64) -> f64 {
    (recent / RECENT).sqrt()
}

/// The sum over instances, scaled up to replicas that are ready but not measured, as old as its oldest part.
fn total(instances: &[Instance<'_>], ready: u32, value: impl Fn(&Instance<'_>) -> Signal<f64>) -> Signal<f64> {
    let mut sum = Signal::Missing;
    let mut is_measured = vec![false; instances.len()];
    for instance in instances {
        let Signal::Present { value, sampled_at } = value(instance) else { continue };
        is_measured[instance.pod] = true;
        sum = match sum {
            Signal::Present { value: sum, sampled_at: oldest } => Signal::present(sum + value, sampled_at.min(oldest)),
            _ => Signal::present(value, sampled_at),
        };
    }
    let pods = is_measured.iter().filter(|is_measured| **is_measured).count();
    let unmeasured = f64::from(ready) / pods.max(1) as f64;
    sum.map(|sum| sum * unmeasured.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_what_was_measured_and_a_trend_is_told_apart() {
        // usual, recent, arriving, trend
        let table = [
            (100.0, None, 100.0, 0.0),
            (100.0, Some(80.0), 100.0, 0.0),
            // Within chance: √(102/20) is 2.3.
            (100.0, Some(102.0), 100.0, 0.0),
            (100.0, Some(120.0), 120.0 - 6.0_f64.sqrt(), 20.0 - 3.0 * 6.0_f64.sqrt()),
            (100.0, Some(400.0), 400.0 - 20.0_f64.sqrt(), 25.0),
            (0.0, Some(5.0), 4.5, 0.0),
        ];
        for (usual, recent, arriving, growing) in table {
            assert!((surge(usual, recent) - arriving).abs() < 1e-9, "{usual} {recent:?}");
            assert!((trend(usual, recent) - growing).abs() < 1e-9, "{usual} {recent:?}");
        }
    }
}
