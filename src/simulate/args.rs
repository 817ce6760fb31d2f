//! Flags of `wva simulate`, and what it does.

use std::{
    fs::File,
    io::{BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    backtest,
    bench::{self, Known},
    clairvoyant, file, initial,
    outcome::{Outcome, Row},
    output,
    policy::Named,
    report,
    run::{Progress, Simulation},
    scenario::{Faults, ModelScenario, Scenario, Timing, VariantScenario},
    source::LoadSource,
    trace::TraceSource,
};
use crate::{
    config::{Config, Document, Layer},
    fleet::{FlowControl, Objective},
    interfaces::Snapshot,
    snapshot::Parameters,
};

/// Bisection steps of the clairvoyant that costs compare with where no plan is stored.
const CLAIRVOYANT_STEPS: u32 = 7;

/// Measure scaling policies on a request trace: SLO attainment and cost, on a simulated fleet and clock.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Trace of requests: CSV `t_seconds,prompt_tokens,output_tokens`, gzipped if the name ends in `.gz`.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["scenario", "snapshots"])]
    pub trace: Option<PathBuf>,
    /// Scenario as a file, with several models, quotas and faults, in place of the flags for trace, profiles and objective.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trace", "profiles"])]
    pub scenario: Option<PathBuf>,
    /// How often each request arrives; copies move by up to 30 s.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub repeat: u32,
    /// Profiles of the variants: names of built-in ones, or files.
    #[arg(long, value_delimiter = ',', required_unless_present_any = ["scenario", "snapshots"], value_name = "NAME")]
    pub profiles: Vec<String>,
    /// Longest time to first token.
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = duration)]
    pub ttft: Duration,
    /// Longest mean time between tokens of a request.
    #[arg(long, default_value = "75ms", value_name = "DURATION", value_parser = duration)]
    pub itl: Duration,
    /// Share of requests that must meet both.
    #[arg(long, default_value_t = 0.99, value_name = "SHARE")]
    pub target: f64,
    /// From the creation of a replica until it is ready.
    #[arg(long, default_value = "120s", value_name = "DURATION", value_parser = duration)]
    pub cold_start: Duration,
    /// Least number of replicas of a variant.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub min_replicas: u32,
    /// Replicas of each variant at the start [default: what the first five minutes need].
    #[arg(long, value_name = "NUMBER")]
    pub initial_replicas: Option<u32>,
    /// Greatest number of replicas of a variant.
    #[arg(long, default_value_t = 40, value_name = "NUMBER")]
    pub max_replicas: u32,
    /// Policies to compare: `wva`, `wva-profiled`, `clairvoyant`, a rival at its documented setting (`static`,
    /// `production-stack`, `kv-queue`, `apa`, `kpa`, `in-flight`, `wva-upstream-v1`, `wva-upstream-v2`, `dynamo`), at its
    /// best for this very load (`apa-tuned`), or at one of your own (`apa@0.4`).
    #[arg(long, value_delimiter = ',', required_unless_present = "snapshots", value_name = "NAME")]
    pub policy: Vec<String>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Form of the result.
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputForm,
    /// Replay snapshots that `wva serve` or `--record` wrote into this folder, instead of simulating.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["trace", "scenario", "profiles", "policy", "record", "report"])]
    pub snapshots: Option<PathBuf>,
    /// Configuration to replay them with, instead of the one that was in force: a file as for `wva serve`.
    #[arg(long, value_name = "FILE", requires = "snapshots")]
    pub config: Option<PathBuf>,
    /// Write the snapshots that `wva` decides on into this folder.
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Write a report with plots, in one HTML file.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write what happened over time into this folder, as `POLICY.csv`.
    #[arg(long, value_name = "DIR", conflicts_with = "snapshots")]
    pub timeline: Option<PathBuf>,
    /// Accelerators that exist of a type, such as NVIDIA-L40S=8; may be repeated.
    #[arg(long, value_name = "TYPE=COUNT", value_parser = quota)]
    pub quota: Vec<(String, u32)>,
    /// The gateway holds requests while all ready replicas are saturated.
    #[arg(long)]
    pub flow_control: bool,
    /// Share of pod scrapes that fail.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub scrape_loss: f64,
    /// How wrong the profile given to `wva-profiled` is: 0.2 says that service takes 20 % longer than it does.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", allow_negative_numbers = true)]
    pub profile_error: f64,
    /// Between two scrapes.
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = duration)]
    pub scrape_interval: Duration,
    /// Print to standard error why each decision of `wva` is what it is.
    #[arg(long)]
    pub explain: bool,
    /// From a scrape to its samples being seen.
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = duration)]
    pub scrape_delay: Duration,
}

/// Form of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object per line.
    Json,
}

/// Simulates each policy and prints the result.
///
/// # Errors
/// When a name is unknown, or a scenario or trace cannot be read.
pub fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    if let Some(folder) = &args.snapshots {
        return backtest_recorded(folder, args);
    }
    let scenario = args.resolve()?;
    let choices = args.policy.iter().map(|name| Choice::parse(name)).collect::<Result<Vec<_>, _>>();
    let choices = choices.map_err(anyhow::Error::msg)?;
    let mut runs = Vec::new();
    for (name, choice) in args.policy.iter().zip(choices) {
        runs.push((name.clone(), args.simulate(&scenario, name, choice)?));
    }
    let best = best_known(&scenario, &runs, args.seed)?;
    let mut rows = Vec::new();
    for (name, outcome) in &runs {
        for (model, of_model) in scenario.models.iter().zip(&outcome.models) {
            // A plan is for all models together; the cost of one compares with nothing.
            let several = scenario.models.len() > 1;
            rows.push(Row::new(name, several.then_some(&model.name), of_model, best.filter(|_| !several)));
        }
    }
    if let Some(file) = &args.report {
        let page = report::html(&scenario, &rows, &runs)?;
        std::fs::write(file, page).with_context(|| format!("report {} cannot be written", file.display()))?;
    }
    if let Some(folder) = &args.timeline {
        for (name, outcome) in &runs {
            let file = folder.join(format!("{name}.csv"));
            output::timeline(&file, &outcome.timeline)
                .with_context(|| format!("timeline {} cannot be written", file.display()))?;
        }
    }
    match args.output {
        OutputForm::Table => output::table(&rows, clairvoyant::lower_bound(&scenario, args.seed)?),
        OutputForm::Json => output::json(&rows),
    }
}

fn backtest_recorded(folder: &Path, args: &SimulateArgs) -> anyhow::Result<()> {
    let config = args.config.as_deref().map(configuration).transpose()?;
    let parameters = config.as_deref().map(|config| config as &dyn Parameters);
    let rows = backtest::backtest(folder, parameters)?;
    match args.output {
        OutputForm::Table => output::backtest(&rows),
        OutputForm::Json => output::json(&rows),
    }
}

fn configuration(file: &Path) -> anyhow::Result<Arc<Config>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(Config::resolve(&[Layer::from_document(&Document::file(file, text))])?.config)
}

/// Snapshots that a run writes for a later backtest: `DIR/POLICY.jsonl`.
struct Recording {
    file: Option<(PathBuf, BufWriter<File>)>,
    failure: Option<std::io::Error>,
}

impl Recording {
    fn start(folder: Option<&Path>, policy: &str) -> anyhow::Result<Self> {
        let file = folder.map(|folder| folder.join(format!("{policy}.jsonl")));
        let create = |file: PathBuf| {
            let created = File::create(&file).with_context(|| format!("{} cannot be written", file.display()));
            created.map(|created| (file, BufWriter::new(created)))
        };
        Ok(Self { file: file.map(create).transpose()?, failure: None })
    }

    fn add(&mut self, snapshot: &Snapshot) {
        let Some((_, file)) = &mut self.file else { return };
        let written =
            serde_json::to_writer(&mut *file, snapshot).map_err(Into::into).and_then(|()| file.write_all(b"\n"));
        self.failure = self.failure.take().or(written.err());
    }

    fn finish(self) -> anyhow::Result<()> {
        let Some((path, mut file)) = self.file else { return Ok(()) };
        let outcome = self.failure.map_or_else(|| file.flush(), Err);
        outcome.with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// What was asked for by `--policy`.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Clairvoyant,
    Named(Named),
    /// At its best setting for this very load.
    Tuned(Named),
}

impl Choice {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "clairvoyant" {
            return Ok(Self::Clairvoyant);
        }
        match text.strip_suffix("-tuned") {
            Some(name) => name.parse().map(Self::Tuned),
            None => text.parse().map(Self::Named),
        }
    }
}

/// Cost of the best-known plan: the stored one, else the clairvoyant's.
fn best_known(scenario: &Scenario, runs: &[(String, Outcome)], seed: u64) -> anyhow::Result<Option<f64>> {
    let known = Known::shipped();
    if let Some(searched) = known.of(scenario) {
        return Ok(Some(searched.best_known.cost));
    }
    let cost = |outcome: &Outcome| outcome.models.iter().map(|model| model.cost).sum();
    if let Some((_, outcome)) = runs.iter().find(|(name, _)| name == "clairvoyant") {
        return Ok(Some(cost(outcome)));
    }
    Ok(Some(cost(&clairvoyant::cheapest(scenario, seed, CLAIRVOYANT_STEPS)?.1)))
}

impl SimulateArgs {
    fn simulate(&self, scenario: &Scenario, name: &str, choice: Choice) -> anyhow::Result<Outcome> {
        let named = match choice {
            Choice::Clairvoyant => return Ok(clairvoyant::cheapest(scenario, self.seed, CLAIRVOYANT_STEPS)?.1),
            Choice::Named(named) => named,
            Choice::Tuned(named) => Named { knob: bench::tuned(scenario, named.name, self.seed)?, ..named },
        };
        let bar = progress_bar(scenario, name, self.seed);
        let mut said = String::new();
        let mut recording = Recording::start(self.record.as_deref(), name)?;
        let mut progress = |progress: Progress<'_>| match progress {
            Progress::Time(time) => {
                let seconds = time.as_secs_f64() as u64;
                if let Some(bar) = bar.as_ref().filter(|_| seconds.is_multiple_of(60)) {
                    bar.set_position(seconds);
                }
            }
            Progress::Explanation(time, why) if self.explain && why != said => {
                eprintln!("{:>8.0} s  {why}", time.as_secs_f64());
                why.clone_into(&mut said);
            }
            Progress::Explanation(..) => {}
            Progress::Snapshot(snapshot) => recording.add(snapshot),
        };
        let initial = named.initial(scenario, &initial::replicas(scenario, self.seed)?);
        let policy = named.build(scenario);
        let outcome = Simulation::new(scenario, policy, self.seed, &initial, &mut progress)?.run()?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        recording.finish()?;
        Ok(outcome)
    }

    /// The scenario of `--scenario`, or the one that the flags make.
    fn resolve(&self) -> anyhow::Result<Scenario> {
        if let Some(file) = &self.scenario {
            return file::read(file);
        }
        let trace = self.trace.as_ref().context("give a --trace or a --scenario")?;
        anyhow::ensure!(!self.profiles.is_empty(), "give --profiles: the variants that serve the trace");
        anyhow::ensure!(
            self.min_replicas <= self.max_replicas,
            "--min-replicas {} exceeds --max-replicas {}",
            self.min_replicas,
            self.max_replicas
        );
        anyhow::ensure!(
            self.target > 0.0 && self.target < 1.0,
            "--target is {}, expected a share between 0 and 1 such as 0.99",
            self.target
        );
        let source = TraceSource { repeat: self.repeat.max(1), ..TraceSource::new(trace) };
        Ok(Scenario {
            name: trace.display().to_string(),
            models: vec![ModelScenario {
                name: "model".to_owned(),
                load: LoadSource::Trace(source),
                objective: Objective { ttft: self.ttft.into(), tpot: self.itl.into() },
                target: self.target,
                priority: 1,
                flow_control: self.flow_control.then(FlowControl::default),
                variants: self.profiles.iter().map(|name| self.variant(name)).collect::<anyhow::Result<_>>()?,
            }],
            timing: Timing {
                scrape_interval: self.scrape_interval,
                scrape_delay: self.scrape_delay,
                ..Timing::default()
            },
            quotas: self.quota.iter().cloned().collect(),
            faults: Faults { scrape_loss: self.scrape_loss, ..Faults::default() },
            profile_error: self.profile_error,
        })
    }

    fn variant(&self, name: &str) -> anyhow::Result<VariantScenario> {
        Ok(VariantScenario {
            name: name.to_owned(),
            profile: file::built_in(name)?,
            cold_start: self.cold_start,
            min_replicas: self.min_replicas,
            max_replicas: self.max_replicas,
            initial_replicas: self.initial_replicas,
        })
    }
}

/// Shown on a terminal only.
fn progress_bar(scenario: &Scenario, name: &str, seed: u64) -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let ends = scenario.models.iter().filter_map(|model| model.load.last_arrival(seed).ok());
    let style = ProgressStyle::with_template("{prefix:24} {bar:40} {percent:>3} %  {eta} left");
    let bar = ProgressBar::new(ends.max()?.as_secs_f64() as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_prefix(name.to_owned());
    Some(bar)
}

fn quota(text: &str) -> Result<(String, u32), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is not an accelerator and a count, such as NVIDIA-L40S=8"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration; write it like 75ms, 2s or 1m30s"))?;
    Duration::try_from(span).map_err(|_| "it must not be negative".to_owned())
}
