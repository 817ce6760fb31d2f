//! The key table: the one place that knows each key's names, kind, default and meaning.
//!
//! Flags, environment variables, help, the reference and unknown-key suggestions all derive from it.

use std::{net::Ipv4Addr, path::PathBuf, sync::LazyLock, time::Duration};

use jiff::Timestamp;
use url::Url;

use super::{
    AuditFormat, Backend, Executor, GatewayAddress, LogFormat, Secret, SniCertificatePaths, TlsVersion,
    kinds::{self, Form, Kind},
    schema::SaturationMethod,
};
use crate::{
    constants::MetricsGroup,
    interfaces::{
        AcceleratorMode, AcceleratorRule, ActuationMode, AgeLimits, ConfiguredQuota, NodeGroupLimit, SaturationPolicy,
        SaturationScalingConfig, TokenThresholds,
    },
};

/// A scalar key of type `T`.
pub(super) struct Key<T: 'static> {
    spec: Spec,
    pub(super) kind: &'static Kind<T>,
    pub(super) default: fn() -> T,
}

/// What is known of a key regardless of its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    /// Path in YAML, such as `collector.fetchInterval`.
    pub(super) path: &'static str,
    /// Upstream's name for it in YAML, as a whole path.
    pub(super) alias: Option<&'static str>,
    /// Upstream's environment variable for it.
    pub(super) upstream_variable: Option<&'static str>,
    /// What it does.
    pub(super) meaning: &'static str,
    /// Whether a change takes effect only after a restart.
    pub(super) needs_restart: bool,
    /// Whether it can only be set in the environment, because files and process lists are read by many.
    pub(super) environment_only: bool,
}

impl<T> Key<T> {
    const fn new(path: &'static str, kind: &'static Kind<T>, default: fn() -> T, meaning: &'static str) -> Self {
        let spec =
            Spec { path, alias: None, upstream_variable: None, meaning, needs_restart: false, environment_only: false };
        Self { spec, kind, default }
    }

    const fn alias(mut self, path: &'static str) -> Self {
        self.spec.alias = Some(path);
        self
    }

    const fn upstream_variable(mut self, name: &'static str) -> Self {
        self.spec.upstream_variable = Some(name);
        self
    }

    const fn needs_restart(mut self) -> Self {
        self.spec.needs_restart = true;
        self
    }

    const fn environment_only(mut self) -> Self {
        self.spec.environment_only = true;
        self
    }
}

/// A key whose type is forgotten.
pub(super) trait AnyKey: Sync {
    fn spec(&self) -> &Spec;
    fn kind_name(&self) -> &'static str;
    fn form(&self) -> Form;
    /// The default as text; empty when there is none.
    fn default_text(&self) -> String;
}

impl<T> AnyKey for Key<T> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn kind_name(&self) -> &'static str {
        self.kind.name
    }

    fn form(&self) -> Form {
        self.kind.form
    }

    fn default_text(&self) -> String {
        (self.kind.show)(&(self.default)())
    }
}

/// A key with the names derived from its path.
pub(super) struct Row {
    pub(super) key: &'static dyn AnyKey,
    /// Flag without dashes in front, such as `collector-fetch-interval`.
    pub(super) flag: String,
    /// Environment variable, such as `WVA_COLLECTOR_FETCH_INTERVAL`.
    pub(super) variable: String,
}

impl Row {
    pub(super) fn spec(&self) -> &'static Spec {
        self.key.spec()
    }
}

/// Every scalar key, in the order of the reference.
pub(super) fn table() -> &'static [Row] {
    static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| {
        KEYS.iter()
            .map(|key| {
                let flag = kebab_case(key.spec().path);
                let variable = format!("WVA_{}", flag.replace('-', "_").to_uppercase());
                Row { key: *key, flag, variable }
            })
            .collect()
    });
    &TABLE
}

/// The row with this YAML path or alias.
pub(super) fn find(path: &str) -> Option<&'static Row> {
    table().iter().find(|row| row.spec().path == path || row.spec().alias == Some(path))
}

/// `collector.fetchInterval` as `collector-fetch-interval`.
fn kebab_case(path: &str) -> String {
    path.chars().fold(String::new(), |mut kebab, c| {
        match c {
            '.' => kebab.push('-'),
            c if c.is_ascii_uppercase() => kebab.extend(['-', c.to_ascii_lowercase()]),
            c => kebab.push(c),
        }
        kebab
    })
}

/// Declares the keys and collects them in `KEYS`.
macro_rules! keys {
    ($($name:ident: $type:ty = $key:expr;)+) => {
        $(pub(super) static $name: Key<$type> = $key;)+
        static KEYS: &[&dyn AnyKey] = &[$(&$name),+];
    };
}

keys! {
    PROMETHEUS_URL: Option<Url> = Key::new("prometheus.url", &kinds::URL, || None,
        "Address of Prometheus, with the path in front of `/api/v1` if there is one. Required.")
        .upstream_variable("PROMETHEUS_BASE_URL").needs_restart();
    PROMETHEUS_CA_CERT_PATH: Option<PathBuf> = Key::new("prometheus.caCertPath", &kinds::PATH, || None,
        "PEM file of the certificates that may sign Prometheus' own, instead of the system's.")
        .upstream_variable("PROMETHEUS_CA_CERT_PATH").needs_restart();
    PROMETHEUS_CLIENT_CERT_PATH: Option<PathBuf> = Key::new("prometheus.clientCertPath", &kinds::PATH, || None,
        "PEM file of the client certificate shown to Prometheus; needs `prometheus.clientKeyPath`.")
        .upstream_variable("PROMETHEUS_CLIENT_CERT_PATH").needs_restart();
    PROMETHEUS_CLIENT_KEY_PATH: Option<PathBuf> = Key::new("prometheus.clientKeyPath", &kinds::PATH, || None,
        "PEM file of the client certificate's private key.")
        .upstream_variable("PROMETHEUS_CLIENT_KEY_PATH").needs_restart();
    PROMETHEUS_BEARER_TOKEN_PATH: Option<PathBuf> = Key::new("prometheus.bearerTokenPath", &kinds::PATH, || None,
        "File of the bearer token sent to Prometheus; read again as it rotates.")
        .upstream_variable("PROMETHEUS_TOKEN_PATH").needs_restart();
    PROMETHEUS_BEARER_TOKEN: Option<Secret> = Key::new("prometheus.bearerToken", &kinds::SECRET, || None,
        "The bearer token itself; better is a file, which can rotate.")
        .upstream_variable("PROMETHEUS_BEARER_TOKEN").environment_only().needs_restart();
    PROMETHEUS_SERVER_NAME: Option<String> = Key::new("prometheus.serverName", &kinds::HOST_NAME, || None,
        "Name that Prometheus' certificate must hold, where it is not the URL's.")
        .upstream_variable("PROMETHEUS_SERVER_NAME").needs_restart();
    PROMETHEUS_INSECURE_SKIP_VERIFY: bool = Key::new("prometheus.insecureSkipVerify", &kinds::SWITCH, || false,
        "Whether to leave Prometheus' certificate unchecked.")
        .upstream_variable("PROMETHEUS_TLS_INSECURE_SKIP_VERIFY").needs_restart();
    PROMETHEUS_QUERY_TIMEOUT: Duration = Key::new("prometheus.queryTimeout", &kinds::DURATION, || seconds(10),
        "Time one query may take.")
        .needs_restart();

    COLLECTOR_BACKEND: Vec<Backend> = Key::new("collector.backend", &kinds::BACKENDS, || vec![Backend::Prometheus],
        "Where signals come from: one or more of `prometheus`, `scrape` (the pods themselves) and `epp` (endpoint \
         pickers), separated by commas. Of several the freshest sample of each signal counts.")
        .alias("collector.backends").needs_restart();
    COLLECTOR_FETCH_INTERVAL: Duration = Key::new("collector.fetchInterval", &kinds::INTERVAL, || seconds(5),
        "Time between two fetches of signals; shorter than `ages.signal`.")
        .needs_restart();
    COLLECTOR_PEAK_WINDOW: Duration = Key::new("collector.peakWindow", &kinds::DURATION, || AgeLimits::default().settle,
        "Signals are peaks over this long, and no replica is removed for as long after their number changed.")
        .needs_restart();
    COLLECTOR_CACHE_TTL: Duration = Key::new("collector.cacheTtl", &kinds::DURATION, || seconds(30),
        "Time a fetched signal answers reads while no newer one arrives; at least `ages.signal` in effect.")
        .needs_restart();
    COLLECTOR_CACHE_MAX_ENTRIES: u64 = Key::new("collector.cacheMaxEntries", &kinds::COUNT, || 100_000,
        "Models the cache holds before it evicts; 0 turns it off.").needs_restart();
    SCRAPE_INTERVAL: Duration = Key::new("collector.scrape.interval", &kinds::INTERVAL, || seconds(1),
        "Time between two scrapes of a pod or an endpoint picker, up to 500 of them; beyond, it grows with their number.")
        .needs_restart();
    SCRAPE_TIMEOUT: Duration = Key::new("collector.scrape.timeout", &kinds::DURATION, || seconds(2),
        "Time a pod may take to answer.").needs_restart();
    SCRAPE_PORT: u16 = Key::new("collector.scrape.port", &kinds::PORT, || 8000,
        "Port of pods that have neither the annotation `prometheus.io/port` nor a container port named `metrics` or \
         `http`.").needs_restart();
    EPP_URLS: Vec<GatewayAddress> = Key::new("collector.epp.urls", &kinds::GATEWAYS, Vec::new,
        "Metrics of endpoint pickers, as `namespace=URL` separated by commas; one for each replica, not a Service of \
         several.").needs_restart();

    EPP_BEARER_TOKEN_PATH: Option<PathBuf> = Key::new("collector.epp.bearerTokenPath", &kinds::PATH, || None,
        "File of the bearer token sent to endpoint pickers, which ask for one unless told otherwise; read again as it \
         rotates. Its account needs `get` on the non-resource URL `/metrics`.").needs_restart();
    EPP_CA_CERT_PATH: Option<PathBuf> = Key::new("collector.epp.caCertPath", &kinds::PATH, || None,
        "PEM file of the certificates that may sign those of endpoint pickers, instead of the system's; read again as it \
         rotates.").needs_restart();
    EPP_CLIENT_CERT_PATH: Option<PathBuf> = Key::new("collector.epp.clientCertPath", &kinds::PATH, || None,
        "PEM file of the client certificate shown to endpoint pickers; needs `collector.epp.clientKeyPath`.")
        .needs_restart();
    EPP_CLIENT_KEY_PATH: Option<PathBuf> = Key::new("collector.epp.clientKeyPath", &kinds::PATH, || None,
        "PEM file of the client certificate's private key.").needs_restart();
    EPP_SERVER_NAME: Option<String> = Key::new("collector.epp.serverName", &kinds::HOST_NAME, || None,
        "Name that the certificates of endpoint pickers must hold, where it is not the URL's, as with addresses of pods.")
        .needs_restart();
    EPP_INSECURE_SKIP_VERIFY: bool = Key::new("collector.epp.insecureSkipVerify", &kinds::SWITCH, || false,
        "Whether to leave the certificates of endpoint pickers unchecked.").needs_restart();

    ENGINE_INTERVAL: Duration = Key::new("engine.interval", &kinds::INTERVAL, || seconds(5),
        "Time between two decision cycles; at least 100ms and shorter than `ages.decision`.")
        .upstream_variable("GLOBAL_OPT_INTERVAL");

    ENGINE_EXECUTOR: Executor = Key::new("engine.executor", &kinds::EXECUTOR, || Executor::Hybrid,
        "When cycles run: `polling` at every `engine.interval`, `reactive` after each change of an input, `hybrid` both.")
        .needs_restart();

    AGES_SIGNAL: Duration = Key::new("ages.signal", &kinds::DURATION, || AgeLimits::default().signal,
        "A signal sampled longer ago is missing.").needs_restart();
    AGES_DECISION: Duration = Key::new("ages.decision", &kinds::DURATION, || AgeLimits::default().decision,
        "A decision made longer ago is refused.");
    AGES_PENDING: Duration = Key::new("ages.pending", &kinds::DURATION, || AgeLimits::default().pending,
        "A replica pending for longer no longer counts as supply.");

    INVENTORY_NODE_GROUP_LABEL: Option<String> = Key::new("inventory.nodeGroupLabel", &kinds::QUALIFIED_NAME, || None,
        "Label of nodes that names their node group, asked before those of clouds and autoscalers.").needs_restart();
    INVENTORY_TOLERATED_TAINTS: Vec<String> = Key::new("inventory.toleratedTaints", &kinds::QUALIFIED_NAMES, Vec::new,
        "Keys of taints that inference pods tolerate, beside those named like an accelerator resource.").needs_restart();
    INVENTORY_RULES: Vec<AcceleratorRule> = Key::new("inventory.rules", &kinds::ACCELERATOR_RULES, Vec::new,
        "Names of accelerators by extended resource (or DRA driver), asked before the built-in rules.").needs_restart();
    INVENTORY_NODE_GROUPS: Vec<NodeGroupLimit> = Key::new("inventory.nodeGroups", &kinds::NODE_GROUPS, Vec::new,
        "How far a node autoscaler may grow each node group: capacity that can still be had.").needs_restart();
    INVENTORY_QUOTAS: Vec<ConfiguredQuota> = Key::new("inventory.quotas", &kinds::QUOTAS, Vec::new,
        "Most accelerators that a namespace, or the cluster, may use, beside `ResourceQuota`s.").needs_restart();

    KV_CACHE_THRESHOLD: f64 = Key::new("saturation.kvCacheThreshold", &kinds::THRESHOLD,
        || SaturationScalingConfig::default().kv_cache_threshold,
        "A replica with this much of its KV cache in use is saturated.");
    QUEUE_DEPTH_THRESHOLD: f64 = Key::new("saturation.queueDepthThreshold", &kinds::REQUESTS,
        || SaturationScalingConfig::default().queue_depth_threshold,
        "A replica with this many waiting requests is saturated.")
        .alias("saturation.queueLengthThreshold");
    SPARE_CAPACITY_TARGET: f64 = Key::new("saturation.spareCapacityTarget", &kinds::THRESHOLD,
        || SaturationScalingConfig::default().spare_capacity_target,
        "Scale up when the average spare capacity, relative to the threshold, is below this.");
    SAFETY_MARGIN: f64 = Key::new("saturation.safetyMargin", &kinds::MARGIN,
        || SaturationScalingConfig::default().safety_margin,
        "Scale down only when the spare capacity left exceeds the target by this.");
    KV_SPARE_TRIGGER: Option<f64> = Key::new("saturation.kvSpareTrigger", &kinds::OPTIONAL_MARGIN, || None,
        "Upstream's trigger: scale up when threshold − KV-cache usage averages below this. Either trigger selects \
         upstream's arithmetic; `none` takes an inherited one back.");
    QUEUE_SPARE_TRIGGER: Option<f64> = Key::new("saturation.queueSpareTrigger", &kinds::OPTIONAL_REQUESTS, || None,
        "Upstream's trigger: scale up when threshold − waiting requests averages below this.");

    SATURATION_ANALYZER: SaturationMethod = Key::new("saturation.analyzer", &kinds::SATURATION_ANALYZER,
        SaturationMethod::default,
        "`percentage`: how full KV cache and queue are. `tokens`: KV-cache tokens held and waited for, with capacities \
         learned from saturated replicas; percentages where an engine does not tell its cache size. `wva-upstream-v1` and \
         `wva-upstream-v2` decide as the Go project does, defects included, and aim at no service objective.");
    SCALE_UP_THRESHOLD: f64 = Key::new("saturation.scaleUpThreshold", &kinds::THRESHOLD,
        || TokenThresholds::default().scale_up,
        "Of `tokens`: scale up when more than this share of what replicas carry is held or waited for.");
    SCALE_DOWN_BOUNDARY: f64 = Key::new("saturation.scaleDownBoundary", &kinds::THRESHOLD,
        || TokenThresholds::default().scale_down,
        "Of `tokens`: scale down when this share is not exceeded with one replica less.");

    SCALE_TO_ZERO_ENABLED: bool = Key::new("scaleToZero.enabled", &kinds::SWITCH, || false,
        "Whether a model whose variants all have a minimum of 0 gives up its last replicas when no request comes.")
        .upstream_variable("WVA_SCALE_TO_ZERO");
    SCALE_TO_ZERO_RETENTION: Duration = Key::new("scaleToZero.retentionPeriod", &kinds::DURATION, || seconds(600),
        "Time without a request after which it does.");

    LIMITS_ACCELERATORS: AcceleratorMode = Key::new("limits.accelerators", &kinds::ACCELERATOR_MODE,
        AcceleratorMode::default,
        "`unlimited`: a node autoscaler adds what is missing. `limited`: there are the accelerators of the inventory and no \
         more, free or provisionable, and quotas hold; while the inventory is unknown nothing grows.");
    LIMITS_SATURATION_POLICY: SaturationPolicy = Key::new("limits.saturationPolicy", &kinds::SATURATION_POLICY,
        SaturationPolicy::default,
        "Who gets what is left when accelerators do not suffice for all: `None`: nobody grows; `PriorityExhaustive`: in \
         the order of priority, each as much as it can use; `PriorityRoundRobin`: replica by replica among equals; \
         `RoundRobin`: among all.");
    LIMITS_FIT_NODES: bool = Key::new("limits.fitNodes", &kinds::SWITCH, || false,
        "Whether each replica must fit on a single node, rather than into the total of its accelerator type.");

    OVERRIDES_PAUSED_UNTIL: Option<Timestamp> = Key::new("overrides.pausedUntil", &kinds::TIMESTAMP, || None,
        "Until then replicas stay as they are set.");
    OVERRIDES_SPEND_CAP: Option<String> = Key::new("overrides.spendCap", &kinds::OPTIONAL_DECIMAL, || None,
        "Greatest cost of all replicas of one model together, in the unit of `variantCost`; needs \
         `overrides.spendCapUntil`. Nobody goes below its minimum for it.");
    OVERRIDES_SPEND_CAP_UNTIL: Option<Timestamp> = Key::new("overrides.spendCapUntil", &kinds::TIMESTAMP, || None,
        "When the spend cap ends; every override does.");

    ACTUATION_MODE: ActuationMode = Key::new("actuation.mode", &kinds::ACTUATION, ActuationMode::default,
        "Who scales workloads: `hpa` alone; `fromZero`: wva also wakes targets that stand at zero; `direct`: wva also \
         scales targets that no HPA reads its metric for. The latter two need the rights in `manifests/actuation`.");
    ACTUATION_SHADOW: bool = Key::new("actuation.shadow", &kinds::SWITCH, || false,
        "Shadow mode for every variant: decide and show, but serve no number and scale nothing. One variant alone: \
         `spec.shadow` of its VariantAutoscaling.");
    ACTUATION_COMPENSATE_TOLERANCE: bool = Key::new("actuation.compensateTolerance", &kinds::SWITCH, || false,
        "Whether to serve the least number that an HPA acts on where its tolerance would swallow a step up; for HPAs \
         that cannot set `tolerance: 0`. Needs no rights.");

    SERVER_BIND_ADDRESS: std::net::IpAddr = Key::new("server.bindAddress", &kinds::ADDRESS,
        || Ipv4Addr::UNSPECIFIED.into(), "Address to listen on.").needs_restart();
    SERVER_PORT: u16 = Key::new("server.port", &kinds::PORT, || 6443, "Port to listen on; 0 is any free one.")
        .needs_restart();
    SERVER_TLS_CERT_PATH: Option<PathBuf> = Key::new("server.tlsCertPath", &kinds::PATH, || None,
        "PEM file of the serving certificate; needs `server.tlsKeyPath`. Self-signed where unset.").needs_restart();
    SERVER_TLS_KEY_PATH: Option<PathBuf> = Key::new("server.tlsKeyPath", &kinds::PATH, || None,
        "PEM file of the serving certificate's private key.").needs_restart();
    SERVER_CERTIFICATE_SECRET: Option<String> = Key::new("server.certificateSecret", &kinds::OBJECT_NAME, || None,
        "Secret in wva's namespace in which wva keeps a serving certificate of its own authority, rotates it, and \
         writes that authority into the `caBundle` of its APIService. Without effect beside `server.tlsCertPath`.")
        .needs_restart();
    SERVER_CERTIFICATE_VALIDITY: Duration = Key::new("server.certificateValidity", &kinds::LIFE,
        || Duration::from_hours(24 * 90),
        "Life of such a certificate; it is rotated when a third of it is left.").needs_restart();
    SERVER_SHUTDOWN_DELAY: Duration = Key::new("server.shutdownDelay", &kinds::DELAY, || seconds(10),
        "Time between failing readiness and refusing connections, for endpoints to be taken away.");
    SERVER_SHUTDOWN_GRACE: Duration = Key::new("server.shutdownGrace", &kinds::DELAY, || seconds(30),
        "Time that requests in flight are then given.").needs_restart();
    SERVER_GROUPS: Vec<MetricsGroup> = Key::new("server.groups", &kinds::GROUPS, || MetricsGroup::ALL.to_vec(),
        "API groups that metrics are served under, separated by commas. Each also needs its APIService.")
        .needs_restart();

    SERVER_TLS_MIN_VERSION: TlsVersion = Key::new("server.tlsMinVersion", &kinds::TLS_VERSION, TlsVersion::default,
        "Least version of TLS: `VersionTLS12` or `VersionTLS13`.").needs_restart();
    SERVER_TLS_CIPHER_SUITES: Vec<String> = Key::new("server.tlsCipherSuites", &kinds::NAMES, Vec::new,
        "Cipher suites of TLS 1.2, by their IANA names and separated by commas; all that are modern where unset. Those of \
         TLS 1.3 are always on.").needs_restart();
    SERVER_TLS_CURVE_PREFERENCES: Vec<u16> = Key::new("server.tlsCurvePreferences", &kinds::CURVES, Vec::new,
        "Key exchanges, by their IANA numbers and separated by commas, such as `4588,29,23`; all that are modern where \
         unset.").needs_restart();
    SERVER_TLS_SNI_CERT_KEYS: Vec<SniCertificatePaths> = Key::new("server.tlsSniCertKeys", &kinds::SNI_CERTIFICATES,
        Vec::new,
        "Certificates for clients that ask for certain names: `CERTIFICATE,KEY:NAME,NAME` each, separated by `;`. Without \
         names they are for those in the certificate; `*.example.com` is for all names one level below.")
        .needs_restart();
    SERVER_DISABLE_HTTP2: bool = Key::new("server.disableHttp2Serving", &kinds::SWITCH, || false,
        "Whether to serve HTTP/1.1 alone.").needs_restart();
    SERVER_HTTP2_MAX_STREAMS: u64 = Key::new("server.http2MaxStreamsPerConnection", &kinds::STREAMS, || 250,
        "Requests under way at a time on one HTTP/2 connection of a client with a certificate; others have 16.")
        .needs_restart();

    CLIENT_CA_FILE: Option<PathBuf> = Key::new("clientCaFile", &kinds::PATH, || None,
        "PEM file of the authorities that sign certificates of users, instead of those that kube-apiserver publishes; read \
         again as it rotates.").needs_restart();
    REQUESTHEADER_CLIENT_CA_FILE: Option<PathBuf> = Key::new("requestheader.clientCaFile", &kinds::PATH, || None,
        "PEM file of the authorities that sign certificates of front proxies, instead of what kube-apiserver publishes of \
         them; read again as it rotates. The keys below have an effect beside it alone.").needs_restart();
    REQUESTHEADER_ALLOWED_NAMES: Vec<String> = Key::new("requestheader.allowedNames", &kinds::NAMES, Vec::new,
        "Common names that those may have, separated by commas; any where unset.").needs_restart();
    REQUESTHEADER_USERNAME_HEADERS: Vec<String> = Key::new("requestheader.usernameHeaders", &kinds::HEADERS,
        || vec!["X-Remote-User".to_owned()],
        "Headers in which they tell the user, separated by commas; the first that is there counts.").needs_restart();
    REQUESTHEADER_UID_HEADERS: Vec<String> = Key::new("requestheader.uidHeaders", &kinds::HEADERS, Vec::new,
        "Headers in which they tell the user's UID; `X-Remote-Uid` must be among them.").needs_restart();
    REQUESTHEADER_GROUP_HEADERS: Vec<String> = Key::new("requestheader.groupHeaders", &kinds::HEADERS,
        || vec!["X-Remote-Group".to_owned()],
        "Headers in which they tell the user's groups; all of them count.").needs_restart();
    REQUESTHEADER_EXTRA_HEADERS_PREFIX: Vec<String> = Key::new("requestheader.extraHeadersPrefix", &kinds::HEADERS,
        || vec!["X-Remote-Extra-".to_owned()],
        "Beginnings of headers in which they tell more of the user.").needs_restart();

    AUTHENTICATION_KUBECONFIG: Option<PathBuf> = Key::new("authentication.kubeconfig", &kinds::PATH, || None,
        "Kubeconfig of the cluster that reviews bearer tokens and publishes authorities, where it is not our own.")
        .needs_restart();
    AUTHENTICATION_SKIP_LOOKUP: bool = Key::new("authentication.skipLookup", &kinds::SWITCH, || false,
        "Whether to leave alone what kube-apiserver publishes of its authorities: what is not given above is then trusted \
         by nobody.").needs_restart();
    AUTHENTICATION_TOLERATE_LOOKUP_FAILURE: bool = Key::new("authentication.tolerateLookupFailure", &kinds::SWITCH,
        || false,
        "Whether to start where that cannot be read; until it can, requests through kube-apiserver are refused.")
        .needs_restart();
    AUTHENTICATION_TOKEN_CACHE_TTL: Duration = Key::new("authentication.tokenWebhookCacheTtl", &kinds::DELAY,
        || seconds(10), "How long a verdict on a bearer token is kept.").needs_restart();
    AUTHORIZATION_KUBECONFIG: Option<PathBuf> = Key::new("authorization.kubeconfig", &kinds::PATH, || None,
        "Kubeconfig of the cluster that reviews access, where it is not our own.").needs_restart();
    AUTHORIZATION_AUTHORIZED_TTL: Duration = Key::new("authorization.webhookCacheAuthorizedTtl", &kinds::DELAY,
        || seconds(30), "How long *allowed* is kept; longer than the HPA's period, or each of its reads asks again.")
        .needs_restart();
    AUTHORIZATION_UNAUTHORIZED_TTL: Duration = Key::new("authorization.webhookCacheUnauthorizedTtl", &kinds::DELAY,
        || seconds(10), "How long *denied* is kept.").needs_restart();
    AUTHORIZATION_ALWAYS_ALLOW_PATHS: Vec<String> = Key::new("authorization.alwaysAllowPaths", &kinds::NAMES,
        || ["/healthz", "/readyz", "/livez"].map(str::to_owned).to_vec(),
        "Paths that anybody may ask for, separated by commas; `/metrics*` is all that begin so. Never metrics of the API.")
        .needs_restart();

    AUDIT_POLICY_FILE: Option<PathBuf> = Key::new("audit.policyFile", &kinds::PATH, || None,
        "Policy (`audit.k8s.io/v1`) of which requests are audited; none where unset.").needs_restart();
    AUDIT_LOG_PATH: Option<PathBuf> = Key::new("audit.logPath", &kinds::PATH, || None,
        "File of the audit log; `-` is standard output. Beside it or in its place: `audit.webhookConfigFile`.")
        .needs_restart();
    AUDIT_LOG_FORMAT: AuditFormat = Key::new("audit.logFormat", &kinds::AUDIT_FORMAT, AuditFormat::default,
        "Form of its lines: `json`, or `legacy` for short text.").needs_restart();
    AUDIT_LOG_MAX_SIZE: u64 = Key::new("audit.logMaxsize", &kinds::COUNT, || 100,
        "Mebibytes after which a new file is begun; 0 never begins one.").needs_restart();
    AUDIT_LOG_MAX_BACKUP: u64 = Key::new("audit.logMaxbackup", &kinds::COUNT, || 10,
        "Most old files that are kept; 0 keeps all.").needs_restart();
    AUDIT_LOG_MAX_AGE: u64 = Key::new("audit.logMaxage", &kinds::COUNT, || 0,
        "Days that old files are kept, by the time in their names; 0 keeps them for ever.").needs_restart();
    AUDIT_LOG_COMPRESS: bool = Key::new("audit.logCompress", &kinds::SWITCH, || false,
        "Whether old files are compressed.").needs_restart();
    AUDIT_WEBHOOK_CONFIG_FILE: Option<PathBuf> = Key::new("audit.webhookConfigFile", &kinds::PATH, || None,
        "Kubeconfig of whoever collects events: its cluster's `server` is the URL that lists of them are posted to.")
        .needs_restart();
    AUDIT_WEBHOOK_BATCH_MAX_SIZE: u64 = Key::new("audit.webhookBatchMaxSize", &kinds::BUFFER, || 400,
        "Most events in one list.").needs_restart();
    AUDIT_WEBHOOK_BATCH_MAX_WAIT: Duration = Key::new("audit.webhookBatchMaxWait", &kinds::DURATION, || seconds(30),
        "Longest time that an event waits for others to be sent with.").needs_restart();
    AUDIT_WEBHOOK_BATCH_BUFFER_SIZE: u64 = Key::new("audit.webhookBatchBufferSize", &kinds::BUFFER, || 10_000,
        "Events that may wait to be sent; more are dropped and counted.").needs_restart();
    AUDIT_WEBHOOK_INITIAL_BACKOFF: Duration = Key::new("audit.webhookInitialBackoff", &kinds::DURATION, || seconds(10),
        "Pause before a list that was not taken is sent again; the three after it are longer.").needs_restart();
    AUDIT_BUFFER_SIZE: u64 = Key::new("audit.logBatchBufferSize", &kinds::BUFFER, || 10_000,
        "Events that may wait to be written; more are dropped and counted, so that no read waits for a disk.")
        .needs_restart();

    LEADER_ELECTION_ENABLED: bool = Key::new("leaderElection.enabled", &kinds::SWITCH, || false,
        "Whether several replicas share the work: one decides, all serve. Needs the Lease and ConfigMaps of `manifests/`.")
        .needs_restart();
    LEADER_ELECTION_LEASE_DURATION: Duration = Key::new("leaderElection.leaseDuration", &kinds::LEASE,
        || seconds(15), "Time after which another replica takes over from a leader that is gone.").needs_restart();

    DELEGATION_URL: Option<Url> = Key::new("delegation.url", &kinds::URL, || None,
        "Address of another external-metrics adapter, such as `https://keda-operator-metrics-apiserver.keda.svc`, that \
         reads of its metrics are passed on to, after our own authorisation and with our own credentials. It needs one \
         of the three keys below.").needs_restart();
    DELEGATION_METRICS: Vec<String> = Key::new("delegation.metrics", &kinds::TEXTS, Vec::new,
        "Names of metrics that are its, separated by commas.").needs_restart();
    DELEGATION_PREFIXES: Vec<String> = Key::new("delegation.prefixes", &kinds::TEXTS, Vec::new,
        "Beginnings of names that are its, separated by commas.").needs_restart();
    DELEGATION_LABEL_KEYS: Vec<String> = Key::new("delegation.labelKeys", &kinds::TEXTS, Vec::new,
        "Label keys in the selector by which a read is its, separated by commas; `scaledobject.keda.sh/name` is KEDA's.")
        .needs_restart();
    DELEGATION_CA_CERT_PATH: Option<PathBuf> = Key::new("delegation.caCertPath", &kinds::PATH, || None,
        "PEM file of the certificates that may sign its own, instead of the system's.").needs_restart();
    DELEGATION_BEARER_TOKEN_PATH: PathBuf = Key::new("delegation.bearerTokenPath", &kinds::SET_PATH,
        || PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        "File of the bearer token it is asked with; read again as it rotates.").needs_restart();
    DELEGATION_TIMEOUT: Duration = Key::new("delegation.timeout", &kinds::SHORT, || seconds(3),
        "Time its answer may take; an HPA worker waits for it.").needs_restart();

    KEDA_ENABLED: bool = Key::new("keda.enabled", &kinds::SWITCH, || false,
        "Whether to serve KEDA as an external scaler, over gRPC with mutual TLS.").needs_restart();
    KEDA_PORT: u16 = Key::new("keda.port", &kinds::PORT, || 9443, "Port to listen on for KEDA; 0 is any free one.")
        .needs_restart();
    KEDA_CLIENT_CA_PATH: Option<PathBuf> = Key::new("keda.clientCaPath", &kinds::PATH, || None,
        "PEM file of the authorities whose client certificates may ask; read again as it rotates. Needed.")
        .needs_restart();

    RECORDING_DIRECTORY: Option<PathBuf> = Key::new("recording.directory", &kinds::PATH, || None,
        "Directory that cycles are recorded in, for `wva plan`; nothing is recorded where unset.").needs_restart();
    RECORDING_INTERVAL: Duration = Key::new("recording.interval", &kinds::INTERVAL, || seconds(60),
        "Least time between two recorded cycles.").needs_restart();
    RECORDING_MAX_FILES: u64 = Key::new("recording.maxFiles", &kinds::COUNT, || 100,
        "Most recordings kept; the oldest go first.").needs_restart();
    RECORDING_MAX_MEBIBYTES: u64 = Key::new("recording.maxMebibytes", &kinds::COUNT, || 256,
        "Most mebibytes of all recordings together.").needs_restart();

    WATCH_NAMESPACE: Option<String> = Key::new("watchNamespace", &kinds::NAMESPACE, || None,
        "The one namespace to watch; all where unset.").needs_restart();
    CONTROLLER_INSTANCE: Option<String> = Key::new("controllerInstance", &kinds::LABEL, || None,
        "Name of this installation, where several share a cluster: served as label `controller_instance`.")
        .upstream_variable("CONTROLLER_INSTANCE").needs_restart();
    POD_NAMESPACE: Option<String> = Key::new(POD_NAMESPACE_PATH, &kinds::NAMESPACE, || None,
        "Namespace wva runs in; the service account's where unset.")
        .upstream_variable("POD_NAMESPACE").needs_restart();

    LOGGING_LEVEL: String = Key::new("logging.level", &kinds::LOG_LEVEL, || "info".to_owned(),
        "Least level logged (error, warn, info, debug, trace), or directives such as `info,kube=warn`.");
    LOGGING_FORMAT: LogFormat = Key::new("logging.format", &kinds::LOG_FORMAT, || LogFormat::Text,
        "Form of a log line.").needs_restart();
}

/// The key that is needed before documents can be found.
pub(super) const POD_NAMESPACE_PATH: &str = "podNamespace";
/// The one key that is a map; documents only.
pub(super) const HEADERS: &str = "prometheus.headers";
/// Engines beside those built in; documents only.
pub(super) const ENGINES: &str = "collector.engines";
/// The list of per-model entries; documents only.
pub(super) const MODELS: &str = "models";
/// A section that per-model entries may hold.
pub(super) const SATURATION: &str = "saturation";
/// Another.
pub(super) const SCALE_TO_ZERO: &str = "scaleToZero";
/// Another.
pub(super) const OVERRIDES: &str = "overrides";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
