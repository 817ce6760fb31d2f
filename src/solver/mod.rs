//! Solvers: the cheapest allocation of a system's servers to accelerators.
//!
//! [`GreedySolver`] serves one server after the other, exactly each, and is what the decision cycle uses.
//! [`MIPSolver`] weighs them against each other by a mixed-integer program and knows how far from the best it is.
//!
//! ```
//! use wva::core::{Accelerator, Load, Model, ModelProfile, Server, System};
//! use wva::optimizer::CapacityCurve;
//! use wva::solver::{Constraints, GreedySolver, MIPSolver, Solver};
//!
//! let model = Model::new("llama")
//!     .with_profile("L4", ModelProfile::carrying(CapacityCurve::linear(2.0)))
//!     .with_profile("H100", ModelProfile::carrying(CapacityCurve::linear(6.0)));
//! let system = System::default()
//!     .with_accelerator(Accelerator::new("L4", 5.0))
//!     .with_accelerator(Accelerator::new("H100", 12.0))
//!     .with_model(model)
//!     .with_server(Server::new("chat", "llama").with_load(Load::requests_per_second(10.0)))
//!     .with_capacity("L4", 8)
//!     .with_capacity("H100", 1);
//!
//! let greedy = GreedySolver::default().solve(&system, &Constraints::limited())?;
//! let exact = MIPSolver::default().solve(&system, &Constraints::limited())?;
//! assert_eq!(greedy.cost, 12.0 + 2.0 * 5.0);
//! assert_eq!(exact.cost, greedy.cost);
//! assert_eq!(exact.gap, Some(0.0));
//! # Ok::<(), wva::solver::SolverError>(())
//! ```

mod greedy;
pub mod instances;
mod mip;
mod plans;
mod prices;
mod program;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    core::{Allocation, AllocationDiff, System, SystemError},
    optimizer::SaturationPolicy,
};

pub use greedy::GreedySolver;
pub use mip::MIPSolver;

/// Finds allocations.
pub trait Solver {
    /// The cheapest allocation that carries every server's load, within `constraints`; as much as can be carried where
    /// that is not all.
    ///
    /// # Errors
    /// When the system contradicts itself. A load that cannot be carried is no error: see
    /// [`ServerSolution::is_satisfied`].
    fn solve(&self, system: &System, constraints: &Constraints) -> Result<Solution, SolverError>;
}

/// What an allocation must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Constraints {
    /// Whether [`System::capacity`] limits what can be had.
    pub limited: bool,
    /// Who gets what is left where accelerators do not suffice.
    pub saturation_policy: SaturationPolicy,
    /// Price of starting a replica, in replicas' cost.
    pub switching_cost: f64,
}

impl Default for Constraints {
    /// Unlimited, and moves are free.
    fn default() -> Self {
        Self { limited: false, saturation_policy: SaturationPolicy::default(), switching_cost: 0.0 }
    }
}

impl Constraints {
    /// As many accelerators as anybody wants.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// Those of the system.
    pub fn limited() -> Self {
        Self { limited: true, ..Self::default() }
    }
}

/// An allocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Solution {
    /// Per server, in the order of the system.
    pub servers: Vec<ServerSolution>,
    /// Cost of all replicas.
    pub cost: f64,
    /// How much cheaper it could be at most, as a fraction of what was minimised (cost, moves and, where not everybody is
    /// satisfied, what is missing). `None` where the solver does not know.
    pub gap: Option<f64>,
}

/// What one server gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerSolution {
    /// Name of the server.
    pub server: String,
    /// Replicas per accelerator, those without any left out.
    pub allocations: Vec<Allocation>,
    /// Whether its load is carried.
    pub is_satisfied: bool,
}

impl Solution {
    /// What changes against the system's current allocations.
    pub fn differences(&self, system: &System) -> Vec<AllocationDiff> {
        let mut differences = Vec::new();
        for (server, solution) in system.servers.iter().zip(&self.servers) {
            for accelerator in &system.accelerators {
                let of = solution.allocations.iter().find(|allocation| allocation.accelerator == accelerator.name);
                let (old, new) =
                    (server.replicas_on(&accelerator.name), of.map_or(0, |allocation| allocation.replicas));
                if old != new {
                    let each = system.replica_cost(server, accelerator);
                    differences.push(AllocationDiff {
                        server: server.name.clone(),
                        accelerator: accelerator.name.clone(),
                        old_replicas: old,
                        new_replicas: new,
                        cost_difference: each * (f64::from(new) - f64::from(old)),
                    });
                }
            }
        }
        differences
    }
}

/// Why there is no solution.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SolverError {
    /// The system contradicts itself.
    #[error(transparent)]
    System(#[from] SystemError),
}

#[cfg(test)]
mod tests;
