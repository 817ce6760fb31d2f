use std::{collections::BTreeMap, sync::Arc};

use wva::{
    config::{Document, Layer, Resolved},
    interfaces::{ModelKey, SaturationScalingConfig, SpareTriggers, TokenThresholds},
};

use super::{file, flags, resolve, upstream};

fn of(resolved: &Resolved, namespace: &str, model: &str) -> Arc<SaturationScalingConfig> {
    resolved.config.saturation_for(&ModelKey::new(namespace, model)).clone()
}

#[test]
fn a_models_entry_inherits_key_by_key() {
    let resolved = resolve([file(
        "saturation: {kvCacheThreshold: 70, queueDepthThreshold: 9}
models:
  - modelID: granite
    saturation: {queueDepthThreshold: 3}
  - modelID: granite
    namespace: prod
    saturation: {safetyMargin: 5}
  - modelID: llama
",
    )])
    .unwrap();
    let prod = of(&resolved, "prod", "granite");
    let default = SaturationScalingConfig::default();
    assert_eq!(prod.safety_margin, 0.05, "from its own entry");
    assert_eq!(prod.queue_depth_threshold, 3.0, "from the entry for any namespace");
    assert_eq!(prod.kv_cache_threshold, 0.7, "from the default of all models");
    assert_eq!(prod.spare_capacity_target, default.spare_capacity_target, "from the built-in default");
    assert_eq!(of(&resolved, "dev", "granite").safety_margin, default.safety_margin);
    assert_eq!(of(&resolved, "dev", "granite").queue_depth_threshold, 3.0);
    for unnamed in ["llama", "mistral"] {
        assert_eq!(of(&resolved, "prod", unnamed), resolved.config.saturation);
    }

    let shown = &resolved.view.models.iter().find(|model| model.namespace.as_deref() == Some("prod")).unwrap().values;
    assert_eq!(shown["saturation.safetyMargin"].value.as_deref(), Some("5%"));
    assert_eq!(shown["saturation.safetyMargin"].source, "file /etc/wva/config.yaml line 7");
    assert_eq!(shown["saturation.queueDepthThreshold"].source, "file /etc/wva/config.yaml line 4");
    assert_eq!(shown["saturation.spareCapacityTarget"].source, "default");
}

#[test]
fn entries_of_one_model_merge_across_documents() {
    let own = file("models: [{modelID: granite, namespace: prod, saturation: {kvCacheThreshold: 60}}]\n");
    let theirs = upstream("granite#prod: {kvCacheThreshold: 0.9, queueLengthThreshold: 2}\n");
    let resolved = resolve([own, theirs, flags(&["--saturation-kv-cache-threshold=95"])]).unwrap();
    let prod = of(&resolved, "prod", "granite");
    assert_eq!(prod.kv_cache_threshold, 0.6, "an entry of the model is more specific than a flag for all");
    assert_eq!(prod.queue_depth_threshold, 2.0);
    assert_eq!(resolved.config.saturation.kv_cache_threshold, 0.95);
}

#[test]
fn upstreams_names_are_aliases() {
    let config = resolve([file("saturation: {queueLengthThreshold: 8}\n")]).unwrap().config;
    assert_eq!(config.saturation.queue_depth_threshold, 8.0);
}

#[test]
fn one_spare_trigger_brings_upstreams_default_for_the_other() {
    let resolved = resolve([file(
        "saturation: {kvSpareTrigger: 0.2}\nmodels: [{modelID: a, saturation: {kvSpareTrigger: none}}]\n",
    )])
    .unwrap();
    assert_eq!(resolved.config.saturation.spare_triggers, Some(SpareTriggers { kv_cache: 0.2, queue_depth: 3.0 }));
    let shown = &resolved.view.values["saturation.queueSpareTrigger"];
    assert_eq!(shown.value.as_deref(), Some("3"));
    assert!(shown.note.as_deref().unwrap().contains("upstream"), "{shown:?}");
    assert_eq!(of(&resolved, "prod", "a").spare_triggers, None, "a model can take an inherited trigger back");
    assert_eq!(resolve([]).unwrap().config.saturation.spare_triggers, None);
}

#[test]
fn upstreams_config_map_applies_unchanged() {
    let data = BTreeMap::from([
        (
            "default".to_owned(),
            "kvCacheThreshold: 0.80\nqueueLengthThreshold: 5\nkvSpareTrigger: 0.1\nqueueSpareTrigger: 3\nenableLimiter: false\n\
             analyzers:\n  - name: saturation\n    enabled: true\n"
                .to_owned(),
        ),
        (
            "granite-production".to_owned(),
            "model_id: ibm/granite-13b\nnamespace: production\nkvCacheThreshold: 0.85\n".to_owned(),
        ),
        ("llama#lab".to_owned(), "queueLengthThreshold: 20\n".to_owned()),
    ]);
    let document = Document::config_map("wva-system", "wva-saturation-scaling-config", data);
    let resolved = resolve([Layer::from_upstream_document(&document)]).unwrap();
    let granite = of(&resolved, "production", "ibm/granite-13b");
    assert_eq!(granite.kv_cache_threshold, 0.85);
    assert_eq!(granite.spare_triggers, Some(SpareTriggers { kv_cache: 0.1, queue_depth: 3.0 }));
    assert_eq!(of(&resolved, "lab", "llama").queue_depth_threshold, 20.0);
    let warnings = &resolved.view.warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(
        warnings[0],
        "enableLimiter (ConfigMap wva-system/wva-saturation-scaling-config key default line 5) is a key of upstream that \
         has no effect here yet"
    );
}

#[test]
fn upstreams_config_map_works_as_a_file_too() {
    let resolved = resolve([upstream("default: |\n  kvCacheThreshold: 0.7\na#b:\n  kvCacheThreshold: 0.6\n")]).unwrap();
    assert_eq!(resolved.config.saturation.kv_cache_threshold, 0.7);
    assert_eq!(of(&resolved, "b", "a").kv_cache_threshold, 0.6);
}

#[test]
fn tokens_are_counted_where_the_configuration_says_so() {
    let resolved = resolve([file(
        "saturation: {scaleUpThreshold: 90}
models:
  - modelID: granite
    saturation: {analyzer: tokens, scaleDownBoundary: 60}
",
    )])
    .unwrap();
    assert_eq!(resolved.config.saturation.tokens, None);
    let granite = of(&resolved, "dev", "granite").tokens;
    assert_eq!(granite, Some(TokenThresholds { scale_up: 0.9, scale_down: 0.6 }), "the threshold is inherited");
    let inverted = resolve([file("saturation: {analyzer: tokens, scaleUpThreshold: 0.6, scaleDownBoundary: 0.7}")]);
    let found = super::messages(inverted);
    assert!(found[0].contains("saturation.scaleDownBoundary is `70%`"), "{found:?}");
    let unknown = super::messages(resolve([file("saturation: {analyzer: guess}")]));
    assert!(unknown[0].contains("saturation.analyzer is `guess`"), "{unknown:?}");
}
