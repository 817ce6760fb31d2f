//! Every scenario, every policy, several seeds.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::{
    known::Known,
    search::{self, attainment, cost},
};
use crate::simulate::{
    file,
    policy::{Named, PolicyName},
    scenario::Scenario,
};

/// Rivals run on so many seeds, ours on all.
const SEEDS_OF_RIVALS: u64 = 3;

/// One policy on one scenario over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::simulate) struct Entry {
    pub(in crate::simulate) scenario: String,
    pub(in crate::simulate) policy: String,
    pub(in crate::simulate) attainment: Estimate,
    /// After the first 15 minutes.
    pub(in crate::simulate) attainment_after_learning: Estimate,
    pub(in crate::simulate) cost: Estimate,
    /// Mean cost over that of the best-known plan.
    pub(in crate::simulate) cost_ratio: Option<f64>,
    pub(in crate::simulate) scale_actions: f64,
}

impl Entry {
    /// Compares the cost with the best plan that is known of `scenario`.
    pub(super) fn rate(&mut self, scenario: &Scenario, known: &Known) {
        let best = known.of(scenario).map(|searched| searched.best_known.cost).filter(|cost| *cost > 0.0);
        self.cost_ratio = best.map(|best| self.cost.mean / best);
    }
}

/// A mean over seeds with the half width of its 95 % confidence interval (Student's t).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::simulate) struct Estimate {
    pub(in crate::simulate) mean: f64,
    pub(in crate::simulate) half_width: f64,
    pub(in crate::simulate) seeds: usize,
}

/// 97.5 % quantiles of Student's t by degrees of freedom, from 1.
const STUDENT_T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

impl Estimate {
    pub(in crate::simulate) fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let half_width = if values.len() < 2 {
            0.0
        } else {
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let t = STUDENT_T.get(values.len() - 2).copied().unwrap_or(1.96);
            t * (variance / count).sqrt()
        };
        Self { mean, half_width, seeds: values.len() }
    }
}

/// The scenarios of a folder, by file name.
pub(in crate::simulate) fn scenarios(folder: &Path) -> anyhow::Result<Vec<Scenario>> {
    let listed = std::fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut files: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().map(|file| file::read(file)).collect()
}

/// One run of the suite.
struct Job<'a> {
    scenario: &'a Scenario,
    label: String,
    policy: Named,
    seed: u64,
}

type Result3 = (f64, f64, f64, f64);

/// Runs the suite on as many threads as there are cores, for the policies that `only` names, with `*` at the end for all
/// that begin so; for all but ablations, if it names none.
pub(in crate::simulate) fn run(
    scenarios: &[Scenario],
    known: &Known,
    only: &[String],
    seeds: u64,
) -> anyhow::Result<Vec<Entry>> {
    let mut jobs = Vec::new();
    for scenario in scenarios {
        for (label, policy) in policies(scenario, known) {
            if !is_asked_for(only, &label, policy.name) {
                continue;
            }
            let is_ours = matches!(policy.name, PolicyName::Wva | PolicyName::WvaProfiled);
            for seed in 1..=if is_ours { seeds } else { seeds.min(SEEDS_OF_RIVALS) } {
                jobs.push(Job { scenario, label: label.clone(), policy, seed });
            }
        }
    }
    let results = run_all(&jobs)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut start = 0;
    while start < jobs.len() {
        let same = |job: &Job<'_>| job.label == jobs[start].label && job.scenario.name == jobs[start].scenario.name;
        let end = start + jobs[start..].iter().take_while(|job| same(job)).count();
        entries.push(entry(&jobs[start], &results[start..end], known));
        start = end;
    }
    Ok(entries)
}

fn is_asked_for(only: &[String], label: &str, name: PolicyName) -> bool {
    if only.is_empty() {
        return !name.is_ablation();
    }
    only.iter().any(|asked| asked.strip_suffix('*').map_or(label == asked, |beginning| label.starts_with(beginning)))
}

fn policies(scenario: &Scenario, known: &Known) -> Vec<(String, Named)> {
    let names = PolicyName::ALL.into_iter().chain(PolicyName::ablations()).chain(PolicyName::told());
    let mut policies: Vec<_> = names.map(|name| (name.as_str().to_owned(), Named { name, knob: None })).collect();
    for (name, tuning) in known.of(scenario).map(|searched| &searched.tunings).into_iter().flatten() {
        if let Ok(policy) = name.parse::<Named>() {
            policies.push((format!("{name}-tuned"), Named { knob: Some(tuning.knob), ..policy }));
        }
    }
    policies
}

fn run_all(jobs: &[Job<'_>]) -> anyhow::Result<Vec<Result3>> {
    let bar = ProgressBar::new(jobs.len() as u64);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; jobs.len()]);
    let failure = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, job)) = take(&next, jobs) {
                    match one(job) {
                        Ok(result) => results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result),
                        Err(error) => {
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(results.into_iter().flatten().collect())
}

fn take<'a, T>(next: &AtomicUsize, jobs: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, jobs.get(index)?))
}

fn one(job: &Job<'_>) -> anyhow::Result<Result3> {
    let outcome = search::run(job.scenario, job.policy, job.seed)?;
    let after: Vec<f64> =
        outcome.models.iter().filter_map(super::super::ModelOutcome::attainment_after_learning).collect();
    let after = if after.is_empty() { attainment(&outcome) } else { after.iter().sum::<f64>() / after.len() as f64 };
    let actions = outcome.models.iter().map(|model| model.scale_actions as f64).sum();
    Ok((attainment(&outcome), after, cost(&outcome), actions))
}

fn entry(job: &Job<'_>, results: &[Result3], known: &Known) -> Entry {
    let of = |part: fn(&Result3) -> f64| Estimate::of(&results.iter().map(part).collect::<Vec<_>>());
    let mut entry = Entry {
        scenario: job.scenario.name.clone(),
        policy: job.label.clone(),
        attainment: of(|result| result.0),
        attainment_after_learning: of(|result| result.1),
        cost: of(|result| result.2),
        cost_ratio: None,
        scale_actions: of(|result| result.3).mean,
    };
    entry.rate(job.scenario, known);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_asked_for_by_name_or_beginning_and_ablations_only_so() {
        let asked = |only: &[&str], policy: &str| {
            let only: Vec<String> = only.iter().map(ToString::to_string).collect();
            is_asked_for(&only, policy, policy.parse::<Named>().unwrap().name)
        };
        assert!(asked(&[], "wva") && asked(&["apa", "wva"], "wva") && asked(&["wva-*"], "wva-without-outlook"));
        assert!(!asked(&["wva"], "wva-profiled") && !asked(&[], "wva-without-outlook") && !asked(&["wva-*"], "wva"));
    }

    #[test]
    fn the_half_width_is_that_of_students_t() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0]);
        assert!((estimate.mean - 2.0).abs() < 1e-12);
        assert!((estimate.half_width - 4.303 / 3.0_f64.sqrt()).abs() < 1e-9);
        assert_eq!(Estimate::of(&[4.0]), Estimate { mean: 4.0, half_width: 0.0, seeds: 1 });
    }
}
