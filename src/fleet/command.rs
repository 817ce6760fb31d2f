//! `wva fleet`: a fleet of simulated engines under pods of a real control plane.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, ensure};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    exposition::{Exposition, NameGeneration},
    http,
    kubelet::{self, NodePool},
    live::LiveFleet,
    plan::LoadPlan,
};
use crate::clock::{Clock, ScaledClock, SystemClock};

/// What `--help` says after the options.
const EXPLANATION: &str = "\
Annotations in the pod template:
  wva.llmd.ai/fleet-profile     llama-3.1-8b-h100, llama-3.1-8b-a100,
                                llama-3.1-8b-l40s, qwen3-32b-2xh100 or
                                llama-3.1-70b-4xh100
  wva.llmd.ai/fleet-model       name of the model, as in the metrics' model_name
  wva.llmd.ai/fleet-cold-start  time from placement to ready (default 120s)
  prometheus.io/port            port of /metrics (default 8000)

Load plan:
  models:
  - model: meta-llama/Llama-3.1-8B-Instruct
    namespace: default                     # the default
    objective: { ttft: 1s, tpot: 50ms }    # the default
    load:
      poisson:                             # or regular, evenly spaced
        seed: 7
        steps:
        - { rate: 5, duration: 2m }        # requests per second
        - { rate: 5, to: 40, duration: 3m }
        - { rate: 40 }                     # for ever
        promptTokens: { lognormal: { mean: 1155, sigma: 0.9, max: 16000 } }
        outputTokens: { fixed: 200 }       # or { uniform: { min: 1, max: 9 } }
  - model: Qwen/Qwen3-32B
    flowControl: {}                        # the gateway holds what would queue
    load: { trace: { file: requests.csv.gz, copies: 4, shift: 1h } }

Control API:
  GET  /state                          requests, SLO attainment, cost, replicas
  POST /load                           a load plan; models not named keep theirs
  GET  /gateways/{namespace}/metrics   the endpoint picker's metrics";

/// Play kubelet and scheduler with simulated vLLM engines
///
/// For a control plane that has neither, such as hack/testbed. Registers fake GPU nodes, places the pods annotated
/// wva.llmd.ai/fleet-profile on them, and serves each pod's vLLM metrics on a loopback address of its own.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXPLANATION)]
pub struct FleetArgs {
    /// Load plan (YAML or JSON): which model gets which requests; see below
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,

    /// Address of the control API; a loopback address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8090")]
    control: SocketAddr,

    /// Nodes to register, as PRODUCT=COUNTxACCELERATORS; may be repeated
    #[arg(long, value_name = "POOL", default_value = "NVIDIA-H100-80GB-HBM3=4x8")]
    nodes: Vec<NodePool>,

    /// What the names of the nodes begin with; one per fleet where several share a control plane
    #[arg(long, value_name = "NAME", default_value = "fleet")]
    node_prefix: String,

    /// How many times faster than the wall clock engines, loads and cold starts run
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,

    /// Which generation of vLLM's metric names engines export
    #[arg(long, value_enum, default_value_t)]
    metric_names: NameGeneration,

    /// Leave out `vllm:cache_config_info`, as vLLM's Rust frontend does
    #[arg(long)]
    no_cache_config_info: bool,

    /// Kubeconfig; without, the usual places and then the service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Runs the fleet until `shutdown`, then deletes its nodes.
///
/// # Errors
/// When an argument makes no sense, the load plan cannot be followed, the control address is taken, or kube-apiserver
/// refuses the nodes.
pub async fn run(args: FleetArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let FleetArgs { load, control, nodes, node_prefix, speed, metric_names, no_cache_config_info, kubeconfig } = args;
    ensure!(speed.is_finite() && speed > 0.0, "--speed is {speed}, expected a factor above 0");
    ensure!(control.ip().is_loopback(), "--control is {control}, expected a loopback address such as 127.0.0.1:8090");
    let clock: Arc<dyn Clock> = if speed == 1.0 { Arc::new(SystemClock) } else { Arc::new(ScaledClock::new(speed)) };
    let exposition = Exposition { names: metric_names, cache_config_info: !no_cache_config_info };
    let fleet = Arc::new(LiveFleet::new(clock, exposition));
    if let Some(file) = load {
        let text = tokio::fs::read_to_string(&file).await;
        let text = text.with_context(|| format!("cannot read the load plan {}", file.display()))?;
        let plan = LoadPlan::parse(&text).and_then(|plan| plan.prepare());
        let plan = plan.with_context(|| format!("load plan {}", file.display()))?;
        fleet.with(|fleet| plan.apply(fleet));
    }
    let client = connect(kubeconfig).await?;
    let listener = TcpListener::bind(control).await;
    let listener = listener.with_context(|| format!("cannot listen on --control {control}: choose another port"))?;
    info!("control API on http://{}", listener.local_addr()?);

    let stop = shutdown.child_token();
    let _stop_all = stop.clone().drop_guard();
    let serving = tokio::spawn(http::serve(listener, http::control_routes(fleet.clone()), stop.clone()));
    let driving = tokio::spawn({
        let (fleet, stop) = (fleet.clone(), stop.clone());
        async move { fleet.drive(stop).await }
    });
    let played = kubelet::run(client, fleet, &node_prefix, &nodes, stop.clone()).await;
    stop.cancel();
    driving.await.context("the fleet's clock stopped")?;
    serving.await.context("the control API stopped")?.context("the control API failed")?;
    played.map_err(Into::into)
}

async fn connect(kubeconfig: Option<PathBuf>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        None => Config::infer().await.context("found no kubeconfig: pass --kubeconfig or set KUBECONFIG")?,
        Some(file) => {
            let named = || format!("kubeconfig {}", file.display());
            let read = Kubeconfig::read_from(&file).with_context(named)?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.with_context(named)?
        }
    };
    Client::try_from(config).context("cannot set up the Kubernetes client")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        fleet: FleetArgs,
    }

    fn parse(arguments: &[&str]) -> FleetArgs {
        Cli::try_parse_from([&["fleet"], arguments].concat()).unwrap().fleet
    }

    #[test]
    fn the_arguments_are_consistent_and_nodes_may_be_repeated() {
        Cli::command().debug_assert();
        assert_eq!(parse(&[]).nodes.len(), 1);
        assert_eq!(parse(&["--nodes", "NVIDIA-L40S=2x4", "--nodes", "NVIDIA-A100-SXM4-80GB=1x8"]).nodes.len(), 2);
        let error = Cli::try_parse_from(["fleet", "--nodes", "many"]).unwrap_err().to_string();
        assert!(error.contains("PRODUCT=COUNTxACCELERATORS"), "{error}");
    }

    #[test]
    fn the_load_plan_in_the_help_is_a_load_plan() {
        let plan = EXPLANATION.split("Load plan:\n").nth(1).unwrap().split("\nControl API:").next().unwrap();
        assert_eq!(LoadPlan::parse(plan).unwrap().models.len(), 2);
    }

    #[tokio::test]
    async fn arguments_that_make_no_sense_end_the_command_before_it_connects() {
        for (arguments, message) in [
            (["--speed", "0"], "--speed is 0, expected a factor above 0"),
            (["--speed", "NaN"], "--speed is NaN"),
            (["--control", "0.0.0.0:8090"], "--control is 0.0.0.0:8090, expected a loopback address"),
            (["--load", "no/such.yaml"], "cannot read the load plan no/such.yaml"),
            (["--kubeconfig", "no/such"], "kubeconfig no/such"),
        ] {
            let error = run(parse(&arguments), CancellationToken::new()).await.unwrap_err();
            assert!(format!("{error:#}").starts_with(message), "{error:#}");
        }
    }
}
