//! The queueing model against the simulator, over a grid of loads and shapes.

use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    analyzer::{Analysis, LatencyStatistics, Lengths, QueueAnalyzer, Targets, Workload},
    fleet::{
        GeneratedLoad, Load, LoadSpec, Picoseconds, Pool, PoolOptions, Profile, Request, TokenLengths, VariantSpec,
    },
};

/// Profiles and kinds of load that go together.
struct Grid {
    title: &'static str,
    /// Profiles, with the objective that the greatest rate is compared for.
    profiles: [(&'static str, f64, f64); 3],
    shapes: &'static [Shape],
}

const GRIDS: [Grid; 2] = [
    Grid {
        title: "Cells that the model was made with",
        profiles: [
            ("llama-3.1-8b-h100", 1.0, 0.050),
            ("qwen3-32b-2xh100", 2.0, 0.075),
            ("llama-3.1-70b-4xh100", 5.0, 0.100),
        ],
        shapes: &SHAPES,
    },
    Grid {
        title: "Cells that it was only checked with",
        profiles: [
            ("llama-3.1-8b-a100", 2.0, 0.100),
            ("llama-3.1-8b-l40s", 4.0, 0.120),
            ("qwen3-32b-2xh100", 3.0, 0.060),
        ],
        shapes: &OTHER_SHAPES,
    },
];

/// Parts of the simulated capacity.
const UTILIZATIONS: [f64; 6] = [0.2, 0.35, 0.5, 0.6, 0.7, 0.9];
/// From this one on, so many times the requests are sent: waits for the KV cache are rare and long.
const RARE_WAITS: (f64, usize) = (0.8, 8);
/// Share of requests that the greatest rate is compared for.
const SHARE: f64 = 0.95;
/// Load that measures the simulated capacity, in parts of the model's.
const OVERLOAD: f64 = 1.3;
/// Share of requests at the start that are not counted.
const WARM_UP: f64 = 0.2;
/// Halvings when looking for the greatest rate in the simulator.
const HALVINGS: u32 = 10;
/// Below this part of its capacity a replica is as good as idle, and the greatest rate says nothing.
const IDLE: f64 = 0.1;

/// Token lengths of one kind of load: mean, standard deviation of the logarithm and greatest, of prompts and outputs.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    prompts: (f64, f64, u32),
    outputs: (f64, f64, u32),
}

const SHAPES: [Shape; 6] = [
    Shape { name: "chat", prompts: (1155.0, 0.9, 32_000), outputs: (211.0, 0.7, 8000) },
    Shape { name: "long prompt", prompts: (12_000.0, 0.8, 100_000), outputs: (343.0, 0.7, 8000) },
    Shape { name: "reasoning", prompts: (1250.0, 0.9, 32_000), outputs: (1524.0, 0.9, 16_000) },
    Shape { name: "agent", prompts: (5000.0, 0.6, 60_000), outputs: (500.0, 0.8, 8000) },
    Shape { name: "summary", prompts: (8000.0, 0.4, 60_000), outputs: (150.0, 0.4, 8000) },
    Shape { name: "code", prompts: (2000.0, 1.1, 32_000), outputs: (60.0, 1.0, 4000) },
];

const OTHER_SHAPES: [Shape; 5] = [
    Shape { name: "retrieval", prompts: (3000.0, 0.7, 32_000), outputs: (300.0, 0.6, 8000) },
    Shape { name: "translation", prompts: (600.0, 0.5, 32_000), outputs: (600.0, 0.5, 8000) },
    Shape { name: "research", prompts: (20_000.0, 0.5, 100_000), outputs: (1000.0, 0.8, 8000) },
    Shape { name: "long thoughts", prompts: (500.0, 0.8, 32_000), outputs: (4000.0, 0.8, 16_000) },
    Shape { name: "classification", prompts: (4000.0, 0.9, 32_000), outputs: (20.0, 0.5, 400) },
];

impl Shape {
    fn workload(&self) -> anyhow::Result<Workload> {
        let lengths = |(mean, sigma, max): (f64, f64, u32)| {
            Lengths::lognormal(mean, (sigma * sigma).exp_m1().sqrt()).map(|lengths| lengths.capped(max.into()))
        };
        Ok(Workload::new(lengths(self.prompts)?, lengths(self.outputs)?))
    }
}

/// What requests saw in the simulator, in seconds.
#[derive(Clone, Debug)]
struct Simulated {
    /// Requests finished per second.
    throughput: f64,
    /// Times to first token and mean times between tokens, per request.
    requests: Vec<(f64, f64)>,
}

/// Sends `requests` Poisson requests to one replica.
fn simulate(profile: &Profile, shape: &Shape, rate: f64, requests: usize) -> anyhow::Result<Simulated> {
    let lengths = |(mean, sigma, max)| TokenLengths::Lognormal { mean, sigma, max };
    let spec =
        GeneratedLoad { seed: 7, ..GeneratedLoad::constant(rate, lengths(shape.prompts), lengths(shape.outputs)) };
    let mut pool = Pool::new(PoolOptions { record_completions: true, ..PoolOptions::default() });
    pool.add_variant(VariantSpec::new("replica", profile.clone()));
    pool.add_replica("replica", Picoseconds::ZERO)?;
    let start = Picoseconds::from_millis(1);
    pool.advance_to(start);
    let warm_up = (requests as f64 * WARM_UP) as usize;
    let (mut first, mut last) = (Picoseconds::ZERO, Picoseconds::ZERO);
    for (index, request) in Load::new(&LoadSpec::Poisson(spec))?.take(requests).enumerate() {
        last = request.arrival + start;
        if index == warm_up {
            first = last;
        }
        pool.submit(Request { arrival: last, ..request });
    }
    pool.advance_to(last + Picoseconds::from_millis(24 * 3_600_000));
    let completions = pool.take_completions();
    let finished = completions.iter().filter(|done| done.finished_at > first && done.finished_at <= last).count();
    let counted = completions.iter().filter(|done| done.request.arrival >= first);
    Ok(Simulated {
        throughput: finished as f64 / last.since(first).as_secs_f64(),
        requests: counted
            .map(|done| (done.ttft().as_secs_f64(), done.tpot().map_or(0.0, Picoseconds::as_secs_f64)))
            .collect(),
    })
}

impl Simulated {
    /// Of times to first token, then of times between tokens.
    fn statistics(&self) -> [LatencyStatistics; 2] {
        let first_tokens = self.requests.iter().map(|(first_token, _)| *first_token).collect();
        [first_tokens, self.requests.iter().map(|(_, gap)| *gap).filter(|gap| *gap > 0.0).collect()].map(statistics)
    }

    /// Share of requests, in percent, whose first token came within `seconds`. Told of a modelled P95 it is 95, and says
    /// more than that percentile's error where one request in twenty waits for room: there a percentile is next to nothing
    /// or seconds.
    fn percent_within(&self, seconds: f64) -> f64 {
        100.0 * self.share_within(seconds, f64::INFINITY)
    }

    fn share_within(&self, first_token: f64, gap: f64) -> f64 {
        let within = self.requests.iter().filter(|request| request.0 <= first_token && request.1 <= gap).count();
        within as f64 / self.requests.len() as f64
    }
}

fn statistics(mut values: Vec<f64>) -> LatencyStatistics {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied().unwrap_or_default();
    LatencyStatistics { mean: values.iter().sum::<f64>() / values.len() as f64, p95: at(0.95), p99: at(0.99) }
}

/// Relative errors of the model in percent: mean, P95 and P99 of the time to first token, then of the time between tokens.
fn errors(analysis: &Analysis, simulated: &Simulated) -> Vec<f64> {
    let [first_token, gap] = simulated.statistics();
    let percent = |model: f64, simulated: f64| 100.0 * (model / simulated - 1.0);
    let of = |model: LatencyStatistics, simulated: LatencyStatistics| {
        [percent(model.mean, simulated.mean), percent(model.p95, simulated.p95), percent(model.p99, simulated.p99)]
    };
    let latencies = [of(analysis.time_to_first_token, first_token), of(analysis.inter_token_latency, gap)];
    latencies.as_flattened().to_vec()
}

/// The greatest rates of one profile and kind of load.
struct Rates {
    profile: &'static str,
    shape: &'static str,
    capacity: f64,
    modelled_capacity: f64,
    rate: f64,
    modelled_rate: f64,
}

/// Prints the error table of both grids, and the errors of the greatest rate under an objective.
pub(super) fn run(requests: usize, out: &mut impl Write) -> anyhow::Result<()> {
    let cells: usize =
        GRIDS.iter().map(|grid| grid.profiles.len() * grid.shapes.len() * (UTILIZATIONS.len() + 1)).sum();
    let progress = ProgressBar::new(cells as u64).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} cells {elapsed}").unwrap_or(ProgressStyle::default_bar()),
    );
    for grid in &GRIDS {
        run_grid(grid, requests, &progress, out)?;
    }
    progress.finish_and_clear();
    Ok(())
}

fn run_grid(grid: &Grid, requests: usize, progress: &ProgressBar, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{}\n", grid.title)?;
    writeln!(
        out,
        "| profile | shape | load | TTFT mean | P95 | P99 | ITL mean | P95 | P99 | within TTFT P95 |\n\
        |---|---|---|---|---|---|---|---|---|---|"
    )?;
    let mut rates = Vec::new();
    for (name, first_token, gap) in grid.profiles {
        let Some(profile) = Profile::built_in(name) else { continue };
        for shape in grid.shapes {
            let analyzer = QueueAnalyzer::new(profile.service_profile(), shape.workload()?)?;
            let limit = analyzer.saturation().rate;
            let capacity = simulate(&profile, shape, limit * OVERLOAD, requests)?.throughput;
            for utilization in UTILIZATIONS {
                let rate = capacity * utilization;
                let requests = if utilization > RARE_WAITS.0 { requests * RARE_WAITS.1 } else { requests };
                let modelled = analyzer.analyze(rate.min(limit * 0.99))?;
                let simulated = simulate(&profile, shape, rate, requests)?;
                let cell = errors(&modelled, &simulated);
                let cell = cell.iter().map(|error| format!("{error:+.0} %")).collect::<Vec<_>>().join(" | ");
                let within = simulated.percent_within(modelled.time_to_first_token.p95);
                writeln!(out, "| {name} | {} | {utilization} | {cell} | {within:.1} % |", shape.name)?;
                progress.inc(1);
            }
            let targets = Targets {
                time_to_first_token: Some(first_token),
                inter_token_latency: Some(gap),
                tokens_per_second: None,
                share: SHARE,
            };
            let modelled_rate = analyzer.size(&targets).map_or(0.0, |sizing| sizing.rate);
            let rate = greatest_rate(capacity * 1.05, |rate| {
                Ok(simulate(&profile, shape, rate, requests)?.share_within(first_token, gap) >= SHARE)
            })?;
            let modelled_capacity = limit;
            rates.push(Rates { profile: name, shape: shape.name, capacity, modelled_capacity, rate, modelled_rate });
            progress.inc(1);
        }
    }
    print_rates(&rates, out)
}

fn print_rates(rates: &[Rates], out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "\n| profile | shape | capacity, simulated | model | SLO rate, simulated | model |\n|---|---|---|---|---|---|"
    )?;
    for Rates { profile, shape, capacity, modelled_capacity, rate, modelled_rate } in rates {
        let error = if *rate < IDLE * capacity {
            "as good as none".to_owned()
        } else {
            format!("{:+.1} %", 100.0 * (modelled_rate / rate - 1.0))
        };
        let limit = format!("{:+.1} %", 100.0 * (modelled_capacity / capacity - 1.0));
        writeln!(out, "| {profile} | {shape} | {capacity:.3} | {limit} | {rate:.3} | {error} |")?;
    }
    writeln!(out)?;
    Ok(())
}

fn greatest_rate(highest: f64, meets: impl Fn(f64) -> anyhow::Result<bool>) -> anyhow::Result<f64> {
    let (mut low, mut high) = (0.0, highest);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if meets(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small part of `wva size --validate`; fewer requests, so that percentiles have some noise.
    #[test]
    fn the_model_is_close_to_the_simulator_where_loads_are_sane() {
        for (name, shape, utilization) in [
            ("llama-3.1-8b-h100", 0, 0.5),
            ("qwen3-32b-2xh100", 0, 0.7),
            ("llama-3.1-70b-4xh100", 1, 0.5),
            ("llama-3.1-8b-h100", 1, 0.6),
            ("qwen3-32b-2xh100", 2, 0.6),
            ("llama-3.1-70b-4xh100", 4, 0.7),
            ("llama-3.1-8b-h100", 5, 0.7),
        ] {
            let profile = Profile::built_in(name).unwrap();
            let analyzer = QueueAnalyzer::new(profile.service_profile(), SHAPES[shape].workload().unwrap()).unwrap();
            let rate = analyzer.saturation().rate * utilization;
            let simulated = simulate(&profile, &SHAPES[shape], rate, 12_000).unwrap();
            let errors = errors(&analyzer.analyze(rate).unwrap(), &simulated);
            for (error, most) in errors.iter().zip([10.0, 20.0, 25.0, 10.0, 20.0, 25.0]) {
                assert!(error.abs() < most, "{name} {}: {errors:?}", SHAPES[shape].name);
            }
        }
    }

    #[test]
    fn the_models_capacity_and_slo_rate_are_the_simulators() {
        let profile = Profile::built_in("llama-3.1-8b-h100").unwrap();
        let analyzer = QueueAnalyzer::new(profile.service_profile(), SHAPES[0].workload().unwrap()).unwrap();
        let limit = analyzer.saturation().rate;
        let capacity = simulate(&profile, &SHAPES[0], limit * OVERLOAD, 12_000).unwrap().throughput;
        assert!((limit / capacity - 1.0).abs() < 0.04, "{limit} {capacity}");
        let targets = Targets {
            time_to_first_token: Some(0.5),
            inter_token_latency: Some(0.03),
            tokens_per_second: None,
            share: SHARE,
        };
        let rate = analyzer.size(&targets).unwrap().rate;
        let share = |rate: f64| simulate(&profile, &SHAPES[0], rate, 12_000).unwrap().share_within(0.5, 0.03);
        assert!(share(rate * 0.9) > SHARE && share(rate * 1.1) < SHARE, "{rate}");
    }
}
