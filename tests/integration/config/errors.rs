use wva::config::{Config, ConfigError};

use super::{environment, file, flags, messages, resolve, upstream};

/// One faulty file, and what must stand in the one message about it.
const FAULTS: &[(&str, &[&str])] = &[
    ("prometheus: {ulr: x}", &["prometheus.ulr", "line 1", "did you mean prometheus.url?"]),
    ("kvCacheThreshold: 80", &["kvCacheThreshold", "did you mean saturation.kvCacheThreshold?"]),
    ("saturations: {}", &["saturations", "line 1"]),
    ("engine:\n  Interval: 5s", &["engine.Interval", "line 2", "did you mean engine.interval?"]),
    ("zebra: 1", &["zebra", "not a configuration key"]),
    ("saturation: {enableLimiter: true}", &["saturation.enableLimiter", "upstream", "not supported yet"]),
    ("collector: {fetchInterval: 30}", &["collector.fetchInterval is `30`", "line 1", "such as 30s"]),
    ("engine: {interval: 50ms}", &["engine.interval is `50ms`", "at least 100ms"]),
    ("saturation: {kvCacheThreshold: 0}", &["saturation.kvCacheThreshold is `0`", "(0, 1]"]),
    ("saturation: {kvCacheThreshold: 150}", &["`150`", "(1, 100]"]),
    ("saturation: {safetyMargin: 85}", &["saturation.safetyMargin is `85%`", "spareCapacityTarget", "below 100 %"]),
    ("saturation: {spareCapacityTarget: 1}", &["saturation.spareCapacityTarget is `100%`", "below 100 %"]),
    ("saturation: {kvSpareTrigger: 90}", &["saturation.kvSpareTrigger is `90%`", "between 0 and kvCacheThreshold"]),
    ("engine: {interval: 3m}", &["engine.interval is `3m`", "shorter than ages.decision, 2m (default)"]),
    (
        "ages: {signal: 5s}",
        &["collector.fetchInterval is `5s` (default)", "ages.signal, 5s (file /etc/wva/config.yaml line 1)"],
    ),
    ("server: {tlsCertPath: /tls.crt}", &["server.tlsCertPath is `/tls.crt`", "server.tlsKeyPath is not set"]),
    ("prometheus: {clientKeyPath: /tls.key}", &["prometheus.clientKeyPath", "prometheus.clientCertPath is not set"]),
    (
        "prometheus: {caCertPath: /ca.crt, insecureSkipVerify: true}",
        &["prometheus.caCertPath", "prometheus.insecureSkipVerify"],
    ),
    ("prometheus: {bearerToken: hunter2}", &["prometheus.bearerToken", "only be set in the environment"]),
    ("prometheus: {headers: {'bad name': x}}", &["prometheus.headers.bad name", "header name"]),
    ("prometheus: [a]", &["prometheus is `not a mapping`", "mapping"]),
    ("server: {port: [1]}", &["server.port", "single value", "port"]),
    ("server: {port: }", &["server.port is `empty`", "remove the key"]),
    ("server: {port: 65536}", &["server.port is `65536`", "65535"]),
    ("watchNamespace: 5", &["watchNamespace is `5`", "quotes"]),
    ("models: {a: b}", &["models", "list"]),
    ("models: [{namespace: a}]", &["models.modelID", "each entry"]),
    ("models: [{modelID: a, namespace: A_B}]", &["models.namespace", "name of a namespace"]),
    ("models: [{modelID: a}, {modelID: a}]", &["models[a]", "given twice"]),
    ("models: [{modelID: a, saturation: {kvCacheTreshold: 1}}]", &["did you mean saturation.kvCacheThreshold?"]),
    (
        "models: [{modelID: a, saturation: {kvCacheThreshold: 101}}]",
        &["models[a].saturation.kvCacheThreshold is `101`"],
    ),
    (
        "saturation: {queueDepthThreshold: 5, queueLengthThreshold: 6}",
        &["saturation.queueDepthThreshold is given twice"],
    ),
    ("logging: {level: infoo}", &["logging.level is `infoo`", "level"]),
    ("server: {port: 1}\nserver: {port: 2}", &["file /etc/wva/config.yaml cannot be used", "duplicate"]),
    ("- a", &["file /etc/wva/config.yaml cannot be used", "mapping"]),
];

#[test]
fn every_fault_is_one_message_with_key_place_and_rule() {
    for (text, expected) in FAULTS {
        let messages = messages(resolve([file(text)]));
        assert_eq!(messages.len(), 1, "{text}: {messages:?}");
        for part in *expected {
            assert!(messages[0].contains(part), "{text}\nsays   {}\nwithout {part}", messages[0]);
        }
        assert!(messages[0].contains("/etc/wva/config.yaml") || messages[0].contains("default"), "{}", messages[0]);
        assert!(!messages[0].contains("hunter2"), "{}", messages[0]);
    }
}

#[test]
fn all_faults_of_all_layers_are_reported_at_once() {
    let messages = messages(resolve([
        flags(&["--server-port=http"]),
        environment(&[("WVA_LOGGING_FORMAT", "xml"), ("WVA_SERVER_PROT", "1")]),
        file("server: {port: 0x}\nzebra: 1\ncollector: {fetchInterval: 5}\n"),
        upstream("default: {kvCacheThreshold: 2000}\n"),
    ]));
    for part in
        ["flag --server-port", "WVA_LOGGING_FORMAT", "WVA_SERVER_PROT", "`0x`", "zebra", "fetchInterval", "`2000`"]
    {
        assert_eq!(messages.iter().filter(|message| message.contains(part)).count(), 1, "{part}: {messages:#?}");
    }
    assert_eq!(messages.len(), 7, "{messages:#?}");
}

#[test]
fn a_bad_value_is_an_error_even_where_a_flag_overrides_it() {
    let messages = messages(resolve([flags(&["--server-port=7443"]), file("server: {port: x}\n")]));
    assert!(messages[0].contains("server.port is `x` (file /etc/wva/config.yaml line 1)"), "{messages:?}");
}

#[test]
fn without_an_address_of_prometheus_the_message_says_what_to_set() {
    let errors = Config::resolve(&[]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "prometheus.url is `not set` (default), but collector.backend prometheus needs it; set it to the address of \
         Prometheus, by --prometheus-url for one"
    );
}

#[test]
fn credentials_in_a_url_are_refused_without_repeating_them() {
    let errors = Config::resolve(&[flags(&["--prometheus-url=http://user:hunter2@prometheus"])]).unwrap_err();
    let message = errors.to_string();
    assert!(message.contains("must not hold credentials") && message.contains("http://…@prometheus"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_token_and_a_token_file_exclude_each_other() {
    let both = environment(&[("PROMETHEUS_BEARER_TOKEN", "t"), ("PROMETHEUS_TOKEN_PATH", "/token")]);
    let messages = messages(resolve([both]));
    assert!(messages[0].contains("prometheus.bearerTokenPath is `/token`"), "{messages:?}");
}

#[test]
fn faults_in_upstreams_document_name_their_entry() {
    let cases = [
        ("default: {kvCacheTreshold: 1}", "did you mean saturation.kvCacheThreshold?"),
        ("granite: {kvCacheThreshold: 1}", "entry granite is `without a model`"),
        ("'a#b': {model_id: c, kvCacheThreshold: 1}", "name another model"),
        ("default: {spareCapacityTarget: -1}", "saturation.spareCapacityTarget is `-1`"),
        ("default: 5", "default is `not an entry`"),
    ];
    for (text, expected) in cases {
        let messages = messages(resolve([upstream(text)]));
        assert_eq!(messages.len(), 1, "{text}: {messages:?}");
        assert!(messages[0].contains(expected), "{text}: {}", messages[0]);
    }
}

#[test]
fn a_config_map_holds_its_text_under_one_key() {
    use wva::config::{Document, Layer};
    let map = |key: &str| {
        let data = [(key.to_owned(), "server: {prot: 1}".to_owned())].into();
        messages(resolve([Layer::from_document(&Document::config_map("wva-system", "wva-config", data))]))
    };
    let found = map("config.yaml");
    assert!(found[0].contains("ConfigMap wva-system/wva-config key config.yaml line 1"), "{found:?}");
    let found = map("config.yml");
    assert!(found[0].contains("did you mean config.yaml?"), "{found:?}");
}

#[test]
fn errors_can_be_told_apart() {
    let errors = resolve([file("zebra: 1\nserver: {port: x}\n")]).unwrap_err();
    assert!(matches!(&errors.as_slice()[0], ConfigError::UnknownKey { key, .. } if key == "zebra"));
    assert!(matches!(&errors.as_slice()[1], ConfigError::InvalidValue { key, .. } if key == "server.port"));
}
