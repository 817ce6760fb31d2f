//! The answer for people as a table.

use std::fmt::Write;

use super::plan::{Outcome, Sized, SizedVariant};
use crate::analyzer::LatencyStatistics;

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
                let _ = writeln!(reasons, "{profile}:\n  {}", error.replace("; ", "\n  "));
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
