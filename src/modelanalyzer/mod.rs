//! The model analyzer: how many replicas a server needs at least on each accelerator, by the queueing model, and what its
//! requests will see there.
//!
//! It is also a [`Sizing`] for the solvers, which otherwise know only capacities that a profile names.
//!
//! ```
//! use wva::core::{Accelerator, Load, Model, ModelProfile, Server, ServiceClass, ServiceTarget, System};
//! use wva::interfaces::ServiceProfile;
//! use wva::modelanalyzer::ModelAnalyzer;
//! use wva::solver::{Constraints, GreedySolver, Solver};
//!
//! let h100 = ServiceProfile {
//!     base: 7.0e-3,
//!     per_prefill_token: 1.9e-5,
//!     per_sequence: 6.3e-6,
//!     per_kv_token: 4.13e-8,
//!     kv_cache_tokens: 372_000.0,
//!     max_batch: 256,
//!     max_batched_tokens: 2048,
//! };
//! let target = ServiceTarget { time_to_first_token: Some(1.0), inter_token_latency: Some(0.05), tokens_per_second: None };
//! let load = Load { arrival_rate: 40.0, mean_input_tokens: 1155.0, mean_output_tokens: 211.0 };
//! let system = System::default()
//!     .with_accelerator(Accelerator::new("H100", 12.0))
//!     .with_model(Model::new("llama").with_profile("H100", ModelProfile::serving(h100)))
//!     .with_service_class(ServiceClass::new("chat", 1).with_target("llama", target))
//!     .with_server(Server::new("chat", "llama").with_class("chat").with_load(load));
//!
//! let analyzer = ModelAnalyzer::default();
//! let on_h100 = &analyzer.minimum_replicas(&system, &system.servers[0])["H100"];
//! let on_h100 = on_h100.as_ref().expect("the target can be met");
//! assert_eq!(on_h100.replicas, 2);
//! assert!(on_h100.time_to_first_token.mean < 1.0 && on_h100.utilization < 1.0);
//!
//! let solution = GreedySolver::new(analyzer).solve(&system, &Constraints::unlimited())?;
//! assert_eq!(solution.servers[0].allocations[0].replicas, 2);
//! # Ok::<(), wva::solver::SolverError>(())
//! ```

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use crate::{
    analyzer::{LatencyStatistics, Lengths, QueueAnalyzer, QueueError, Targets, Workload},
    core::{Accelerator, Load, Model, Server, ServiceClass, Sizing, System},
    optimizer::CapacityCurve,
};

/// Answers from service times and the class's targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelAnalyzer {
    /// Share of requests that must meet the targets.
    pub share: f64,
    /// Coefficient of variation of prompt and output lengths, which loads know by their means alone. Lengths are taken as
    /// lognormal.
    pub length_variation: f64,
}

impl Default for ModelAnalyzer {
    /// 99 % of requests, of lengths that vary as much as those of conversations do.
    fn default() -> Self {
        Self { share: 0.99, length_variation: 1.0 }
    }
}

/// What a server needs on one accelerator.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The least replicas that carry the load within the targets, at least the server's minimum.
    pub replicas: u32,
    /// What they cost.
    pub cost: f64,
    /// Requests per second that one replica carries at most.
    pub rate_per_replica: f64,
    /// The load of each of these replicas over the rate at which it is saturated.
    pub utilization: f64,
    /// What requests see, in seconds.
    pub time_to_first_token: LatencyStatistics,
    /// Likewise.
    pub inter_token_latency: LatencyStatistics,
}

/// Why a server cannot run on an accelerator.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ModelAnalyzerError {
    /// The model, or its profile for this accelerator, is not there.
    #[error("model {model} has no profile for {accelerator}; add one to its profiles")]
    NoProfile {
        /// The model.
        model: String,
        /// The accelerator.
        accelerator: String,
    },
    /// The profile has a capacity, perhaps, but no service times to answer from.
    #[error("the profile of model {model} for {accelerator} has no service times; set its `service`")]
    NoServiceTimes {
        /// The model.
        model: String,
        /// The accelerator.
        accelerator: String,
    },
    /// More replicas than the server may have.
    #[error("{needed} replicas of {server} are needed on {accelerator}, but it may have {most}; raise its maxReplicas")]
    TooMany {
        /// The server.
        server: String,
        /// The accelerator.
        accelerator: String,
        /// Replicas that carry the load.
        needed: u32,
        /// The server's maximum.
        most: u32,
    },
    /// The queueing model has no answer: a target cannot be met, or the load is none.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl ModelAnalyzer {
    /// The least replicas of `server` by itself on each accelerator of `system`, by the accelerator's name.
    pub fn minimum_replicas(
        &self,
        system: &System,
        server: &Server,
    ) -> BTreeMap<String, Result<Requirement, ModelAnalyzerError>> {
        let class = system.class_of(server);
        let on = |accelerator: &Accelerator| {
            (accelerator.name.clone(), self.requirement(system, server, accelerator, &class))
        };
        system.accelerators.iter().map(on).collect()
    }

    fn requirement(
        &self,
        system: &System,
        server: &Server,
        accelerator: &Accelerator,
        class: &ServiceClass,
    ) -> Result<Requirement, ModelAnalyzerError> {
        let model = system.model(&server.model);
        let queue = self.queue(model, server, accelerator)?;
        let rate_per_replica = queue.size(&self.targets(class, &server.model))?.rate;
        let rate = server.load.arrival_rate.max(0.0);
        let needed = (rate / rate_per_replica - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32;
        let replicas = needed.max(server.min_replicas);
        if let Some(most) = server.max_replicas.filter(|most| replicas > *most) {
            let (server, accelerator) = (server.name.clone(), accelerator.name.clone());
            return Err(ModelAnalyzerError::TooMany { server, accelerator, needed: replicas, most });
        }
        let each = queue.analyze(rate / f64::from(replicas.max(1)))?;
        Ok(Requirement {
            replicas,
            cost: f64::from(replicas) * system.replica_cost(server, accelerator),
            rate_per_replica,
            utilization: each.utilization,
            time_to_first_token: each.time_to_first_token,
            inter_token_latency: each.inter_token_latency,
        })
    }

    fn queue(
        &self,
        model: Option<&Model>,
        server: &Server,
        accelerator: &Accelerator,
    ) -> Result<QueueAnalyzer, ModelAnalyzerError> {
        let names = || (server.model.clone(), accelerator.name.clone());
        let profile = model.and_then(|model| model.profiles.get(&accelerator.name)).ok_or_else(|| {
            let (model, accelerator) = names();
            ModelAnalyzerError::NoProfile { model, accelerator }
        })?;
        let service = profile.service.ok_or_else(|| {
            let (model, accelerator) = names();
            ModelAnalyzerError::NoServiceTimes { model, accelerator }
        })?;
        let Load { mean_input_tokens, mean_output_tokens, .. } = server.load;
        let lengths = |mean: f64| Lengths::lognormal(mean, self.length_variation);
        let workload = Workload::new(lengths(mean_input_tokens)?, lengths(mean_output_tokens)?);
        Ok(QueueAnalyzer::new(service, workload)?)
    }

    fn targets(&self, class: &ServiceClass, model: &str) -> Targets {
        let target = class.targets.get(model).copied().unwrap_or_default();
        Targets {
            time_to_first_token: target.time_to_first_token,
            inter_token_latency: target.inter_token_latency,
            tokens_per_second: target.tokens_per_second,
            share: self.share,
        }
    }
}

/// Every replica carries what one alone does. The capacity that a profile names comes first: it was measured.
impl Sizing for ModelAnalyzer {
    fn capacity(
        &self,
        server: &Server,
        model: &Model,
        accelerator: &Accelerator,
        class: &ServiceClass,
    ) -> Option<CapacityCurve> {
        let profile = model.profiles.get(&accelerator.name)?;
        if let Some(known) = &profile.capacity {
            return Some(known.clone());
        }
        let queue = self.queue(Some(model), server, accelerator).ok()?;
        Some(CapacityCurve::linear(queue.size(&self.targets(class, &server.model)).ok()?.rate))
    }
}

#[cfg(test)]
mod tests;
