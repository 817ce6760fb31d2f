use std::time::Duration;

use wva::config::{BearerToken, Config, LogFormat};

use super::{environment, file, flags, resolve, upstream, url};

/// Two valid values and a default for every key that all three layers can give.
const KEYS: &[(&str, &str, &str, &str)] = &[
    ("prometheus.queryTimeout", "1s", "2s", "3s"),
    ("prometheus.serverName", "a", "b", "c"),
    ("collector.fetchInterval", "1s", "2s", "3s"),
    ("collector.peakWindow", "1m", "2m", "3m"),
    ("collector.peakWindow", "1m", "2m", "3m"),
    ("collector.cacheTtl", "1m", "2m", "3m"),
    ("collector.cacheMaxEntries", "1", "2", "3"),
    ("engine.interval", "1s", "2s", "3s"),
    ("ages.signal", "50s", "51s", "52s"),
    ("ages.decision", "50s", "51s", "52s"),
    ("ages.pending", "50s", "51s", "52s"),
    ("saturation.kvCacheThreshold", "50%", "60%", "70%"),
    ("saturation.queueDepthThreshold", "1", "2", "3"),
    ("saturation.spareCapacityTarget", "10%", "11%", "12%"),
    ("saturation.safetyMargin", "1%", "2%", "3%"),
    ("saturation.kvSpareTrigger", "1%", "2%", "3%"),
    ("saturation.queueSpareTrigger", "1", "2", "3"),
    ("server.bindAddress", "127.0.0.1", "127.0.0.2", "::"),
    ("server.port", "1", "2", "3"),
    ("server.shutdownDelay", "1s", "2s", "3s"),
    ("server.shutdownGrace", "1s", "2s", "3s"),
    ("watchNamespace", "a", "b", "c"),
    ("controllerInstance", "a", "b", "c"),
    ("podNamespace", "a", "b", "c"),
    ("logging.level", "debug", "warn", "error"),
];

#[test]
fn a_flag_beats_the_environment_beats_a_file_beats_the_default_for_every_key() {
    for (path, by_file, by_environment, by_flag) in KEYS {
        let kebab = path.chars().fold(String::new(), |kebab, c| match c {
            '.' => kebab + "-",
            c if c.is_uppercase() => format!("{kebab}-{}", c.to_lowercase()),
            c => format!("{kebab}{c}"),
        });
        let variable = format!("WVA_{}", kebab.replace('-', "_").to_uppercase());
        let yaml = match path.split_once('.') {
            Some((section, key)) => format!("{section}:\n  {key}: '{by_file}'\n"),
            None => format!("{path}: '{by_file}'\n"),
        };
        let flag = flags(&[&format!("--{kebab}={by_flag}")]);
        let environment = environment(&[(&variable, by_environment)]);
        let file = file(&yaml);

        let found = |layers: &[&wva::config::Layer]| {
            let view = resolve(layers.iter().map(|layer| (*layer).clone())).unwrap().view;
            let found = &view.values[*path];
            (found.value.clone().unwrap_or_default(), found.source.clone())
        };
        // Layers rank by what they are, in whatever order they come.
        assert_eq!(found(&[&file, &environment, &flag]), ((*by_flag).into(), format!("flag --{kebab}")));
        assert_eq!(found(&[&environment, &file]), ((*by_environment).into(), format!("environment {variable}")));
        let (value, source) = found(&[&file]);
        assert_eq!(value, *by_file, "{path}");
        assert!(source.starts_with("file /etc/wva/config.yaml line "), "{path}: {source}");
        assert_eq!(found(&[]).1, "default", "{path}");
    }
}

#[test]
fn layers_merge_key_by_key() {
    let layers = [
        flags(&["--server-port=7443"]),
        environment(&[("WVA_SERVER_BIND_ADDRESS", "127.0.0.1")]),
        file("server: {shutdownDelay: 1s}\nprometheus: {headers: {X-Scope-OrgID: team-a}}\nages: {signal: 30s}\n"),
    ];
    let config = resolve(layers).unwrap().config;
    assert_eq!(config.server.port, 7443);
    assert_eq!(config.server.bind_address.to_string(), "127.0.0.1");
    assert_eq!(config.server.shutdown_delay, Duration::from_secs(1));
    assert_eq!(config.ages.signal, Duration::from_secs(30));
    assert_eq!(config.ages.decision, Duration::from_mins(2), "a section given in part leaves its other keys alone");
    assert_eq!(config.prometheus.headers["x-scope-orgid"].expose(), "team-a");
}

#[test]
fn the_defaults_are_those_of_the_package_contract() {
    let config = resolve([]).unwrap().config;
    assert_eq!(config.prometheus_url().unwrap().as_str(), "https://prometheus:9090/");
    assert_eq!(config.reconcile_interval(), Duration::from_secs(5));
    assert_eq!(config.metrics_poll_interval(), Duration::from_secs(5));
    assert_eq!(config.collector.cache_ttl, Duration::from_secs(30));
    assert_eq!(config.prometheus.query_timeout, Duration::from_secs(10));
    assert_eq!(
        (config.ages.signal.as_secs(), config.ages.decision.as_secs(), config.ages.pending.as_secs()),
        (60, 120, 600)
    );
    assert_eq!(*config.saturation, wva::interfaces::SaturationScalingConfig::default());
    assert_eq!(config.logging.format, LogFormat::Text);
    assert_eq!(config.server.port, 6443);
}

#[test]
fn upstreams_variables_set_their_keys() {
    let config = resolve([environment(&[
        ("PROMETHEUS_TOKEN_PATH", "/token"),
        ("PROMETHEUS_CLIENT_CERT_PATH", "/tls.crt"),
        ("PROMETHEUS_CLIENT_KEY_PATH", "/tls.key"),
        ("PROMETHEUS_CA_CERT_PATH", "/ca.crt"),
        ("PROMETHEUS_SERVER_NAME", "thanos"),
        ("GLOBAL_OPT_INTERVAL", "15s"),
        ("CONTROLLER_INSTANCE", "blue"),
        ("POD_NAMESPACE", "wva-system"),
    ])])
    .unwrap()
    .config;
    assert_eq!(config.prometheus.bearer_token, Some(BearerToken::File("/token".into())));
    assert_eq!(config.prometheus.trust.client_certificate.as_ref().unwrap().key.as_os_str(), "/tls.key");
    assert_eq!(config.prometheus.trust.ca_cert_path.as_ref().unwrap().as_os_str(), "/ca.crt");
    assert_eq!(config.prometheus.trust.server_name.as_deref(), Some("thanos"));
    assert_eq!(config.engine.interval, Duration::from_secs(15));
    assert_eq!(config.controller_instance.as_deref(), Some("blue"));
    assert_eq!(config.pod_namespace.as_deref(), Some("wva-system"));
}

#[test]
fn our_own_document_beats_upstreams() {
    let own = file("saturation: {kvCacheThreshold: 70}\n");
    let theirs = upstream("default: {kvCacheThreshold: 0.9, queueLengthThreshold: 7}\n");
    let config = resolve([theirs, own]).unwrap().config;
    assert_eq!(config.saturation.kv_cache_threshold, 0.7);
    assert_eq!(config.saturation.queue_depth_threshold, 7.0);
}

#[test]
fn an_empty_flag_takes_an_optional_value_back() {
    let layers = [file("watchNamespace: team-a\n"), flags(&["--watch-namespace="])];
    assert_eq!(resolve(layers).unwrap().config.watch_namespace, None);
}

#[test]
fn the_namespace_of_the_process_is_known_before_documents_are_read() {
    use wva::config::Layer;
    let (flag, variable) = (flags(&["--pod-namespace=a"]), environment(&[("POD_NAMESPACE", "b")]));
    assert_eq!(Layer::pod_namespace(&[flag, variable.clone()]), Some("a"));
    assert_eq!(Layer::pod_namespace(&[variable]), Some("b"));
    assert_eq!(Layer::pod_namespace(&[flags(&[])]), None);
}

#[test]
fn plain_http_is_allowed_and_marked() {
    let resolved = Config::resolve(&[flags(&["--prometheus-url=http://prometheus:9090"])]).unwrap();
    let note = resolved.view.values["prometheus.url"].note.as_deref().unwrap();
    assert!(note.contains("insecure"), "{note}");
    assert_eq!(Config::resolve(&[url()]).unwrap().view.values["prometheus.url"].note, None);
}

#[test]
fn secrets_show_nowhere() {
    let layers =
        [environment(&[("PROMETHEUS_BEARER_TOKEN", "hunter2")]), file("prometheus: {headers: {X-Api-Key: hunter2}}\n")];
    let resolved = resolve(layers.clone()).unwrap();
    assert_eq!(
        resolved.config.prometheus.bearer_token,
        Some(BearerToken::Literal(wva::config::Secret::new("hunter2")))
    );
    let view = serde_json::to_string(&resolved.view).unwrap() + &serde_saphyr::to_string(&resolved.view).unwrap();
    for shown in [view, format!("{resolved:?}"), format!("{layers:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(resolved.view.values["prometheus.bearerToken"].value.as_deref(), Some("(hidden)"));
    assert_eq!(resolved.view.values["prometheus.bearerToken"].source, "environment PROMETHEUS_BEARER_TOKEN");
    assert!(resolved.view.values["prometheus.headers.x-api-key"].source.contains("line 1"));
}
