//! Flags of `wva simulate`, and what it does.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    initial,
    outcome::{Outcome, Row},
    output,
    policy::{Fixed, Policy, UpstreamV1, Wva},
    run::{Progress, Simulation},
    scenario::{Faults, ModelScenario, Scenario, Timing, VariantScenario},
    trace::TraceSource,
};
use crate::fleet::{Objective, Profile};

/// Measure scaling policies on a request trace: SLO attainment and cost, on a simulated fleet and clock.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Trace of requests: CSV `t_seconds,prompt_tokens,output_tokens`, gzipped if the name ends in `.gz`.
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,
    /// How often each request arrives; copies move by up to 30 s.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub repeat: u32,
    /// Profiles of the variants: names of built-in ones.
    #[arg(long, value_delimiter = ',', required = true, value_name = "NAME")]
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
    /// Policies to compare.
    #[arg(long, value_delimiter = ',', required = true, value_name = "NAME")]
    pub policy: Vec<String>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Form of the result.
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputForm,
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
/// When a name is unknown or the trace cannot be read.
pub fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let scenario = args.scenario()?;
    for name in &args.policy {
        policy(name, &scenario)?;
    }
    let initial = initial::replicas(&scenario, args.seed)?;
    let mut rows = Vec::new();
    for name in &args.policy {
        let outcome = simulate(&scenario, name, args, &initial)?;
        for (model, of_model) in scenario.models.iter().zip(&outcome.models) {
            let model = (scenario.models.len() > 1).then_some(model.name.as_str());
            rows.push(Row::new(name, model, of_model, None));
        }
    }
    match args.output {
        OutputForm::Table => output::table(&rows),
        OutputForm::Json => output::json(&rows),
    }
}

fn simulate(scenario: &Scenario, name: &str, args: &SimulateArgs, initial: &[u32]) -> anyhow::Result<Outcome> {
    let end = scenario.models.iter().map(|model| model.trace.summary().map(|summary| summary.last_arrival));
    let bar = std::io::stderr().is_terminal().then(|| {
        let end = end.filter_map(Result::ok).max().unwrap_or_default();
        let style = ProgressStyle::with_template("{prefix:24} {bar:40} {percent:>3} %  {eta} left");
        ProgressBar::new(end.as_secs_f64() as u64)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_prefix(name.to_owned())
    });
    let mut said = String::new();
    let mut progress = |progress: Progress<'_>| match progress {
        Progress::Time(time) => {
            let seconds = time.as_secs_f64() as u64;
            if let Some(bar) = bar.as_ref().filter(|_| seconds.is_multiple_of(60)) {
                bar.set_position(seconds);
            }
        }
        Progress::Explanation(time, why) if args.explain && why != said => {
            eprintln!("{:>8.0} s  {why}", time.as_secs_f64());
            why.clone_into(&mut said);
        }
        Progress::Explanation(..) => {}
    };
    let simulation = Simulation::new(scenario, policy(name, scenario)?, args.seed, initial, &mut progress)?;
    let outcome = simulation.run()?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(outcome)
}

fn policy<'a>(name: &str, scenario: &'a Scenario) -> anyhow::Result<Box<dyn Policy + 'a>> {
    const NAMES: [&str; 4] = ["static", "wva", "wva-profiled", "wva-upstream-v1"];
    Ok(match name {
        "static" => Box::new(Fixed),
        "wva" => Box::new(Wva::new(scenario, None)),
        "wva-profiled" => Box::new(Wva::new(scenario, Some(scenario.profile_error))),
        "wva-upstream-v1" => Box::new(UpstreamV1::new(scenario, 1.0)),
        _ => anyhow::bail!("policy {name:?} is unknown; there are {}", NAMES.join(", ")),
    })
}

impl SimulateArgs {
    fn scenario(&self) -> anyhow::Result<Scenario> {
        let variants = self.profiles.iter().map(|name| self.variant(name)).collect::<anyhow::Result<Vec<_>>>()?;
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
        let trace = TraceSource { repeat: self.repeat.max(1), ..TraceSource::new(&self.trace) };
        Ok(Scenario {
            name: self.trace.display().to_string(),
            models: vec![ModelScenario {
                name: "model".to_owned(),
                trace,
                objective: Objective { ttft: self.ttft.into(), tpot: self.itl.into() },
                target: self.target,
                priority: 1,
                flow_control: None,
                variants,
            }],
            timing: Timing {
                scrape_interval: self.scrape_interval,
                scrape_delay: self.scrape_delay,
                ..Timing::default()
            },
            quotas: std::collections::BTreeMap::new(),
            faults: Faults::default(),
            profile_error: 0.0,
        })
    }

    fn variant(&self, name: &str) -> anyhow::Result<VariantScenario> {
        let profile = Profile::built_in(name).with_context(|| {
            let names: Vec<_> = Profile::built_in_names().collect();
            format!("profile {name:?} is not built in; there are {}", names.join(", "))
        })?;
        Ok(VariantScenario {
            name: name.to_owned(),
            profile,
            cold_start: self.cold_start,
            min_replicas: self.min_replicas,
            max_replicas: self.max_replicas,
            initial_replicas: self.initial_replicas,
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration; write it like 75ms, 2s or 1m30s"))?;
    Duration::try_from(span).map_err(|_| "it must not be negative".to_owned())
}
