//! Layers into one configuration: the highest layer that gives a key wins, every value of every layer is checked, and
//! all faults are reported together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue};

use super::{
    ActuationSettings, BearerToken, CertificatePaths, CollectorSettings, Config, ConfigError, ConfigErrors,
    CustomEngine, DelegationSettings, EngineSettings, GatewaySettings, KedaSettings, Layer, LeaderElectionSettings,
    LoggingSettings, ModelSelector, Profiles, PrometheusSettings, RecordingLimits, RecordingSettings, ResolvedModel,
    ResolvedValue, ResolvedView, Secret, ServerSettings, ServerTrust, ServiceClasses, Source, access, checks, engines,
    keys::{self, Key},
    layer::{Entries, Entry, quotable},
    schema::SaturationMethod,
};
use crate::interfaces::{
    AcceleratorLimits, AgeLimits, InventorySettings, Override, OverrideKind, SaturationScalingConfig, SpareTriggers,
    TokenThresholds, UpstreamVersion,
};

/// Upstream's defaults for the trigger that is not given when the other one is.
const UPSTREAM_TRIGGERS: SpareTriggers = SpareTriggers { kv_cache: 0.10, queue_depth: 3.0 };

/// A configuration with where each of its values comes from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Arc<Config>,
    /// The same for people.
    pub view: Arc<ResolvedView>,
    /// The winning value of every key, as it was spelled.
    pub(super) winners: Entries,
}

impl Config {
    /// Resolves the layers, in whatever order they come: flag > environment > document > upstream's document > default.
    ///
    /// # Errors
    /// Everything that is wrong in any layer, including values that a higher layer overrides.
    pub fn resolve(layers: &[Layer]) -> Result<Resolved, ConfigErrors> {
        let mut layers: Vec<&Layer> = layers.iter().collect();
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.rank));
        let mut errors = layers.iter().flat_map(|layer| layer.errors.clone()).collect();
        let mut scope = Scope::global(&layers, &mut errors);

        let prometheus = prometheus(&mut scope, &layers);
        let collector = CollectorSettings {
            backends: scope.get(&keys::COLLECTOR_BACKEND),
            fetch_interval: scope.get(&keys::COLLECTOR_FETCH_INTERVAL),
            peak_window: scope.get(&keys::COLLECTOR_PEAK_WINDOW),
            cache_ttl: scope.get(&keys::COLLECTOR_CACHE_TTL),
            cache_max_entries: scope.get(&keys::COLLECTOR_CACHE_MAX_ENTRIES),
            scrape_interval: scope.get(&keys::SCRAPE_INTERVAL),
            scrape_timeout: scope.get(&keys::SCRAPE_TIMEOUT),
            scrape_port: scope.get(&keys::SCRAPE_PORT),
            gateways: gateways(&mut scope),
            engines: engines(&mut scope, &layers),
        };
        let engine =
            EngineSettings { interval: scope.get(&keys::ENGINE_INTERVAL), executor: scope.get(&keys::ENGINE_EXECUTOR) };
        let inventory = inventory(&mut scope);
        let ages = AgeLimits {
            signal: scope.get(&keys::AGES_SIGNAL),
            decision: scope.get(&keys::AGES_DECISION),
            pending: scope.get(&keys::AGES_PENDING),
            settle: collector.peak_window,
        };
        let saturation = Arc::new(saturation(&mut scope));
        let retention = retention(&mut scope);
        let limits = limits(&mut scope);
        let overrides = overrides(&mut scope);
        let actuation = actuation(&mut scope);
        let server = server(&mut scope);
        let config = Config {
            prometheus,
            collector,
            engine,
            inventory,
            ages,
            saturation,
            saturation_per_model: BTreeMap::new(),
            retention,
            retention_per_model: BTreeMap::new(),
            limits,
            overrides,
            overrides_per_model: BTreeMap::new(),
            actuation,
            service_classes: highest(&layers, |layer| &layer.service_classes, ServiceClasses::is_empty),
            profiles: highest(&layers, |layer| &layer.profiles, Profiles::is_empty),
            server,
            authentication: access::authentication(&mut scope),
            authorization: access::authorization(&mut scope),
            audit: access::audit(&mut scope),
            leader_election: LeaderElectionSettings {
                enabled: scope.get(&keys::LEADER_ELECTION_ENABLED),
                lease_duration: scope.get(&keys::LEADER_ELECTION_LEASE_DURATION),
            },
            delegation: delegation(&mut scope),
            keda: KedaSettings {
                enabled: scope.get(&keys::KEDA_ENABLED),
                port: scope.get(&keys::KEDA_PORT),
                client_ca_path: scope.get(&keys::KEDA_CLIENT_CA_PATH),
            },
            recording: recording(&mut scope),
            watch_namespace: scope.get(&keys::WATCH_NAMESPACE),
            controller_instance: scope.get(&keys::CONTROLLER_INSTANCE),
            pod_namespace: scope.get(&keys::POD_NAMESPACE),
            logging: LoggingSettings {
                level: scope.get(&keys::LOGGING_LEVEL),
                format: scope.get(&keys::LOGGING_FORMAT),
            },
        };
        checks::relations(&config, &mut scope);
        let (mut values, winners) = (scope.values, scope.winners);
        checks::notes(&config, &mut values);

        let (models, own) = models(&layers, &mut errors);
        ConfigErrors::check(errors)?;
        let warnings = layers.iter().flat_map(|layer| layer.warnings.clone()).collect();
        Ok(Resolved {
            view: Arc::new(ResolvedView {
                values,
                models,
                service_classes: config.service_classes.clone(),
                profiles: config.profiles.clone(),
                warnings,
            }),
            config: Arc::new(Config {
                saturation_per_model: own.saturation,
                retention_per_model: own.retention,
                overrides_per_model: own.overrides,
                ..config
            }),
            winners,
        })
    }
}

/// A section that only documents hold, of the highest layer that has it.
fn highest<T: Clone + Default>(layers: &[&Layer], section: fn(&Layer) -> &T, is_empty: fn(&T) -> bool) -> T {
    layers.iter().map(|layer| section(layer)).find(|section| !is_empty(section)).cloned().unwrap_or_default()
}

/// Where keys are looked up: entries in falling precedence, each with what to call its keys in messages.
pub(super) struct Scope<'a> {
    chain: Vec<(String, &'a Entries)>,
    pub(super) errors: &'a mut Vec<ConfigError>,
    values: BTreeMap<String, ResolvedValue>,
    winners: Entries,
}

impl<'a> Scope<'a> {
    fn global(layers: &[&'a Layer], errors: &'a mut Vec<ConfigError>) -> Self {
        let chain = layers.iter().map(|layer| (String::new(), &layer.values)).collect();
        Self { chain, errors, values: BTreeMap::new(), winners: Entries::new() }
    }

    /// The entries for exactly this model, then those for its name in any namespace, then those for all models.
    fn model(layers: &[&'a Layer], selector: &ModelSelector, errors: &'a mut Vec<ConfigError>) -> Self {
        let any_namespace = ModelSelector { namespace: None, ..selector.clone() };
        let exactly = (*selector != any_namespace).then_some(selector);
        let of_model = exactly.into_iter().chain([&any_namespace]).flat_map(|selector| {
            layers.iter().filter_map(move |layer| Some((format!("{selector}."), layer.models.get(selector)?)))
        });
        let mut chain: Vec<_> = of_model.collect();
        chain.extend(layers.iter().map(|layer| (String::new(), &layer.values)));
        Self { chain, errors, values: BTreeMap::new(), winners: Entries::new() }
    }

    /// The winning value of a key; its default after an error, so that the other keys are checked too.
    pub(super) fn get<T>(&mut self, key: &Key<T>) -> T {
        let row = keys::AnyKey::spec(key);
        let mut winner: Option<(T, &Entry)> = None;
        for (prefix, entries) in &self.chain {
            let Some(entry) = entries.get(row.path) else { continue };
            match (key.kind.parse)(&entry.text) {
                Ok(value) => winner = winner.or(Some((value, entry))),
                Err(rule) => self.errors.push(ConfigError::invalid(
                    format!("{prefix}{}", row.path),
                    &quotable(&entry.text, key.kind.form),
                    &entry.given_by,
                    rule,
                )),
            }
        }
        let (value, text, given_by) = if let Some((value, entry)) = winner {
            (value, entry.text.clone(), entry.given_by.clone())
        } else {
            let default = (key.default)();
            let text = (key.kind.show)(&default);
            (default, text, Source::Default)
        };
        self.values.insert(row.path.to_owned(), ResolvedValue::new((key.kind.show)(&value), &given_by));
        self.winners.insert(row.path.to_owned(), Entry { text, given_by });
        value
    }

    /// Reports that a resolved value does not fit beside another.
    pub(super) fn reject(&mut self, path: &str, rule: impl Into<String>) {
        let given_by = self.winners.get(path).map_or(Source::Default, |entry| entry.given_by.clone());
        let shown = self.values.get(path).and_then(|resolved| resolved.value.as_deref()).unwrap_or("not set");
        self.errors.push(ConfigError::invalid(path, shown, &given_by, rule));
    }

    /// Who gave the resolved value of a key, for a message about two keys.
    pub(super) fn given_by(&self, path: &str) -> String {
        self.winners.get(path).map_or(Source::Default, |entry| entry.given_by.clone()).to_string()
    }
}

fn prometheus(scope: &mut Scope<'_>, layers: &[&Layer]) -> PrometheusSettings {
    let token_path = scope.get(&keys::PROMETHEUS_BEARER_TOKEN_PATH);
    let token = scope.get(&keys::PROMETHEUS_BEARER_TOKEN);
    if token_path.is_some() && token.is_some() {
        scope.reject("prometheus.bearerTokenPath", "prometheus.bearerToken is set too; keep one of them");
    }
    let bearer_token = token_path.map(BearerToken::File).or(token.map(BearerToken::Literal));
    PrometheusSettings {
        url: scope.get(&keys::PROMETHEUS_URL),
        trust: ServerTrust {
            ca_cert_path: scope.get(&keys::PROMETHEUS_CA_CERT_PATH),
            client_certificate: certificate(
                scope,
                &keys::PROMETHEUS_CLIENT_CERT_PATH,
                &keys::PROMETHEUS_CLIENT_KEY_PATH,
            ),
            server_name: scope.get(&keys::PROMETHEUS_SERVER_NAME),
            insecure_skip_verify: scope.get(&keys::PROMETHEUS_INSECURE_SKIP_VERIFY),
        },
        headers: headers(scope, layers, bearer_token.is_some()),
        query_timeout: scope.get(&keys::PROMETHEUS_QUERY_TIMEOUT),
        bearer_token,
    }
}

fn gateways(scope: &mut Scope<'_>) -> GatewaySettings {
    GatewaySettings {
        addresses: scope.get(&keys::EPP_URLS),
        bearer_token_path: scope.get(&keys::EPP_BEARER_TOKEN_PATH),
        trust: ServerTrust {
            ca_cert_path: scope.get(&keys::EPP_CA_CERT_PATH),
            client_certificate: certificate(scope, &keys::EPP_CLIENT_CERT_PATH, &keys::EPP_CLIENT_KEY_PATH),
            server_name: scope.get(&keys::EPP_SERVER_NAME),
            insecure_skip_verify: scope.get(&keys::EPP_INSECURE_SKIP_VERIFY),
        },
    }
}

fn inventory(scope: &mut Scope<'_>) -> InventorySettings {
    InventorySettings {
        node_group_label: scope.get(&keys::INVENTORY_NODE_GROUP_LABEL),
        tolerated_taints: scope.get(&keys::INVENTORY_TOLERATED_TAINTS),
        rules: scope.get(&keys::INVENTORY_RULES),
        node_groups: scope.get(&keys::INVENTORY_NODE_GROUPS),
        quotas: scope.get(&keys::INVENTORY_QUOTAS),
    }
}

/// Headers merge by name. Their values may be credentials, so that none is ever shown.
fn headers(scope: &mut Scope<'_>, layers: &[&Layer], has_token: bool) -> BTreeMap<String, Secret> {
    let mut headers = BTreeMap::new();
    for (name, entry) in layers.iter().flat_map(|layer| &layer.headers) {
        let path = format!("{}.{name}", keys::HEADERS);
        let rule = if name.parse::<HeaderName>().is_err() {
            "its name must be a valid HTTP header name"
        } else if HeaderValue::from_str(&entry.text).is_err() {
            "it must be a valid HTTP header value"
        } else if name == "authorization" && has_token {
            "a bearer token is set too; keep one of them"
        } else {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), Secret::new(entry.text.as_str()));
                scope.values.insert(path, ResolvedValue::new("(hidden)".to_owned(), &entry.given_by));
            }
            continue;
        };
        scope.errors.push(ConfigError::invalid(path, "(hidden)", &entry.given_by, rule));
    }
    headers
}

/// Engines merge key by key, as every map does.
fn engines(scope: &mut Scope<'_>, layers: &[&Layer]) -> Vec<CustomEngine> {
    let mut entries = Entries::new();
    for (name_and_key, entry) in layers.iter().flat_map(|layer| &layer.engines) {
        if !entries.contains_key(name_and_key) {
            let path = format!("{}.{name_and_key}", keys::ENGINES);
            scope.values.insert(path, ResolvedValue::new(entry.text.clone(), &entry.given_by));
            entries.insert(name_and_key.clone(), entry.clone());
        }
    }
    engines::engines(keys::ENGINES, &entries, scope.errors)
}

/// A certificate and its key: both or neither.
fn certificate(
    scope: &mut Scope<'_>,
    certificate: &Key<Option<std::path::PathBuf>>,
    key: &Key<Option<std::path::PathBuf>>,
) -> Option<CertificatePaths> {
    let paths = [certificate, key].map(|key| keys::AnyKey::spec(key).path);
    match (scope.get(certificate), scope.get(key)) {
        (Some(certificate), Some(key)) => Some(CertificatePaths { certificate, key }),
        (None, None) => None,
        (certificate, _) => {
            let (given, lacking) = if certificate.is_some() { (paths[0], paths[1]) } else { (paths[1], paths[0]) };
            scope.reject(given, format!("{lacking} is not set; set both or neither"));
            None
        }
    }
}

fn saturation(scope: &mut Scope<'_>) -> SaturationScalingConfig {
    let kv_cache = scope.get(&keys::KV_SPARE_TRIGGER);
    let queue_depth = scope.get(&keys::QUEUE_SPARE_TRIGGER);
    let spare_triggers = (kv_cache.is_some() || queue_depth.is_some()).then(|| SpareTriggers {
        kv_cache: kv_cache.unwrap_or(UPSTREAM_TRIGGERS.kv_cache),
        queue_depth: queue_depth.unwrap_or(UPSTREAM_TRIGGERS.queue_depth),
    });
    if let Some(triggers) = spare_triggers {
        scope.complete("saturation.kvSpareTrigger", (keys::KV_SPARE_TRIGGER.kind.show)(&Some(triggers.kv_cache)));
        let queue_depth = (keys::QUEUE_SPARE_TRIGGER.kind.show)(&Some(triggers.queue_depth));
        scope.complete("saturation.queueSpareTrigger", queue_depth);
    }
    let thresholds = TokenThresholds {
        scale_up: scope.get(&keys::SCALE_UP_THRESHOLD),
        scale_down: scope.get(&keys::SCALE_DOWN_BOUNDARY),
    };
    let (by_tokens, upstream) = match scope.get(&keys::SATURATION_ANALYZER) {
        SaturationMethod::Percentage => (false, None),
        SaturationMethod::Tokens => (true, None),
        SaturationMethod::Upstream(version) => (version == UpstreamVersion::V2, Some(version)),
    };
    let config = SaturationScalingConfig {
        tokens: by_tokens.then_some(thresholds),
        upstream,
        kv_cache_threshold: scope.get(&keys::KV_CACHE_THRESHOLD),
        queue_depth_threshold: scope.get(&keys::QUEUE_DEPTH_THRESHOLD),
        spare_capacity_target: scope.get(&keys::SPARE_CAPACITY_TARGET),
        safety_margin: scope.get(&keys::SAFETY_MARGIN),
        spare_triggers,
    };
    if let Err(invalid) = config.validate() {
        scope.reject(&format!("{}.{}", keys::SATURATION, invalid.key), invalid.rule);
    }
    config
}

impl Scope<'_> {
    /// Shows the value that upstream's defaults give to the trigger left out.
    fn complete(&mut self, path: &str, value: String) {
        if let Some(shown) = self.values.get_mut(path)
            && shown.value.is_none()
        {
            shown.value = Some(value);
            shown.note = Some("upstream's default, because the other trigger is set".to_owned());
        }
    }
}

fn retention(scope: &mut Scope<'_>) -> Option<Duration> {
    let (is_enabled, period) = (scope.get(&keys::SCALE_TO_ZERO_ENABLED), scope.get(&keys::SCALE_TO_ZERO_RETENTION));
    is_enabled.then_some(period)
}

fn server(scope: &mut Scope<'_>) -> ServerSettings {
    ServerSettings {
        bind_address: scope.get(&keys::SERVER_BIND_ADDRESS),
        port: scope.get(&keys::SERVER_PORT),
        tls: certificate(scope, &keys::SERVER_TLS_CERT_PATH, &keys::SERVER_TLS_KEY_PATH),
        certificate_secret: scope.get(&keys::SERVER_CERTIFICATE_SECRET),
        certificate_validity: scope.get(&keys::SERVER_CERTIFICATE_VALIDITY),
        shutdown_delay: scope.get(&keys::SERVER_SHUTDOWN_DELAY),
        shutdown_grace: scope.get(&keys::SERVER_SHUTDOWN_GRACE),
        groups: scope.get(&keys::SERVER_GROUPS),
        transport: access::tls(scope),
        disable_http2: scope.get(&keys::SERVER_DISABLE_HTTP2),
        http2_max_streams: u32::try_from(scope.get(&keys::SERVER_HTTP2_MAX_STREAMS)).unwrap_or(u32::MAX),
    }
}

fn delegation(scope: &mut Scope<'_>) -> DelegationSettings {
    DelegationSettings {
        url: scope.get(&keys::DELEGATION_URL),
        metrics: scope.get(&keys::DELEGATION_METRICS),
        prefixes: scope.get(&keys::DELEGATION_PREFIXES),
        label_keys: scope.get(&keys::DELEGATION_LABEL_KEYS),
        ca_cert_path: scope.get(&keys::DELEGATION_CA_CERT_PATH),
        bearer_token_path: scope.get(&keys::DELEGATION_BEARER_TOKEN_PATH),
        timeout: scope.get(&keys::DELEGATION_TIMEOUT),
    }
}

fn recording(scope: &mut Scope<'_>) -> RecordingSettings {
    RecordingSettings {
        directory: scope.get(&keys::RECORDING_DIRECTORY),
        interval: scope.get(&keys::RECORDING_INTERVAL),
        limits: RecordingLimits {
            files: scope.get(&keys::RECORDING_MAX_FILES),
            bytes: scope.get(&keys::RECORDING_MAX_MEBIBYTES).saturating_mul(1 << 20),
        },
    }
}

fn limits(scope: &mut Scope<'_>) -> AcceleratorLimits {
    AcceleratorLimits {
        accelerators: scope.get(&keys::LIMITS_ACCELERATORS),
        saturation_policy: scope.get(&keys::LIMITS_SATURATION_POLICY),
        fit_nodes: scope.get(&keys::LIMITS_FIT_NODES),
    }
}

fn actuation(scope: &mut Scope<'_>) -> ActuationSettings {
    ActuationSettings {
        mode: scope.get(&keys::ACTUATION_MODE),
        shadow: scope.get(&keys::ACTUATION_SHADOW),
        compensate_tolerance: scope.get(&keys::ACTUATION_COMPENSATE_TOLERANCE),
    }
}

/// Overrides of one model's decisions.
fn overrides(scope: &mut Scope<'_>) -> Vec<Override> {
    let order = |kind, cost, until| Override {
        kind,
        replicas: None,
        cost,
        from: None,
        until,
        schedule: None,
        note: Some("configuration".to_owned()),
    };
    let paused = scope.get(&keys::OVERRIDES_PAUSED_UNTIL).map(|until| order(OverrideKind::Pause, None, until));
    let cap = match (scope.get(&keys::OVERRIDES_SPEND_CAP), scope.get(&keys::OVERRIDES_SPEND_CAP_UNTIL)) {
        (Some(cost), Some(until)) => Some(order(OverrideKind::SpendCap, Some(cost), until)),
        (Some(_), None) => {
            scope.reject("overrides.spendCap", "overrides.spendCapUntil is not set; every override needs an end");
            None
        }
        (None, _) => None,
    };
    paused.into_iter().chain(cap).collect()
}

/// What single models have of their own, merged over what holds for all.
#[derive(Default)]
struct PerModel {
    saturation: BTreeMap<ModelSelector, Arc<SaturationScalingConfig>>,
    retention: BTreeMap<ModelSelector, Option<Duration>>,
    overrides: BTreeMap<ModelSelector, Vec<Override>>,
}

fn models(layers: &[&Layer], errors: &mut Vec<ConfigError>) -> (Vec<ResolvedModel>, PerModel) {
    let selectors: BTreeSet<&ModelSelector> = layers.iter().flat_map(|layer| layer.models.keys()).collect();
    let mut own = PerModel::default();
    let resolve = |selector: &ModelSelector| {
        let mut scope = Scope::model(layers, selector, errors);
        own.saturation.insert(selector.clone(), Arc::new(saturation(&mut scope)));
        own.retention.insert(selector.clone(), retention(&mut scope));
        own.overrides.insert(selector.clone(), overrides(&mut scope));
        ResolvedModel::new(selector, scope.values)
    };
    let models = selectors.into_iter().map(resolve).collect();
    (models, own)
}
