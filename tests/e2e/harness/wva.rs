//! `wva serve` as the service account of `manifests/`, with short windows.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Certificate, Identity};

use super::{Bed, Process};

/// `collector.peakWindow`: how long a peak counts, and how long a scale-down waits after replicas changed.
pub const PEAK_WINDOW: Duration = Duration::from_secs(5);
/// `ages.signal`.
pub const SIGNAL_AGE: Duration = Duration::from_secs(8);
/// `collector.fetchInterval` and `engine.interval`.
pub const FETCH_INTERVAL: Duration = Duration::from_secs(1);
/// `server.shutdownDelay`.
const SHUTDOWN_DELAY: Duration = Duration::from_secs(2);
/// `prometheus.queryTimeout`: for so long a fetch is retried before its failure shows.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const START_LIMIT: Duration = Duration::from_secs(30);

/// How to start it, and the process while there is one.
#[derive(Debug)]
pub struct Wva {
    process: Option<Process>,
    port: u16,
    kubeconfig: PathBuf,
    prometheus_url: String,
    folder: PathBuf,
    /// Where it listens.
    address: &'static str,
    /// What its pod would be called.
    pod: &'static str,
    /// Whether it makes its own certificates; the bed's where not.
    own_certificate: bool,
    /// Further flags.
    flags: Vec<String>,
}

impl Wva {
    /// One that is not started yet, against the bed's Prometheus or another.
    pub fn new(folder: &Path, prometheus_url: &str) -> Self {
        let kubeconfig = folder.join("wva.kubeconfig");
        Bed::get().testbed(&["kubeconfig", "wva", "wva-system", kubeconfig.to_str().unwrap()]);
        let prometheus_url = prometheus_url.to_owned();
        let folder = folder.to_owned();
        Self {
            process: None,
            port: 0,
            kubeconfig,
            prometheus_url,
            folder,
            address: "127.0.0.1",
            pod: "wva-e2e",
            own_certificate: false,
            flags: Vec::new(),
        }
    }

    /// From the next start on it makes its own certificates, of this validity, as `manifests/` has it.
    pub fn own_certificate(&mut self, validity: Duration) {
        self.own_certificate = true;
        self.flags.push(format!("--server-certificate-validity={}s", validity.as_secs()));
    }

    /// From the next start on it is one of several replicas, with this name and address.
    pub fn replica(&mut self, pod: &'static str, address: &'static str, port: u16, lease: Duration) {
        (self.pod, self.address, self.port) = (pod, address, port);
        self.flag("--leader-election-enabled=true");
        self.flag(format!("--leader-election-lease-duration={}s", lease.as_secs()));
    }

    /// From the next start on it has this flag too.
    pub fn flag(&mut self, flag: impl Into<String>) {
        self.flags.push(flag.into());
    }

    /// Starts it on the port it had before, which the APIService points at.
    pub async fn start_again(&mut self) {
        let address = format!("--server-port={}", self.port);
        let bind = format!("--server-bind-address={}", self.address);
        let windows = [
            ("peak-window", "collector", PEAK_WINDOW),
            ("fetch-interval", "collector", FETCH_INTERVAL),
            ("signal", "ages", SIGNAL_AGE),
            ("interval", "engine", FETCH_INTERVAL),
            ("shutdown-delay", "server", SHUTDOWN_DELAY),
            ("query-timeout", "prometheus", QUERY_TIMEOUT),
        ];
        let windows = windows.map(|(key, section, time)| format!("--{section}-{key}={}s", time.as_secs()));
        let prometheus = format!("--prometheus-url={}", self.prometheus_url);
        let mut arguments = vec!["--config-map=wva-config", &bind, &address, &prometheus];
        arguments.extend(windows.iter().map(String::as_str));
        // Alone unless it says otherwise: manifests/config.yaml is for several.
        if !self.flags.iter().any(|flag| flag.contains("leader-election")) {
            arguments.push("--leader-election-enabled=false");
        }
        arguments.extend(self.flags.iter().map(String::as_str));
        let bed = Bed::get();
        let pair = ["--server-tls-cert-path", &bed.certificate, "--server-tls-key-path", &bed.key];
        if !self.own_certificate {
            arguments.extend(pair);
        }
        let mut process = self.run(&arguments);
        // The line ends `serving address=127.0.0.1:40123`.
        let address = process.printed("serving address=", START_LIMIT).await;
        self.port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        process.printed("ready: the cluster is known", START_LIMIT).await;
        self.process = Some(process);
    }

    /// Runs `wva serve` with these arguments and the identity in `kubeconfig`.
    fn run(&self, arguments: &[&str]) -> Process {
        let all = [&["serve"], arguments].concat();
        let environment = [
            ("KUBECONFIG", self.kubeconfig.to_str().unwrap()),
            ("POD_NAME", self.pod),
            ("POD_NAMESPACE", "wva-system"),
        ];
        Process::start("serve", &all, &environment, &self.folder)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// The address of `path` on the server itself, past kube-apiserver.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// A client that verifies the server, and shows a certificate if it has one.
    pub fn http(identity: Option<&[String; 2]>) -> reqwest::Client {
        let pem = |path: &String| std::fs::read_to_string(path).unwrap();
        let authority = Certificate::from_pem(pem(&Bed::get().authority).as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
        if let Some([certificate, key]) = identity {
            let both = pem(certificate) + &pem(key);
            builder = builder.identity(Identity::from_pem(both.as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }
}
