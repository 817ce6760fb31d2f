//! One server after the other.

use super::{Constraints, Solution, Solver, SolverError, program::Program};
use crate::{
    core::{ProfiledCapacity, Sizing, System},
    optimizer::{ModelAllotment, Supply, optimize},
};

/// Serves by priority and, within one, by regret; each server's share is exactly its cheapest of what is left.
#[derive(Clone, Copy, Debug)]
pub struct GreedySolver<S = ProfiledCapacity> {
    sizing: S,
}

impl Default for GreedySolver {
    fn default() -> Self {
        Self::new(ProfiledCapacity)
    }
}

impl<S: Sizing> GreedySolver<S> {
    /// A solver that knows capacities from `sizing`.
    pub fn new(sizing: S) -> Self {
        Self { sizing }
    }
}

impl<S: Sizing> Solver for GreedySolver<S> {
    fn solve(&self, system: &System, constraints: &Constraints) -> Result<Solution, SolverError> {
        system.validate()?;
        let program = Program::new(system, &self.sizing, constraints);
        let (replicas, is_exact) = replicas(&program);
        // Without limits servers do not touch each other, and each has its best.
        let gap = (program.inventory.is_none() && is_exact).then_some(0.0);
        Ok(program.solution(system, &replicas, gap))
    }
}

/// Replicas per model and variant, and whether each model's own search was complete.
pub(super) fn replicas(program: &Program) -> (Vec<Vec<u32>>, bool) {
    let supply = program.inventory.as_ref().map_or(Supply::Unlimited, Supply::Limited);
    let answers = optimize(&program.models, &supply, &program.settings);
    let replicas = |answer: &ModelAllotment| answer.variants.iter().map(|allotment| allotment.desired).collect();
    (answers.iter().map(replicas).collect(), answers.iter().all(|answer| answer.is_exact))
}
