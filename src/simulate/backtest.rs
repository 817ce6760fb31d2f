//! `--snapshots DIR`: recorded snapshots through the decision core again, with another configuration perhaps. What would
//! have been asked for stands beside what was set.
//!
//! What was not asked for did not happen: later snapshots still show the load as the replicas of then carried it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use serde::Serialize;

use crate::{
    engines::{self, State},
    interfaces::{Decision, Outcome, Snapshot, TargetObservation, VariantKey, age},
    snapshot::Parameters,
};

/// A longer gap between two snapshots is one in the recording and counts for no replica.
const LONGEST_GAP: Duration = Duration::from_secs(300);

/// One variant over the whole recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BacktestRow {
    /// Namespace and name.
    pub variant: String,
    /// Snapshots it is in.
    pub snapshots: u64,
    /// Hours that they cover.
    pub hours: f64,
    /// What was set.
    pub recorded: Usage,
    /// What would have been asked for.
    pub backtested: Usage,
    /// Snapshots on which no number would have been served.
    pub withheld: u64,
}

/// Replicas over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Replicas times hours.
    pub replica_hours: f64,
    /// The same times the variant's cost.
    pub cost: f64,
    /// Greatest number.
    pub max_replicas: u32,
    /// Changes of the number.
    pub changes: u64,
    #[serde(skip)]
    last: Option<u32>,
}

impl Usage {
    fn add(&mut self, replicas: u32, hours: f64, cost: f64) {
        self.replica_hours += f64::from(replicas) * hours;
        self.cost += f64::from(replicas) * hours * cost;
        self.max_replicas = self.max_replicas.max(replicas);
        self.changes += u64::from(self.last.is_some_and(|last| last != replicas));
        self.last = Some(replicas);
    }
}

/// Replays the snapshots of a folder: files `.json` or `.jsonl`, also gzipped, one snapshot a line or a file.
///
/// # Errors
/// When a file cannot be read or holds something other than snapshots.
pub fn backtest(folder: &Path, parameters: Option<&dyn Parameters>) -> anyhow::Result<Vec<BacktestRow>> {
    let mut snapshots = Vec::new();
    for file in files(folder)? {
        read(&file, &mut snapshots).with_context(|| format!("{} holds no snapshots", file.display()))?;
    }
    anyhow::ensure!(!snapshots.is_empty(), "there is no snapshot in {}", folder.display());
    snapshots.sort_by_key(|snapshot| snapshot.taken_at);
    Ok(replay(snapshots, parameters))
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut files: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let extension = |file: &Path| file.extension().map(|extension| extension.to_string_lossy().into_owned());
    files.retain(|file| {
        let is_gzipped = extension(file).as_deref() == Some("gz");
        let bare = if is_gzipped { file.with_extension("") } else { file.clone() };
        matches!(extension(&bare).as_deref(), Some("json" | "jsonl"))
    });
    files.sort();
    Ok(files)
}

fn read(file: &Path, snapshots: &mut Vec<Snapshot>) -> anyhow::Result<()> {
    let opened = File::open(file)?;
    let is_gzipped = file.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if is_gzipped { Box::new(MultiGzDecoder::new(opened)) } else { Box::new(opened) };
    let mut reader = BufReader::new(reader);
    // Whole documents one after the other, whether on a line each or not.
    while !reader.fill_buf()?.is_empty() {
        for snapshot in serde_json::Deserializer::from_reader(&mut reader).into_iter::<Snapshot>() {
            snapshots.push(snapshot?);
        }
    }
    Ok(())
}

fn replay(snapshots: Vec<Snapshot>, parameters: Option<&dyn Parameters>) -> Vec<BacktestRow> {
    let mut rows: BTreeMap<VariantKey, BacktestRow> = BTreeMap::new();
    let mut state = State::default();
    let mut before = None;
    for mut snapshot in snapshots {
        if let Some(parameters) = parameters {
            configure(&mut snapshot, parameters);
        }
        let gap = before.map_or(Duration::ZERO, |before| age(snapshot.taken_at, before));
        let hours = if gap > LONGEST_GAP { 0.0 } else { gap.as_secs_f64() / 3600.0 };
        before = Some(snapshot.taken_at);
        let (next, decisions) = engines::step(&state, &snapshot);
        state = next;
        for decision in &decisions {
            account(&mut rows, &snapshot, decision, hours);
        }
    }
    rows.into_values().collect()
}

/// Puts other parameters in the place of those that were in force.
fn configure(snapshot: &mut Snapshot, parameters: &dyn Parameters) {
    let models: Vec<_> = snapshot.variants.iter().map(|variant| variant.variant.model.clone()).collect();
    snapshot.ages = parameters.ages();
    snapshot.saturation = parameters.saturation();
    snapshot.saturation_per_model.clear();
    for model in models {
        let own = parameters.saturation_of(&model);
        if own != snapshot.saturation {
            snapshot.saturation_per_model.insert(model.clone(), own);
        }
        if let Some(objective) = parameters.objective_of(&model) {
            snapshot.objectives.insert(model, objective);
        }
    }
}

fn account(rows: &mut BTreeMap<VariantKey, BacktestRow>, snapshot: &Snapshot, decision: &Decision, hours: f64) {
    let observed = snapshot.variants.iter().find(|observation| observation.variant.key == decision.variant);
    let Some(observed) = observed else { return };
    let row = rows.entry(decision.variant.clone()).or_default();
    row.variant = decision.variant.to_string();
    row.snapshots += 1;
    row.hours += hours;
    let cost = observed.variant.cost;
    let TargetObservation::Found(scale) = &observed.target else {
        row.withheld += 1;
        return;
    };
    row.recorded.add(scale.spec, hours, cost);
    match &decision.outcome {
        Outcome::Desired(desired) => row.backtested.add(desired.replicas, hours, cost),
        Outcome::Withheld(_) => {
            row.withheld += 1;
            // The HPA holds what there is.
            row.backtested.add(row.backtested.last.unwrap_or(scale.spec), hours, cost);
        }
    }
}
