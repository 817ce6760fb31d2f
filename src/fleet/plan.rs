//! Which model gets which load: the content of a load file and of `POST /load`.

use std::{sync::Arc, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::Deserialize;
use thiserror::Error;

use super::{
    load::{Load, LoadError, LoadSpec},
    models::Fleet,
    request::Objective,
    router::FlowControl,
};
use crate::interfaces::ModelKey;

/// Loads by model, as YAML or JSON:
///
/// ```yaml
/// models:
/// - model: meta-llama/Llama-3.1-8B-Instruct
///   objective: { ttft: 1s, tpot: 50ms }
///   load:
///     poisson:
///       steps: [{ rate: 10 }]
///       promptTokens: { fixed: 1000 }
///       outputTokens: { fixed: 200 }
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadPlan {
    /// The models. Those not named keep the load they have.
    pub models: Vec<ModelLoad>,
}

/// The load of one model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelLoad {
    /// Name of the model, as its engines' `model_name`.
    pub model: Arc<str>,
    /// Namespace of its variants.
    #[serde(default = "default_namespace")]
    pub namespace: Arc<str>,
    /// What requests must meet; without, one second to the first token and 50 ms for each after it.
    #[serde(default)]
    pub objective: Option<ObjectiveSpec>,
    /// Whether the gateway holds requests while all ready replicas are saturated.
    #[serde(default)]
    pub flow_control: Option<FlowControl>,
    /// The load, from now on; without, no more requests arrive.
    #[serde(default)]
    pub load: Option<LoadSpec>,
}

fn default_namespace() -> Arc<str> {
    "default".into()
}

/// An objective as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectiveSpec {
    /// Longest time to first token, such as `1s`.
    #[serde(with = "friendly")]
    pub ttft: Duration,
    /// Longest mean time per output token, such as `50ms`.
    #[serde(with = "friendly")]
    pub tpot: Duration,
}

/// Why a plan cannot be followed.
#[derive(Debug, Error)]
pub enum PlanError {
    /// It is not the YAML or JSON expected.
    #[error("the load plan is not understood: {0}")]
    Syntax(String),
    /// A model's load makes no sense.
    #[error("load of {key}: {source}")]
    Load {
        /// The model.
        key: ModelKey,
        /// What is wrong.
        source: LoadError,
    },
}

/// A plan whose loads are prepared: traces are read, and nothing can fail any more.
#[derive(Debug)]
pub struct PreparedPlan(Vec<(ModelKey, Objective, Option<FlowControl>, Option<Load>)>);

impl LoadPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// When it is not valid YAML or JSON, or has unknown keys.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        serde_saphyr::from_str(text).map_err(|error| PlanError::Syntax(error.to_string()))
    }

    /// Prepares every load. Reads traces, so it may take a while.
    ///
    /// # Errors
    /// When one makes no sense or its trace cannot be read.
    pub fn prepare(&self) -> Result<PreparedPlan, PlanError> {
        let prepared = self.models.iter().map(|model| {
            let key = ModelKey::new(model.namespace.clone(), model.model.clone());
            let load = model.load.as_ref().map(Load::new).transpose();
            let load = load.map_err(|source| PlanError::Load { key: key.clone(), source })?;
            let objective = model.objective.map_or_else(Objective::default, |objective| Objective {
                ttft: objective.ttft.into(),
                tpot: objective.tpot.into(),
            });
            Ok((key, objective, model.flow_control, load))
        });
        prepared.collect::<Result<_, _>>().map(PreparedPlan)
    }
}

impl PreparedPlan {
    /// Puts the models under their loads, starting now.
    pub fn apply(self, fleet: &mut Fleet) {
        for (key, objective, flow_control, load) in self.0 {
            let pool = fleet.pool_or_new(&key);
            pool.set_objective(objective);
            pool.set_flow_control(flow_control);
            fleet.set_load(&key, load);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Picoseconds;

    #[test]
    fn a_plan_starts_and_stops_the_loads_it_names_and_no_others() {
        let plan = |text: &str| LoadPlan::parse(text).unwrap().prepare().unwrap();
        let regular = "regular: { steps: [{ rate: 1 }], promptTokens: { fixed: 9 }, outputTokens: { fixed: 9 } }";
        let mut fleet = Fleet::default();
        plan(&format!(
            "models: [{{ model: a, load: {{ {regular} }} }}, {{ model: b, namespace: n, load: {{ {regular} }} }}]"
        ))
        .apply(&mut fleet);
        fleet.advance_to(Picoseconds::from_millis(10_000));
        plan(r#"{"models": [{"model": "a"}]}"#).apply(&mut fleet);
        fleet.advance_to(Picoseconds::from_millis(20_000));

        let arrived =
            |namespace: &str, model: &str| fleet.pool(&ModelKey::new(namespace, model)).unwrap().attainment().arrived;
        assert_eq!((arrived("default", "a"), arrived("n", "b")), (10, 20));
    }

    #[test]
    fn errors_say_which_key_or_which_model() {
        let syntax = LoadPlan::parse("models: [{ model: a, laod: {} }]").unwrap_err().to_string();
        assert!(syntax.starts_with("the load plan is not understood: ") && syntax.contains("laod"), "{syntax}");
        let missing = LoadPlan::parse("models: [{ model: a, load: { trace: { file: no.csv } } }]").unwrap();
        let message = missing.prepare().unwrap_err().to_string();
        assert!(message.starts_with("load of a in namespace default: trace no.csv: "), "{message}");
    }
}
