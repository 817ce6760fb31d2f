//! Flags of `wva size`, and what it does.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{
    output,
    plan::{self, VariantProfile},
    plot, validation,
};
use crate::{
    analyzer::{Lengths, Targets, Workload},
    fleet::Profile,
    interfaces::ServiceProfile,
};

/// Tell how many replicas a load needs on each accelerator, how busy they are and what latencies requests see, by the
/// queueing model.
///
/// Requests arrive as a Poisson process and are spread evenly. The built-in profiles are fits to an analytical model of
/// the hardware, not measurements. A profile file is YAML with the keys of `profiles` in docs/configuration.md, and
/// optionally `name` and `price`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: wva size --rate 40 --prompt-tokens 1155 --output-tokens 211 --ttft 1s --itl 50ms")]
pub struct SizeArgs {
    /// Requests per second of the whole load.
    #[arg(long, value_name = "REQUESTS", required_unless_present = "validate", value_parser = rate)]
    rate: Option<f64>,
    /// Mean prompt length in tokens.
    #[arg(long, default_value_t = 1000.0, value_name = "TOKENS")]
    prompt_tokens: f64,
    /// Coefficient of variation of prompt lengths (standard deviation over mean); 0 is all alike.
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER")]
    prompt_cv: f64,
    /// Mean output length in tokens.
    #[arg(long, default_value_t = 200.0, value_name = "TOKENS")]
    output_tokens: f64,
    /// Coefficient of variation of output lengths.
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER")]
    output_cv: f64,
    /// Share of prompt tokens that the prefix cache holds, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    prefix_cache_hits: f64,
    /// Longest time to first token.
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = duration)]
    ttft: Duration,
    /// Longest mean time between tokens of a request.
    #[arg(long, default_value = "75ms", value_name = "DURATION", value_parser = duration)]
    itl: Duration,
    /// Least tokens per second that a replica is run at.
    #[arg(long, value_name = "TOKENS")]
    tps: Option<f64>,
    /// Share of requests that must meet both latencies, below 1.
    #[arg(long, default_value_t = 0.99, value_name = "SHARE")]
    target: f64,
    /// Profiles to compare: names of built-in ones, or files; all built-in ones where left out.
    #[arg(long = "profile", value_delimiter = ',', value_name = "NAME|FILE")]
    profiles: Vec<String>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Leave out the plot of latency against rate.
    #[arg(long)]
    no_plot: bool,
    /// Also plot latency against rate of all profiles, with the targets, as SVG into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Instead of sizing, hold the model against the simulator over a grid of loads and shapes, and print the errors.
    #[arg(long)]
    validate: bool,
    /// Simulated requests per cell of the grid.
    #[arg(long, default_value_t = 60_000, value_name = "NUMBER", requires = "validate")]
    requests: usize,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// Runs `wva size`.
///
/// # Errors
/// When a profile is unknown or cannot be read, a number makes no sense, or no profile meets the targets.
pub fn run(args: &SizeArgs) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.validate {
        return validation::run(args.requests, &mut out);
    }
    let (text, is_feasible) = answer(args)?;
    match out.write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    ensure!(is_feasible, "no profile meets the targets, however many replicas there are");
    Ok(())
}

/// The whole answer as text, and whether some profile meets the targets.
fn answer(args: &SizeArgs) -> anyhow::Result<(String, bool)> {
    let prompts = Lengths::lognormal(args.prompt_tokens, args.prompt_cv).context("the prompts make no sense")?;
    let outputs = Lengths::lognormal(args.output_tokens, args.output_cv).context("the outputs make no sense")?;
    let workload = Workload::new(prompts, outputs).with_prefix_cache_hits(args.prefix_cache_hits)?;
    let targets = Targets {
        time_to_first_token: Some(args.ttft.as_secs_f64()),
        inter_token_latency: Some(args.itl.as_secs_f64()),
        tokens_per_second: args.tps,
        share: args.target,
    };
    let profiles = profiles(&args.profiles)?;
    let sized = plan::size(args.rate.unwrap_or_default(), &workload, &targets, &profiles)?;
    if let Some(file) = &args.svg {
        let svg = plot::svg(&sized, &workload, &profiles)?;
        fs::write(file, svg).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&sized)? + "\n",
        Output::Table if args.no_plot => output::table(&sized),
        Output::Table => output::table(&sized) + &plot::text(&sized, &workload, &profiles)?,
    };
    Ok((text, sized.is_feasible()))
}

fn profiles(names: &[String]) -> anyhow::Result<Vec<VariantProfile>> {
    if names.is_empty() {
        return Ok(Profile::built_in_names().filter_map(Profile::built_in).map(built_in).collect());
    }
    names
        .iter()
        .map(|name| Profile::built_in(name).map_or_else(|| read(Path::new(name)), |found| Ok(built_in(found))))
        .collect()
}

fn built_in(profile: Profile) -> VariantProfile {
    VariantProfile { service: profile.service_profile(), price: Some(profile.price), name: profile.name }
}

/// A profile file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    name: Option<String>,
    price: Option<f64>,
    iteration_ms: f64,
    prefill_ms_per_token: f64,
    decode_ms_per_sequence: f64,
    kv_ms_per_token: f64,
    kv_cache_tokens: f64,
    #[serde(default = "max_batch")]
    max_batch: u32,
    #[serde(default = "max_batched_tokens")]
    max_batched_tokens: u32,
}

fn max_batch() -> u32 {
    256
}

fn max_batched_tokens() -> u32 {
    2048
}

fn read(path: &Path) -> anyhow::Result<VariantProfile> {
    if !path.exists() {
        let known: Vec<_> = Profile::built_in_names().collect();
        bail!("{} is neither a built-in profile nor a file; built in are {}", path.display(), known.join(", "));
    }
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let file: ProfileFile =
        serde_saphyr::from_str(&text).with_context(|| format!("{} is no profile", path.display()))?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(VariantProfile {
        name: file.name.or(stem).unwrap_or_else(|| path.display().to_string()),
        price: file.price,
        service: ServiceProfile {
            base: file.iteration_ms / 1000.0,
            per_prefill_token: file.prefill_ms_per_token / 1000.0,
            per_sequence: file.decode_ms_per_sequence / 1000.0,
            per_kv_token: file.kv_ms_per_token / 1000.0,
            kv_cache_tokens: file.kv_cache_tokens,
            max_batch: file.max_batch,
            max_batched_tokens: file.max_batched_tokens,
        },
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration; write it like 2s or 75ms"))?;
    Duration::try_from(span).ok().filter(|d| !d.is_zero()).ok_or_else(|| "it must be longer than nothing".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.0..=1e6).contains(rate))
        .ok_or_else(|| format!("{text:?} is not a number of requests per second from 0 to 1000000"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "wva size", max_term_width = 100)]
    struct Line {
        #[command(flatten)]
        args: SizeArgs,
    }

    fn answer_to(line: &str) -> anyhow::Result<String> {
        Ok(answer(&arguments(line))?.0)
    }

    fn arguments(line: &str) -> SizeArgs {
        Line::try_parse_from(std::iter::once("wva size").chain(line.split(' '))).unwrap().args
    }

    #[test]
    fn the_table_shows_replicas_utilization_and_latencies_per_variant() {
        let line = "--rate 40 --prompt-tokens 1155 --prompt-cv 1.1 --output-tokens 211 --ttft 1s --itl 50ms \
                    --profile llama-3.1-8b-h100,llama-3.1-8b-l40s,llama-3.1-70b-4xh100";
        let text = answer_to(line).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "it fits a terminal:\n{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn an_infeasible_target_is_named_with_the_best_there_is_for_each_profile() {
        for (targets, name) in [
            ("--itl 5ms", "the inter-token-latency target"),
            ("--ttft 10ms", "the time-to-first-token target"),
            ("--tps 1000000", "the tokens-per-second target"),
        ] {
            let line = format!("--rate 10 {targets} --no-plot --profile llama-3.1-8b-h100,llama-3.1-8b-l40s");
            let (text, is_feasible) = answer(&arguments(&line)).unwrap();
            assert!(!is_feasible && text.matches(name).count() == 2, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "it fits a terminal:\n{text}");
        }
        insta::assert_snapshot!(answer_to("--rate 10 --itl 7ms --profile llama-3.1-8b-h100").unwrap());
    }

    #[test]
    fn all_profiles_are_plotted_as_svg() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("latency.svg");
        let line =
            format!("--rate 10 --no-plot --profile llama-3.1-8b-h100,llama-3.1-8b-l40s --svg {}", file.display());
        answer_to(&line).unwrap();
        let svg = fs::read_to_string(&file).unwrap();
        for shown in ["<svg", "TTFT", "ITL", "target", "llama-3.1-8b-h100", "llama-3.1-8b-l40s", "polyline"] {
            assert!(svg.contains(shown), "{shown}");
        }
    }

    #[test]
    fn help_says_everything() {
        insta::assert_snapshot!(Line::command().render_long_help().to_string());
    }

    #[test]
    fn json_holds_what_the_table_shows() {
        let text = answer_to("--rate 10 --output json --profile llama-3.1-8b-h100").unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let variant = &json["variants"][0];
        assert_eq!(variant["profile"], "llama-3.1-8b-h100");
        assert!(variant["replicas"].as_u64() >= Some(1) && variant["timeToFirstToken"]["p99"].as_f64() > Some(0.0));
    }

    #[test]
    fn a_profile_comes_from_a_file_and_its_faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.yaml");
        let good = "iterationMs: 7\nprefillMsPerToken: 0.019\ndecodeMsPerSequence: 0.0063\nkvMsPerToken: 0.00004\n\
                    kvCacheTokens: 372000\n";
        fs::write(&path, good).unwrap();
        let line = format!("--rate 10 --no-plot --profile {}", path.display());
        assert!(answer_to(&line).unwrap().contains("mine "));
        fs::write(&path, format!("{good}kvCacheToken: 1\n")).unwrap();
        let error = format!("{:#}", answer_to(&line).unwrap_err());
        assert!(error.contains("mine.yaml is no profile") && error.contains("kvCacheToken"), "{error}");
        let error = answer_to("--rate 10 --profile nobody").unwrap_err().to_string();
        assert!(error.contains("nobody is neither") && error.contains("llama-3.1-8b-h100"), "{error}");
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for (line, message) in [
            ("--rate 10 --prompt-cv=-1", "coefficient of variation"),
            ("--rate 10 --target 1", "share of requests"),
            ("--rate 10 --prefix-cache-hits 2", "share of prefix cache hits"),
        ] {
            let error = format!("{:#}", answer_to(line).unwrap_err());
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
