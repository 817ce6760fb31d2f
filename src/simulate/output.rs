//! Results for people and for programs.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde::Serialize;

use super::{backtest::BacktestRow, outcome::Row, timeline::Timeline};

/// One JSON object per row and line.
pub(super) fn json<T: Serialize>(rows: &[T]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for row in rows {
        writeln!(out, "{}", serde_json::to_string(row)?)?;
    }
    Ok(())
}

/// What was set and what would have been asked for, a row per variant.
pub(super) fn backtest(rows: &[BacktestRow]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<40} {:>7} {:>21} {:>21} {:>10}", "variant", "hours", "recorded", "backtested", "withheld")?;
    writeln!(
        out,
        "{:<40} {:>7} {:>21} {:>21} {:>10}",
        "", "", "cost / max / changes", "cost / max / changes", "snapshots"
    )?;
    for row in rows {
        let usage =
            |usage: &super::backtest::Usage| format!("{:.2} / {} / {}", usage.cost, usage.max_replicas, usage.changes);
        writeln!(
            out,
            "{:<40} {:>7.2} {:>21} {:>21} {:>10}",
            row.variant,
            row.hours,
            usage(&row.recorded),
            usage(&row.backtested),
            format!("{}/{}", row.withheld, row.snapshots)
        )?;
    }
    Ok(())
}

/// What happened over time: a line per moment, counts of requests since the line before.
pub(super) fn timeline(file: &Path, timeline: &Timeline) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "t_seconds,demand_replicas,set,ready,queued,completed,met,cost")?;
    let (mut completed, mut met) = (0, 0);
    for point in &timeline.points {
        let sum = |counts: &[u32]| counts.iter().sum::<u32>();
        writeln!(
            out,
            "{:.0},{:.3},{},{},{},{},{},{:.4}",
            point.seconds,
            point.demand,
            sum(&point.set),
            sum(&point.ready),
            point.queued,
            point.completed - completed,
            point.met - met,
            point.cost
        )?;
        (completed, met) = (point.completed, point.met);
    }
    out.flush()
}

/// A table of one row per policy.
pub(super) fn table(rows: &[Row], lower_bound: f64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<24} {:>8} {:>9} {:>6} {:>8} {:>4} {:>7} {:>8} {:>8} {:>10}  lag",
        "policy", "SLO", "cost", "ratio", "replicas", "max", "actions", "TTFT p99", "ITL p99", "unfinished"
    )?;
    for row in rows {
        let name = row.model.as_ref().map_or_else(|| row.policy.clone(), |model| format!("{} {model}", row.policy));
        let lag = row.decision_lag;
        writeln!(
            out,
            "{:<24} {:>8} {:>9.2} {:>6} {:>8.2} {:>4} {:>7} {:>8} {:>8} {:>10}  {:.0}+{:.0}+{:.0}+{:.0} s",
            name,
            format!("{:.3} %", row.slo_attainment * 100.0),
            row.cost,
            row.cost_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            row.average_replicas,
            row.max_replicas,
            row.scale_actions,
            seconds(row.ttft_p99_seconds, 1.0, "s"),
            seconds(row.itl_p99_seconds, 1e3, "ms"),
            row.unfinished,
            lag.trigger_seconds,
            lag.ask_seconds,
            lag.grant_seconds,
            lag.warm_up_seconds
        )?;
    }
    writeln!(out, "no plan can cost less than {lower_bound:.2}; ratio: cost over the best-known plan's")?;
    writeln!(out, "lag: trigger + ask + grant + warm-up, means over the rises in demand")?;
    Ok(())
}

fn seconds(value: Option<f64>, factor: f64, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.3} {unit}", value * factor))
}
