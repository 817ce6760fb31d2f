//! The registry of our own metrics, in the text format of OpenMetrics.

use std::fmt;

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

/// Content type of [`MetricsRegistry::encode`].
pub const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of this process. Components register theirs at start; later the registry is only read.
#[derive(Debug)]
pub struct MetricsRegistry(Registry);

impl MetricsRegistry {
    /// A registry with `wva_build_info`.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("wva_build", "Version of wva", build);
        Self(registry)
    }

    /// For components to register their metrics. Names are whole: the registry adds no prefix.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.0
    }

    /// What `/metrics` answers, of type [`OPENMETRICS_CONTENT_TYPE`].
    ///
    /// # Errors
    /// When a metric cannot be written as OpenMetrics: a defect of the metric, not of the state.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

impl Default for MetricsRegistry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_registry_tells_the_version() {
        let text = MetricsRegistry::new().encode().unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert!(text.contains(&format!("wva_build_info{{version=\"{version}\"}} 1")), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
