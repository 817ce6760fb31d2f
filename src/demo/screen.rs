//! What a person sees: a live table on a terminal, plain lines elsewhere, a summary at the end.

use std::{
    io::{IsTerminal, Result, Write, stdout},
    time::Duration,
};

use super::{
    DemoArgs,
    world::{DemoVariant, VARIANTS},
};
use crate::{
    fleet::{PoolReport, VariantStatus},
    interfaces::{Decision, Outcome, ReplicaMetrics},
};

/// Where there is no terminal, one set of lines per this many draws.
const PLAIN_EVERY: u64 = 5;
const HEADING: &str = "VARIANT  GPU   LOAD req/s  KV peak  QUEUE  DESIRED  READY/SET";

/// Draws to standard output.
pub(super) struct Screen {
    live: bool,
    /// Lines of the table that is on the terminal and will be replaced.
    drawn: usize,
    draws: u64,
}

impl Screen {
    pub(super) fn new(plain: bool) -> Self {
        Self { live: !plain && stdout().is_terminal(), drawn: 0, draws: 0 }
    }

    pub(super) fn greet(args: &DemoArgs, read_commands: &[String]) -> Result<()> {
        let mut out = stdout().lock();
        writeln!(
            out,
            "A simulated vLLM fleet serves one model on two variants. Load rises to {} req/s and falls; {:.0?} here are {:.0?} there.",
            args.peak_rate,
            args.duration,
            args.duration.mul_f64(args.speed)
        )?;
        writeln!(out, "Read what the HPAs read, while it runs:")?;
        for command in read_commands {
            writeln!(out, "  {command}")?;
        }
        writeln!(out)
    }

    pub(super) fn draw(
        &mut self,
        (elapsed, report): &(Duration, Option<PoolReport>),
        signals: &[ReplicaMetrics],
        decisions: &[Decision],
    ) -> Result<()> {
        self.draws += 1;
        let Some(report) = report else { return Ok(()) };
        let rows = VARIANTS.map(|variant| row(variant, report, signals, decisions));
        let mut out = stdout().lock();
        if self.live {
            // The reasons below the table: beside it they would not fit.
            let mut lines = vec![state(*elapsed, report), HEADING.to_owned()];
            lines.extend(rows.iter().map(|row| row.numbers.clone()));
            lines.extend(rows.iter().map(|row| format!("{} because {}", row.variant, row.why)));
            if self.drawn > 0 {
                write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
            }
            let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
            for line in &lines {
                writeln!(out, "{}", line.chars().take(width).collect::<String>())?;
            }
            self.drawn = lines.len();
        } else if self.draws % PLAIN_EVERY == 1 {
            writeln!(out, "{}", state(*elapsed, report))?;
            // A log keeps every line: the heading once is enough.
            if self.draws == 1 {
                writeln!(out, "{HEADING}  WHY")?;
            }
            for row in &rows {
                writeln!(out, "{}  {}", row.numbers, row.why)?;
            }
        }
        out.flush()
    }

    pub(super) fn sum_up((elapsed, report): &(Duration, Option<PoolReport>)) -> Result<()> {
        let Some(report) = report else { return Ok(()) };
        let mut out = stdout().lock();
        writeln!(out, "\nIn {} of simulated time:", clock(*elapsed))?;
        writeln!(out, "  {:<18}{:>9}", "requests", report.requests.arrived)?;
        writeln!(out, "  {:<18}{:>9}", "SLO attainment", attainment(report))?;
        writeln!(out, "  {:<18}{:>9.2}  (replica hours times price)", "cost", report.cost)?;
        for VariantStatus { name, replica_hours, cost, scale_actions, .. } in &report.variants {
            writeln!(out, "  {name:<18}{cost:>9.2}  {replica_hours:.2} replica hours, {scale_actions} scale actions")?;
        }
        out.flush()
    }
}

fn state(elapsed: Duration, report: &PoolReport) -> String {
    format!(
        "{}  SLO attainment {}  cost {:.2}  in flight {}  at the gateway {}",
        clock(elapsed),
        attainment(report),
        report.cost,
        report.in_flight,
        report.gateway_queue
    )
}

/// One variant's part of the table.
struct Row {
    variant: &'static str,
    numbers: String,
    why: String,
}

fn row(variant: DemoVariant, report: &PoolReport, signals: &[ReplicaMetrics], decisions: &[Decision]) -> Row {
    let of_variant = || signals.iter().filter(|r| r.variant.as_ref().is_some_and(|key| &*key.name == variant.name));
    let sum = |of: fn(&ReplicaMetrics) -> Option<f64>| of_variant().filter_map(of).reduce(|a, b| a + b);
    let peak = of_variant().filter_map(|replica| replica.kv_cache_usage.value().copied()).reduce(f64::max);
    let rate = sum(|replica| replica.request_rate.value().copied());
    let queue = sum(|replica| replica.queue_length.value().copied());
    let decision = decisions.iter().find(|decision| &*decision.variant.name == variant.name);
    let (desired, why) = match decision.map(|decision| &decision.outcome) {
        Some(Outcome::Desired(desired)) => (desired.replicas.to_string(), desired.reason.text.as_str()),
        Some(Outcome::Withheld(withheld)) => ("-".to_owned(), withheld.message.as_str()),
        None => ("-".to_owned(), "not decided yet"),
    };
    let status = report.variants.iter().find(|status| status.name == variant.name);
    let (ready, set) = status.map_or((0, 0), |status| (status.ready, status.spec.unwrap_or(status.current)));
    let numbers = format!(
        "{:<7}  {:<4}  {:>10}  {:>7}  {:>5}  {:>7}  {:>9}",
        variant.name,
        variant.accelerator,
        number(rate, |rate| format!("{rate:.1}")),
        number(peak, |peak| format!("{:.0} %", peak * 100.0)),
        number(queue, |queue| format!("{queue:.0}")),
        desired,
        format!("{ready}/{set}"),
    );
    Row { variant: variant.name, numbers, why: why.to_owned() }
}

fn number(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn attainment(report: &PoolReport) -> String {
    report.slo_attainment.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn clock(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
