//! Settings of metric collection.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use thiserror::Error;

/// Header by which Cortex, Mimir and Thanos tell tenants apart.
const TENANT_HEADER: HeaderName = HeaderName::from_static("x-scope-orgid");

/// What a metric source is made from. The defaults are those of the package contract.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// Where signals come from.
    pub backend: Backend,
    /// How to reach Prometheus; used by [`Backend::Prometheus`].
    pub prometheus: PrometheusConfig,
    /// How often everything is fetched.
    pub fetch_interval: Duration,
    /// How long a fetched value answers reads while no newer one arrives; see [`Self::retention`].
    pub cache_ttl: Duration,
    /// How many models the cache holds at most. 0 turns it off: every read then asks the backend.
    pub cache_capacity: u64,
    /// A signal sampled longer ago counts as missing.
    pub signal_age_limit: Duration,
}

impl CollectorConfig {
    /// Collection from the Prometheus at `url`, with defaults for everything else.
    pub fn prometheus(url: impl Into<String>) -> Self {
        Self {
            backend: Backend::Prometheus,
            prometheus: PrometheusConfig::new(url),
            fetch_interval: Duration::from_secs(5),
            cache_ttl: Duration::from_secs(30),
            cache_capacity: 100_000,
            signal_age_limit: Duration::from_secs(60),
        }
    }

    /// How long the cache keeps an entry: long enough that after a failed fetch the age of the samples, not the cache,
    /// decides what is missing.
    pub fn retention(&self) -> Duration {
        self.cache_ttl.max(self.signal_age_limit)
    }

    /// Checks ranges and the relations between the values.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), InvalidCollectorConfig> {
        let invalid = |key, value: &dyn fmt::Debug, rule| {
            Err(InvalidCollectorConfig::Value { key, value: format!("{value:?}"), rule })
        };
        if self.fetch_interval.is_zero() || self.fetch_interval >= self.signal_age_limit {
            return invalid(
                "collector.fetchInterval",
                &self.fetch_interval,
                "it must be above 0 and below collector.signalAgeLimit, or every signal is too old before the next fetch",
            );
        }
        if self.cache_ttl.is_zero() {
            return invalid(
                "collector.cacheTTL",
                &self.cache_ttl,
                "it must be above 0; set collector.cacheCapacity to 0 to turn the cache off",
            );
        }
        match self.backend {
            Backend::Prometheus => self.prometheus.validate(),
        }
    }
}

/// A kind of metric source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// A Prometheus server, or anything that answers its query API (Thanos, Mimir, VictoriaMetrics).
    #[default]
    Prometheus,
}

impl Backend {
    /// Every backend.
    pub const ALL: [Self; 1] = [Self::Prometheus];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
        }
    }
}

impl FromStr for Backend {
    type Err = InvalidCollectorConfig;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|backend| backend.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            InvalidCollectorConfig::UnknownBackend {
                name: name.to_owned(),
                valid: Self::ALL.map(Self::name).join(", "),
            }
        })
    }
}

/// How to reach Prometheus and how to prove who we are. Files are read again when they change.
#[derive(Clone, Debug)]
pub struct PrometheusConfig {
    /// Address of the API without `/api/v1`, such as `https://prometheus.monitoring.svc:9091`; a path prefix is kept.
    pub url: String,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_certificate: Option<PathBuf>,
    /// PEM file of our client certificate; goes with `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// File with the bearer token, read for every query.
    pub bearer_token_file: Option<PathBuf>,
    /// Name that the server's certificate must carry, where it is not the host of `url`.
    pub server_name: Option<String>,
    /// Accept any server certificate. Whoever is on the path can then set replica counts.
    pub insecure_skip_verify: bool,
    /// Tenant, sent as `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// Further headers of every query; fill with [`PrometheusConfig::add_header`], which hides values from logs.
    pub headers: HeaderMap,
    /// Label matchers that narrow every series, such as `cluster="eu-1"`, where one Prometheus serves several clusters.
    pub label_matchers: Option<String>,
    /// How long one query may take, retries included.
    pub query_timeout: Duration,
}

impl PrometheusConfig {
    /// The Prometheus at `url`, without credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca_certificate: None,
            client_certificate: None,
            client_key: None,
            bearer_token_file: None,
            server_name: None,
            insecure_skip_verify: false,
            tenant: None,
            headers: HeaderMap::new(),
            label_matchers: None,
            query_timeout: Duration::from_secs(10),
        }
    }

    /// Sends the header `name` with every query.
    ///
    /// # Errors
    /// When HTTP allows no such name or value; the message leaves the value out, as it may be a secret.
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), InvalidCollectorConfig> {
        let invalid = |rule| InvalidCollectorConfig::Value {
            key: "prometheus.headers",
            value: format!("the header {name:?}"),
            rule,
        };
        let header = HeaderName::from_str(name).map_err(|_| invalid("this is no name of an HTTP header"))?;
        let mut value =
            HeaderValue::from_str(value).map_err(|_| invalid("its value has characters HTTP does not allow"))?;
        value.set_sensitive(true);
        self.headers.insert(header, value);
        Ok(())
    }

    /// All headers that are the same for every query.
    pub(super) fn fixed_headers(&self) -> Result<HeaderMap, InvalidCollectorConfig> {
        let mut headers = self.headers.clone();
        if let Some(tenant) = &self.tenant {
            let value = HeaderValue::from_str(tenant).map_err(|_| InvalidCollectorConfig::Value {
                key: "prometheus.tenant",
                value: format!("{tenant:?}"),
                rule: "it is sent as an HTTP header, which does not allow these characters",
            })?;
            headers.insert(TENANT_HEADER, value);
        }
        Ok(headers)
    }

    /// The address, checked.
    pub(super) fn parsed_url(&self) -> Result<Url, InvalidCollectorConfig> {
        Url::parse(&self.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none())
            .ok_or_else(|| InvalidCollectorConfig::Value {
                key: "prometheus.url",
                value: format!("{:?}", self.url),
                rule: "it must look like https://prometheus.monitoring.svc:9090",
            })
    }

    fn validate(&self) -> Result<(), InvalidCollectorConfig> {
        self.parsed_url()?;
        self.fixed_headers()?;
        if self.client_certificate.is_some() != self.client_key.is_some() {
            return Err(InvalidCollectorConfig::Conflict {
                rule: "prometheus.clientCertificate and prometheus.clientKey must be set together",
            });
        }
        if self.insecure_skip_verify && self.ca_certificate.is_some() {
            return Err(InvalidCollectorConfig::Conflict {
                rule: "prometheus.caCertificate has no effect beside prometheus.insecureSkipVerify; drop one of them",
            });
        }
        if self.query_timeout.is_zero() {
            return Err(InvalidCollectorConfig::Value {
                key: "prometheus.queryTimeout",
                value: format!("{:?}", self.query_timeout),
                rule: "it must be above 0",
            });
        }
        Ok(())
    }
}

/// A setting of metric collection that cannot work.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCollectorConfig {
    /// No backend has this name.
    #[error("collector.backend is {name:?}, but the backends are: {valid}")]
    UnknownBackend {
        /// Name found.
        name: String,
        /// Names that exist.
        valid: String,
    },
    /// A value out of its range.
    #[error("{key} is {value}, but {rule}")]
    Value {
        /// Configuration key.
        key: &'static str,
        /// Value found.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// Settings that do not go together.
    #[error("{rule}")]
    Conflict {
        /// What must hold.
        rule: &'static str,
    },
    /// A file that cannot be used.
    #[error("{key} names {path}, which cannot be used: {message}")]
    File {
        /// Configuration key.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The HTTP client could not be made from these settings.
    #[error("the connection to {url} cannot be set up: {message}; check the TLS settings under prometheus")]
    Client {
        /// Address of the server, without credentials.
        url: String,
        /// What is wrong.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CollectorConfig {
        CollectorConfig::prometheus("https://prometheus:9090/prefix")
    }

    #[test]
    fn the_defaults_are_those_of_the_package_contract() {
        let config = config();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.prometheus.query_timeout, Duration::from_secs(10));
        assert_eq!(config.cache_ttl, Duration::from_secs(30));
        assert!(!config.prometheus.insecure_skip_verify);
    }

    #[test]
    fn an_unknown_backend_is_an_error_that_names_the_valid_ones() {
        assert_eq!("Prometheus".parse(), Ok(Backend::Prometheus));
        let error = "promtheus".parse::<Backend>().unwrap_err();
        assert_eq!(error.to_string(), r#"collector.backend is "promtheus", but the backends are: prometheus"#);
    }

    #[test]
    fn the_cache_outlives_the_age_limit_of_signals() {
        let mut config = config();
        assert_eq!(config.retention(), Duration::from_secs(60));
        config.cache_ttl = Duration::from_secs(300);
        assert_eq!(config.retention(), Duration::from_secs(300));
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_their_key() {
        type Change = fn(&mut CollectorConfig);
        let table: [(Change, &str); 10] = [
            (|c| c.fetch_interval = Duration::ZERO, "collector.fetchInterval is 0ns"),
            (|c| c.fetch_interval = Duration::from_secs(60), "below collector.signalAgeLimit"),
            (|c| c.cache_ttl = Duration::ZERO, "collector.cacheTTL"),
            (|c| c.prometheus.url = "prometheus:9090".into(), "prometheus.url is \"prometheus:9090\""),
            (|c| c.prometheus.url = String::new(), "prometheus.url"),
            (|c| c.prometheus.url = "http://p/?q=1".into(), "prometheus.url"),
            (|c| c.prometheus.client_key = Some("key.pem".into()), "prometheus.clientCertificate"),
            (|c| c.prometheus.query_timeout = Duration::ZERO, "prometheus.queryTimeout"),
            (|c| c.prometheus.tenant = Some("a\nb".into()), "prometheus.tenant"),
            (
                |c| {
                    c.prometheus.insecure_skip_verify = true;
                    c.prometheus.ca_certificate = Some("ca.pem".into());
                },
                "prometheus.insecureSkipVerify",
            ),
        ];
        for (change, expected) in table {
            let mut config = config();
            change(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} should contain {expected:?}");
        }
    }

    #[test]
    fn header_values_never_show_in_messages_or_debug_output() {
        let mut config = config();
        config.prometheus.add_header("Authorization", "Basic c2VjcmV0").unwrap();
        assert!(!format!("{config:?}").contains("c2VjcmV0"));
        let error = config.prometheus.add_header("x-key", "c2VjcmV0\n").unwrap_err().to_string();
        assert!(!error.contains("c2VjcmV0") && error.contains("x-key"), "{error}");
        assert!(config.prometheus.add_header("bad name", "x").unwrap_err().to_string().contains("bad name"));
    }
}
