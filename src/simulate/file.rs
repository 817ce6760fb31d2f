//! A scenario as it is written:
//!
//! ```yaml
//! name: chat
//! models:
//! - trace: { file: traces/azure2023_conv.csv.gz, repeat: 20 }
//!   profiles: [llama-3.1-8b-h100]
//!   ttft: 1s
//!   itl: 50ms
//! ```
//!
//! Files are named relative to the scenario's own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::Deserialize;

use super::{
    scenario::{Faults, ModelScenario, Scenario, Timing, VariantScenario},
    source::LoadSource,
    trace::TraceSource,
};
use crate::fleet::{FlowControl, LoadSpec, Objective, Profile};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScenarioFile {
    name: String,
    models: Vec<ModelFile>,
    #[serde(default)]
    timing: Timing,
    #[serde(default)]
    quotas: BTreeMap<String, u32>,
    #[serde(default)]
    faults: Faults,
    #[serde(default)]
    profile_error: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ModelFile {
    #[serde(default = "default_name")]
    name: String,
    #[serde(default)]
    trace: Option<TraceFile>,
    #[serde(default)]
    load: Option<LoadSpec>,
    profiles: Vec<String>,
    #[serde(with = "friendly")]
    ttft: Duration,
    #[serde(with = "friendly")]
    itl: Duration,
    #[serde(default = "default_target")]
    target: f64,
    #[serde(default = "default_priority")]
    priority: u32,
    #[serde(default)]
    flow_control: Option<FlowControl>,
    #[serde(default = "default_cold_start", with = "friendly")]
    cold_start: Duration,
    #[serde(default = "default_min")]
    min_replicas: u32,
    #[serde(default = "default_max")]
    max_replicas: u32,
    #[serde(default)]
    initial_replicas: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TraceFile {
    file: PathBuf,
    #[serde(default = "default_priority")]
    repeat: u32,
    #[serde(default, with = "friendly")]
    shift: Duration,
    #[serde(default)]
    prefix_caching: bool,
}

fn default_name() -> String {
    "model".to_owned()
}

fn default_target() -> f64 {
    0.99
}

fn default_priority() -> u32 {
    1
}

fn default_cold_start() -> Duration {
    Duration::from_secs(120)
}

fn default_min() -> u32 {
    1
}

fn default_max() -> u32 {
    40
}

/// Reads a scenario.
pub(super) fn read(file: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(file).with_context(|| format!("scenario {} cannot be read", file.display()))?;
    let written: ScenarioFile =
        serde_saphyr::from_str(&text).with_context(|| format!("scenario {} makes no sense", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    resolve(written, folder).with_context(|| format!("scenario {} makes no sense", file.display()))
}

fn resolve(written: ScenarioFile, folder: &Path) -> anyhow::Result<Scenario> {
    let several = written.models.len() > 1;
    let models = written.models.into_iter().map(|model| resolve_model(model, folder, several));
    Ok(Scenario {
        name: written.name,
        models: models.collect::<anyhow::Result<_>>()?,
        timing: written.timing,
        quotas: written.quotas,
        faults: written.faults,
        profile_error: written.profile_error,
    })
}

fn resolve_model(model: ModelFile, folder: &Path, several: bool) -> anyhow::Result<ModelScenario> {
    let load = match (model.trace, model.load) {
        (Some(trace), None) => LoadSource::Trace(TraceSource {
            file: folder.join(trace.file),
            repeat: trace.repeat.max(1),
            shift_seconds: trace.shift.as_secs_f64(),
            prefix_caching: trace.prefix_caching,
        }),
        (None, Some(load)) => LoadSource::Generated(load),
        _ => anyhow::bail!("model {:?} needs either a trace or a load", model.name),
    };
    anyhow::ensure!(!model.profiles.is_empty(), "model {:?} needs at least one profile", model.name);
    let variants = model.profiles.iter().map(|name| {
        Ok(VariantScenario {
            // Variants of different models may have the same profile.
            name: if several { format!("{}-{name}", model.name) } else { name.clone() },
            profile: built_in(name)?,
            cold_start: model.cold_start,
            min_replicas: model.min_replicas,
            max_replicas: model.max_replicas,
            initial_replicas: model.initial_replicas,
        })
    });
    Ok(ModelScenario {
        load,
        objective: Objective { ttft: model.ttft.into(), tpot: model.itl.into() },
        target: model.target,
        priority: model.priority,
        flow_control: model.flow_control,
        variants: variants.collect::<anyhow::Result<_>>()?,
        name: model.name,
    })
}

/// A built-in profile, or the one in the file of that name.
pub(super) fn built_in(name: &str) -> anyhow::Result<Profile> {
    if let Some(profile) = Profile::built_in(name) {
        return Ok(profile);
    }
    let names: Vec<_> = Profile::built_in_names().collect();
    let text = std::fs::read_to_string(name)
        .with_context(|| format!("profile {name:?} is neither built in ({}) nor a file", names.join(", ")))?;
    serde_saphyr::from_str(&text).with_context(|| format!("profile {name} makes no sense"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> anyhow::Result<Scenario> {
        resolve(serde_saphyr::from_str(text)?, Path::new("folder"))
    }

    #[test]
    fn a_scenario_is_read_with_its_defaults_and_files_beside_it() {
        let text = "
name: chat
models:
- trace: { file: a.csv.gz, repeat: 20 }
  profiles: [llama-3.1-8b-h100, llama-3.1-8b-l40s]
  ttft: 1s
  itl: 50ms
faults: { scrapeLoss: 0.1, dark: { at: 10m, for: 5m } }
";
        let scenario = parsed(text).unwrap();
        let model = &scenario.models[0];
        let source = TraceSource { repeat: 20, ..TraceSource::new("folder/a.csv.gz") };
        assert_eq!(model.load, LoadSource::Trace(source));
        assert_eq!((model.variants.len(), model.variants[1].max_replicas, model.target), (2, 40, 0.99));
        assert_eq!(model.objective, Objective::from_millis(1000, 50));
        assert_eq!(scenario.faults.dark.unwrap().length, Duration::from_secs(300));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let with =
            |line: &str| format!("name: x\nmodels:\n- profiles: [llama-3.1-8b-h100]\n  ttft: 1s\n  itl: 50ms\n{line}");
        for (text, message) in [
            (with(""), "needs either a trace or a load"),
            (with("  trace: { file: a, copies: 2 }\n"), "copies"),
            (with("  trace: { file: a }\nfault: {}\n"), "fault"),
            (with("  trace: { file: a }\n").replace("8b-h100", "8b-tpu"), "llama-3.1-8b-tpu"),
        ] {
            let error = format!("{:#}", parsed(&text).unwrap_err());
            assert!(error.contains(message), "{error}\nshould contain {message}");
        }
    }
}
