//! What the collector's tests share: pods, engines that export metrics, and a real Prometheus that scrapes them.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract, http::StatusCode, routing::get};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    task::JoinHandle,
};
use wva::{
    clock::{Clock, SystemClock},
    collector::{CollectionTracker, CollectorConfig, InvalidCollectorConfig, new_metrics_collector},
    config::{Config, Layer},
    interfaces::{MetricsCollector, ModelKey, PodDirectory, PodIdentity, ReplicaMetrics, VariantKey},
};

/// How long a condition may take to come true on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until `probe` returns something.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let attempts = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, attempts).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// The default configuration for the Prometheus at `url`.
pub(crate) fn configuration(url: &str) -> CollectorConfig {
    let variables = [("PROMETHEUS_BASE_URL".to_owned(), url.to_owned())];
    let layer = Layer::from_environment(variables, &[]);
    CollectorConfig::from(&*Config::resolve(&[layer]).unwrap().config)
}

/// The pods we know the owners of.
#[derive(Default)]
pub(crate) struct Pods {
    owners: Mutex<HashMap<(String, String), VariantKey>>,
    models: Mutex<HashMap<VariantKey, Arc<str>>>,
}

impl Pods {
    pub(crate) fn own(&self, variant: &VariantKey, pod: &str) {
        let pod = (variant.namespace.to_string(), pod.to_owned());
        self.owners.lock().unwrap().insert(pod, variant.clone());
    }

    /// The variant declares this model.
    pub(crate) fn declare(&self, variant: &VariantKey, model: &str) {
        self.models.lock().unwrap().insert(variant.clone(), model.into());
    }
}

impl PodDirectory for Pods {
    fn identify(&self, namespace: &str, pod: &str) -> Option<PodIdentity> {
        let owners = self.owners.lock().unwrap();
        let variant = owners.get(&(namespace.to_owned(), pod.to_owned()))?.clone();
        Some(PodIdentity::ready(variant))
    }

    fn declared_model(&self, namespace: &str, pod: &str) -> Option<Arc<str>> {
        self.models.lock().unwrap().get(&self.identify(namespace, pod)?.variant?).cloned()
    }
}

/// A collector with everything a test looks at.
pub(crate) struct Collecting {
    pub(crate) collector: Arc<dyn MetricsCollector>,
    pub(crate) tracker: CollectionTracker,
    pub(crate) pods: Arc<Pods>,
}

impl Collecting {
    pub(crate) fn new(config: &CollectorConfig) -> Result<Self, InvalidCollectorConfig> {
        Self::at(config, &(Arc::new(SystemClock) as Arc<dyn Clock>))
    }

    pub(crate) fn at(config: &CollectorConfig, clock: &Arc<dyn Clock>) -> Result<Self, InvalidCollectorConfig> {
        // Another test may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (tracker, pods) = (CollectionTracker::new(clock.clone()), Arc::<Pods>::default());
        let directory: Arc<dyn PodDirectory> = pods.clone();
        let collector = new_metrics_collector(config, &directory, clock, &tracker)?.collector;
        Ok(Self { collector, tracker, pods })
    }

    /// Fetches once and returns what is known of `model`.
    pub(crate) async fn fetch(&self, model: &ModelKey) -> Vec<ReplicaMetrics> {
        self.collector.refresh().await.unwrap();
        self.collector.fetch_saturation_metrics(model).await.unwrap()
    }
}

/// Pods that export metrics, all behind one listener: `/<pod>` is the pod's exposition.
pub(crate) struct Engines {
    pub(crate) address: SocketAddr,
    expositions: Arc<Mutex<HashMap<String, String>>>,
    server: JoinHandle<()>,
}

impl Engines {
    pub(crate) async fn start() -> Self {
        let expositions = Arc::<Mutex<HashMap<String, String>>>::default();
        let answers = expositions.clone();
        let app = Router::new().route(
            "/{pod}",
            get(async move |extract::Path(pod): extract::Path<String>| {
                answers.lock().unwrap().get(&pod).cloned().ok_or(StatusCode::NOT_FOUND)
            }),
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, expositions, server }
    }

    pub(crate) fn export(&self, pod: &str, exposition: impl Into<String>) {
        self.expositions.lock().unwrap().insert(pod.to_owned(), exposition.into());
    }

    /// The pod no longer answers.
    pub(crate) fn kill(&self, pod: &str) {
        self.expositions.lock().unwrap().remove(pod);
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A target of Prometheus: the labels its service discovery would set.
pub(crate) struct Target<'a> {
    pub(crate) job: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) labels: Vec<(&'a str, &'a str)>,
}

impl<'a> Target<'a> {
    /// A pod as a `PodMonitor` labels it.
    pub(crate) fn pod(namespace: &'a str, pod: &'a str) -> Self {
        Self { job: "pods", pod, labels: vec![("namespace", namespace), ("pod", pod)] }
    }
}

/// A real Prometheus that scrapes once a second.
pub(crate) struct Prometheus {
    pub(crate) url: String,
    _process: Child,
    _directory: TempDir,
}

impl Prometheus {
    pub(crate) async fn start(engines: &Engines, targets: &[Target<'_>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("prometheus.yml");
        std::fs::write(&configuration, configure(engines.address, targets)).unwrap();
        let mut process = spawn(&configuration, &directory.path().join("data"));
        let stderr = process.stderr.take().unwrap();
        let url = tokio::time::timeout(DEADLINE, listening_address(stderr)).await.expect("Prometheus starts in time");
        Self { url, _process: process, _directory: directory }
    }

    pub(crate) fn config(&self) -> CollectorConfig {
        configuration(&self.url)
    }

    /// The result of an instant query, as Prometheus writes it.
    pub(crate) async fn ask(&self, promql: &str) -> serde_json::Value {
        let url = format!("{}/api/v1/query", self.url);
        let answer = reqwest::Client::new().get(url).query(&[("query", promql)]).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        answer["data"]["result"].clone()
    }

    /// How many queries it has answered so far, by its own account.
    pub(crate) async fn queries_answered(&self) -> u64 {
        let text = reqwest::get(format!("{}/metrics", self.url)).await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| {
            line.starts_with("prometheus_http_requests_total{") && line.contains(r#"handler="/api/v1/query""#)
        });
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

fn spawn(configuration: &Path, data: &Path) -> Child {
    Command::new("prometheus")
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "this test needs a real Prometheus, but `prometheus` cannot be started: {error}; install the Debian \
                 package `prometheus` or put the binary on the PATH"
            )
        })
}

fn configure(address: SocketAddr, targets: &[Target<'_>]) -> String {
    let mut text = "global: {scrape_interval: 1s}\nscrape_configs:\n".to_owned();
    let mut jobs: Vec<_> = targets.iter().map(|target| target.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    for job in jobs {
        writeln!(text, "- job_name: {job}\n  static_configs:").unwrap();
        for Target { pod, labels, .. } in targets.iter().filter(|target| target.job == job) {
            write!(text, "  - {{targets: ['{address}'], labels: {{__metrics_path__: /{pod}, instance: '{pod}:8000'")
                .unwrap();
            for (name, value) in labels {
                write!(text, ", {name}: '{value}'").unwrap();
            }
            text.push_str("}}\n");
        }
    }
    text
}

/// Reads the log up to the line that tells the port, and the rest in the background so that the pipe never fills.
async fn listening_address(log: tokio::process::ChildStderr) -> String {
    let mut lines = BufReader::new(log).lines();
    let mut read = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
            let url = format!("http://{}", address.trim());
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return url;
        }
        read.push_str(&line);
        read.push('\n');
    }
    panic!("Prometheus has ended:\n{read}");
}
