use super::*;
use crate::{
    core::{ModelProfile, ServiceTarget},
    interfaces::ServiceProfile,
    solver::{Constraints, GreedySolver, MIPSolver, Solver},
};

fn service(slowness: f64) -> ServiceProfile {
    ServiceProfile {
        base: 7.0e-3 * slowness,
        per_prefill_token: 1.9e-5 * slowness,
        per_sequence: 6.3e-6 * slowness,
        per_kv_token: 4.13e-8 * slowness,
        kv_cache_tokens: 372_000.0,
        max_batch: 256,
        max_batched_tokens: 2048,
    }
}

fn system(rate: f64, inter_token_latency: f64) -> System {
    let target = ServiceTarget {
        time_to_first_token: Some(1.0),
        inter_token_latency: Some(inter_token_latency),
        tokens_per_second: None,
    };
    let load = Load { arrival_rate: rate, mean_input_tokens: 1155.0, mean_output_tokens: 211.0 };
    let model = Model::new("llama")
        .with_profile("H100", ModelProfile::serving(service(1.0)))
        .with_profile("L40S", ModelProfile::serving(service(3.3)));
    System::default()
        .with_accelerator(Accelerator::new("H100", 10.0))
        .with_accelerator(Accelerator::new("L40S", 4.0))
        .with_accelerator(Accelerator::new("TPU", 1.0))
        .with_model(model)
        .with_service_class(ServiceClass::new("chat", 1).with_target("llama", target))
        .with_server(Server::new("chat", "llama").with_class("chat").with_load(load))
}

fn on(system: &System, accelerator: &str) -> Result<Requirement, ModelAnalyzerError> {
    ModelAnalyzer::default().minimum_replicas(system, &system.servers[0]).remove(accelerator).unwrap()
}

#[test]
fn the_number_is_the_least_that_meets_the_targets() {
    let system = system(40.0, 0.05);
    for accelerator in ["H100", "L40S"] {
        let found = on(&system, accelerator).unwrap();
        assert!(f64::from(found.replicas) * found.rate_per_replica >= 40.0, "{found:?}");
        assert!(f64::from(found.replicas - 1) * found.rate_per_replica < 40.0, "{found:?}");
        assert!(found.time_to_first_token.p99 <= 1.0 && found.inter_token_latency.p99 <= 0.05, "{found:?}");
        assert_eq!(found.cost, f64::from(found.replicas) * system.accelerator(accelerator).unwrap().cost);
    }
    assert!(on(&system, "L40S").unwrap().replicas > on(&system, "H100").unwrap().replicas);
}

#[test]
fn what_cannot_be_answered_is_named_with_its_remedy() {
    let error = |system: &System, accelerator| on(system, accelerator).unwrap_err().to_string();
    assert_eq!(error(&system(40.0, 0.05), "TPU"), "model llama has no profile for TPU; add one to its profiles");
    assert!(error(&system(40.0, 0.005), "H100").starts_with("the inter-token-latency target of 5 ms cannot be met"));
    let mut capped = system(400.0, 0.05);
    capped.servers[0].max_replicas = Some(2);
    assert!(error(&capped, "H100").ends_with("but it may have 2; raise its maxReplicas"));
    let mut without_lengths = system(40.0, 0.05);
    without_lengths.servers[0].load.mean_output_tokens = 0.0;
    assert!(error(&without_lengths, "H100").starts_with("mean token length is 0"));
}

#[test]
fn no_load_needs_no_more_than_the_minimum() {
    let mut idle = system(0.0, 0.05);
    assert_eq!(on(&idle, "H100").unwrap().replicas, 0);
    idle.servers[0].min_replicas = 3;
    assert_eq!(on(&idle, "H100").unwrap().replicas, 3);
}

#[test]
fn both_solvers_take_it_as_their_sizing() {
    let system = system(40.0, 0.05);
    let cheapest =
        ["H100", "L40S"].map(|kind| on(&system, kind).unwrap().cost).into_iter().fold(f64::INFINITY, f64::min);
    let analyzer = ModelAnalyzer::default();
    let greedy = GreedySolver::new(analyzer).solve(&system, &Constraints::unlimited()).unwrap();
    let exact = MIPSolver::new(analyzer).solve(&system, &Constraints::unlimited()).unwrap();
    for solution in [greedy, exact] {
        assert!(solution.servers[0].is_satisfied && solution.cost <= cheapest, "{solution:?}");
    }
}
