//! Why a model has no usable series, in words a person can act on.
//!
//! A model name that differs a little from what the engine exports makes an autoscaler silently inert; hence the names
//! that do exist, nearest first.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::Catalog;
use crate::{
    collector::needed::Missing,
    interfaces::{ModelKey, ReplicaMetrics},
};

/// How many names a message lists.
const LISTED: usize = 5;

/// What there is instead of the `missing` signals of `model`, as a clause with a remedy.
pub(super) fn found(
    missing: &Missing,
    model: &ModelKey,
    replicas: &[ReplicaMetrics],
    catalog: &Catalog,
    source_name: &str,
    now: Timestamp,
) -> String {
    let found = match replicas {
        [] => what_exists(model, catalog, source_name),
        _ => what_is_wrong_with(replicas, missing.newest(replicas), now),
    };
    let lacking = (catalog.unattributable.instances > 0).then(|| format!("; {}", catalog.unattributable));
    let nameless = catalog.nameless.get(&model.namespace).and_then(nameless);
    found + &lacking.unwrap_or_default() + &nameless.unwrap_or_default()
}

/// Engines of another team may name no model either; hence only those of the model's own namespace are told.
fn nameless(addresses: &BTreeSet<Arc<str>>) -> Option<String> {
    let example = addresses.first()?;
    Some(format!(
        "; {} engine instance(s) there, such as {example}, name no model and are of no variant; check \
         spec.scaleTargetRef, and that relabelling does not drop model_name",
        addresses.len()
    ))
}

fn what_is_wrong_with(replicas: &[ReplicaMetrics], newest: Option<Timestamp>, now: Timestamp) -> String {
    let pod = replicas.first().map_or("", |replica| &replica.pod);
    match newest {
        Some(newest) => format!(
            "the newest sample is {} s old, of {} engine instance(s) such as pod {pod}; check in Prometheus that their \
             targets are up",
            now.duration_since(newest).as_secs(),
            replicas.len()
        ),
        None => format!(
            "its {} engine instance(s), such as pod {pod}, export other series but no number here; check that the scrape \
             keeps these series, and the engine's version",
            replicas.len()
        ),
    }
}

fn what_exists(model: &ModelKey, catalog: &Catalog, source_name: &str) -> String {
    if let Some(models) = catalog.models.get(&model.namespace) {
        return format!(
            "namespace {} has series of {}; set spec.modelID to the name the engine serves (its model_name label)",
            model.namespace,
            nearest_first(&model.model_id, models.iter().cloned())
        );
    }
    let serving = catalog.models.iter().filter(|(_, models)| models.contains(&model.model_id));
    let elsewhere: Vec<_> = serving.map(|(namespace, _)| namespace.clone()).collect();
    if !elsewhere.is_empty() {
        let namespaces = list(&elsewhere);
        return format!(
            "namespace {} has no engine series, but namespace {namespaces} has series of the model; a variant must be where \
             its pods are, and Prometheus must scrape them",
            model.namespace
        );
    }
    if catalog.models.is_empty() {
        return format!(
            "{source_name} has no engine series that belong to a pod; check that it scrapes the engines, for example \
             through a PodMonitor"
        );
    }
    format!(
        "namespace {} has no engine series, but namespace {} has; check that Prometheus scrapes the pods, for example \
         through a PodMonitor",
        model.namespace,
        list(&catalog.models.keys().cloned().collect::<Vec<_>>())
    )
}

fn nearest_first(name: &str, candidates: impl Iterator<Item = Arc<str>>) -> String {
    let name = name.to_lowercase();
    let mut candidates: Vec<_> =
        candidates.map(|candidate| (strsim::sorensen_dice(&name, &candidate.to_lowercase()), candidate)).collect();
    candidates.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    list(&candidates.into_iter().map(|(_, candidate)| candidate).collect::<Vec<_>>())
}

fn list(names: &[Arc<str>]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let listed = names[..names.len() - more].join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration,
    };

    use super::*;
    use crate::{
        collector::{mapping::EngineCatalog, needed, prometheus::Unattributable},
        interfaces::{EngineKind, Signal},
    };

    const NOW: i64 = 1_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn catalog(models: &[(&str, &[&str])]) -> Catalog {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect::<BTreeSet<_>>();
        Catalog {
            models: models
                .iter()
                .map(|(namespace, models)| ((*namespace).into(), names(models)))
                .collect::<BTreeMap<_, _>>(),
            ..Catalog::default()
        }
    }

    fn replica(kv_cache_usage: Signal<f64>, queue_length: Signal<f64>) -> ReplicaMetrics {
        ReplicaMetrics {
            pod: "llama-0".into(),
            instance: "10.0.0.1:8000".into(),
            kv_cache_usage,
            queue_length,
            ..ReplicaMetrics::default()
        }
    }

    fn checked(model: &str, replicas: &[ReplicaMetrics], catalog: &Catalog) -> Result<(), String> {
        let model = ModelKey::new("chat", model);
        let missing = needed::missing(replicas, &EngineCatalog::default(), at(NOW), Duration::from_mins(1));
        let found = || found(&missing, &model, replicas, catalog, "Prometheus at http://p", at(NOW));
        missing.or_error(&model, found).map_err(|error| error.to_string())
    }

    #[test]
    fn one_fresh_instance_is_enough() {
        let fresh = Signal::present(0.0, at(NOW - 60));
        let replicas = [replica(Signal::Missing, Signal::Missing), replica(fresh, fresh)];
        assert_eq!(checked("llama", &replicas, &catalog(&[("chat", &["llama"])])), Ok(()));
    }

    #[test]
    fn what_an_engine_never_exports_is_not_missed_and_what_it_does_goes_by_its_own_name() {
        let of =
            |queue_length| [ReplicaMetrics { engine: EngineKind::Tgi, ..replica(Signal::NotDefined, queue_length) }];
        let catalog = catalog(&[("chat", &["llama"])]);
        assert_eq!(checked("llama", &of(Signal::present(0.0, at(NOW))), &catalog), Ok(()));
        let message = checked("llama", &of(Signal::Missing), &catalog).unwrap_err();
        assert!(message.contains("has no series tgi_queue_size; its 1 engine instance(s)"), "{message}");
    }

    #[test]
    fn a_model_name_that_nobody_exports_is_answered_with_those_that_exist_nearest_first() {
        let exported =
            catalog(&[("chat", &["Qwen/Qwen3-32B", "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B-Instruct"])]);
        let message = checked("llama-3.1-8b-instruct", &[], &exported).unwrap_err();
        assert_eq!(
            message,
            "model llama-3.1-8b-instruct in namespace chat has no series vllm:kv_cache_usage_perc or \
             vllm:gpu_cache_usage_perc and vllm:num_requests_waiting; namespace chat has series of \
             meta-llama/Llama-3.1-8B-Instruct, meta-llama/Llama-3.1-70B, Qwen/Qwen3-32B; set spec.modelID to the name \
             the engine serves (its model_name label)"
        );
    }

    #[test]
    fn the_message_says_what_exists_instead() {
        let fresh = Signal::present(0.5, at(NOW));
        let stale = Signal::present(0.5, at(NOW - 90));
        let unattributable = Catalog {
            unattributable: Unattributable { instances: 3, example: Some(("10.0.0.9:8000".to_owned(), "pod")) },
            ..catalog(&[])
        };
        let nameless = |namespace: &str| Catalog {
            nameless: BTreeMap::from([(namespace.into(), BTreeSet::from(["10.0.0.8:8000".into()]))]),
            ..catalog(&[])
        };
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].to_vec();
        let table: [(&str, Vec<ReplicaMetrics>, Catalog, &str); 9] = [
            ("elsewhere", vec![], catalog(&[("prod", &["llama"])]), "namespace prod has series of the model"),
            (
                "nothing here",
                vec![],
                catalog(&[("prod", &["qwen"])]),
                "namespace chat has no engine series, but namespace prod",
            ),
            (
                "nothing at all",
                vec![],
                catalog(&[]),
                "Prometheus at http://p has no engine series that belong to a pod",
            ),
            ("no pod labels", vec![], unattributable, "such as 10.0.0.9:8000, cannot be attributed"),
            (
                "no model named",
                vec![],
                nameless("chat"),
                "1 engine instance(s) there, such as 10.0.0.8:8000, name no model",
            ),
            (
                "no model named elsewhere",
                vec![],
                nameless("prod"),
                "belong to a pod; check that it scrapes the engines, for example through a PodMonitor",
            ),
            ("many", vec![], catalog(&[("chat", &many)]), "and 2 more"),
            (
                "only one of two",
                vec![replica(fresh, Signal::Missing)],
                catalog(&[]),
                "no series vllm:num_requests_waiting; its 1 engine instance(s), such as pod llama-0, export other series",
            ),
            ("stale", vec![replica(stale, fresh)], catalog(&[]), "the newest sample is 90 s old"),
        ];
        for (case, replicas, catalog, expected) in table {
            let message = checked("llama", &replicas, &catalog).unwrap_err();
            assert!(message.contains(expected), "{case}: {message}");
            assert_eq!(message.contains("name no model"), case == "no model named", "{case}: {message}");
        }
    }
}
