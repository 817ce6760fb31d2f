//! The whole round: solve, sum up by accelerator type, tell what changes.
//!
//! ```
//! use wva::core::{Accelerator, Load, Model, ModelProfile, Server, System};
//! use wva::manager::Manager;
//! use wva::optimizer::CapacityCurve;
//! use wva::solver::{Constraints, GreedySolver};
//!
//! let system = System::default()
//!     .with_accelerator(Accelerator::new("H100", 12.0))
//!     .with_model(Model::new("llama").with_profile("H100", ModelProfile::carrying(CapacityCurve::linear(6.0))))
//!     .with_server(Server::new("chat", "llama").with_load(Load::requests_per_second(10.0)));
//! let mut manager = Manager::new(system, GreedySolver::default(), Constraints::unlimited());
//! let report = manager.optimize()?;
//! assert_eq!(report.by_type["H100"].accelerators, 2);
//! assert_eq!((report.differences[0].old_replicas, report.differences[0].new_replicas), (0, 2));
//! assert!(manager.optimize()?.differences.is_empty(), "what was decided is current now");
//! # Ok::<(), wva::solver::SolverError>(())
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    core::{AllocationDiff, System, TypeAllocation},
    solver::{Constraints, Solution, Solver, SolverError},
};

/// Keeps a system and optimizes it round by round.
#[derive(Clone, Debug)]
pub struct Manager<S> {
    system: System,
    solver: S,
    constraints: Constraints,
}

/// What a round came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The allocation.
    pub solution: Solution,
    /// Accelerators and cost per type, types without any left out.
    pub by_type: BTreeMap<String, TypeAllocation>,
    /// What changes against the round before.
    pub differences: Vec<AllocationDiff>,
}

impl<S: Solver> Manager<S> {
    /// A manager of `system`.
    pub fn new(system: System, solver: S, constraints: Constraints) -> Self {
        Self { system, solver, constraints }
    }

    /// The system, with the last round's allocations.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The system, to change its loads between rounds.
    pub fn system_mut(&mut self) -> &mut System {
        &mut self.system
    }

    /// Solves, and makes the solution current.
    ///
    /// # Errors
    /// When the system contradicts itself; it is unchanged then.
    pub fn optimize(&mut self) -> Result<Report, SolverError> {
        let solution = self.solver.solve(&self.system, &self.constraints)?;
        let differences = solution.differences(&self.system);
        let by_type = self.allocate_by_type(&solution);
        for (server, decided) in self.system.servers.iter_mut().zip(&solution.servers) {
            server.current.clone_from(&decided.allocations);
        }
        Ok(Report { solution, by_type, differences })
    }

    /// Sums a solution up by accelerator type.
    pub fn allocate_by_type(&self, solution: &Solution) -> BTreeMap<String, TypeAllocation> {
        let mut by_type: BTreeMap<String, TypeAllocation> = BTreeMap::new();
        for (server, decided) in self.system.servers.iter().zip(&solution.servers) {
            for allocation in &decided.allocations {
                let Some(accelerator) = self.system.accelerator(&allocation.accelerator) else { continue };
                let entry = by_type.entry(accelerator.kind().to_owned()).or_default();
                let each = self.system.accelerators_per_replica(server, accelerator);
                entry.accelerators += u64::from(allocation.replicas) * u64::from(each);
                entry.cost += allocation.cost;
            }
        }
        by_type
    }
}
