//! Memory of past proposals: stabilisation windows.

use std::time::Duration;

use jiff::Timestamp;

use crate::interfaces::age;

/// Proposals of the last hour, the longest window the API allows.
#[derive(Clone, Debug, Default)]
pub(super) struct Recommendations(Vec<(Timestamp, u32)>);

impl Recommendations {
    /// A controller that sees an HPA for the first time takes what is there for its first proposal.
    pub(super) fn seed(&mut self, now: Timestamp, replicas: u32) {
        if self.0.is_empty() {
            self.0.push((now, replicas));
        }
    }

    /// Without `behavior`: the greatest proposal of the window.
    pub(super) fn stabilised_down(&mut self, now: Timestamp, proposal: u32, window: Duration) -> u32 {
        let stable = self.within(now, window).max().map_or(proposal, |greatest| greatest.max(proposal));
        self.push(now, proposal);
        stable
    }

    /// With `behavior`: up only as far as the lowest, down only as far as the greatest proposal of its window.
    pub(super) fn stabilised(&mut self, now: Timestamp, spec: u32, proposal: u32, up: Duration, down: Duration) -> u32 {
        let lowest = self.within(now, up).min().map_or(proposal, |lowest| lowest.min(proposal));
        let greatest = self.within(now, down).max().map_or(proposal, |greatest| greatest.max(proposal));
        self.push(now, proposal);
        spec.max(lowest).min(greatest)
    }

    fn within(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = u32> {
        self.0.iter().filter(move |(then, _)| age(now, *then) < window).map(|(_, proposal)| *proposal)
    }

    fn push(&mut self, now: Timestamp, proposal: u32) {
        self.0.retain(|(then, _)| age(now, *then) < Duration::from_secs(3600));
        self.0.push((now, proposal));
    }
}
