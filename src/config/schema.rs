//! The resolved configuration as types: every value set and checked.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use url::Url;

use super::{
    AuditSettings, AuthenticationSettings, AuthorizationSettings, CustomEngine, Profiles, ServiceClasses, TlsSettings,
};
use crate::{
    constants::MetricsGroup,
    interfaces::{
        AcceleratorLimits, ActuationMode, AgeLimits, InventorySettings, ModelKey, Override, SaturationScalingConfig,
        UpstreamVersion,
    },
};

/// Configuration of one `wva` process. Made by [`Config::resolve`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How Prometheus is reached.
    pub prometheus: PrometheusSettings,
    /// How signals are collected.
    pub collector: CollectorSettings,
    /// When decisions are made.
    pub engine: EngineSettings,
    /// What the cluster does not tell of its accelerators.
    pub inventory: InventorySettings,
    /// How long observations and decisions count.
    pub ages: AgeLimits,
    /// Saturation thresholds of models without an entry of their own.
    pub saturation: Arc<SaturationScalingConfig>,
    /// Saturation thresholds per model, already merged over [`Config::saturation`].
    pub saturation_per_model: BTreeMap<ModelSelector, Arc<SaturationScalingConfig>>,
    /// How long models without an entry of their own stay up without requests; `None` is for ever.
    pub retention: Option<Duration>,
    /// The same per model.
    pub retention_per_model: BTreeMap<ModelSelector, Option<Duration>>,
    /// How far decisions are held to the inventory of accelerators.
    pub limits: AcceleratorLimits,
    /// Overrides on every model without an entry of its own.
    pub overrides: Vec<Override>,
    /// The same per model.
    pub overrides_per_model: BTreeMap<ModelSelector, Vec<Override>>,
    /// Who scales workloads.
    pub actuation: ActuationSettings,
    /// What requests of which models are owed.
    pub service_classes: ServiceClasses,
    /// Service times of models on accelerators.
    pub profiles: Profiles,
    /// How metrics are served.
    pub server: ServerSettings,
    /// Who is believed to be who.
    pub authentication: AuthenticationSettings,
    /// Who may do what.
    pub authorization: AuthorizationSettings,
    /// What is written to the audit log; `None`: nothing.
    pub audit: Option<AuditSettings>,
    /// How several replicas share the work.
    pub leader_election: LeaderElectionSettings,
    /// Another adapter, whose metrics are read through us.
    pub delegation: DelegationSettings,
    /// Whether and how KEDA is served.
    pub keda: KedaSettings,
    /// Whether and where cycles are recorded.
    pub recording: RecordingSettings,
    /// The one namespace that is watched; `None` is all.
    pub watch_namespace: Option<String>,
    /// Name of this installation, where several share a cluster.
    pub controller_instance: Option<String>,
    /// Namespace this process runs in, if known.
    pub pod_namespace: Option<String>,
    /// What is logged, and how.
    pub logging: LoggingSettings,
}

impl Config {
    /// Address of Prometheus (`PrometheusURL` of the package reference).
    pub fn prometheus_url(&self) -> Option<&Url> {
        self.prometheus.url.as_ref()
    }

    /// Time between two decision cycles (`ReconcileInterval` of the package reference).
    pub fn reconcile_interval(&self) -> Duration {
        self.engine.interval
    }

    /// Time between two fetches of signals (`MetricsPollInterval` of the package reference).
    pub fn metrics_poll_interval(&self) -> Duration {
        self.collector.fetch_interval
    }

    /// Thresholds that hold for `model`: of its entry for its namespace, else of its entry for all, else the default.
    pub fn saturation_for(&self, model: &ModelKey) -> &Arc<SaturationScalingConfig> {
        of_model(&self.saturation_per_model, model).unwrap_or(&self.saturation)
    }

    /// After how long without a request `model` gives up all replicas, if ever.
    pub fn retention_for(&self, model: &ModelKey) -> Option<Duration> {
        *of_model(&self.retention_per_model, model).unwrap_or(&self.retention)
    }

    /// Overrides on all variants of `model`.
    pub fn overrides_for(&self, model: &ModelKey) -> &[Override] {
        of_model(&self.overrides_per_model, model).unwrap_or(&self.overrides)
    }
}

/// The entry for `model` in its namespace, else that for the model anywhere.
fn of_model<'a, T>(entries: &'a BTreeMap<ModelSelector, T>, model: &ModelKey) -> Option<&'a T> {
    let entry = |namespace: Option<&Arc<str>>| {
        entries.get(&ModelSelector { model_id: model.model_id.clone(), namespace: namespace.cloned() })
    };
    entry(Some(&model.namespace)).or_else(|| entry(None))
}

/// Who scales workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActuationSettings {
    /// HPAs alone, or `wva` too.
    pub mode: ActuationMode,
    /// Whether every variant is in shadow mode.
    pub shadow: bool,
    /// Whether steps that an HPA would ignore are widened.
    pub compensate_tolerance: bool,
}

/// Which models an entry of `models` speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelSelector {
    /// The model, as in `spec.modelID`.
    pub model_id: Arc<str>,
    /// Its namespace; `None` is every namespace.
    pub namespace: Option<Arc<str>>,
}

impl fmt::Display for ModelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "models[{} in {namespace}]", self.model_id),
            None => write!(f, "models[{}]", self.model_id),
        }
    }
}

/// How Prometheus is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusSettings {
    /// Its address; set whenever a backend is [`Backend::Prometheus`].
    pub url: Option<Url>,
    /// How it is trusted over TLS.
    pub trust: ServerTrust,
    /// Where the bearer token comes from.
    pub bearer_token: Option<BearerToken>,
    /// Headers sent along with each query, such as `X-Scope-OrgID`; names in lower case.
    pub headers: BTreeMap<String, Secret>,
    /// Time one query may take.
    pub query_timeout: Duration,
}

/// How a server is trusted over TLS, and who we are to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTrust {
    /// Certificates that may sign its own; the system's where unset.
    pub ca_cert_path: Option<PathBuf>,
    /// Client certificate and key.
    pub client_certificate: Option<CertificatePaths>,
    /// Name its certificate must hold, where that is not the URL's.
    pub server_name: Option<String>,
    /// Whether its certificate goes unchecked.
    pub insecure_skip_verify: bool,
}

/// A certificate and its private key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Where a bearer token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BearerToken {
    /// A file, read again as it rotates.
    File(PathBuf),
    /// The environment, fixed at start.
    Literal(Secret),
}

/// A text that no log, message or view shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one request that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How signals are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    /// Where from; at least one, each once.
    pub backends: Vec<Backend>,
    /// Time between two fetches.
    pub fetch_interval: Duration,
    /// Signals are peaks over this long.
    pub peak_window: Duration,
    /// Time a fetched result stays in the cache.
    pub cache_ttl: Duration,
    /// Results the cache holds at most.
    pub cache_max_entries: u64,
    /// Time between two scrapes of a pod.
    pub scrape_interval: Duration,
    /// Time a pod may take to answer.
    pub scrape_timeout: Duration,
    /// Port of pods that name none for metrics.
    pub scrape_port: u16,
    /// Endpoint pickers to scrape.
    pub gateways: GatewaySettings,
    /// Engines beside those built in.
    pub engines: Vec<CustomEngine>,
}

/// How endpoint pickers are scraped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Where.
    pub addresses: Vec<GatewayAddress>,
    /// File of the bearer token sent to them.
    pub bearer_token_path: Option<PathBuf>,
    /// How they are trusted over TLS.
    pub trust: ServerTrust,
}

/// Where an endpoint picker exposes its metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// Namespace of the models it routes to.
    pub namespace: Arc<str>,
    /// Address of its metrics.
    pub url: Url,
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.namespace, self.url)
    }
}

/// How the saturation engine measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SaturationMethod {
    /// How full KV cache and queue are.
    #[default]
    Percentage,
    /// Tokens held and waited for.
    Tokens,
    /// As upstream does.
    Upstream(UpstreamVersion),
}

/// A source of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// A Prometheus that scrapes the inference servers.
    Prometheus,
    /// The inference servers themselves.
    Scrape,
    /// Endpoint pickers.
    Epp,
}

impl Backend {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Prometheus, Self::Scrape, Self::Epp];
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prometheus => "prometheus",
            Self::Scrape => "scrape",
            Self::Epp => "epp",
        })
    }
}

/// When decisions are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Time between two decision cycles.
    pub interval: Duration,
    /// What makes a cycle run.
    pub executor: Executor,
}

/// What makes a decision cycle run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Executor {
    /// Time and changes of inputs.
    #[default]
    Hybrid,
    /// Changes of inputs.
    Reactive,
    /// Time.
    Polling,
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hybrid => "hybrid",
            Self::Reactive => "reactive",
            Self::Polling => "polling",
        })
    }
}

/// How metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Address to listen on.
    pub bind_address: IpAddr,
    /// Port to listen on; 0 is any free one.
    pub port: u16,
    /// Serving certificate and key; self-signed where unset.
    pub tls: Option<CertificatePaths>,
    /// Secret with a certificate of our own authority.
    pub certificate_secret: Option<String>,
    /// Life of a certificate of our own authority.
    pub certificate_validity: Duration,
    /// Time between failing readiness and refusing connections, for endpoints to be taken away.
    pub shutdown_delay: Duration,
    /// Time that requests in flight are then given.
    pub shutdown_grace: Duration,
    /// API groups that metrics are served under; at least one.
    pub groups: Vec<MetricsGroup>,
    /// How connections are secured.
    pub transport: TlsSettings,
    /// Whether HTTP/2 is off.
    pub disable_http2: bool,
    /// Requests under way at a time on one HTTP/2 connection.
    pub http2_max_streams: u32,
}

/// Another external-metrics adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationSettings {
    /// Its address; `None` where there is none.
    pub url: Option<Url>,
    /// Names of its metrics.
    pub metrics: Vec<String>,
    /// Beginnings of names of its metrics.
    pub prefixes: Vec<String>,
    /// Label keys by which a selector is about its metrics.
    pub label_keys: Vec<String>,
    /// Certificates that may sign its own; the system's where unset.
    pub ca_cert_path: Option<PathBuf>,
    /// File of the bearer token it is asked with.
    pub bearer_token_path: PathBuf,
    /// Time its answer may take.
    pub timeout: Duration,
}

/// How KEDA is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KedaSettings {
    /// Whether it is.
    pub enabled: bool,
    /// Port to listen on.
    pub port: u16,
    /// Authorities of the clients that may ask; set where it is enabled.
    pub client_ca_path: Option<PathBuf>,
}

/// Whether and where cycles are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingSettings {
    /// Where; `None` is not at all.
    pub directory: Option<PathBuf>,
    /// Least time between two.
    pub interval: Duration,
    /// What the directory holds at most.
    pub limits: RecordingLimits,
}

/// How much a directory of recordings holds; the oldest go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingLimits {
    /// Most recordings.
    pub files: u64,
    /// Most bytes of all recordings together.
    pub bytes: u64,
}

/// How several replicas share the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElectionSettings {
    /// Whether there may be several.
    pub enabled: bool,
    /// Time after which a leader that does not renew its Lease is replaced.
    pub lease_duration: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingSettings {
    /// A level, or directives of [`tracing_subscriber::filter::Targets`]; valid.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}
