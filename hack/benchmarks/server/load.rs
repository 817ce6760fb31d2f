//! Requests as kube-apiserver sends them: HTTP/2 over TLS with the front proxy's certificate, one after the other on each
//! connection (closed loop) or at a fixed rate over all of them (open loop).

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinSet, time::sleep_until};
use tokio_rustls::TlsConnector;

use super::{certificates, key, provider, roots};

/// Longest answer that is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Address of the server.
    #[arg(long)]
    address: SocketAddr,
    /// Name that its certificate must hold.
    #[arg(long, default_value = "localhost")]
    server_name: String,
    /// PEM file of the authority of its certificate.
    #[arg(long)]
    ca: PathBuf,
    /// PEM file of the front proxy's certificate.
    #[arg(long)]
    certificate: PathBuf,
    /// PEM file of its key.
    #[arg(long)]
    key: PathBuf,
    /// Path and query; `{}` becomes a number below `--variants`.
    #[arg(long)]
    path: String,
    /// Whom the front proxy speaks for; the HPA controller is refused what it would add up.
    #[arg(long, default_value = "system:serviceaccount:kube-system:horizontal-pod-autoscaler")]
    user: String,
    /// A group of theirs.
    #[arg(long, default_value = "system:serviceaccounts")]
    group: String,
    /// Numbers that `{}` takes in turn.
    #[arg(long, default_value_t = 1)]
    variants: u64,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests per second over all connections; as fast as answers come where unset.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before anything is measured.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
}

struct Plan {
    arguments: Arguments,
    sent: AtomicU64,
    measure_from: Instant,
    end: Instant,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    failures: u64,
    bytes: u64,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let tls = TlsConnector::from(Arc::new(tls(&arguments)?));
    let mut senders = Vec::new();
    for _ in 0..arguments.connections {
        senders.push(connect(&arguments, &tls).await?);
    }
    let start = Instant::now();
    let measure_from = start + Duration::from_secs_f64(arguments.warm_up);
    let end = measure_from + Duration::from_secs_f64(arguments.duration);
    let plan = Arc::new(Plan { arguments, sent: AtomicU64::new(0), measure_from, end });
    let mut running = JoinSet::new();
    for (index, sender) in senders.into_iter().enumerate() {
        let plan = Arc::clone(&plan);
        running.spawn(async move {
            match plan.arguments.rate {
                None => closed(&plan, sender).await,
                Some(rate) => open(&plan, sender, rate, index, start).await,
            }
        });
    }
    let mut all = Seen::default();
    while let Some(seen) = running.join_next().await {
        let Seen { latencies, failures, bytes } = seen?;
        all.latencies.extend(latencies);
        all.failures += failures;
        all.bytes += bytes;
    }
    report(&plan, all)
}

fn report(plan: &Plan, mut seen: Seen) -> anyhow::Result<()> {
    ensure!(!seen.latencies.is_empty(), "no request was answered; {} failed", seen.failures);
    seen.latencies.sort_unstable();
    let at = |share: f64| {
        let index = (share * (seen.latencies.len() - 1) as f64).round() as usize;
        seen.latencies[index].as_secs_f64() * 1e6
    };
    let answered = seen.latencies.len();
    println!(
        "{}",
        serde_json::json!({
            "requests": answered,
            "failures": seen.failures,
            "perSecond": answered as f64 / plan.arguments.duration,
            "p50Micros": at(0.5),
            "p99Micros": at(0.99),
            "maxMicros": at(1.0),
            "bytes": seen.bytes / answered.max(1) as u64,
        })
    );
    Ok(())
}

type Sender = http2::SendRequest<Empty<Bytes>>;

async fn connect(arguments: &Arguments, tls: &TlsConnector) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(arguments.address).await.context("the server does not listen")?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(arguments.server_name.clone())?;
    let stream = tls.connect(name, stream).await.context("TLS")?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn tls(arguments: &Arguments) -> anyhow::Result<ClientConfig> {
    let mut tls = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(&arguments.ca)?)
        .with_client_auth_cert(certificates(&arguments.certificate)?, key(&arguments.key)?)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}

async fn closed(plan: &Plan, mut sender: Sender) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < plan.end {
        let began = Instant::now();
        note(plan, &mut seen, began, &send(plan, &mut sender).await);
    }
    seen
}

/// Latency counts from when a request was due, so that a stalled server cannot hide the requests it kept from being sent.
async fn open(plan: &Arc<Plan>, sender: Sender, rate: f64, index: usize, start: Instant) -> Seen {
    let every = Duration::from_secs_f64(plan.arguments.connections as f64 / rate);
    let mut due = start + every.mul_f64(index as f64 / plan.arguments.connections as f64);
    let mut running = JoinSet::new();
    let mut seen = Seen::default();
    while due < plan.end {
        sleep_until(due.into()).await;
        let mut sender = sender.clone();
        let number = plan.sent.fetch_add(1, Ordering::Relaxed);
        let (of, began) = (Arc::clone(plan), due);
        running.spawn(async move { (began, exchange(&mut sender, &of.arguments, number).await, Instant::now()) });
        due += every;
    }
    while let Some(Ok((began, outcome, ended))) = running.join_next().await {
        if began >= plan.measure_from {
            seen.add(ended - began, &outcome);
        }
    }
    seen
}

async fn send(plan: &Plan, sender: &mut Sender) -> anyhow::Result<u64> {
    let number = plan.sent.fetch_add(1, Ordering::Relaxed);
    exchange(sender, &plan.arguments, number).await
}

fn note(plan: &Plan, seen: &mut Seen, began: Instant, outcome: &anyhow::Result<u64>) {
    if began >= plan.measure_from {
        seen.add(began.elapsed(), outcome);
    }
}

impl Seen {
    fn add(&mut self, latency: Duration, outcome: &anyhow::Result<u64>) {
        match outcome {
            Ok(bytes) => {
                self.latencies.push(latency);
                self.bytes += bytes;
            }
            Err(_) => self.failures += 1,
        }
    }
}

/// The request of this number; the size of its answer.
async fn exchange(sender: &mut Sender, arguments: &Arguments, number: u64) -> anyhow::Result<u64> {
    let path = arguments.path.replace("{}", &(number % arguments.variants).to_string());
    let request = Request::get(format!("https://localhost{path}"))
        .header("accept", "application/json")
        .header("user-agent", "kube-controller-manager/v1.37.2")
        .header("x-remote-user", &arguments.user)
        .header("x-remote-group", &arguments.group)
        .header("x-remote-group", "system:authenticated")
        .body(Empty::new())?;
    let exchange = async {
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "{}", response.status());
        Ok(response.into_body().collect().await?.to_bytes().len() as u64)
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}
