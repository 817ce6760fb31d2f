//! `wva forecast`: how well demand can be foreseen, on a recorded history of it.

use std::{
    fmt::Write,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    fleet::TraceRows,
    forecast::{BUCKET, Backtest, HORIZONS, backtest},
    interfaces::ForecastMethod,
};

/// Header of a file of rates.
const RATES_HEADER: &str = "t_seconds,req_per_s";

/// Backtest the forecast of demand: from what came before each moment, what came after it, and how wrong that was beside
/// "it stays as it is" and "as at the same time yesterday".
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: wva forecast traces/servegen_m-large_rates_10min.csv.gz")]
pub(super) struct ForecastArgs {
    /// Rates per ten minutes as CSV with the header `t_seconds,req_per_s`, or a trace of requests; .gz or not.
    file: PathBuf,
    /// Ten-minute steps from one forecast to the next.
    #[arg(long, default_value_t = 3, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
}

/// Runs `wva forecast`; gives what to print.
///
/// # Errors
/// When the file cannot be read, or is too short.
pub(super) fn run(args: &ForecastArgs) -> anyhow::Result<String> {
    let rates = rates(&args.file)?;
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} forecasts {elapsed}")
            .unwrap_or(ProgressStyle::default_bar()),
    );
    let found = backtest(&rates, args.every as usize, |made, of| {
        bar.set_length(of as u64);
        bar.set_position(made as u64);
    });
    bar.finish_and_clear();
    if found.chosen.is_empty() {
        bail!("{} holds {} ten-minute steps; a backtest needs at least 48", args.file.display(), rates.len());
    }
    Ok(table(&args.file, &found))
}

fn table(file: &Path, found: &Backtest) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    let mut text = format!("{}\nmean absolute error over mean demand\n\n", file.display());
    let _ = writeln!(
        text,
        "{:>8} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "ahead", "forecasts", "forecast", "naive", "yesterday", "below P90"
    );
    for (horizon, errors) in HORIZONS.iter().zip(&found.horizons) {
        let [forecast, naive, yesterday] = errors.relative().map(percent);
        let ahead = format!("{} min", *horizon as u64 * BUCKET.as_secs() / 60);
        let _ = writeln!(
            text,
            "{ahead:>8} {:>9} {forecast:>9} {naive:>9} {yesterday:>10} {:>10}",
            errors.forecasts,
            percent(errors.coverage())
        );
    }
    let made: usize = found.chosen.values().sum();
    let chosen: Vec<_> = found
        .chosen
        .iter()
        .map(|(method, count)| {
            let name = match method {
                ForecastMethod::Naive => "naive",
                ForecastMethod::Trend => "trend",
                ForecastMethod::Seasonal => "seasonal",
            };
            format!("{name} {:.0} %", 100.0 * *count as f64 / made as f64)
        })
        .collect();
    let _ = writeln!(text, "\nchosen: {}", chosen.join(", "));
    text
}

/// Mean rates per bucket.
fn rates(file: &Path) -> anyhow::Result<Vec<Option<f64>>> {
    let opened = File::open(file).with_context(|| format!("{} cannot be read; check the path", file.display()))?;
    let is_compressed = file.extension().is_some_and(|extension| extension == "gz");
    let bytes: Box<dyn Read> = if is_compressed { Box::new(MultiGzDecoder::new(opened)) } else { Box::new(opened) };
    let mut lines = BufReader::new(bytes).lines();
    let header = lines.next().transpose().with_context(|| format!("{} cannot be read", file.display()))?;
    if !header.unwrap_or_default().starts_with(RATES_HEADER) {
        return counted(file);
    }
    let mut rates = Vec::new();
    for (line, text) in (2..).zip(lines) {
        let text = text.with_context(|| format!("{} line {line} cannot be read", file.display()))?;
        let mut fields = text.split(',').map(str::trim);
        let (Some(seconds), Some(rate)) = (fields.next(), fields.next()) else {
            bail!("{} line {line}: it must hold a time and a rate", file.display());
        };
        let expected = rates.len() as f64 * BUCKET.as_secs_f64();
        if seconds.parse::<f64>().ok() != Some(expected) {
            bail!(
                "{} line {line}: the time is {seconds:?}, expected {expected}: steps are ten minutes",
                file.display()
            );
        }
        let rate = rate.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
        rates.push(Some(rate.with_context(|| format!("{} line {line}: the rate is no number", file.display()))?));
    }
    Ok(rates)
}

/// Rates of a trace of requests.
fn counted(file: &Path) -> anyhow::Result<Vec<Option<f64>>> {
    let mut rows = TraceRows::open(file, false)?;
    let mut counts: Vec<u64> = Vec::new();
    while let Some(request) = rows.next_row()? {
        let bucket = (request.arrival.as_secs_f64() / BUCKET.as_secs_f64()) as usize;
        if counts.len() <= bucket {
            counts.resize(bucket + 1, 0);
        }
        counts[bucket] += 1;
    }
    // The last bucket is cut short by the end of the trace.
    counts.pop();
    Ok(counts.into_iter().map(|count| Some(count as f64 / BUCKET.as_secs_f64())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_errors_is_printed_for_rates_and_for_requests() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
        for (name, made) in
            [("servegen_deepseek-r1_rates_10min.csv.gz", 5), ("servegen_deepseek-r1_day_synth.csv.gz", 4)]
        {
            let text = run(&ForecastArgs { file: folder.join(name), every: 24 }).unwrap();
            assert!(text.contains(&format!("  10 min {made:>9} ")) && text.contains("chosen: "), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rates.csv");
        let run = |text: &str| {
            std::fs::write(&file, text).unwrap();
            format!("{:#}", run(&ForecastArgs { file: file.clone(), every: 1 }).unwrap_err())
        };
        assert!(run("t_seconds,req_per_s\n0,1\n").contains("at least 48"));
        assert!(run("t_seconds,req_per_s\n0,1\n60,1\n").contains("line 3: the time is \"60\", expected 600"));
        assert!(run("t_seconds,req_per_s\n0,-1\n").contains("line 2: the rate is no number"));
        assert!(run("time,rate\n0,1\n").contains("the header is"));
    }
}
