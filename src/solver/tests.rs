use proptest::prelude::*;

use super::{instances::Size, *};
use crate::{
    core::{Accelerator, Load, Model, ModelProfile, Server, ServiceClass},
    optimizer::CapacityCurve,
};

fn two_accelerators(l4: u32, h100: u32) -> System {
    System::default()
        .with_accelerator(Accelerator::new("L4", 5.0))
        .with_accelerator(Accelerator::new("H100", 12.0))
        .with_capacity("L4", l4)
        .with_capacity("H100", h100)
        .with_service_class(ServiceClass::new("Premium", 1))
}

fn with_server(system: System, name: &str, rate: f64, (l4, h100): (f64, f64)) -> System {
    let model = Model::new(name)
        .with_profile("L4", ModelProfile::carrying(CapacityCurve::linear(l4)))
        .with_profile("H100", ModelProfile::carrying(CapacityCurve::linear(h100)));
    system.with_model(model).with_server(Server::new(name, name).with_load(Load::requests_per_second(rate)))
}

fn both() -> [(&'static str, Box<dyn Solver>); 2] {
    [("greedy", Box::new(GreedySolver::default())), ("mip", Box::new(MIPSolver::default()))]
}

#[test]
fn every_solver_finds_the_cheapest_when_nothing_is_limited() {
    let system = with_server(two_accelerators(0, 0), "chat", 10.0, (2.0, 6.0));
    for (name, solver) in both() {
        let solution = solver.solve(&system, &Constraints::unlimited()).unwrap();
        assert_eq!((solution.cost, solution.gap), (22.0, Some(0.0)), "{name}");
        assert!(solution.servers[0].is_satisfied);
    }
}

/// One H100 for two servers: `first` wins it by name in a greedy that looks at one at a time, but `second` saves more.
#[test]
fn a_scarce_accelerator_goes_to_whom_it_saves_most() {
    let system = with_server(two_accelerators(20, 1), "first", 6.0, (2.5, 6.0));
    let system = with_server(system, "second", 6.0, (1.0, 6.0));
    for (name, solver) in both() {
        let solution = solver.solve(&system, &Constraints::limited()).unwrap();
        assert_eq!(solution.cost, 15.0 + 12.0, "{name}: {solution:?}");
    }
}

#[test]
fn a_load_that_cannot_be_carried_is_told_and_carried_as_far_as_can_be() {
    let system = with_server(two_accelerators(2, 1), "chat", 100.0, (2.0, 6.0));
    for (name, solver) in both() {
        let solution = solver.solve(&system, &Constraints::limited()).unwrap();
        assert_eq!(solution.cost, 22.0, "{name}");
        assert!(!solution.servers[0].is_satisfied, "{name}");
    }
}

#[test]
fn a_minimum_holds_without_load_and_nothing_else_does() {
    let mut system = with_server(two_accelerators(9, 9), "chat", 0.0, (2.0, 6.0));
    for (minimum, cost) in [(0, 0.0), (3, 15.0)] {
        system.servers[0].min_replicas = minimum;
        for (name, solver) in both() {
            assert_eq!(solver.solve(&system, &Constraints::limited()).unwrap().cost, cost, "{name} with {minimum}");
        }
    }
}

#[test]
fn a_server_that_keeps_its_accelerator_stays_there() {
    let mut system = with_server(two_accelerators(9, 9), "chat", 10.0, (2.0, 6.0));
    system.servers[0].keep_accelerator = true;
    system.servers[0].current = vec![Allocation { accelerator: "H100".to_owned(), replicas: 1, cost: 12.0 }];
    let solution = GreedySolver::default().solve(&system, &Constraints::limited()).unwrap();
    assert_eq!(solution.cost, 24.0);
    let changes: Vec<_> = solution.differences(&system).into_iter().map(|d| (d.accelerator, d.new_replicas)).collect();
    assert_eq!(changes, [("H100".to_owned(), 2)]);
}

#[test]
fn higher_priority_keeps_scarce_accelerators() {
    let mut system = with_server(two_accelerators(0, 4), "free", 24.0, (2.0, 6.0));
    system = with_server(system, "paying", 24.0, (2.0, 6.0));
    system.servers[1].class = Some("Premium".to_owned());
    for (name, solver) in both() {
        let solution = solver.solve(&system, &Constraints::limited()).unwrap();
        let satisfied: Vec<bool> = solution.servers.iter().map(|server| server.is_satisfied).collect();
        assert_eq!(satisfied, [false, true], "{name}");
    }
}

#[test]
fn a_system_that_contradicts_itself_is_refused() {
    let system = two_accelerators(1, 1).with_server(Server::new("chat", "gone"));
    for (_, solver) in both() {
        let error = solver.solve(&system, &Constraints::limited()).unwrap_err();
        assert!(error.to_string().contains("names model gone"), "{error}");
    }
}

/// Accelerators taken per type.
fn taken(system: &System, solution: &Solution, kind: &str) -> u32 {
    let allocations = solution.servers.iter().flat_map(|server| &server.allocations);
    let of_type = allocations.filter_map(|allocation| {
        let accelerator = system.accelerator(&allocation.accelerator)?;
        (accelerator.kind() == kind).then_some(allocation.replicas * accelerator.multiplicity)
    });
    of_type.sum()
}

#[test]
fn greedy_is_within_three_percent_of_the_program_on_average() {
    let (mut ratios, mut gaps, mut short) = (Vec::new(), Vec::new(), 0);
    for seed in 0..8 {
        let size = Size { servers: 8, variants: 3, types: 3, tightness: 0.9 };
        let system = instances::random(size, seed);
        let greedy = GreedySolver::default().solve(&system, &Constraints::limited()).unwrap();
        let exact = MIPSolver::default().solve(&system, &Constraints::limited()).unwrap();
        for (kind, count) in &system.capacity {
            assert!(taken(&system, &greedy, kind) <= *count && taken(&system, &exact, kind) <= *count);
        }
        let all = |solution: &Solution| solution.servers.iter().all(|server| server.is_satisfied);
        if all(&greedy) {
            assert!(all(&exact) && exact.cost <= greedy.cost * (1.0 + 1e-9));
            ratios.push(greedy.cost / exact.cost);
            gaps.extend(exact.gap);
        } else {
            short += 1;
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "greedy over program: {:.4} on average, {worst:.4} at worst, of {}; program within {:.4} of the optimum; {short} cannot be satisfied",
        mean(&ratios),
        ratios.len(),
        mean(&gaps)
    );
    assert!(ratios.len() > 4 && mean(&ratios) <= 1.03);
    assert!(gaps.len() > 4 && mean(&gaps) <= 0.01);
}

fn small_systems() -> impl Strategy<Value = System> {
    let size = (1_usize..5, 1_usize..4, 1_usize..3, 0.4..1.5_f64);
    (size, 0_u64..10_000).prop_map(|((servers, variants, types, tightness), seed)| {
        instances::random(Size { servers, variants, types, tightness }, seed)
    })
}

fn solved(system: &System) -> [Solution; 2] {
    both().map(|(_, solver)| solver.solve(system, &Constraints::limited()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_solver_gives_more_than_there_is_or_numbers_that_are_none(system in small_systems()) {
        for solution in solved(&system) {
            for (kind, count) in &system.capacity {
                prop_assert!(taken(&system, &solution, kind) <= *count, "{kind}");
            }
            prop_assert!(solution.cost.is_finite() && solution.cost >= 0.0);
            prop_assert!(solution.gap.is_none_or(|gap| (0.0..).contains(&gap)));
        }
    }

    #[test]
    fn the_program_is_never_dearer_than_greedy_where_both_satisfy_all(system in small_systems()) {
        let [greedy, exact] = solved(&system);
        let all = |solution: &Solution| solution.servers.iter().all(|server| server.is_satisfied);
        if all(&greedy) {
            prop_assert!(all(&exact) && exact.cost <= greedy.cost * (1.0 + 1e-9));
        }
    }

    #[test]
    fn neither_the_order_of_servers_nor_the_currency_changes_what_greedy_gives(
        system in small_systems(), turn in 0_usize..4, exponent in -10_i32..10,
    ) {
        let by_name = |system: &System| {
            let solution = GreedySolver::default().solve(system, &Constraints::limited()).unwrap();
            let mut replicas: Vec<_> = solution
                .servers
                .into_iter()
                .map(|server| {
                    let of = |allocation: Allocation| (allocation.accelerator, allocation.replicas);
                    (server.server, server.allocations.into_iter().map(of).collect::<Vec<_>>(), server.is_satisfied)
                })
                .collect();
            replicas.sort();
            replicas
        };
        let mut other = system.clone();
        other.servers.rotate_left(turn % system.servers.len());
        for accelerator in &mut other.accelerators {
            accelerator.cost *= 2.0_f64.powi(exponent);
        }
        prop_assert_eq!(by_name(&system), by_name(&other));
    }

    #[test]
    fn more_load_never_gets_less_capacity_where_nothing_is_limited(system in small_systems(), more in 0.0..30.0_f64) {
        let carried = |system: &System| -> Vec<f64> {
            let solution = GreedySolver::default().solve(system, &Constraints::unlimited()).unwrap();
            let of = |server: &ServerSolution| {
                let own = system.servers.iter().find(|known| known.name == server.server).unwrap();
                let profiles = &system.model(&own.model).unwrap().profiles;
                let capacity = |allocation: &Allocation| {
                    profiles[&allocation.accelerator].capacity.as_ref().unwrap().at(allocation.replicas)
                };
                server.allocations.iter().map(capacity).sum()
            };
            solution.servers.iter().map(of).collect()
        };
        let mut loaded = system.clone();
        for server in &mut loaded.servers {
            server.load.arrival_rate += more;
        }
        for (before, after) in carried(&system).into_iter().zip(carried(&loaded)) {
            prop_assert!(after >= before * (1.0 - 1e-9), "{after} after {before}");
        }
    }
}
