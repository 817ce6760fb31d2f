//! What is simulated: models under their traces, variants, limits, faults, and the times of the pipeline.
//!
//! A scenario is written as YAML (`--scenario FILE`) or by flags; both give the same structure.

use std::{collections::BTreeMap, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::Deserialize;

use super::{sizing::Sizing, source::LoadSource};
use crate::fleet::{FlowControl, Objective, Picoseconds, Profile, Request};

/// A scenario with every value set.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name, for tables.
    pub name: String,
    /// The models, each with its load and its variants.
    pub models: Vec<ModelScenario>,
    /// When signals are taken and how late they come.
    pub timing: Timing,
    /// Accelerators of a type that exist; types not named are unlimited.
    pub quotas: BTreeMap<String, u32>,
    /// What goes wrong.
    pub faults: Faults,
    /// How wrong the profile is that `wva-profiled` is given: 0.2 tells it that service takes 20 % longer than it does.
    pub profile_error: f64,
}

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelScenario {
    /// Its name.
    pub name: String,
    /// What arrives.
    pub load: LoadSource,
    /// What each request must meet.
    pub objective: Objective,
    /// Share of requests that must meet it.
    pub target: f64,
    /// Importance: 1 is the highest.
    pub priority: u32,
    /// Whether the gateway holds requests while all ready replicas are saturated.
    pub flow_control: Option<FlowControl>,
    /// What serves it.
    pub variants: Vec<VariantScenario>,
}

/// One variant.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantScenario {
    /// Its name.
    pub name: String,
    /// What each replica is.
    pub profile: Profile,
    /// From creation to ready.
    pub cold_start: Duration,
    /// `minReplicas`.
    pub min_replicas: u32,
    /// `maxReplicas`.
    pub max_replicas: u32,
    /// Replicas at the start; `None` is what the first five minutes need.
    pub initial_replicas: Option<u32>,
}

/// The times of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timing {
    /// Between two scrapes.
    #[serde(with = "friendly")]
    pub scrape_interval: Duration,
    /// From a scrape to its samples being seen.
    #[serde(with = "friendly")]
    pub scrape_delay: Duration,
    /// Between two syncs of the HPA.
    #[serde(with = "friendly")]
    pub hpa_sync: Duration,
    /// At the start, nothing is decided for this long.
    #[serde(with = "friendly")]
    pub warm_up: Duration,
    /// After the last arrival, requests may end for this long; what has not ended by then has missed.
    #[serde(with = "friendly")]
    pub drain: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(15),
            scrape_delay: Duration::from_secs(1),
            hpa_sync: Duration::from_secs(15),
            warm_up: Duration::from_secs(60),
            drain: Duration::from_secs(900),
        }
    }
}

/// What goes wrong in the loop.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// Share of pod scrapes that fail, 0 to 1.
    pub scrape_loss: f64,
    /// When nothing can be scraped.
    pub dark: Option<Window>,
    /// The first replica created at or after `at` starts `factor` times slower.
    pub slow_start: Option<Slow>,
    /// The oldest ready replica at `at` works `factor` times slower from then on.
    pub slow_replica: Option<Slow>,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// When it begins.
    #[serde(with = "friendly")]
    pub at: Duration,
    /// How long it lasts.
    #[serde(rename = "for", with = "friendly")]
    pub length: Duration,
}

/// Something slow.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slow {
    /// When.
    #[serde(with = "friendly")]
    pub at: Duration,
    /// How many times slower.
    pub factor: f64,
}

impl Scenario {
    /// What tells it from other scenarios, however it was written and wherever its files lie.
    pub fn key(&self) -> String {
        let models = self.models.iter().map(|model| {
            let load = match &model.load {
                LoadSource::Trace(trace) => {
                    let name =
                        trace.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    let name = name.trim_end_matches(".gz").to_owned();
                    format!("{name} x{} shift {} cached {}", trace.repeat, trace.shift_seconds, trace.prefix_caching)
                }
                LoadSource::Generated(_) => self.name.clone(),
            };
            let variants: Vec<_> = model
                .variants
                .iter()
                .map(|v| format!("{} {:?} {}-{}", v.profile.name, v.cold_start, v.min_replicas, v.max_replicas))
                .collect();
            let Objective { ttft, tpot } = model.objective;
            format!("{load}; {}; {ttft} {} ms {}", variants.join(", "), tpot.as_secs_f64() * 1e3, model.target)
        });
        let mut key = models.collect::<Vec<_>>().join(" | ");
        if !self.quotas.is_empty() {
            key = format!("{key}; quotas {:?}", self.quotas);
        }
        if self.faults != Faults::default() {
            key = format!("{key}; {:?}", self.faults);
        }
        key
    }

    /// All variants, model by model: the order of everything that is per variant.
    pub fn variants(&self) -> impl Iterator<Item = (usize, &VariantScenario)> {
        self.models
            .iter()
            .enumerate()
            .flat_map(|(model, scenario)| scenario.variants.iter().map(move |variant| (model, variant)))
    }
}

impl VariantScenario {
    /// Load that a replica should carry relative to others: the inverse of what a typical request takes.
    pub(super) fn routing_weight(&self) -> f64 {
        let typical = Request::new(Picoseconds::ZERO, 1000, 200);
        let objective = Objective::from_millis(2000, 50);
        1.0 / Sizing::new(&self.profile, &objective).seconds(&typical)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fleet::{GeneratedLoad, LoadSpec, Step, TokenLengths};

    /// Ten minutes of Poisson arrivals on one variant.
    pub(in crate::simulate) fn one_variant() -> Scenario {
        let steps = vec![Step { rate: 10.0, to: None, duration: Some(Duration::from_secs(600)) }];
        let lengths = (TokenLengths::Fixed(1000), TokenLengths::Fixed(200));
        let load = GeneratedLoad { steps, ..GeneratedLoad::constant(10.0, lengths.0, lengths.1) };
        Scenario {
            name: "test".to_owned(),
            models: vec![ModelScenario {
                name: "model".to_owned(),
                load: LoadSource::Generated(LoadSpec::Poisson(load)),
                objective: Objective::from_millis(1000, 50),
                target: 0.99,
                priority: 1,
                flow_control: None,
                variants: vec![VariantScenario {
                    name: "h100".to_owned(),
                    profile: Profile::built_in("llama-3.1-8b-h100").unwrap(),
                    cold_start: Duration::from_secs(60),
                    min_replicas: 1,
                    max_replicas: 10,
                    initial_replicas: Some(1),
                }],
            }],
            timing: Timing::default(),
            quotas: BTreeMap::new(),
            faults: Faults::default(),
            profile_error: 0.0,
        }
    }
}
