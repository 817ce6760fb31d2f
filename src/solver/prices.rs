//! Prices of resources: the Lagrangian relaxation of the program. Whatever the prices, the cheapest plans at them are a
//! lower bound of the optimum; good prices make a tight one, and tell which plans cannot be part of it.

use super::plans::Plan;

/// Rounds of adjusting prices.
const ROUNDS: usize = 120;

/// A plan as the program sees it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) plan: Plan,
    /// What is minimised: cost and the penalty on shortage.
    pub(super) value: f64,
}

/// A lower bound, and the prices that give it.
pub(super) struct Bound {
    pub(super) value: f64,
    pub(super) prices: Vec<f64>,
    /// The least priced value per model.
    least: Vec<f64>,
}

impl Bound {
    /// The best bound that a fixed number of rounds of the subgradient method (Polyak's steps) finds. `known` is the value
    /// of some solution.
    pub(super) fn find(models: &[Vec<Column>], left: &[u64], known: f64) -> Self {
        let mut prices = vec![0.0; left.len()];
        let mut best = Self::at(&prices, models, left).0;
        let (mut pace, mut idle) = (1.0, 0);
        for _ in 0..ROUNDS {
            let (bound, excess) = Self::at(&prices, models, left);
            let steepness: f64 = excess.iter().map(|excess| excess * excess).sum();
            if bound.value > best.value {
                best = bound;
                idle = 0;
            } else {
                idle += 1;
            }
            if steepness <= 0.0 || known - best.value <= known.abs() * 1e-9 {
                break;
            }
            if idle >= 8 {
                (pace, idle) = (pace / 2.0, 0);
                prices.clone_from(&best.prices);
            }
            let step = pace * (known - best.value).max(known.abs() * 1e-6) / steepness;
            for (price, excess) in prices.iter_mut().zip(&excess) {
                *price = step.mul_add(*excess, *price).max(0.0);
            }
        }
        best
    }

    /// The bound at `prices`, and how much more the plans chosen take than there is.
    fn at(prices: &[f64], models: &[Vec<Column>], left: &[u64]) -> (Self, Vec<f64>) {
        let mut excess: Vec<f64> = left.iter().map(|left| -(*left as f64)).collect();
        let mut value: f64 = prices.iter().zip(&excess).map(|(price, excess)| price * excess).sum();
        let mut least = Vec::with_capacity(models.len());
        for columns in models {
            let priced = columns.iter().map(|column| (priced(column, prices), column));
            let Some((cheapest, column)) = priced.min_by(|a, b| a.0.total_cmp(&b.0)) else {
                least.push(0.0);
                continue;
            };
            value += cheapest;
            least.push(cheapest);
            for (place, taken) in &column.plan.usage {
                excess[*place] += taken;
            }
        }
        // Where less is taken than there is and the price is nought already, nothing is to be adjusted.
        for (excess, price) in excess.iter_mut().zip(prices) {
            if *excess < 0.0 && *price <= 0.0 {
                *excess = 0.0;
            }
        }
        (Self { value, prices: prices.to_vec(), least }, excess)
    }

    /// Whether a solution with this plan of `model` could be better than `known`.
    pub(super) fn may_improve(&self, model: usize, column: &Column, known: f64) -> bool {
        self.regret(model, column) + self.value <= known * (1.0 + 1e-9)
    }

    /// How much a plan costs above the model's cheapest, at the prices.
    pub(super) fn regret(&self, model: usize, column: &Column) -> f64 {
        priced(column, &self.prices) - self.least[model]
    }
}

fn priced(column: &Column, prices: &[f64]) -> f64 {
    column.plan.usage.iter().map(|(place, taken)| prices[*place] * taken).sum::<f64>() + column.value
}
