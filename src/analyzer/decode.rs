//! How many sequences decode at once: a birth–death chain, which is insensitive to the distribution of output lengths,
//! because all sequences of a batch advance alike (processor sharing).

use super::{MM1StateDependent, QueueError, work::Replica};

/// Sequences in the batch in the steady state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Population {
    /// Probability that nobody decodes.
    pub(super) empty: f64,
    /// Mean number decoding.
    pub(super) mean: f64,
    /// Its variance.
    pub(super) variance: f64,
    /// Probability that all seats are taken.
    pub(super) full: f64,
}

/// Odds below which a longer queue for seats is not looked at.
const NEGLIGIBLE: f64 = 1e-9;
/// States of the queue for seats at most.
const QUEUE_STATES: f64 = 10_000.0;

impl Population {
    /// The population at `rate`, which must be below [`Replica::seat_limit`], if each sequence stays `stretch` times as
    /// long as its tokens alone take. Sequences come and go in groups of `group`: 1 is one by one, more stands for
    /// arrivals or sizes that vary more (Hayward's approximation).
    pub(super) fn new(replica: &Replica, rate: f64, group: f64, stretch: f64) -> Result<Self, QueueError> {
        if replica.work.steps <= 0.0 || rate <= 0.0 {
            return Ok(Self { empty: 1.0, ..Self::default() });
        }
        let pace = (1.0 - replica.prefill_share(rate)) / (replica.work.steps * stretch);
        // More than all seats at once there cannot be.
        let group = group.clamp(1.0, replica.seats());
        let seats = (replica.seats() / group).floor().max(1.0);
        let limit = replica.seat_limit() / group;
        let arrivals = rate / group;
        let departures = |groups: f64| groups * pace / replica.decode_iteration(groups * group);
        let mut rates: Vec<f64> = (1..=seats as u32).map(|groups| departures(f64::from(groups))).collect();
        rates.push(limit);
        let queue = (NEGLIGIBLE.ln() / (arrivals / limit).ln()).clamp(1.0, QUEUE_STATES);
        let chain = MM1StateDependent::new(arrivals, &rates, (seats + queue) as u32)?;
        let moment = |power: i32| -> f64 {
            chain.probabilities().iter().enumerate().map(|(groups, p)| (groups as f64).min(seats).powi(power) * p).sum()
        };
        let mean = moment(1);
        Ok(Self {
            empty: chain.probabilities().first().copied().unwrap_or(1.0),
            mean: mean * group,
            variance: (moment(2) - mean * mean).max(0.0) * group * group,
            full: chain.probabilities().iter().skip(seats as usize).sum(),
        })
    }
}
