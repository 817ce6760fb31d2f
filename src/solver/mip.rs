//! All servers weighed against each other: one binary variable per plan of a server that no other beats.
//!
//! A plan carries a whole server, so that capacity curves need no linear approximation, and the relaxation is far tighter
//! than that of a program over single replicas. Plans that prices prove useless are left out beforehand.

use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOptions, SolveOutcome, Variable};

use super::{
    Constraints, Solution, Solver, SolverError, greedy,
    plans::{Plan, Terms, plan_cost},
    prices::{Bound, Column},
    program::{Program, carried},
};
use crate::{
    core::{ProfiledCapacity, Sizing, System},
    optimizer::{Stock, Usage, cheapest_at},
};

/// Mixed-integer programming. Servers of the highest priority count ten times the next, and so on, where not everybody can
/// be satisfied.
#[derive(Clone, Copy, Debug)]
pub struct MIPSolver<S = ProfiledCapacity> {
    sizing: S,
    /// Branch-and-bound nodes at most; the best answer so far is given then. Nodes, not seconds: the answer does not
    /// depend on the machine.
    pub node_limit: u64,
    /// Relative distance to the optimum at which to stop.
    pub gap: f64,
    /// Plans per server at most, the most promising at the prices found.
    pub plans_per_server: usize,
}

impl Default for MIPSolver {
    fn default() -> Self {
        Self::new(ProfiledCapacity)
    }
}

impl<S: Sizing> MIPSolver<S> {
    /// A solver that knows capacities from `sizing`: 2,000 nodes, a gap of 0.1 %, 60 plans per server.
    pub fn new(sizing: S) -> Self {
        Self { sizing, node_limit: 2_000, gap: 1e-3, plans_per_server: 60 }
    }

    /// The same that stops at a relative distance of `gap` to the optimum.
    #[must_use]
    pub fn with_gap(self, gap: f64) -> Self {
        Self { gap, ..self }
    }

    /// The same with at most so many nodes.
    #[must_use]
    pub fn with_node_limit(self, node_limit: u64) -> Self {
        Self { node_limit, ..self }
    }
}

impl<S: Sizing> Solver for MIPSolver<S> {
    fn solve(&self, system: &System, constraints: &Constraints) -> Result<Solution, SolverError> {
        system.validate()?;
        let program = Program::new(system, &self.sizing, constraints);
        let (greedy, is_exact) = greedy::replicas(&program);
        let Some(inventory) = &program.inventory else {
            return Ok(program.solution(system, &greedy, is_exact.then_some(0.0)));
        };
        let (mut stock, usage) = Stock::new(inventory, &program.models, false);
        for (model, usage) in program.models.iter().zip(&usage) {
            stock.take_minimums(model, usage);
        }
        let left: Vec<u64> = stock.left().collect();
        let instance = Instance::new(&program, &usage, left, greedy);
        let (replicas, gap) = self.improve(&program, &usage, &instance);
        Ok(program.solution(system, &replicas, gap))
    }
}

/// The program with its plans and a first solution.
struct Instance {
    columns: Vec<Vec<Column>>,
    left: Vec<u64>,
    /// The greedy solution, as a plan per model.
    start: Vec<Column>,
    /// Whether the plans are all there are, so that a bound over them is one of the program.
    is_complete: bool,
    /// Whether plans that carry less than the demand are among them.
    with_shortage: bool,
}

impl Instance {
    fn new(program: &Program, usage: &[Vec<Usage>], left: Vec<u64>, greedy: Vec<Vec<u32>>) -> Self {
        let pairs = program.models.iter().zip(&greedy);
        let with_shortage =
            pairs.into_iter().any(|(model, replicas)| carried(model, replicas) < model.demand * (1.0 - 1e-9));
        let penalties = penalties(program);
        let mut is_complete = true;
        let terms = |index: usize| Terms {
            model: &program.models[index],
            usage: &usage[index],
            left: &left,
            switching_cost: program.settings.switching_cost,
            with_shortage,
        };
        let column =
            |index: usize, plan: Plan| Column { value: penalties[index].mul_add(plan.shortage, plan.cost), plan };
        let mut columns = Vec::with_capacity(program.models.len());
        let mut start = Vec::with_capacity(program.models.len());
        for (index, replicas) in greedy.into_iter().enumerate() {
            let terms = terms(index);
            let (plans, complete) = terms.plans();
            is_complete &= complete;
            let mut of_model: Vec<Column> = plans.into_iter().map(|plan| column(index, plan)).collect();
            let own = column(index, terms.plan_of(replicas));
            if !of_model.iter().any(|known| known.plan.replicas == own.plan.replicas) {
                of_model.push(own.clone());
            }
            start.push(own);
            columns.push(of_model);
        }
        Self { columns, left, start, is_complete, with_shortage }
    }

    fn value_of_start(&self) -> f64 {
        self.start.iter().map(|column| column.value).sum()
    }
}

/// What a whole demand that is not carried costs, per model: more than anything that could be saved by it, ten times more
/// for each step of priority (four steps at most: beyond, numbers lose their meaning).
fn penalties(program: &Program) -> Vec<f64> {
    let mut priorities: Vec<u32> = program.models.iter().map(|model| model.priority).collect();
    priorities.sort_unstable_by(|a, b| b.cmp(a));
    priorities.dedup();
    let dearest = program.models.iter().flat_map(|model| {
        model.variants.iter().map(|offer| {
            let enough = offer.capacity.replicas_for(model.demand).unwrap_or(0).min(offer.range().1);
            offer.cost * f64::from(enough)
        })
    });
    let base = 10.0 * dearest.fold(1.0, f64::max);
    let rank = |priority| priorities.iter().take(4).take_while(|known| **known != priority).count() as f64;
    program.models.iter().map(|model| base * 10_f64.powf(rank(model.priority))).collect()
}

/// A lower bound of the program at `prices`, over all plans and not only those that were written down; `None` where a
/// demand cannot be carried.
fn certified(program: &Program, usage: &[Vec<Usage>], instance: &Instance, prices: &[f64]) -> Option<f64> {
    if instance.with_shortage {
        return None;
    }
    let mut bound = -prices.iter().zip(&instance.left).map(|(price, left)| price * *left as f64).sum::<f64>();
    for (model, usage) in program.models.iter().zip(usage) {
        let surcharge =
            |usage: &Usage| prices.iter().enumerate().map(|(place, p)| p * f64::from(usage.of(place))).sum();
        let surcharges: Vec<f64> = usage.iter().map(surcharge).collect();
        let replicas = cheapest_at(model, &surcharges, &program.settings)?;
        for ((offer, n), surcharge) in model.variants.iter().zip(replicas).zip(surcharges) {
            let beyond = f64::from(n.saturating_sub(offer.range().0));
            bound += surcharge.mul_add(beyond, plan_cost(offer, n, program.settings.switching_cost));
        }
    }
    Some(bound)
}

impl<S> MIPSolver<S> {
    /// The best plans found, and how much better there may be.
    fn improve(&self, program: &Program, usage: &[Vec<Usage>], instance: &Instance) -> (Vec<Vec<u32>>, Option<f64>) {
        let known = instance.value_of_start();
        let bound = Bound::find(&instance.columns, &instance.left, known);
        let certain =
            if instance.is_complete { Some(bound.value) } else { certified(program, usage, instance, &bound.prices) };
        let start = || instance.start.iter().map(|column| column.plan.replicas.clone()).collect();
        let gap = |value: f64| {
            let gap = ((value - certain?) / value.abs().max(f64::MIN_POSITIVE)).max(0.0);
            Some(if gap < 1e-9 { 0.0 } else { gap })
        };
        if gap(known).is_some_and(|gap| gap <= self.gap) {
            return (start(), gap(known));
        }
        let kept: Vec<Vec<&Column>> =
            (0..instance.columns.len()).map(|model| self.kept(instance, &bound, model)).collect();
        match self.solve_columns(instance, &kept) {
            Some(chosen) => {
                let value: f64 = chosen.iter().map(|column| column.value).sum();
                if value > known {
                    return (start(), gap(known));
                }
                (chosen.iter().map(|column| column.plan.replicas.clone()).collect(), gap(value))
            }
            None => (start(), gap(known)),
        }
    }

    /// Plans of a model worth a variable: those that could improve on what is known, the most promising first.
    fn kept<'a>(&self, instance: &'a Instance, bound: &Bound, model: usize) -> Vec<&'a Column> {
        let known = instance.value_of_start();
        let start = &instance.start[model].plan.replicas;
        let mut kept: Vec<(f64, &Column)> = instance.columns[model]
            .iter()
            .filter(|column| column.plan.replicas == *start || bound.may_improve(model, column, known))
            .map(|column| (if column.plan.replicas == *start { -1.0 } else { bound.regret(model, column) }, column))
            .collect();
        kept.sort_by(|a, b| a.0.total_cmp(&b.0));
        kept.truncate(self.plans_per_server.max(1));
        kept.into_iter().map(|(_, column)| column).collect()
    }

    /// One plan per model; `None` where the solver gives up.
    fn solve_columns<'a>(&self, instance: &Instance, kept: &[Vec<&'a Column>]) -> Option<Vec<&'a Column>> {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let scale = instance.value_of_start().abs().max(f64::MIN_POSITIVE) / 1e3;
        let mut rows: Vec<Vec<(Variable, f64)>> = vec![Vec::new(); instance.left.len()];
        let mut variables: Vec<Vec<Variable>> = Vec::with_capacity(kept.len());
        let mut hint = Vec::new();
        for (model, columns) in kept.iter().enumerate() {
            let of_model: Vec<Variable> =
                columns.iter().map(|column| problem.add_binary_var(column.value / scale)).collect();
            let one: Vec<(Variable, f64)> = of_model.iter().map(|variable| (*variable, 1.0)).collect();
            problem.add_constraint(&one[..], ComparisonOp::Eq, 1.0);
            for (column, variable) in columns.iter().zip(&of_model) {
                for (place, taken) in &column.plan.usage {
                    rows[*place].push((*variable, *taken));
                }
                let is_start = column.plan.replicas == instance.start[model].plan.replicas;
                hint.push((*variable, f64::from(u8::from(is_start))));
            }
            variables.push(of_model);
        }
        for (row, left) in rows.iter().zip(&instance.left).filter(|(row, _)| !row.is_empty()) {
            problem.add_constraint(&row[..], ComparisonOp::Le, *left as f64);
        }
        let mut options = SolveOptions::default();
        options.node_limit = Some(self.node_limit);
        options.mip_gap = self.gap;
        options.warm_start = Some(hint);
        let Ok(SolveOutcome::Solution(solution)) = problem.solve_with(options) else { return None };
        let chosen = |(columns, variables): (&Vec<&'a Column>, &Vec<Variable>)| {
            let values =
                columns.iter().zip(variables).map(|(column, variable)| (solution.var_value(*variable), *column));
            values.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, column)| column)
        };
        kept.iter().zip(&variables).map(chosen).collect()
    }
}
