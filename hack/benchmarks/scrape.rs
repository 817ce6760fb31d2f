//! What direct scraping costs: processor time of the collector for pods that a second process plays. `hack/bench-scrape`
//! runs it.

use std::{
    convert::Infallible,
    future::ready,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wva::{
    clock::SystemClock,
    collector::scrape::{ScrapeCollector, ScrapeOptions, ScrapeTarget, ScrapeTargets},
    interfaces::{PodDirectory, PodIdentity, VariantKey},
};

/// As a vLLM server exports it, of the families in use.
const FAMILIES_IN_USE: &str = include_str!("../../tests/fixtures/fleet/vllm-0.33-metrics.txt");
/// Histograms that it exports besides, and their buckets.
const OTHERS: [(&str, usize); 10] = [
    ("vllm:e2e_request_latency_seconds", 22),
    ("vllm:request_time_per_output_token_seconds", 19),
    ("vllm:request_prefill_time_seconds", 22),
    ("vllm:request_decode_time_seconds", 22),
    ("vllm:request_inference_time_seconds", 22),
    ("vllm:iteration_tokens_total", 12),
    ("vllm:request_params_max_tokens", 13),
    ("vllm:request_max_num_generation_tokens", 13),
    ("vllm:request_prefill_kv_computed_tokens", 13),
    ("http_request_duration_seconds", 21),
];
const PERIOD: Duration = Duration::from_secs(1);
/// Connections are made and histories begun before the measurement.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(15);
const DEFAULT_SIZES: [usize; 4] = [50, 500, 1_000, 2_000];
/// Share of one core at 500 pods.
const GOAL: f64 = 0.25;

fn main() -> anyhow::Result<()> {
    // It fails only where one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "--serve").is_some() {
        return runtime.block_on(serve());
    }
    let sizes: Result<Vec<usize>, _> = arguments.map(|size| size.parse()).collect();
    let sizes = sizes.context("arguments are numbers of pods")?;
    let sizes = if sizes.is_empty() { DEFAULT_SIZES.to_vec() } else { sizes };
    runtime.block_on(measure_all(&sizes))
}

/// All that a pod answers.
fn page() -> String {
    let labels = r#"engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct""#;
    let mut parts = vec![FAMILIES_IN_USE.to_owned()];
    for (name, buckets) in OTHERS {
        parts.push(format!("# HELP {name} A histogram that is not in use.\n# TYPE {name} histogram\n"));
        let bucket = |bucket: usize| format!("{name}_bucket{{le=\"{bucket}.0\",{labels}}} {}.0\n", 1000 + bucket);
        parts.extend((0..buckets).map(bucket));
        parts.push(format!("{name}_count{{{labels}}} 2000.0\n{name}_sum{{{labels}}} 12345.678\n"));
    }
    parts.concat()
}

/// Plays every pod: each has an address of its own, and all share a port.
async fn serve() -> anyhow::Result<()> {
    let page = Bytes::from(page());
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, peer) = listener.accept().await?;
        if !peer.ip().is_loopback() {
            continue;
        }
        let page = page.clone();
        let answer = move |_: Request<Incoming>| ready(Ok::<_, Infallible>(Response::new(Full::new(page.clone()))));
        // A connection that breaks is the client's affair.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

struct Pods(Child);

impl Drop for Pods {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure_all(sizes: &[usize]) -> anyhow::Result<()> {
    let mut pods = Pods(Command::new(std::env::current_exe()?).arg("--serve").stdout(Stdio::piped()).spawn()?);
    let mut port = String::new();
    BufReader::new(pods.0.stdout.take().context("no output of the pods")?).read_line(&mut port)?;
    let port: u16 = port.trim().parse()?;
    println!("direct scraping every {PERIOD:?}, {} bytes a page, {MEASURED:?} each", page().len());
    println!("{:>7} {:>12} {:>16} {:>16} {:>10}", "PODS", "SCRAPES/S", "SHARE OF A CORE", "µs PER SCRAPE", "RSS MiB");
    for &size in sizes {
        let row = measure(size, port).await?;
        let goal = if size == 500 { format!("  goal: {GOAL:.2} of a core") } else { String::new() };
        println!(
            "{size:>7} {:>12.0} {:>16.3} {:>16.0} {:>10.1}{goal}",
            row.rate,
            row.share,
            row.share * 1e6 / row.rate,
            row.resident_mib
        );
    }
    Ok(())
}

struct Row {
    rate: f64,
    share: f64,
    resident_mib: f64,
}

async fn measure(size: usize, port: u16) -> anyhow::Result<Row> {
    let targets = Arc::new(Fleet { size, port });
    let collector = ScrapeCollector::new(ScrapeOptions::default(), Arc::new(SystemClock), targets.clone(), targets)?;
    let collector = Arc::new(collector);
    let stop = CancellationToken::new();
    let (refreshed, _) = tokio::sync::watch::channel(0);
    let running = tokio::spawn(collector.clone().run(PERIOD, stop.clone(), refreshed));
    tokio::time::sleep(WARM_UP).await;
    let (began, used, scrapes) = (Instant::now(), processor_time()?, collector.recorded());
    tokio::time::sleep(MEASURED).await;
    let seconds = began.elapsed().as_secs_f64();
    let (used, scrapes) = (processor_time()?.saturating_sub(used), collector.recorded() - scrapes);
    stop.cancel();
    running.await?;
    anyhow::ensure!(scrapes > 0, "no scrape was answered");
    Ok(Row { rate: scrapes as f64 / seconds, share: used.as_secs_f64() / seconds, resident_mib: resident_mib()? })
}

/// Pods at 127.1.0.0 and on.
struct Fleet {
    size: usize,
    port: u16,
}

impl ScrapeTargets for Fleet {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        let of = |number: usize| {
            let address = IpAddr::from([127, 1, (number >> 8) as u8, number as u8]);
            let url = format!("http://{address}:{}/metrics", self.port);
            ScrapeTarget::new("bench", format!("llama-{number:05}"), url)
        };
        (0..self.size).map(of).collect()
    }
}

impl PodDirectory for Fleet {
    fn identify(&self, namespace: &str, _pod: &str) -> Option<PodIdentity> {
        Some(PodIdentity::ready(VariantKey::new(namespace, "llama")))
    }
}

/// Of this process, all threads, user and system.
fn processor_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name in /proc/self/stat")?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok());
    let ticks = ticks(11).zip(ticks(12)).context("no times in /proc/self/stat")?;
    // USER_HZ is 100 on Linux.
    Ok(Duration::from_millis((ticks.0 + ticks.1) * 10))
}

fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/self/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
