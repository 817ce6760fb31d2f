//! The environment as a layer: `WVA_<SECTION>_<KEY>` for every scalar key, and upstream's own names.

use std::{collections::BTreeSet, ffi::OsString};

use super::{
    ConfigError, Layer, Source, keys,
    layer::{Rank, nearest},
};

const PREFIX: &str = "WVA_";

/// Upstream's variables that mean nothing here: setting them must not pass unnoticed, nor stop a migration.
const UPSTREAM_ONLY: &[&str] = &[
    "PROMETHEUS_METRICS_CACHE_TTL",
    "PROMETHEUS_METRICS_CACHE_CLEANUP_INTERVAL",
    "PROMETHEUS_METRICS_CACHE_FETCH_INTERVAL",
    "PROMETHEUS_METRICS_CACHE_FRESH_THRESHOLD",
    "PROMETHEUS_METRICS_CACHE_STALE_THRESHOLD",
    "PROMETHEUS_METRICS_CACHE_UNAVAILABLE_THRESHOLD",
    "WVA_SCALE_TO_ZERO",
    "WVA_LIMITED_MODE",
    "WVA_NODE_SELECTOR",
    "SCALE_FROM_ZERO_ENGINE_MAX_CONCURRENCY",
    "EXPERIMENTAL_COORDINATOR_ENABLED",
    "COORDINATOR_INTERVAL",
    "CONFIG_MAP_NAME",
    "SATURATION_CONFIG_MAP_NAME",
    "QUEUEING_MODEL_CONFIG_MAP_NAME",
    "POOL_GROUP",
];

impl Layer {
    /// Reads the environment, as [`std::env::vars_os`] gives it. An empty variable counts as unset, as manifests often
    /// leave them.
    ///
    /// A `WVA_` variable that is no key is an error, unless it is in `other` (variables of the command line itself)
    /// or one that Kubernetes makes up for a Service whose name begins with `wva`.
    pub fn from_environment<N, V>(variables: impl IntoIterator<Item = (N, V)>, other: &[&str]) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let mut layer = Self::new(Rank::Environment);
        let variables = variables.into_iter().map(|(name, value)| (lossy(name), lossy(value)));
        let variables = variables.filter(|(name, value)| !value.is_empty() && !is_service_link(name, value));
        for (name, value) in variables.collect::<BTreeSet<_>>() {
            let row = keys::table()
                .iter()
                .find(|row| row.variable == name || row.spec().upstream_variable == Some(name.as_str()));
            let given_by = || Source::Environment(name.as_str().into());
            match row {
                Some(row) => layer.set(row, value, given_by()),
                None if UPSTREAM_ONLY.contains(&name.as_str()) => {
                    layer.warnings.push(format!("environment {name} is a setting of upstream without effect here"));
                }
                None if name.starts_with(PREFIX) && !other.contains(&name.as_str()) => {
                    let names = keys::table().iter().map(|row| row.variable.as_str());
                    let nearest = nearest(&name, names.chain(other.iter().copied()));
                    layer.errors.push(ConfigError::UnknownKey { given_by: given_by(), nearest, key: name });
                }
                None => {}
            }
        }
        layer
    }
}

/// What is not UTF-8 is no valid value of any key, and shows as such.
fn lossy(text: impl Into<OsString>) -> String {
    text.into().to_string_lossy().into_owned()
}

/// Whether Kubernetes made the variable up for a Service, as it does for each Service of a pod's namespace. One called
/// `wva-server` brings `WVA_SERVER_PORT=tcp://…`, which is not our port.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_numbered_port = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let mut parts = rest.split('_');
        let is_number = parts.next().is_some_and(|number| number.parse::<u16>().is_ok());
        is_number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    let is_service =
        name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_");
    is_service || is_numbered_port || (is_address && name.ends_with("_PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(variables: &[(&str, &str)]) -> Layer {
        Layer::from_environment(variables.iter().copied(), &["WVA_KUBECONFIG"])
    }

    #[test]
    fn every_key_reads_its_own_and_upstreams_variable() {
        for row in keys::table() {
            for name in [Some(row.variable.as_str()), row.spec().upstream_variable].into_iter().flatten() {
                let layer = layer(&[(name, "x")]);
                assert_eq!(layer.values[row.spec().path].given_by, Source::Environment(name.into()), "{name}");
                assert!(layer.errors.is_empty(), "{:?}", layer.errors);
            }
        }
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let layer = layer(&[
            ("PATH", "/bin"),
            ("WVA_KUBECONFIG", "/kubeconfig"),
            ("WVA_SERVICE_HOST", "10.0.0.1"),
            ("WVA_SERVICE_PORT", "443"),
            ("WVA_SERVICE_PORT_HTTPS", "443"),
            ("WVA_PORT", "tcp://10.0.0.1:443"),
            ("WVA_PORT_443_TCP", "tcp://10.0.0.1:443"),
            ("WVA_PORT_443_TCP_PROTO", "tcp"),
            ("WVA_SERVER_PORT", "tcp://10.0.0.1:443"),
            ("WVA_LOGGING_LEVEL", ""),
        ]);
        assert!(layer.errors.is_empty(), "{:?}", layer.errors);
        assert!(layer.values.is_empty(), "{:?}", layer.values);
    }

    #[test]
    fn a_misspelt_variable_is_an_error_with_the_nearest_name() {
        let layer = layer(&[("WVA_PROMETHEUS_ULR", "http://prometheus")]);
        assert_eq!(
            layer.errors[0].to_string(),
            "WVA_PROMETHEUS_ULR (environment WVA_PROMETHEUS_ULR) is not a configuration key; did you mean \
             WVA_PROMETHEUS_URL?"
        );
    }

    #[test]
    fn a_variable_only_upstream_knows_is_a_warning() {
        let layer = layer(&[("WVA_LIMITED_MODE", "true")]);
        assert!(layer.errors.is_empty());
        assert!(layer.warnings[0].contains("WVA_LIMITED_MODE"), "{:?}", layer.warnings);
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_an_error_only_for_our_own_variables() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = || OsString::from_vec(vec![b'a', 0xff]);
        let layer = Layer::from_environment([("LANG", bytes()), ("WVA_WATCH_NAMESPACE", bytes())], &[]);
        let errors = crate::config::Config::resolve(&[layer]).unwrap_err().to_string();
        assert!(errors.contains("watchNamespace") && !errors.contains("LANG"), "{errors}");
    }

    #[test]
    fn two_names_of_one_key_must_agree() {
        assert!(layer(&[("WVA_ENGINE_INTERVAL", "5s"), ("GLOBAL_OPT_INTERVAL", "5s")]).errors.is_empty());
        let layer = layer(&[("WVA_ENGINE_INTERVAL", "5s"), ("GLOBAL_OPT_INTERVAL", "15s")]);
        assert!(matches!(&layer.errors[0], ConfigError::GivenTwice { key, .. } if key == "engine.interval"));
    }
}
