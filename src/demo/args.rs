//! Flags of `wva demo`.

use std::time::Duration;

use clap::Args;

/// Run the main job on embedded parts, with no cluster: a simulated vLLM fleet, the real collector, engine and API
/// server, and the stock HPA's arithmetic.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How long to run, in real time.
    #[arg(long, default_value = "120s", value_name = "DURATION", value_parser = duration)]
    pub duration: Duration,
    /// How much faster than the wall the simulated world runs.
    #[arg(long, default_value_t = 10.0, value_name = "FACTOR", value_parser = speed)]
    pub speed: f64,
    /// Greatest request rate of the load, in requests per second; it rises to this and falls again.
    #[arg(long, default_value_t = 40.0, value_name = "REQUESTS", value_parser = rate)]
    pub peak_rate: f64,
    /// Simulated time from the creation of a replica until it is ready.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub cold_start: Duration,
    /// Port of the API server on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub port: u16,
    /// Seed of the load.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Print plain lines even on a terminal.
    #[arg(long)]
    pub plain: bool,
}

impl DemoArgs {
    /// How long it runs in simulated time.
    pub(super) fn simulated(&self) -> Duration {
        self.duration.mul_f64(self.speed)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration; write it like 90s, 2m or 1m30s"))?;
    Duration::try_from(span).ok().filter(|d| !d.is_zero()).ok_or_else(|| "it must be longer than nothing".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    number(text, 0.1..=60.0)
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.1..=10_000.0)
}

fn number(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| format!("{text:?} is not a number from {} to {}", range.start(), range.end()))
}
