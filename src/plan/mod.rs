//! `wva plan`: decides again on a recorded snapshot, as it was or as it might have been.
//!
//! ```text
//! file ─► Recording ─► what-if ─► engines::step ─► table or JSON
//! ```
//!
//! Without a what-if it is what `wva serve` did: the same state, the same snapshot, the same decisions.

mod output;
#[cfg(test)]
mod tests;
mod what_if;

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

pub use self::what_if::WhatIf;
use crate::{
    capacity::{self, Effort},
    engines::{self, State},
    interfaces::{Decision, Snapshot},
    recording::{Recording, schema},
};

/// Decide again on a recorded snapshot.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Recording of `wva serve` (recording.directory), or a snapshot in JSON or YAML; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "print_schema")]
    snapshot: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Print the JSON schema of recordings and snapshots, and do nothing else
    #[arg(long)]
    print_schema: bool,
    #[command(flatten)]
    what_if: WhatIf,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// What was decided, and what would have been.
#[derive(Clone, Debug)]
struct Plan {
    /// As it was, or would have been decided on it as it was.
    before: Arc<Snapshot>,
    /// With the changes.
    after: Snapshot,
    /// Decisions on [`Self::before`].
    replayed: Vec<Decision>,
    /// Decisions on [`Self::after`].
    decisions: Vec<Decision>,
    /// Whether [`Self::replayed`] are the decisions that were served; `None` where the file has none.
    is_as_served: Option<bool>,
    /// The changes, as clauses.
    changes: Vec<String>,
}

/// Runs `wva plan`.
///
/// # Errors
/// When the file cannot be read, or a change names what is not in it.
pub fn run(args: &PlanArgs) -> anyhow::Result<()> {
    if args.print_schema {
        return output::print(&format!("{}\n", serde_json::to_string_pretty(&schema())?));
    }
    let Some(path) = &args.snapshot else { bail!("--snapshot names no file") };
    let recording = read(path).with_context(|| format!("cannot plan on {}", path.display()))?;
    let plan = plan(recording, &args.what_if)?;
    match args.output {
        Output::Table => output::print(&output::table(&plan)),
        Output::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&output::document(&plan))?)),
    }
}

fn read(path: &PathBuf) -> anyhow::Result<Recording> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().read_to_end(&mut bytes).context("standard input cannot be read")?;
    } else {
        bytes = fs::read(path).context("the file cannot be read")?;
    }
    Ok(Recording::read(&bytes)?)
}

fn plan(recording: Recording, what_if: &WhatIf) -> anyhow::Result<Plan> {
    let Recording { state, snapshot, decisions: served } = recording;
    let (_, replayed) = engines::step(&state, &snapshot);
    let is_as_served = (!served.is_empty()).then(|| served == replayed);
    let mut after = (*snapshot).clone();
    let changes = what_if.apply(&mut after)?;
    let decisions = match (changes.is_empty(), what_if.asks_for_curves()) {
        (true, _) => replayed.clone(),
        (false, false) => engines::step(&state, &after).1,
        (false, true) => decide_with_curves(&state, &mut after),
    };
    Ok(Plan { before: snapshot, after, replayed, decisions, is_as_served, changes })
}

/// With other objectives the engine asks for other capacity curves; `wva serve` would compute them in the background.
fn decide_with_curves(state: &State, snapshot: &mut Snapshot) -> Vec<Decision> {
    let (asking, decisions) = engines::step(state, snapshot);
    let unanswered: Vec<_> =
        asking.questions().filter(|question| !snapshot.curves.contains_key(*question)).cloned().collect();
    if unanswered.is_empty() {
        return decisions;
    }
    for question in unanswered {
        let curve = capacity::simulated(&question, &Effort::default());
        snapshot.curves.insert(question, Arc::new(curve));
    }
    engines::step(state, snapshot).1
}
