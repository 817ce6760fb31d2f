//! The table of engines as selectors of series, for a source that is asked by name.

use super::table::{ENGINES, Family, Value};
use crate::interfaces::{Quantity, QuantityKind};

/// The label that a source has to have for a series to say which model it is of.
const MODEL_LABEL: &str = "model_name";

/// PromQL selectors of a quantity's series, newest generation of names first, of all engines whose metrics name the
/// model. `part` is the suffix of a histogram's part, such as `_sum`. Engines never share a series, so that one selector
/// can hold the names of several; two generations of one engine may stand side by side, and need `or` in between.
pub(in crate::collector) fn selectors(quantity: Quantity, part: &str) -> Vec<String> {
    let engines = || ENGINES.iter().filter(|engine| engine.model_label == MODEL_LABEL);
    let mut selectors = Vec::new();
    for generation in 0.. {
        let of_generation: Vec<(&Family, bool)> = engines()
            .filter_map(|engine| {
                let mut families = engine.families.iter().filter(|family| family.quantity == quantity);
                Some((families.nth(generation)?, !engine.copy_labels.is_empty()))
            })
            .filter(|(family, _)| !matches!(family.value, Value::Label(_)))
            .collect();
        if of_generation.is_empty() {
            return selectors;
        }
        let (labelled, bare): (Vec<_>, Vec<_>) =
            of_generation.into_iter().partition(|(family, _)| family.label.is_some());
        selectors.extend(labelled.into_iter().map(|family| selector(&[family], part)));
        if !bare.is_empty() {
            selectors.push(selector(&bare, part));
        }
    }
    selectors
}

fn selector(families: &[(&Family, bool)], part: &str) -> String {
    let names: Vec<String> = families
        .iter()
        .flat_map(|(family, _)| match family.quantity.kind() {
            QuantityKind::Counter => vec![format!("{}_total", family.name), family.name.to_owned()],
            QuantityKind::Gauge | QuantityKind::Histogram => vec![format!("{}{part}", family.name)],
        })
        .collect();
    let mut matchers = Vec::new();
    if families.iter().any(|(_, has_copies)| *has_copies) {
        matchers.extend([r#"tp_rank=~"|0""#.to_owned(), r#"pp_rank=~"|0""#.to_owned()]);
    }
    matchers.extend(
        families.iter().filter_map(|(family, _)| family.label.map(|(name, value)| format!("{name}=\"{value}\""))),
    );
    match (names.as_slice(), matchers.is_empty()) {
        ([name], true) => name.clone(),
        ([name], false) => format!("{name}{{{}}}", matchers.join(",")),
        (names, _) => {
            matchers.insert(0, format!("__name__=~\"{}\"", names.join("|")));
            format!("{{{}}}", matchers.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_share_a_selector_and_generations_do_not() {
        assert_eq!(
            selectors(Quantity::KvCacheUsage, ""),
            [
                "{__name__=~\"vllm:kv_cache_usage_perc|sglang:token_usage|trtllm_kv_cache_utilization\",tp_rank=~\"|0\",\
                 pp_rank=~\"|0\"}",
                "vllm:gpu_cache_usage_perc",
            ]
        );
        assert_eq!(
            selectors(Quantity::WaitingForCapacity, ""),
            [r#"vllm:num_requests_waiting_by_reason{reason="capacity"}"#]
        );
        assert_eq!(
            selectors(Quantity::Preemptions, "").last().map(|last| last.contains("vllm:num_preemptions_total|")),
            Some(true)
        );
        assert!(selectors(Quantity::TimeToFirstToken, "_sum")[0].contains("vllm:time_to_first_token_seconds_sum|"));
    }
}
