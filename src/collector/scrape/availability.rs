//! Why no usable signal of a model was scraped, in words a person can act on.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use jiff::Timestamp;

use super::ScrapeTarget;
use crate::{
    collector::{history::ScrapeHistory, mapping::EngineCatalog, needed},
    interfaces::{CollectorError, ModelKey},
};

/// Checks that at least one engine instance of `model` has each signal that a decision needs, where its engine has it.
pub(super) fn check(
    model: &ModelKey,
    catalog: &EngineCatalog,
    history: &ScrapeHistory,
    outcomes: &HashMap<ScrapeTarget, Result<usize, String>>,
    now: Timestamp,
    age_limit: Duration,
) -> Result<(), CollectorError> {
    let replicas = history.replica_metrics(model, |_| None);
    needed::missing(&replicas, catalog, now, age_limit).or_error(model, || match replicas.first() {
        Some(replica) => format!(
            "its {} scraped engine instance(s), such as pod {}, export no fresh number there; check that the pod answers \
             and its engine's version",
            replicas.len(),
            replica.pod
        ),
        None => what_is_served(model, history, outcomes),
    })
}

fn what_is_served(
    model: &ModelKey,
    history: &ScrapeHistory,
    outcomes: &HashMap<ScrapeTarget, Result<usize, String>>,
) -> String {
    let in_namespace = history.instances(|known| known.namespace == model.namespace);
    let served: BTreeSet<&str> = in_namespace.map(|(known, ..)| &*known.model_id).collect();
    if !served.is_empty() {
        let served: Vec<_> = served.into_iter().collect();
        return format!("pods there serve {}; set spec.modelID to the model_name label", served.join(", "));
    }
    let of_namespace = || outcomes.iter().filter(|(target, _)| target.namespace == model.namespace);
    if let Some(failure) = of_namespace().filter_map(|(_, outcome)| outcome.as_ref().err()).min() {
        return format!("{failure}; check the pod, and that a network policy lets wva reach its metrics port");
    }
    match of_namespace().map(|(target, _)| target).min() {
        Some(target) => format!(
            "pod {} answers at {} without metrics of an engine that is known; check prometheus.io/port and \
             prometheus.io/path on the pod, or describe its engine under collector.engines",
            target.pod, target.url
        ),
        None => "no pod of a variant runs there; check that its pods run and expose /metrics".to_owned(),
    }
}
