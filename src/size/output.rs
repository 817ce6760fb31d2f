//! The answer for people: a table, and latency against rate.

use std::fmt::Write;

use super::plan::{Outcome, Sized, SizedVariant, VariantProfile};
use crate::analyzer::{LatencyStatistics, QueueAnalyzer, QueueError, Workload};

/// A table of one row per variant; rows that are infeasible say why below it.
pub(super) fn table(sized: &Sized) -> String {
    let mut text = format!(
        "{} requests/s; {:.1} % of requests within TTFT {} and ITL {}\n\n",
        sized.rate,
        sized.target_share * 100.0,
        milliseconds(sized.time_to_first_token_target),
        milliseconds(sized.inter_token_latency_target)
    );
    let _ = writeln!(
        text,
        "{:<22} {:>8} {:>7} {:>7} {:>5}   {:<23} {:<20}",
        "profile", "replicas", "cost", "rate/r", "util", "TTFT mean/P95/P99 ms", "ITL mean/P95/P99 ms"
    );
    let mut reasons = String::new();
    for SizedVariant { profile, outcome } in &sized.variants {
        match outcome {
            Outcome::Replicas {
                replicas,
                cost,
                capacity,
                utilization,
                time_to_first_token,
                inter_token_latency,
                bound_by,
                ..
            } => {
                let cost = cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}"));
                let _ = writeln!(
                    text,
                    "{profile:<22} {replicas:>8} {cost:>7} {capacity:>7.2} {:>3.0} %   {:<23} {:<20}",
                    utilization * 100.0,
                    three(time_to_first_token, 0),
                    three(inter_token_latency, 1)
                );
                let _ = writeln!(reasons, "{profile}: a replica's rate is bound by {bound_by}");
            }
            Outcome::Infeasible { error } => {
                let _ = writeln!(text, "{profile:<22} {:>8}", "none");
                for (index, part) in error.split("; ").enumerate() {
                    let lead = if index == 0 { format!("{profile}: ") } else { "  ".to_owned() };
                    let _ = writeln!(reasons, "{lead}{part}");
                }
            }
        }
    }
    let rows: Vec<_> = text.lines().map(str::trim_end).collect();
    format!("{}\n\nrate/r: most requests/s that one replica carries within the targets\n{reasons}", rows.join("\n"))
}

fn three(latency: &LatencyStatistics, digits: usize) -> String {
    let milliseconds = |seconds: f64| format!("{:.digits$}", seconds * 1000.0);
    format!("{} / {} / {}", milliseconds(latency.mean), milliseconds(latency.p95), milliseconds(latency.p99))
}

fn milliseconds(seconds: f64) -> String {
    format!("{} ms", (seconds * 1e6).round() / 1e3)
}

/// Points of a plot.
const POINTS: u32 = 60;
const HEIGHT: u32 = 9;
/// Share of the rate of saturation up to which latencies are plotted.
const HIGHEST: f64 = 0.95;

/// Latency against rate of the cheapest variant that will do (the first, where prices are not known).
///
/// # Errors
/// When the profile makes no sense.
pub(super) fn plot(sized: &Sized, workload: &Workload, profiles: &[VariantProfile]) -> Result<String, QueueError> {
    let costs = sized.variants.iter().zip(profiles).filter_map(|(variant, profile)| match variant.outcome {
        Outcome::Replicas { cost, .. } => Some((cost.unwrap_or(f64::INFINITY), profile)),
        Outcome::Infeasible { .. } => None,
    });
    let Some((_, profile)) = costs.min_by(|(a, _), (b, _)| a.total_cmp(b)) else { return Ok(String::new()) };
    let analyzer = QueueAnalyzer::new(profile.service, workload.clone())?;
    let highest = analyzer.saturation().rate * HIGHEST;
    let analyses: Vec<_> = (0..POINTS)
        .map(|point| analyzer.analyze(highest * f64::from(point) / f64::from(POINTS - 1)))
        .collect::<Result<_, _>>()?;
    let mut text = String::new();
    for (name, latency) in [("TTFT", true), ("ITL", false)] {
        let of = |analysis: &crate::analyzer::Analysis| {
            if latency { analysis.time_to_first_token } else { analysis.inter_token_latency }
        };
        let series = [|latency: LatencyStatistics| latency.mean, |latency: LatencyStatistics| latency.p95]
            .map(|statistic| analyses.iter().map(|analysis| statistic(of(analysis)) * 1000.0).collect());
        let caption =
            format!("{name} mean and P95 in ms, {} from 0 to {highest:.3} requests/s per replica", profile.name);
        let config = rasciigraph::Config::default().with_height(HEIGHT).with_caption(caption);
        let plotted = rasciigraph::plot_many(series.to_vec(), config);
        let lines: Vec<_> = plotted.lines().map(str::trim_end).collect();
        let _ = write!(text, "\n{}\n", lines.join("\n"));
    }
    Ok(text)
}
