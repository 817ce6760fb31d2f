//! The program: a TLS provider, the command line with one subcommand per job, an exit code.

mod forecast;

use std::{io::Write, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use self::forecast::ForecastArgs;
use crate::{
    app::{self, ServeArgs},
    clock::SystemClock,
    config::{LogFormat, LoggingSettings},
    crd,
    demo::{self, DemoArgs},
    fleet::{self, FleetArgs},
    plan::{self, PlanArgs},
    simulate::{self, BenchDecisionsArgs, SimulateArgs},
    size::{self, SizeArgs},
    telemetry::init_logging,
};

/// Threads of the runtime. Each keeps what it freed for itself, and answers come from memory: with one per core, the process
/// would only grow with the machine.
const WORKERS: usize = 2;

/// Runs the process.
///
/// Not in `main.rs`, because a future is compiled into the crate that polls it: with all that the subcommands wait for, that
/// was a second copy of a third of the program, and a second compilation of it at each change.
pub fn main() -> ExitCode {
    // Before anything builds a TLS client: reqwest and kube take the process's provider.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("wva: another TLS provider was installed before ours; this is a defect of the build");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    match Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => {
            eprintln!("wva: no threads can be started: {error}; check the limit of processes");
            ExitCode::FAILURE
        }
    }
}

/// Tells a stock Kubernetes HPA how many replicas each LLM inference variant should have.
#[derive(Debug, Parser)]
#[command(name = "wva", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve desired replicas as a Kubernetes metrics API server
    Serve(Box<ServeArgs>),
    /// Print the configuration that `serve` would run with, and where each value comes from
    Config(Box<ServeArgs>),
    /// Run the main job on embedded parts, with no cluster
    Demo(DemoArgs),
    /// Measure scaling policies on a request trace, on a simulated fleet and clock
    Simulate(Box<SimulateArgs>),
    /// Compare all policies on all scenarios; behind hack/bench-decisions
    #[command(hide = true)]
    BenchDecisions(BenchDecisionsArgs),
    /// Tell how many replicas a load needs, and what latencies its requests will see
    Size(Box<SizeArgs>),
    /// Backtest the forecast of demand on a history of rates
    Forecast(ForecastArgs),
    /// Decide again on a recorded snapshot, as it was or with other costs, limits, thresholds or objectives
    Plan(Box<PlanArgs>),
    /// Play kubelet and scheduler with simulated vLLM engines, for a control plane without them
    Fleet(Box<FleetArgs>),
    /// Print the CustomResourceDefinition of VariantAutoscaling
    Crd,
}

impl Cli {
    /// Runs the chosen subcommand.
    async fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(args) => app::serve(&args).await,
            Command::Config(args) => print_configuration(&args).await,
            Command::Demo(args) => run_demo(args).await,
            Command::Fleet(args) => simulate_fleet(*args).await,
            Command::Simulate(args) => simulate::run(&args),
            Command::BenchDecisions(args) => simulate::bench_decisions(&args),
            Command::Size(args) => size::run(&args),
            Command::Forecast(args) => forecast::run(&args).and_then(|text| print(&text)),
            Command::Plan(args) => plan::run(&args),
            Command::Crd => crd::yaml().map_err(Into::into).and_then(|yaml| print(&yaml)),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // The reader is at a terminal or reads a container's log: the chain of causes, one line each.
                eprintln!("wva: {error}");
                for cause in error.chain().skip(1) {
                    eprintln!("  because {cause}");
                }
                ExitCode::FAILURE
            }
        }
    }
}

async fn run_demo(args: DemoArgs) -> anyhow::Result<()> {
    init_logging(&LoggingSettings { level: "warn".to_owned(), format: LogFormat::Text })?;
    demo::run(args, until_signal()?).await
}

async fn simulate_fleet(args: FleetArgs) -> anyhow::Result<()> {
    init_logging(&LoggingSettings { level: "info".to_owned(), format: LogFormat::Text })?;
    fleet::run(args, until_signal()?).await
}

/// A token that SIGTERM or SIGINT cancels.
fn until_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(shutdown)
}

async fn print_configuration(args: &ServeArgs) -> anyhow::Result<()> {
    let (live, ..) = args.configuration(Arc::new(SystemClock)).await?;
    print(&serde_saphyr::to_string(&*live.view())?)
}

/// Prints to standard output; a reader that has seen enough and closes the pipe is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
