//! The benchmark of decisions behind `hack/bench-decisions`: all scenarios, all policies, several seeds; the searches for
//! what they are compared with; and the documents made from them.

mod document;
mod known;
mod search;
mod suite;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

pub(super) use self::known::Known;
#[cfg(test)]
pub(super) use self::search::run as run_one;
use self::suite::Entry;
use super::{
    plot::{self, Mark},
    scenario::Scenario,
};

/// Names of policies that leave out a part of ours, or are told the future, begin so; they have a table of their own.
const ABLATION: &str = "wva-with";

/// Compare all policies on all scenarios of a folder, and put the results into the documents.
#[derive(Clone, Debug, Args)]
pub struct BenchDecisionsArgs {
    /// Folder of the scenarios; what searches found is in its `known.json`.
    #[arg(long, default_value = "scenarios", value_name = "FOLDER")]
    pub scenarios: PathBuf,
    /// Only scenarios whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Only these policies; `wva-*` are all that begin so. Ablations
    /// (`wva-without-*`, `wva-with-*`) run only if they are named.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub policies: Vec<String>,
    /// Seeds that `wva` runs on.
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    pub seeds: u64,
    /// Search for the best-known plans and the rivals' best settings anew.
    #[arg(long)]
    pub retune: bool,
    /// Document whose marked parts are replaced; without, everything is printed.
    #[arg(long, value_name = "FILE")]
    pub document: Option<PathBuf>,
    /// Where the overview plot goes.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Where the results go as JSON. Of what is there, results that this run does not make anew stay.
    #[arg(long, value_name = "FILE.json")]
    pub results: Option<PathBuf>,
}

/// Runs the benchmark.
///
/// # Errors
/// When a scenario, a trace or a document cannot be read or written.
pub fn run(args: &BenchDecisionsArgs) -> anyhow::Result<()> {
    let mut scenarios = suite::scenarios(&args.scenarios)?;
    if let Some(only) = &args.only {
        scenarios.retain(|scenario| scenario.name.contains(only.as_str()));
    }
    anyhow::ensure!(!scenarios.is_empty(), "there is no scenario in {}", args.scenarios.display());
    let file = args.scenarios.join("known.json");
    let mut known = Known::read(&file)?;
    if args.retune {
        for scenario in &scenarios {
            let tell = |what: &str| eprintln!("{}: {what}", scenario.name);
            known.scenarios.insert(scenario.key(), search::search(scenario, 1, tell)?);
            known.write(&file)?;
        }
    }
    let entries =
        if args.seeds == 0 { Vec::new() } else { suite::run(&scenarios, &known, &args.policies, args.seeds)? };
    let scenarios = suite::scenarios(&args.scenarios)?;
    publish(args, &scenarios, &known, &beside_kept(args, &scenarios, &known, entries)?)
}

/// `entries`, after those of the results' file that are older: ours first, as they were.
fn beside_kept(
    args: &BenchDecisionsArgs,
    scenarios: &[Scenario],
    known: &Known,
    mut entries: Vec<Entry>,
) -> anyhow::Result<Vec<Entry>> {
    let Some(file) = args.results.as_ref().filter(|file| file.exists()) else { return Ok(entries) };
    let text = std::fs::read_to_string(file)?;
    let mut all: Vec<Entry> = serde_json::from_str(&text)
        .with_context(|| format!("{} holds no results: remove it to begin anew", file.display()))?;
    for kept in &mut all {
        let is_same = |entry: &Entry| (&entry.scenario, &entry.policy) == (&kept.scenario, &kept.policy);
        match (entries.iter().position(is_same), scenarios.iter().find(|scenario| scenario.name == kept.scenario)) {
            (Some(newer), _) => *kept = entries.remove(newer),
            // The best-known plan may have changed since.
            (None, Some(scenario)) => kept.rate(scenario, known),
            (None, None) => {}
        }
    }
    all.retain(|entry| scenarios.iter().any(|scenario| scenario.name == entry.scenario));
    all.extend(entries);
    Ok(all)
}

fn publish(args: &BenchDecisionsArgs, scenarios: &[Scenario], known: &Known, entries: &[Entry]) -> anyhow::Result<()> {
    let is_ablation = |entry: &Entry| entry.policy.starts_with(ABLATION);
    let compared = document::table(scenarios, entries.iter().filter(|entry| !is_ablation(entry)));
    let ablations =
        document::table(scenarios, entries.iter().filter(|entry| entry.policy == "wva" || is_ablation(entry)));
    let references = document::references(scenarios, known);
    match &args.document {
        Some(file) => {
            document::replace(file, "decisions", &compared)?;
            document::replace(file, "ablations", &ablations)?;
            document::replace(file, "references", &references)?;
        }
        None => print!("{compared}\n{ablations}\n{references}"),
    }
    if let Some(file) = &args.plot {
        std::fs::write(file, plot::overview(&marks(entries))?)?;
    }
    if let Some(file) = &args.results {
        std::fs::write(file, serde_json::to_string_pretty(entries)? + "\n")?;
    }
    Ok(())
}

fn marks(entries: &[Entry]) -> Vec<Mark> {
    let mark = |entry: &Entry| {
        Some(Mark {
            policy: entry.policy.clone(),
            scenario: entry.scenario.clone(),
            attainment: entry.attainment.mean,
            cost_ratio: entry.cost_ratio?,
        })
    };
    entries.iter().filter(|entry| !entry.policy.starts_with(ABLATION)).filter_map(mark).collect()
}

/// The stored best setting of a rival, or the result of a search.
pub(super) fn tuned(scenario: &Scenario, name: super::policy::PolicyName, seed: u64) -> anyhow::Result<Option<f64>> {
    let shipped = Known::shipped();
    let stored = shipped.of(scenario).and_then(|searched| searched.tunings.get(name.as_str())).copied();
    let found = match stored {
        Some(stored) => Some(stored),
        None => search::tune(scenario, name, seed)?,
    };
    Ok(found.map(|tuning| tuning.knob))
}
