use std::path::Path;

use jiff::Timestamp;
use wva::{
    clock::SimulatedClock,
    config::{Document, Layer, Resolved},
    engines,
    interfaces::{
        ModelKey, ReplicaBounds, Role, ScaleObservation, TargetObservation, TargetReference, Variant, VariantKey,
        VariantObservation,
    },
    snapshot::{self, ClusterObserver, Parameters},
};

use super::{messages, resolve};

fn read(text: &str) -> Result<Resolved, wva::config::ConfigErrors> {
    resolve([Layer::from_document(&Document::file(Path::new("wva.yaml"), text))])
}

const CLASSES: &str = "
serviceClasses:
  - name: Freemium
    priority: 10
    default: true
    targetShare: 95%
    models:
      - modelID: default
        timeToFirstToken: 2s
        interTokenLatency: 200ms
      - modelID: granite
        timeToFirstToken: 5s
  - name: Premium
    priority: 1
    data:
      - model: granite
        slo-tpot: 24
        slo-ttft: 500
        slo-tps: 0
      - model: llama
        namespace: production
        interTokenLatency: 40ms
        targetShare: 99.5
";

#[test]
fn a_model_gets_the_objective_of_the_most_important_class_that_names_it() {
    let config = read(CLASSES).unwrap().config;
    let objective = |namespace: &str, model: &str| config.objective_of(&ModelKey::new(namespace, model)).unwrap();

    let granite = objective("any", "granite");
    assert_eq!((granite.class.as_ref(), granite.priority, granite.target_share), ("Premium", 1, 0.99));
    assert_eq!(granite.time_to_first_token, Some(0.5), "upstream's milliseconds");
    assert_eq!((granite.inter_token_latency, granite.tokens_per_second), (Some(0.024), None), "0 is no target");

    let llama = objective("production", "llama");
    assert_eq!((llama.class.as_ref(), llama.inter_token_latency, llama.target_share), ("Premium", Some(0.04), 0.995));
    let elsewhere = objective("staging", "llama");
    assert_eq!((elsewhere.class.as_ref(), elsewhere.target_share), ("Freemium", 0.95), "the default class");
}

#[test]
fn without_a_default_class_a_model_that_no_class_names_is_owed_nothing() {
    let config = read(&CLASSES.replace("default: true", "default: false")).unwrap().config;
    assert_eq!(config.objective_of(&ModelKey::new("staging", "llama")), None);
    assert_eq!(read("").unwrap().config.objective_of(&ModelKey::new("staging", "llama")), None);
}

/// A class whose `default` entry is what the others inherit from.
const INHERITING: &str = "
serviceClasses:
  - name: Premium
    priority: 1
    targetShare: 95%
    models:
      - modelID: default
        timeToFirstToken: 2s
        interTokenLatency: 50ms
        tokensPerSecond: 500
      - modelID: llama
        timeToFirstToken: 500ms
        targetShare: 99%
      - modelID: llama
        namespace: production
        interTokenLatency: 24ms
      - modelID: batch
        timeToFirstToken: none
        slo-tps: 0
";

#[test]
fn an_entry_inherits_key_by_key_and_none_takes_an_inherited_target_back() {
    let config = read(INHERITING).unwrap().config;
    let targets = |namespace: &str, model: &str| {
        let found = config.objective_of(&ModelKey::new(namespace, model)).unwrap();
        (found.time_to_first_token, found.inter_token_latency, found.tokens_per_second, found.target_share)
    };
    assert_eq!(targets("staging", "llama"), (Some(0.5), Some(0.05), Some(500.0), 0.99));
    assert_eq!(targets("production", "llama"), (Some(0.5), Some(0.024), Some(500.0), 0.99));
    assert_eq!(targets("staging", "batch"), (None, Some(0.05), None, 0.95));
    assert_eq!(config.objective_of(&ModelKey::new("staging", "other")), None, "the class is not the default one");
}

/// One variant of `llama` in namespace `production`, on an H100.
struct Cluster;

impl ClusterObserver for Cluster {
    fn observe(&self, _: Timestamp) -> Vec<VariantObservation> {
        let target = TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "llama".into() };
        let variant = Variant {
            key: VariantKey::new("production", "llama-h100"),
            model: ModelKey::new("production", "llama"),
            accelerator: Some("H100".into()),
            accelerators_per_replica: None,
            profile: None,
            cost: 1.0,
            role: Role::Both,
            bounds: ReplicaBounds::default(),
            target,
            overrides: std::sync::Arc::default(),
            shadow: false,
        };
        vec![VariantObservation {
            variant,
            target: TargetObservation::Found(ScaleObservation { spec: 1, current: 1, ready: 1, ..Default::default() }),
            replicas: Vec::new(),
            autoscalers: Vec::new(),
        }]
    }
}

#[tokio::test]
async fn a_configured_service_class_and_profile_are_in_the_snapshot_that_is_decided_on() {
    let config = read(&format!("{CLASSES}{PROFILES}")).unwrap().config;
    let clock = SimulatedClock::new(Timestamp::UNIX_EPOCH);
    let snapshot = snapshot::take(&clock, &Cluster, &[], &*config).await;
    let objective = &snapshot.objectives[&ModelKey::new("production", "llama")];
    assert_eq!((objective.class.as_ref(), objective.inter_token_latency), ("Premium", Some(0.04)));
    assert_eq!((objective.time_to_first_token, objective.target_share), (None, 0.995));
    let profile = snapshot.variants[0].variant.profile.unwrap();
    assert_eq!((profile.base, profile.max_batch), (0.007, 128));

    // The engine takes it up: it remembers the model, as it does of models with an objective only.
    let (state, _) = engines::step(&engines::State::default(), &snapshot);
    assert_eq!(state.models.len(), 1);
    let unconfigured = snapshot::take(&clock, &Cluster, &[], &*read("").unwrap().config).await;
    assert!(unconfigured.objectives.is_empty() && unconfigured.variants[0].variant.profile.is_none());
    assert!(engines::step(&engines::State::default(), &unconfigured).0.models.is_empty());
}

const PROFILES: &str = "
profiles:
  - modelID: llama
    accelerator: H100
    iterationMs: 7
    prefillMsPerToken: 0.019
    decodeMsPerSequence: 0.0063
    kvMsPerToken: 0.0000413
    kvCacheTokens: 372000
    maxBatch: 128
  - modelID: llama
    accelerator: A100
    alpha: 20.5
    beta: 0.4
    gamma: 0.1
    kvCacheTokens: 200000
";

#[test]
fn a_profile_is_found_by_model_and_accelerator_and_upstreams_parameters_are_one_too() {
    let config = read(PROFILES).unwrap().config;
    let model = ModelKey::new("any", "llama");
    let h100 = config.profile_of(&model, "h100").unwrap();
    assert_eq!((h100.base, h100.per_kv_token), (0.007, 0.000_041_3 / 1000.0));
    assert_eq!((h100.max_batch, h100.max_batched_tokens), (128, 2048));
    let a100 = config.profile_of(&model, "A100").unwrap();
    assert_eq!((a100.base, a100.per_prefill_token, a100.per_sequence), (0.0205, 0.0005, 0.0004));
    assert_eq!(config.profile_of(&model, "L4"), None);
    assert_eq!(config.profile_of(&ModelKey::new("any", "granite"), "H100"), None);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (from, to, message) in [
        ("priority: 1\n", "prioritty: 1\n", "serviceClasses[Premium].prioritty (file wva.yaml line 14) is not"),
        (
            "slo-tpot: 24",
            "slo-tpott: 24",
            "models[granite].slo-tpott (file wva.yaml line 17) is not a configuration key",
        ),
        ("priority: 10", "priority: 0", "serviceClasses[Freemium].priority is `0`"),
        ("targetShare: 95%", "targetShare: 100%", "serviceClasses[Freemium].targetShare is `100%`"),
        ("timeToFirstToken: 2s", "timeToFirstToken: 2", "models[default].timeToFirstToken is `2`"),
        ("slo-ttft: 500", "slo-ttft: -500", "models[granite].slo-ttft is `-500`"),
        ("slo-tps: 0", "slo-tps: many", "models[granite].slo-tps is `many`"),
        ("name: Premium", "name: Freemium", "serviceClasses[Freemium] is `given twice`"),
        ("priority: 1\n", "default: true\n", "serviceClasses[Premium].default is `true`"),
        ("- modelID: granite", "- modelID: default", "models[default] is `given twice`"),
    ] {
        let found = messages(read(&CLASSES.replacen(from, to, 1)));
        assert!(found.iter().any(|found| found.contains(message)), "{from} as {to}: {found:?}");
    }
    for (from, to, message) in [
        ("maxBatch: 128", "maxBatches: 128", "profiles[llama on H100].maxBatches (file wva.yaml line 10) is not"),
        ("iterationMs: 7", "iterationMs: -7", "profiles[llama on H100].iterationMs is `-7`"),
        ("    iterationMs: 7\n", "", "profiles[llama on H100].iterationMs is `missing`"),
        ("accelerator: A100", "accelerator: h100", "profiles[llama on h100] is `given twice`"),
        ("kvCacheTokens: 372000", "kvCacheTokens: many", "profiles[llama on H100].kvCacheTokens is `many`"),
    ] {
        let found = messages(read(&PROFILES.replacen(from, to, 1)));
        assert!(found.iter().any(|found| found.contains(message)), "{from} as {to}: {found:?}");
    }
}

#[test]
fn the_resolved_view_shows_classes_and_profiles() {
    let view = serde_saphyr::to_string(&*read(&format!("{CLASSES}{PROFILES}")).unwrap().view).unwrap();
    for shown in ["serviceClasses:", "name: Premium", "profiles:", "accelerator: H100"] {
        assert!(view.contains(shown), "{shown}: {view}");
    }
}
