//! Random systems of a given size, for benchmarks and for whoever wants to try a solver.

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    core::{Accelerator, Allocation, Load, Model, ModelProfile, Server, ServiceClass, System},
    optimizer::CapacityCurve,
};

/// How large and how tight a system is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Servers, each with a model of its own.
    pub servers: usize,
    /// Accelerators (variants) that each server can run on.
    pub variants: usize,
    /// Accelerator types.
    pub types: usize,
    /// Accelerators that there are, over those that the cheapest allocation without limits takes, per type.
    pub tightness: f64,
}

/// The system number `seed` of a size: loads of some replicas per server, prices and capacities as of real accelerators
/// (the faster the dearer, but not evenly), curves that pool.
pub fn random(size: Size, seed: u64) -> System {
    let mut random = StdRng::seed_from_u64(seed);
    let mut system = System::default()
        .with_service_class(ServiceClass::new("Premium", 1))
        .with_service_class(ServiceClass::new("Freemium", 10));
    let types = size.types.max(1);
    let offers = types.max(size.variants);
    for index in 0..offers {
        let (kind, multiplicity) = (index % types, 1 + (index / types) as u32);
        let base = 2.0 * 1.9_f64.powf(kind as f64) * random.random_range(0.8..1.2);
        system = system.with_accelerator(Accelerator {
            name: format!("{multiplicity}xT{kind}"),
            kind: Some(format!("T{kind}")),
            multiplicity,
            cost: base,
        });
    }
    for index in 0..size.servers {
        let mut model = Model::new(format!("model-{index}"));
        for accelerator in system.accelerators.iter().take(size.variants.max(1)) {
            let per_replica = accelerator.cost * f64::from(accelerator.multiplicity) * random.random_range(0.6..1.4);
            let pooling = random.random_range(0.0..0.2);
            let curve = (1..=12).map(|n| per_replica * f64::from(n) * (1.0 - pooling / f64::from(n)));
            model =
                model.with_profile(accelerator.name.clone(), ModelProfile::carrying(CapacityCurve::from_points(curve)));
        }
        let load = random.random_range(2.0..60.0);
        let first = &system.accelerators[random.random_range(0..offers.min(size.variants.max(1)))];
        let current = Allocation { accelerator: first.name.clone(), replicas: random.random_range(0..4), cost: 0.0 };
        let class = if random.random_bool(0.3) { "Premium" } else { "Freemium" };
        let server = Server::new(format!("server-{index}"), model.name.clone())
            .with_load(Load::requests_per_second(load))
            .with_class(class)
            .with_current(current);
        system = system.with_model(model).with_server(server);
    }
    with_capacity(system, size.tightness)
}

fn with_capacity(mut system: System, tightness: f64) -> System {
    use super::{Constraints, GreedySolver, Solver};
    let Ok(free) = GreedySolver::default().solve(&system, &Constraints::unlimited()) else { return system };
    let mut taken: std::collections::BTreeMap<String, f64> =
        system.accelerators.iter().map(|accelerator| (accelerator.kind().to_owned(), 0.0)).collect();
    for allocation in free.servers.iter().flat_map(|server| &server.allocations) {
        if let Some(accelerator) = system.accelerator(&allocation.accelerator) {
            *taken.entry(accelerator.kind().to_owned()).or_default() +=
                f64::from(allocation.replicas) * f64::from(accelerator.multiplicity);
        }
    }
    let mean = taken.values().sum::<f64>() / taken.len().max(1) as f64;
    for (kind, taken) in taken {
        // Types that nobody would choose first are there for those who find the first taken.
        let count = (taken * tightness).max(mean * tightness.max(1.0)).ceil();
        let count = if taken > mean { (taken * tightness).ceil() } else { count };
        system.capacity.insert(kind, count as u32);
    }
    system
}
