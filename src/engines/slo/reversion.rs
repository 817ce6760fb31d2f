//! How rates return to what is usual.
//!
//! On real traces a rate that stands above its mean of the last minutes is more likely to fall than to rise, and the other
//! way round: within a cold start it returns by a quarter to all of the distance. How far is learned by least squares.

use serde::{Deserialize, Serialize};

/// What is believed before anything is seen: returning by this part, on the word of so much (a sum of squared distances in
/// the logarithm: three dozen distances of a tenth).
const BELIEVED: (f32, f32) = (0.3, 0.3);
/// The part of what was learned that is counted on: the next rise may be the one that lasts.
const COUNTED_ON: f32 = 0.6;
/// No expectation moves further from the present rate, in the logarithm: what stands that far off is as likely a new level.
const FURTHEST: f32 = 0.15;
/// Distances and moves beyond these tell of jumps, not of returning.
const JUMPS: (f32, f32) = (0.5, 1.0);

/// Least squares of return on distance, forgetting slowly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reversion {
    /// Sum of the products of distance and return.
    product: f32,
    /// Sum of the squares of distances.
    square: f32,
}

impl Default for Reversion {
    fn default() -> Self {
        let (share, weight) = BELIEVED;
        Self { product: share * weight, square: weight }
    }
}

impl Reversion {
    /// A rate at `distance` above the usual one moved by `moved` within a cold start, both in the logarithm; of what was
    /// seen before, the part `kept` counts on.
    pub(super) fn observe(&mut self, distance: f32, moved: f32, kept: f32) {
        if distance.abs() <= JUMPS.0 && moved.abs() <= JUMPS.1 {
            self.product = kept * self.product - distance * moved;
            self.square = kept * self.square + distance * distance;
        }
    }

    /// What is expected to return.
    pub(super) fn returning(self) -> Returning {
        Returning { share: COUNTED_ON * (self.product / self.square.max(1e-6)).clamp(0.0, 1.0) }
    }
}

/// The part of its distance from the usual rate by which a rate is expected to return.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returning {
    share: f32,
}

impl Returning {
    /// What a rate at `distance` above the usual one is expected to fall by, both in the logarithm.
    pub(super) fn of(self, distance: f32) -> f32 {
        (self.share * distance).clamp(-FURTHEST, FURTHEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(share: f32) -> Reversion {
        let mut reversion = Reversion::default();
        for step in 0..400 {
            let distance = if step % 2 == 0 { 0.2 } else { -0.2 };
            reversion.observe(distance, -share * distance, 1.0);
        }
        reversion
    }

    #[test]
    fn part_of_what_returned_before_is_expected_to_return_up_and_down_alike() {
        for (share, expected) in [(0.0, 0.0), (0.5, 0.3), (1.0, 0.6), (1.7, 0.6)] {
            let falls = learned(share).returning().of(0.1);
            assert!((falls - expected * 0.1).abs() < 0.003, "{share}: {falls}");
            assert_eq!(falls, -learned(share).returning().of(-0.1));
        }
        assert_eq!(learned(-0.5).returning().of(0.1), 0.0, "what runs away is not expected to run on");
    }

    #[test]
    fn a_jump_teaches_nothing_and_is_not_expected_to_be_gone() {
        let mut reversion = learned(0.5);
        reversion.observe(0.7, -0.7, 1.0);
        reversion.observe(0.2, 1.4, 1.0);
        assert_eq!(reversion, learned(0.5));
        assert_eq!(reversion.returning().of(2.0), FURTHEST);
    }
}
