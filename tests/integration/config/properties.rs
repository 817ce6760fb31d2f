use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{environment, file, resolve};

/// Values that are good for some kinds and bad for others.
fn value() -> impl Strategy<Value = String> {
    let chosen = vec![
        "5s",
        "30",
        "80",
        "0.5",
        "150",
        "-1",
        "0",
        "NaN",
        "true",
        "127.0.0.1",
        "json",
        "debug",
        "a",
        "A_",
        "",
        "1h",
    ];
    prop_oneof![8 => prop::sample::select(chosen).prop_map(ToOwned::to_owned), 1 => "[ -~]{0,8}"]
}

/// Every key of the schema and some that are not.
fn key() -> impl Strategy<Value = String> {
    let known: Vec<String> = resolve([]).unwrap().view.values.keys().cloned().collect();
    prop_oneof![20 => prop::sample::select(known), 1 => "[a-z]{1,6}(\\.[a-zA-Z]{1,6})?"]
}

proptest! {
    #[test]
    fn any_partial_layer_validates_or_is_refused_by_key(entries in prop::collection::btree_map(key(), value(), 0..4)) {
        let mut sections: BTreeMap<&str, String> = BTreeMap::new();
        for (path, value) in &entries {
            let quoted = value.replace('\'', "''");
            let (section, line) = match path.split_once('.') {
                Some((section, key)) => (section, format!("\n  {key}: '{quoted}'")),
                None => (path.as_str(), format!(" '{quoted}'")),
            };
            sections.entry(section).or_default().push_str(&line);
        }
        let yaml = sections.iter().fold(String::new(), |yaml, (section, text)| yaml + section + ":" + text + "\n");
        match resolve([file(&yaml)]) {
            Ok(resolved) => {
                prop_assert!(resolved.config.saturation.validate().is_ok());
                prop_assert!(resolved.config.engine.interval < resolved.config.ages.decision);
                prop_assert!(resolved.config.collector.fetch_interval < resolved.config.ages.signal);
                // The environment gives the address, as it is required.
                for path in entries.keys().filter(|path| *path != "prometheus.url") {
                    prop_assert!(resolved.view.values[path].source.starts_with("file"), "{path}");
                }
            }
            Err(errors) => {
                for message in errors.as_slice().iter().map(ToString::to_string) {
                    let names = |path: &String| {
                        let section = path.split('.').next().unwrap_or_default();
                        message.contains(path.as_str()) || message.starts_with(&format!("{section} (file"))
                    };
                    // A name that is both a key and a section is a text YAML itself refuses.
                    prop_assert!(entries.keys().any(names) || message.contains("cannot be used"), "{message}\n{yaml}");
                }
            }
        }
    }

    #[test]
    fn what_the_view_shows_can_be_given_again(kv in 1_u32..=1000, queue in 1_u32..1000, seconds in 1_u64..100) {
        let first = resolve([environment(&[
            ("WVA_SATURATION_KV_CACHE_THRESHOLD", &format!("{}", f64::from(kv) / 1000.0)),
            ("WVA_SATURATION_QUEUE_DEPTH_THRESHOLD", &format!("{}", f64::from(queue) / 10.0)),
            ("WVA_ENGINE_INTERVAL", &format!("{seconds}.5s")),
        ])])
        .unwrap();
        let shown = |path: &str| first.view.values[path].value.clone().unwrap();
        let again = resolve([environment(&[
            ("WVA_SATURATION_KV_CACHE_THRESHOLD", &shown("saturation.kvCacheThreshold")),
            ("WVA_SATURATION_QUEUE_DEPTH_THRESHOLD", &shown("saturation.queueDepthThreshold")),
            ("WVA_ENGINE_INTERVAL", &shown("engine.interval")),
        ])])
        .unwrap();
        prop_assert!((again.config.saturation.kv_cache_threshold - first.config.saturation.kv_cache_threshold).abs() < 1e-9);
        prop_assert_eq!(again.config.saturation.queue_depth_threshold, first.config.saturation.queue_depth_threshold);
        prop_assert_eq!(again.config.engine.interval, first.config.engine.interval);
    }
}
