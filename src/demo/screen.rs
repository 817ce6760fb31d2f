//! What a person sees: a live picture on a terminal, plain lines elsewhere, a summary at the end.

use std::io::{IsTerminal, Result, Write, stdout};

use console::{Style, Term, measure_text_width, style};

use super::{
    figures::{self, Row},
    history::{self, History, Moment},
};
use crate::{
    fleet::PoolReport,
    interfaces::{Decision, ReplicaMetrics},
};

/// Where there is no terminal, one set of lines per this many draws.
const PLAIN_EVERY: u64 = 5;
/// Columns of a course over time.
const COURSE: usize = 48;
/// Columns of a bar.
const BAR: usize = 10;
/// Wider than this nothing gets.
const WIDEST: usize = 120;
/// Most lines for the reason of one decision.
const REASON_LINES: usize = 2;

/// What is drawn at one moment.
pub(super) struct Frame<'a> {
    /// The fleet's own view.
    pub(super) report: &'a PoolReport,
    /// What the collector knows.
    pub(super) signals: &'a [ReplicaMetrics],
    /// What is served.
    pub(super) decisions: &'a [Decision],
}

/// Draws to standard output.
pub(super) struct Screen {
    /// Where the picture is replaced by the next; `None` where lines follow each other.
    terminal: Option<Term>,
    /// Lines of the picture that stands there.
    drawn: usize,
    draws: u64,
}

impl Screen {
    pub(super) fn new(plain: bool) -> Self {
        let terminal = (!plain && stdout().is_terminal()).then(Term::buffered_stdout);
        Self { terminal, drawn: 0, draws: 0 }
    }

    /// What runs here, and how to read it from outside.
    pub(super) fn greet(headline: &str, read_commands: &[String]) -> Result<()> {
        let mut out = stdout().lock();
        writeln!(out, "{headline}\n")?;
        writeln!(out, "While it runs, read what the HPAs read:\n")?;
        for command in read_commands {
            writeln!(out, "  {command}\n")?;
        }
        out.flush()
    }

    pub(super) fn draw(&mut self, history: &History, frame: &Frame<'_>) -> Result<()> {
        self.draws += 1;
        let Some(now) = history.last() else { return Ok(()) };
        let rows = figures::rows(frame.report, frame.signals, frame.decisions);
        match &self.terminal {
            Some(terminal) => {
                let width = usize::from(terminal.size().1).clamp(40, WIDEST);
                let lines = picture(history, now, frame.report, &rows, width);
                terminal.clear_last_lines(self.drawn)?;
                for line in &lines {
                    // What a narrow terminal would wrap would shift the next picture.
                    terminal.write_line(&console::truncate_str(line, width, "…"))?;
                }
                self.drawn = lines.len();
                terminal.flush()
            }
            None if self.draws % PLAIN_EVERY == 1 => plain(history, now, frame.report, &rows, self.draws == 1),
            None => Ok(()),
        }
    }
}

/// The live picture, line by line.
fn picture(history: &History, now: &Moment, report: &PoolReport, rows: &[Row], width: usize) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} of {}  {}  SLO attainment {}  cost {:.2}",
            style(figures::clock(now.elapsed)).bold(),
            figures::clock(history.total()),
            style(history::bar(history.share_done(), BAR * 2)).dim(),
            style(figures::percent(report.slo_attainment)).bold(),
            report.cost,
        ),
        String::new(),
    ];
    let rate = now.rate.unwrap_or_default();
    let arriving = format!("{rate:.1} req/s arriving, {} in flight", report.in_flight);
    let load = history.course(COURSE, |moment| moment.rate);
    lines.push(course("load", &load, history.peak_rate(), &Style::new().cyan(), &arriving));
    for (index, row) in rows.iter().enumerate() {
        let most = row.variant.max_replicas;
        let ready = history.course(COURSE, |moment| Some(f64::from(moment.ready[index])));
        let stands = format!("{} of at most {most} replicas ready", row.ready);
        lines.push(course(row.variant.name, &ready, f64::from(most), &Style::new().blue(), &stands));
    }
    let met = history.course(COURSE, |moment| moment.met_share);
    let latest = format!("{} of the latest requests", figures::percent(now.met_share));
    lines.push(course("in SLO", &met, 1.0, &Style::new().green(), &latest));
    lines.push(String::new());
    lines.push(style(format!("{}  REPLICAS", figures::heading(BAR))).dim().to_string());
    lines.extend(rows.iter().map(line));
    lines.push(String::new());
    for row in rows {
        let text = format!("{:<6} {} because {}", row.variant.name, row.desired, row.why);
        lines.extend(wrapped(&text, width).into_iter().map(|line| style(line).dim().to_string()));
    }
    lines
}

/// A quantity over the whole run, and what it is now.
fn course(name: &str, values: &[Option<f64>], top: f64, colour: &Style, now: &str) -> String {
    format!("{name:<7} {} {now}", colour.apply_to(history::sparkline(values, top)))
}

/// One variant's line of the table.
fn line(row: &Row) -> String {
    let usage = row.kv_peak.unwrap_or_default();
    let bar = style(history::bar(usage, BAR));
    let bar = if row.is_saturated() { bar.red() } else { bar.green() };
    let (ready, pending) = (style("●".repeat(row.ready as usize)).green(), row.set.saturating_sub(row.ready));
    let pending = style("○".repeat(pending as usize)).yellow();
    format!("{}  {ready}{pending}", row.text(&bar.to_string()))
}

fn plain(history: &History, now: &Moment, report: &PoolReport, rows: &[Row], first: bool) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(
        out,
        "{} of {}: {:.1} req/s arriving, SLO attainment {}, cost {:.2}",
        figures::clock(now.elapsed),
        figures::clock(history.total()),
        now.rate.unwrap_or_default(),
        figures::percent(report.slo_attainment),
        report.cost
    )?;
    // A log keeps every line: the heading once is enough.
    if first {
        writeln!(out, "{}  WHY", figures::heading(0))?;
    }
    for row in rows {
        writeln!(out, "{}  {}", row.text(""), row.why)?;
    }
    out.flush()
}

/// `text` in lines of `width` at most, the later ones indented; what does not fit into [`REASON_LINES`] is left out.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let is_full = |line: &String| measure_text_width(line) + measure_text_width(word.trim_end()) > width;
        if lines.last().is_some_and(is_full) {
            lines.push("       ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    if lines.len() > REASON_LINES {
        lines.truncate(REASON_LINES);
        if let Some(line) = lines.last_mut() {
            *line = console::truncate_str(&format!("{line} …"), width, " …").into_owned();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_takes_two_lines_within_the_width_and_says_that_more_is_left() {
        let text = "cheap 3 because ".to_owned() + &"the load is high ".repeat(20);
        let lines = wrapped(&text, 60);
        assert_eq!(lines.len(), REASON_LINES);
        assert!(lines.iter().all(|line| measure_text_width(line.trim_end()) <= 60), "{lines:?}");
        assert!(lines[1].starts_with("       ") && lines[1].trim_end().ends_with('…'), "{lines:?}");
        assert_eq!(wrapped("cheap 3 because of this", 60), ["cheap 3 because of this"]);
    }
}
