use std::{path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use wva::{
    clock::SimulatedClock,
    config::{Document, Documents, LiveConfig, LogFormat},
};

use super::{environment, url};

struct Fixture {
    clock: Arc<SimulatedClock>,
    live: LiveConfig,
}

fn own(text: &str) -> Documents {
    Documents { own: Some(Document::file(Path::new("/etc/wva/config.yaml"), text)), upstream: None }
}

fn start(text: &str) -> Fixture {
    let clock = Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
    let fixed = vec![url(), environment(&[("WVA_ENGINE_INTERVAL", "7s")])];
    Fixture { live: LiveConfig::start(fixed, &own(text), clock.clone()).unwrap(), clock }
}

#[test]
fn a_good_reload_is_in_force_and_wakes_its_subscribers() {
    let Fixture { live, clock } = start("saturation: {kvCacheThreshold: 80}\n");
    let subscriber = live.subscribe();
    clock.advance(Duration::from_secs(5));
    assert_eq!(live.reload(&own("saturation: {kvCacheThreshold: 70}\n")), Ok(true));
    assert_eq!(live.config().saturation.kv_cache_threshold, 0.7);
    assert_eq!(live.config().engine.interval, Duration::from_secs(7), "the environment keeps its place");
    assert!(subscriber.has_changed().unwrap());
    let status = live.status();
    assert_eq!((status.generation, status.last_success.as_second()), (1, 5));
}

#[test]
fn a_reload_that_changes_nothing_wakes_nobody() {
    let Fixture { live, .. } = start("saturation: {kvCacheThreshold: 80}\n");
    let subscriber = live.subscribe();
    assert_eq!(live.reload(&own("# rewritten\nsaturation: {kvCacheThreshold: 0.8}\n")), Ok(false));
    assert!(!subscriber.has_changed().unwrap());
    assert_eq!(live.view().values["saturation.kvCacheThreshold"].source, "file /etc/wva/config.yaml line 2");
}

#[test]
fn a_bad_reload_keeps_the_last_good_configuration_and_says_so() {
    let logs = wva::telemetry::testing::capture();
    let Fixture { live, clock } = start("saturation: {kvCacheThreshold: 70}\n");
    let subscriber = live.subscribe();
    for at in [30, 60] {
        clock.advance(Duration::from_secs(30));
        assert!(live.reload(&own("saturation: {kvCacheThreshold: 170}\n")).is_err(), "at {at}");
    }
    assert_eq!(live.config().saturation.kv_cache_threshold, 0.7);
    assert!(!subscriber.has_changed().unwrap());
    let error = live.status().last_error.clone().unwrap();
    assert_eq!(error.at.as_second(), 30, "since when, not how often");
    assert!(error.message.contains("saturation.kvCacheThreshold is `170`"), "{}", error.message);
    let told = logs.lines().iter().filter(|line| line.contains("ERROR")).count();
    assert_eq!(told, 1, "a fault is logged once: {:?}", logs.lines());

    live.reload_failed("file /etc/wva/config.yaml cannot be read");
    assert_eq!(live.config().saturation.kv_cache_threshold, 0.7);
    live.reload(&own("saturation: {kvCacheThreshold: 75}\n")).unwrap();
    assert_eq!(live.status().last_error, None, "a good reload clears the fault");
}

#[test]
fn what_needs_a_restart_keeps_its_value_and_is_reported() {
    let Fixture { live, .. } = start("logging: {format: json}\nsaturation: {kvCacheThreshold: 70}\n");
    let changed = "server: {port: 7443}\nwatchNamespace: team-a\nprometheus: {headers: {X-Key: hunter2}}\n\
                   saturation: {kvCacheThreshold: 75}\n";
    assert_eq!(live.reload(&own(changed)), Ok(true));
    let config = live.config();
    assert_eq!(config.saturation.kv_cache_threshold, 0.75, "the rest is in force");
    assert_eq!(config.server.port, 6443);
    assert_eq!(config.watch_namespace, None);
    assert_eq!(config.logging.format, LogFormat::Json);
    assert!(config.prometheus.headers.is_empty());

    let status = live.status();
    let waiting: Vec<_> = status
        .restart_needed
        .iter()
        .map(|waiting| (waiting.key.as_str(), waiting.running.as_deref(), waiting.configured.as_deref()))
        .collect();
    assert_eq!(
        waiting,
        [
            ("server.port", Some("6443"), Some("7443")),
            ("watchNamespace", None, Some("team-a")),
            ("logging.format", Some("json"), Some("text")),
            ("prometheus.headers", None, Some("x-key")),
        ]
    );
    let shown = &live.view().values["server.port"];
    assert_eq!(shown.value.as_deref(), Some("6443"));
    assert!(shown.note.as_deref().unwrap().contains("restart needed: 7443"), "{shown:?}");

    live.reload(&own("logging: {format: json}\n")).unwrap();
    assert!(live.status().restart_needed.is_empty(), "taking the change back needs no restart");
}

#[test]
fn remarks_are_logged_when_asked_for() {
    let logs = wva::telemetry::testing::capture();
    let insecure = environment(&[("WVA_PROMETHEUS_INSECURE_SKIP_VERIFY", "true"), ("WVA_LIMITED_MODE", "true")]);
    let clock = Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
    let live = LiveConfig::start(vec![url(), insecure], &Documents::default(), clock).unwrap();
    assert!(logs.lines().is_empty(), "logging is not set up yet: {:?}", logs.lines());
    live.log_remarks();
    let lines = logs.lines();
    assert!(lines.iter().any(|line| line.contains("WVA_LIMITED_MODE")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("prometheus.insecureSkipVerify")), "{lines:?}");
}

#[test]
fn a_start_without_a_usable_configuration_fails() {
    let clock = Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
    let errors = LiveConfig::start(vec![url()], &own("zebra: 1\n"), clock).unwrap_err();
    assert!(errors.to_string().contains("zebra"), "{errors}");
}
