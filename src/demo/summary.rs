//! What came of a run.

use std::{
    fmt::Write as _,
    io::{Result, Write, stdout},
};

use super::{
    figures,
    history::History,
    world::{OBJECTIVE, VARIANTS},
};
use crate::fleet::PoolReport;

/// Prints it.
pub(super) fn print(history: &History, report: &PoolReport) -> Result<()> {
    let mut out = stdout().lock();
    write!(out, "\n{}", text(history, report))?;
    out.flush()
}

fn text(history: &History, report: &PoolReport) -> String {
    let elapsed = history.last().map(|now| now.elapsed).unwrap_or_default();
    let hours = elapsed.as_secs_f64() / 3600.0;
    let standing: f64 =
        VARIANTS.iter().zip(history.most_set()).map(|(variant, set)| f64::from(set) * hours * variant.price()).sum();
    let mut text = format!("In {} of simulated time\n", figures::clock(elapsed));
    let mut line = |name: &str, value: String, note: String| {
        let _ = writeln!(text, "  {name:<16}{value:>8}  {note}");
    };
    let requests = report.requests;
    line("requests", requests.arrived.to_string(), format!("{} still in flight at the end", report.in_flight));
    line(
        "SLO attainment",
        figures::percent(report.slo_attainment),
        format!(
            "first token within {} and {} per token after it",
            milliseconds(OBJECTIVE.ttft.as_secs_f64()),
            milliseconds(OBJECTIVE.tpot.as_secs_f64())
        ),
    );
    for variant in VARIANTS {
        let Some(status) = figures::status(report, variant) else { continue };
        line(
            variant.name,
            format!("{:.2}", status.cost),
            format!(
                "{:.2} replica hours of {} at {:.2}, scaled {} times",
                status.replica_hours,
                variant.accelerator,
                variant.price(),
                status.scale_actions
            ),
        );
    }
    line("cost", format!("{:.2}", report.cost), saved(report.cost, standing));
    text
}

/// The cost beside that of replicas that never scale and are enough for the peak.
fn saved(cost: f64, standing: f64) -> String {
    let less = 1.0 - cost / standing;
    if less > 0.0 {
        format!("{:.0} % less than the most replicas all the time ({standing:.2})", less * 100.0)
    } else {
        format!("the most replicas all the time would cost {standing:.2}")
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.0} ms", seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_held_against_that_of_standing_replicas() {
        assert_eq!(saved(0.6, 1.0), "40 % less than the most replicas all the time (1.00)");
        assert_eq!(saved(1.0, 1.0), "the most replicas all the time would cost 1.00");
    }
}
