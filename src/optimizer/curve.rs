//! What n replicas of a variant carry.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Capacity of a pool of n replicas, in the unit of the demand it is held against: C(0) = 0 and C never falls.
///
/// Larger pools often carry more per replica than singles do, so the curve need not be linear, nor concave. Beyond the
/// last known point it goes on by the last step or by the mean per replica, whichever is less, so that it never promises
/// more than was seen.
///
/// A pool of several variants carries the sum of what each carries alone. What they would gain by sharing one queue is
/// left out: that errs on the safe side, and it keeps variants independent of each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<f64>", into = "Vec<f64>")]
pub struct CapacityCurve {
    /// C(1), C(2), …: finite, not negative, never falling.
    points: Arc<[f64]>,
    /// What every replica beyond adds.
    step: f64,
}

impl CapacityCurve {
    /// Every replica carries `per_replica`.
    pub fn linear(per_replica: f64) -> Self {
        Self::from_points([per_replica])
    }

    /// The curve through C(1), C(2), …. What is no number or negative counts as 0, and a point below its predecessor
    /// is lifted to it.
    pub fn from_points(points: impl IntoIterator<Item = f64>) -> Self {
        let mut floor = 0.0_f64;
        let points: Arc<[f64]> = points
            .into_iter()
            .map(|point| {
                if point.is_finite() {
                    floor = floor.max(point);
                }
                floor
            })
            .collect();
        let step = match *points {
            [] => 0.0,
            [only] => only,
            [.., before, last] => (last - before).min(last / points.len() as f64),
        };
        Self { points, step }
    }

    /// C(`replicas`).
    pub fn at(&self, replicas: u32) -> f64 {
        let Some(index) = (replicas as usize).checked_sub(1) else { return 0.0 };
        if let Some(point) = self.points.get(index) {
            return *point;
        }
        let last = self.points.last().copied().unwrap_or(0.0);
        let beyond = (index + 1 - self.points.len()) as f64;
        self.step.mul_add(beyond, last).min(f64::MAX)
    }

    /// The least number of replicas that carry `demand`; `None` when no number does.
    pub fn replicas_for(&self, demand: f64) -> Option<u32> {
        if demand <= 0.0 {
            return Some(0);
        }
        let last = self.points.last().copied().unwrap_or(0.0);
        if last >= demand {
            let below = self.points.partition_point(|point| *point < demand);
            return u32::try_from(below + 1).ok();
        }
        if self.step <= 0.0 {
            return None;
        }
        let guess = ((demand - last) / self.step).ceil() + self.points.len() as f64;
        if guess >= f64::from(u32::MAX) {
            return None;
        }
        let guess = guess as u32;
        if self.at(guess) >= demand && self.at(guess.saturating_sub(1)) < demand {
            return Some(guess);
        }
        // Rounding left the quotient off.
        let (mut below, mut enough) = (self.bends_until(), u32::MAX);
        while enough - below > 1 {
            let middle = below + (enough - below) / 2;
            if self.at(middle) >= demand { enough = middle } else { below = middle }
        }
        (self.at(enough) >= demand).then_some(enough)
    }

    /// Replicas up to which the curve may bend; beyond, it is straight.
    pub fn bends_until(&self) -> u32 {
        u32::try_from(self.points.len()).unwrap_or(u32::MAX)
    }

    /// What every replica beyond [`CapacityCurve::bends_until`] adds.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// The same curve with every capacity multiplied by `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self::from_points(self.points.iter().map(|point| point * factor))
    }

    /// The same curve, level from `replicas` on: what comes beyond carries nothing.
    #[must_use]
    pub fn level_from(&self, replicas: u32) -> Self {
        let known: Vec<f64> = (1..=replicas.min(self.bends_until())).map(|n| self.at(n)).collect();
        if replicas <= self.bends_until() {
            return Self { points: known.into(), step: 0.0 };
        }
        let straight = (self.bends_until() + 1..=replicas).map(|n| self.at(n));
        Self { points: known.into_iter().chain(straight).collect(), step: 0.0 }
    }
}

impl From<Vec<f64>> for CapacityCurve {
    fn from(points: Vec<f64>) -> Self {
        Self::from_points(points)
    }
}

impl From<CapacityCurve> for Vec<f64> {
    fn from(curve: CapacityCurve) -> Self {
        curve.points.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_linear_curve_is_proportional() {
        let curve = CapacityCurve::linear(2.5);
        assert_eq!([0, 1, 4, 1000].map(|n| curve.at(n)), [0.0, 2.5, 10.0, 2500.0]);
        assert_eq!([0.0, 0.1, 2.5, 2.6, 10.0].map(|d| curve.replicas_for(d)), [0, 1, 1, 2, 4].map(Some));
    }

    #[test]
    fn beyond_its_points_a_curve_never_promises_more_than_was_seen() {
        let pooling = CapacityCurve::from_points([1.0, 2.4, 4.0]);
        assert!((pooling.at(4) - (4.0 + 4.0 / 3.0)).abs() < 1e-12, "the mean per replica is less than the last step");
        let waning = CapacityCurve::from_points([2.0, 3.5, 4.0]);
        assert_eq!(waning.at(5), 5.0, "the last step is less than the mean per replica");
        let level = CapacityCurve::from_points([2.0, 2.0]);
        assert_eq!((level.at(9), level.replicas_for(2.1)), (2.0, None));
    }

    #[test]
    fn a_levelled_curve_carries_nothing_beyond() {
        let curve = CapacityCurve::linear(3.0).level_from(4);
        assert_eq!([3, 4, 5, 99].map(|n| curve.at(n)), [9.0, 12.0, 12.0, 12.0]);
        assert_eq!(CapacityCurve::linear(3.0).level_from(0).at(7), 0.0);
    }

    proptest! {
        #[test]
        fn any_input_makes_a_curve_that_never_falls(points in prop::collection::vec(any::<f64>(), 0..20), demand in any::<f64>()) {
            let curve = CapacityCurve::from_points(points);
            for n in 0..40 {
                prop_assert!(curve.at(n).is_finite() && curve.at(n) >= 0.0);
                prop_assert!(curve.at(n + 1) >= curve.at(n));
            }
            prop_assert!(curve.at(u32::MAX).is_finite());
            if let Some(replicas) = curve.replicas_for(demand) && demand > 0.0 {
                prop_assert!(curve.at(replicas) >= demand);
                prop_assert!(curve.at(replicas - 1) < demand);
            }
        }
    }
}
