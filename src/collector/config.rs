//! Settings of metric collection: the part of the configuration that makes a metric source.

use std::{str::FromStr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use crate::config::{CollectorSettings, Config, PrometheusSettings};

/// What a metric source is made from. [`Config::resolve`] has checked ranges and relations between the values.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectorConfig {
    /// Where signals come from, how often, and how long they are kept.
    pub collector: CollectorSettings,
    /// How Prometheus is reached.
    pub prometheus: PrometheusSettings,
    /// A signal sampled longer ago counts as missing.
    pub signal_age_limit: Duration,
}

impl CollectorConfig {
    /// How long the cache keeps an entry: long enough that after a failed fetch the age of the samples, not the cache,
    /// decides what is missing.
    pub fn retention(&self) -> Duration {
        self.collector.cache_ttl.max(self.signal_age_limit)
    }
}

impl From<&Config> for CollectorConfig {
    fn from(config: &Config) -> Self {
        Self {
            collector: config.collector.clone(),
            prometheus: config.prometheus.clone(),
            signal_age_limit: config.ages.signal,
        }
    }
}

/// The headers of every query. Their values never show in logs.
pub(super) fn headers(settings: &PrometheusSettings) -> Result<HeaderMap, InvalidCollectorConfig> {
    let headers = settings.headers.iter().map(|(name, value)| {
        let invalid = || InvalidCollectorConfig::Header { name: name.clone() };
        let header = HeaderName::from_str(name).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        Ok((header, value))
    });
    headers.collect()
}

/// Settings from which no metric source can be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCollectorConfig {
    /// Nobody said where Prometheus is.
    #[error("prometheus.url is not set; set it to the address of Prometheus")]
    MissingUrl,
    /// A header that HTTP does not allow. The value may be a secret and is left out.
    #[error("prometheus.headers: HTTP does not allow the name or the value of {name:?}")]
    Header {
        /// Its name.
        name: String,
    },
    /// A file that cannot be read.
    #[error("{key} names {path}, which cannot be read: {message}")]
    File {
        /// Configuration key.
        key: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The HTTP client could not be made from these settings.
    #[error("no connection can be set up: {message}; check the TLS settings under {section}")]
    Client {
        /// Where the settings stand in the configuration.
        section: &'static str,
        /// What is wrong.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layer, Secret};

    fn config() -> CollectorConfig {
        let variables = [("PROMETHEUS_BASE_URL".to_owned(), "https://prometheus:9090".to_owned())];
        let layer = Layer::from_environment(variables, &[]);
        CollectorConfig::from(&*Config::resolve(&[layer]).unwrap().config)
    }

    #[test]
    fn the_defaults_are_those_of_the_package_contract() {
        let config = config();
        assert_eq!(config.prometheus.query_timeout, Duration::from_secs(10));
        assert_eq!(config.collector.cache_ttl, Duration::from_secs(30));
    }

    #[test]
    fn the_cache_outlives_the_age_limit_of_signals() {
        let mut config = config();
        assert_eq!(config.retention(), config.signal_age_limit);
        config.collector.cache_ttl = config.signal_age_limit * 2;
        assert_eq!(config.retention(), config.collector.cache_ttl);
    }

    #[test]
    fn a_header_that_http_does_not_allow_is_named_without_its_value() {
        let mut settings = config().prometheus;
        settings.headers.insert("x-key".to_owned(), Secret::new("c2VjcmV0\n"));
        let error = headers(&settings).unwrap_err().to_string();
        assert!(error.contains("x-key") && !error.contains("c2VjcmV0"), "{error}");
        settings.headers.insert("x-key".to_owned(), Secret::new("c2VjcmV0"));
        assert!(!format!("{:?}", headers(&settings)).contains("c2VjcmV0"));
    }
}
